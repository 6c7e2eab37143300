//! Where does an effective value come from: the topic, one broker, all brokers, the file, or the default?
//!
//! First found wins: topic override, dynamic value of the one broker, dynamic default of all brokers, the broker's
//! file, the built-in default (KIP-226). DescribeConfigs shows the whole list as synonyms.

use std::collections::BTreeMap;

use crate::key::{ConfigKey, KeyType, Scope};
use crate::{broker_keys, topic_keys};

/// Values by key.
pub type ConfigMap = BTreeMap<String, String>;

/// Where a value was set, with the number DescribeConfigs uses for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ConfigSource {
    /// On the topic.
    DynamicTopic = 1,
    /// On this broker, at run time.
    DynamicBroker = 2,
    /// On all brokers, at run time.
    DynamicDefaultBroker = 3,
    /// In the broker's file.
    StaticBroker = 4,
    /// Nowhere: the default.
    Default = 5,
}

/// The layers of broker configuration under a topic's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrokerLayers<'a> {
    /// Dynamic values of this broker.
    pub dynamic_broker: Option<&'a ConfigMap>,
    /// Dynamic values of all brokers.
    pub dynamic_default: Option<&'a ConfigMap>,
    /// `config` of the broker's file.
    pub file: Option<&'a ConfigMap>,
}

/// One value of a synonyms list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The key that gives it.
    pub name: &'static str,
    /// The value as it was set.
    pub value: Option<String>,
    /// Where it was set.
    pub source: ConfigSource,
}

/// One row of a DescribeConfigs answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The key's name.
    pub name: &'static str,
    /// The effective value; `None` is null.
    pub value: Option<String>,
    /// Where it was set.
    pub source: ConfigSource,
    /// Whether it cannot be changed at run time.
    pub read_only: bool,
    /// Whether its value must not be shown. No key of this build holds a secret.
    pub sensitive: bool,
    /// Every value there is for it, the effective one first.
    pub synonyms: Vec<Synonym>,
    /// Type of the value.
    pub kind: KeyType,
    /// What the key does.
    pub doc: &'static str,
}

impl<'a> BrokerLayers<'a> {
    fn layers(&self) -> [(ConfigSource, Option<&'a ConfigMap>); 3] {
        [
            (ConfigSource::DynamicBroker, self.dynamic_broker),
            (ConfigSource::DynamicDefaultBroker, self.dynamic_default),
            (ConfigSource::StaticBroker, self.file),
        ]
    }

    /// What a broker key is set to in the first layer that sets it.
    #[must_use]
    pub fn set_value(&self, name: &str) -> Option<&'a str> {
        self.layers()
            .into_iter()
            .find_map(|(_, map)| map?.get(name).map(String::as_str))
    }

    /// The value that these layers give to a topic key, in the topic key's unit; `None` where its own default holds.
    #[must_use]
    pub fn topic_default(&self, key: &ConfigKey) -> Option<String> {
        self.layers().into_iter().find_map(|(_, map)| {
            key.broker_keys
                .iter()
                .find_map(|(name, unit)| Some(in_unit(map?.get(*name)?, *unit)))
        })
    }

    /// The broker's own rows of DescribeConfigs: every key that can be set.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<Described> {
        broker_keys::all()
            .filter(|key| key.is_settable())
            .map(|key| described(key, key.scope == Scope::Static, self.synonyms(key.name)))
            .collect()
    }

    /// A topic's rows of DescribeConfigs: every key that can be set.
    #[must_use]
    pub fn describe_topic(&self, overrides: &ConfigMap) -> Vec<Described> {
        topic_keys::all()
            .filter(|key| key.is_settable())
            .map(|key| {
                let own = overrides.get(key.name).map(|value| Synonym {
                    name: key.name,
                    value: Some(value.clone()),
                    source: ConfigSource::DynamicTopic,
                });
                let mut synonyms: Vec<Synonym> = own.into_iter().collect();
                let mut from_broker: Vec<Synonym> = key
                    .broker_keys
                    .iter()
                    .flat_map(|(name, _)| self.synonyms(name))
                    .collect();
                from_broker.sort_by_key(|synonym| synonym.source);
                synonyms.extend(from_broker);
                let mut row = described(key, false, synonyms);
                if row.source != ConfigSource::DynamicTopic {
                    row.value = self
                        .topic_default(key)
                        .or_else(|| key.default.map(str::to_owned));
                }
                row
            })
            .collect()
    }

    fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let Some(key) = broker_keys::find(name) else {
            return Vec::new();
        };
        let set = self.layers().into_iter().filter_map(|(source, map)| {
            Some(Synonym {
                name: key.name,
                value: Some(map?.get(name)?.clone()),
                source,
            })
        });
        let default = key.default.map(|value| Synonym {
            name: key.name,
            value: Some(value.to_owned()),
            source: ConfigSource::Default,
        });
        set.chain(default).collect()
    }
}

fn described(key: &ConfigKey, read_only: bool, synonyms: Vec<Synonym>) -> Described {
    let first = synonyms.first();
    Described {
        name: key.name,
        value: first.map_or_else(
            || key.default.map(str::to_owned),
            |synonym| synonym.value.clone(),
        ),
        source: first.map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only,
        sensitive: false,
        synonyms,
        kind: key.kind,
        doc: key.doc.trim(),
    }
}

/// A value of another unit in the topic key's own; a negative one ("no bound") is -1 in every unit.
fn in_unit(value: &str, unit: i64) -> String {
    if unit == 1 {
        return value.to_owned();
    }
    match value.trim().parse::<i64>() {
        Ok(number) if number < 0 => "-1".to_owned(),
        Ok(number) => number.saturating_mul(unit).to_string(),
        Err(_) => value.to_owned(),
    }
}
