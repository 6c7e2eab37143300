//! Which changes of configuration are accepted, and what follows from them?

use std::collections::{BTreeMap, BTreeSet};

use config::key::split_list;
use config::{ConfigMap, KeyError, KeyType, broker_keys, topic_keys};
use types::ErrorCode;

use super::election::{Electorate, Scope, UNCLEAN};
use super::eligibility::MIN_ISR;
use super::request::{
    AlterConfigsRequest, ApiError, ConfigChange, ConfigOp, IncrementalAlterConfigsRequest,
    ResourceResult,
};
use super::{Controller, Decision};
use crate::metadata::record::Config;
use crate::metadata::{ConfigResource, MetadataRecord};

pub(super) fn invalid(error: &KeyError) -> ApiError {
    ApiError::new(ErrorCode::InvalidConfig, error.to_string())
}

impl Controller {
    pub(super) fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
    ) -> Decision<Vec<ResourceResult>> {
        self.alter_each(
            &request.resources,
            request.validate_only,
            |resource, changes| self.after_changes(resource, changes),
        )
    }

    pub(super) fn alter_configs(
        &self,
        request: &AlterConfigsRequest,
    ) -> Decision<Vec<ResourceResult>> {
        self.alter_each(&request.resources, request.validate_only, |_, values| {
            let mut after = ConfigMap::new();
            for (name, value) in values {
                let value = value.clone().ok_or_else(|| null_value(name))?;
                if after.insert(name.clone(), value).is_some() {
                    return Err(duplicate(name));
                }
            }
            Ok(after)
        })
    }

    /// Decides each resource by itself; `after` gives what its configuration would be.
    fn alter_each<C>(
        &self,
        resources: &[(ConfigResource, C)],
        validate_only: bool,
        after: impl Fn(&ConfigResource, &C) -> Result<ConfigMap, ApiError>,
    ) -> Decision<Vec<ResourceResult>> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let response = resources
            .iter()
            .map(|(resource, change)| {
                let result = if seen.insert(resource) {
                    self.check_exists(resource)
                        .and_then(|()| after(resource, change))
                        .and_then(|after| self.config_records(resource, &after))
                } else {
                    Err(ApiError::new(
                        ErrorCode::InvalidRequest,
                        "Each resource must appear at most once.",
                    ))
                };
                ResourceResult {
                    resource: resource.clone(),
                    result: result.map(|more| records.extend(more)),
                }
            })
            .collect();
        if validate_only {
            records.clear();
        } else {
            records.extend(self.partition_changes(&records));
        }
        Decision { records, response }
    }

    fn check_exists(&self, resource: &ConfigResource) -> Result<(), ApiError> {
        match resource {
            ConfigResource::DefaultBroker => Ok(()),
            ConfigResource::Broker(id) if self.image.broker(*id).is_some() => Ok(()),
            ConfigResource::Broker(id) => Err(ApiError::new(
                ErrorCode::BrokerIdNotRegistered,
                format!("No broker with id {id} found."),
            )),
            ConfigResource::Topic(name) if self.image.topic_by_name(name).is_some() => Ok(()),
            ConfigResource::Topic(name) => Err(ApiError::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("The topic '{name}' does not exist."),
            )),
        }
    }

    fn after_changes(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
    ) -> Result<ConfigMap, ApiError> {
        let mut after = self.image.config(resource).clone();
        let mut seen = BTreeSet::new();
        for change in changes {
            let name = &change.name;
            if !seen.insert(name) {
                return Err(duplicate(name));
            }
            if change.op == ConfigOp::Delete {
                after.remove(name);
                continue;
            }
            let value = change.value.as_deref().ok_or_else(|| null_value(name))?;
            let value = match change.op {
                ConfigOp::Set | ConfigOp::Delete => value.to_owned(),
                ConfigOp::Append => edited_list(resource, &after, name, |items| {
                    for item in split_list(value) {
                        if !items.iter().any(|known| known == item) {
                            items.push(item.to_owned());
                        }
                    }
                })?,
                ConfigOp::Subtract => edited_list(resource, &after, name, |items| {
                    let out = split_list(value);
                    items.retain(|item| !out.contains(&item.as_str()));
                })?,
            };
            after.insert(name.clone(), value);
        }
        Ok(after)
    }

    /// The records that make a resource's configuration be `after`, if it may be.
    fn config_records(
        &self,
        resource: &ConfigResource,
        after: &ConfigMap,
    ) -> Result<Vec<MetadataRecord>, ApiError> {
        let before = self.image.config(resource);
        let changed: ConfigMap = after
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        check_values(resource, &changed)?;
        let removed = before.keys().filter(|name| !after.contains_key(*name));
        let record = |name: &String, value: Option<&String>| {
            MetadataRecord::Config(Config {
                resource: resource.clone(),
                name: name.clone(),
                value: value.cloned(),
            })
        };
        Ok(changed
            .iter()
            .map(|(name, value)| record(name, Some(value)))
            .chain(removed.map(|name| record(name, None)))
            .collect())
    }

    /// Where unclean elections have just been allowed, partitions without a leader get one; where the minimum of the ISR
    /// is another one, it counts at once (KIP-966).
    fn partition_changes(&self, records: &[MetadataRecord]) -> Vec<MetadataRecord> {
        let touched = records.iter().any(|record| {
            matches!(record, MetadataRecord::Config(config) if [UNCLEAN, MIN_ISR].contains(&config.name.as_str()))
        });
        let mut after = self.image.clone();
        if !touched || after.speculate(records).is_err() {
            return Vec::new();
        }
        Electorate::new(&after, &self.config.file, self.config.node_id).changes(Scope::Unsettled)
    }
}

fn check_values(resource: &ConfigResource, changed: &ConfigMap) -> Result<(), ApiError> {
    match resource {
        ConfigResource::Topic(_) => topic_keys::check_all(changed).map_err(|e| invalid(&e)),
        ConfigResource::DefaultBroker | ConfigResource::Broker(_) => changed
            .iter()
            .try_for_each(|(name, value)| broker_keys::check_dynamic(name, value))
            .map_err(|e| invalid(&e)),
    }
}

/// The configuration of a new topic, checked.
pub(super) fn new_topic_configs(
    configs: &[(String, Option<String>)],
) -> Result<ConfigMap, ApiError> {
    let mut map: ConfigMap = BTreeMap::new();
    for (name, value) in configs {
        let value = value.clone().ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {name}"),
            )
        })?;
        if map.insert(name.clone(), value).is_some() {
            return Err(duplicate(name));
        }
    }
    topic_keys::check_all(&map).map_err(|e| invalid(&e))?;
    Ok(map)
}

fn edited_list(
    resource: &ConfigResource,
    values: &ConfigMap,
    name: &str,
    edit: impl FnOnce(&mut Vec<String>),
) -> Result<String, ApiError> {
    let key = match resource {
        ConfigResource::Topic(_) => topic_keys::get(name),
        ConfigResource::DefaultBroker | ConfigResource::Broker(_) => broker_keys::get(name),
    }
    .map_err(|e| invalid(&e))?;
    if key.kind != KeyType::List {
        return Err(ApiError::new(
            ErrorCode::InvalidConfig,
            format!("Can't APPEND to or SUBTRACT from key {name} because its type is not LIST."),
        ));
    }
    let text = values
        .get(name)
        .map(String::as_str)
        .or(key.default)
        .unwrap_or_default();
    let mut items: Vec<String> = split_list(text).into_iter().map(str::to_owned).collect();
    edit(&mut items);
    Ok(items.join(","))
}

fn null_value(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidRequest,
        format!("Null value not supported for : {name}"),
    )
}

fn duplicate(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidRequest,
        format!("Error due to duplicate config keys: {name}"),
    )
}
