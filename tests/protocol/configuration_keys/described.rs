//! Is each key described as it is set, and refused with a wrong value; and each key that is not there, by its name?

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use config::key::Validator;
use config::{ConfigKey, KeyType, Scope, Support, broker_keys, topic_keys};
use tests::apache_kafka::ApacheKafka;
use tests::raw::Raw;
use tests::{skipped, tidemark};
use types::ErrorCode;
use wire::messages::CreateTopicsRequest;
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::describe_configs_response::DescribeConfigsResourceResult;

use super::brokers::{ALL_BROKERS, BROKER, Brokers, FIRST, TOPIC, describe, file};

/// Kafka's numbers of where a value comes from.
const OF_TOPIC: i8 = 1;
const OF_ONE: i8 = 2;
const OF_ALL: i8 = 3;
const OF_FILE: i8 = 4;
const OF_NOBODY: i8 = 5;

/// The `nth` value that a key takes and that is not its default; the last one where it takes no more.
fn other(key: &ConfigKey, nth: usize) -> String {
    let by_kind: Vec<String> = match (key.kind, key.validator) {
        (
            _,
            Validator::OneOf(known) | Validator::OneOfAnyCase(known) | Validator::ListOf(known),
        ) => known.iter().map(|text| (*text).to_owned()).collect(),
        (_, Validator::Replicas) => ["*", "0:0", "0:0,1:0"].map(str::to_owned).to_vec(),
        (KeyType::Boolean, _) => ["true", "false"].map(str::to_owned).to_vec(),
        (KeyType::Double, _) => ["0.25", "0.125", "0.75"].map(str::to_owned).to_vec(),
        (KeyType::Int | KeyType::Long, _) => {
            let default: i64 = key.default.map_or(3_600_000, |text| text.parse().unwrap());
            let near = [-1, 1, -2, 2, -3, 3];
            near.map(|by| default.saturating_add(by).to_string())
                .to_vec()
        }
        (KeyType::String | KeyType::List, _) => Vec::new(),
    };
    let fits = |text: &String| Some(text.as_str()) != key.default && key.check(text).is_ok();
    let fitting: Vec<String> = by_kind.into_iter().filter(fits).collect();
    let last = fitting.len().checked_sub(1).expect(key.name);
    fitting[nth.min(last)].clone()
}

/// A value that the key does not take, and what would be right in the words of the refusal.
fn wrong(key: &ConfigKey) -> (String, String) {
    let text = |text: &str, words: &str| (text.to_owned(), words.to_owned());
    match (key.support, key.validator, key.kind) {
        (Support::OnlyDefault(reason), ..) => (other_than_default(key), reason.to_owned()),
        (_, Validator::AtLeast(min) | Validator::Between(min, _), _) if min > i64::MIN => {
            ((min - 1).to_string(), format!("at least {min}"))
        }
        (_, Validator::BetweenDouble(_, max), _) => {
            ((max + 0.5).to_string(), format!("no more than {max}"))
        }
        (
            _,
            Validator::OneOf(known) | Validator::OneOfAnyCase(known) | Validator::ListOf(known),
            _,
        ) => ("nonsense".to_owned(), known.join(", ")),
        (_, Validator::Replicas, _) => text("nonsense", "[partitionId]:[brokerId]"),
        (_, _, KeyType::Boolean) => text("nonsense", "either true or false"),
        (_, _, kind) => text("nonsense", &format!("a number of type {}", kind.name())),
    }
}

/// A value of the right type that is not the default.
fn other_than_default(key: &ConfigKey) -> String {
    match (key.kind, key.default) {
        (KeyType::Boolean, Some("true")) => "false".to_owned(),
        (KeyType::Boolean, _) => "true".to_owned(),
        _ => "5".to_owned(),
    }
}

type Rows = BTreeMap<String, DescribeConfigsResourceResult>;

fn rows(brokers: &Brokers, resource: (i8, &str)) -> Rows {
    let rows = brokers.describe(resource).into_iter();
    rows.map(|row| (row.name.clone(), row)).collect()
}

/// Asserts that a row says this value, from there, with these values behind it: names, values, sources.
fn assert_row(row: &DescribeConfigsResourceResult, key: &ConfigKey, synonyms: &[(&str, &str, i8)]) {
    let name = key.name;
    let found = row.synonyms.iter();
    let found: Vec<(&str, &str, i8)> = found
        .map(|one| {
            (
                one.name.as_str(),
                one.value.as_deref().unwrap_or("null"),
                one.source,
            )
        })
        .collect();
    assert_eq!(found, synonyms, "{name}");
    let (_, value, source) = synonyms[0];
    assert_eq!(row.value.as_deref(), Some(value), "{name}");
    assert_eq!(row.config_source, source, "{name}");
    assert_eq!(row.config_type, key.kind.code(), "{name}");
    assert!(!row.is_sensitive, "{name}");
    let documentation = row.documentation.as_deref().unwrap_or_default();
    assert!(documentation.len() > 10, "{name}: {documentation:?}");
}

/// Every key that has an effect, with the value that the file gives it.
fn of_file() -> Vec<(&'static ConfigKey, String)> {
    let keys = broker_keys::EFFECTIVE.iter();
    keys.map(|key| (key, other(key, 0))).collect()
}

#[test]
fn every_key_is_described_with_its_value_where_it_comes_from_and_what_is_behind_it() {
    let set = of_file();
    let settings: Vec<(&str, &str)> = set
        .iter()
        .map(|(key, value)| (key.name, value.as_str()))
        .collect();
    let brokers = Brokers::start(1, &settings);
    let described = rows(&brokers, (BROKER, FIRST));
    let settable = broker_keys::all().filter(|key| key.is_settable());
    let settable: BTreeSet<String> = settable.map(|key| key.name.to_owned()).collect();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), settable);
    for (key, value) in &set {
        let row = &described[key.name];
        let default = key.default.map(|default| (key.name, default, OF_NOBODY));
        let file = (key.name, value.as_str(), OF_FILE);
        assert_row(
            row,
            key,
            &[file].into_iter().chain(default).collect::<Vec<_>>(),
        );
        assert_eq!(row.read_only, key.scope == Scope::Static, "{}", key.name);
    }
    for key in broker_keys::NOT_EFFECTIVE
        .iter()
        .filter(|key| key.is_settable())
    {
        let default = key.default.expect("it is all that is accepted");
        assert_row(&described[key.name], key, &[(key.name, default, OF_NOBODY)]);
    }
    keys_change_for_all_brokers_and_for_one(&brokers, &set);
    keys_of_topics_are_described(&brokers, &set);
}

fn keys_change_for_all_brokers_and_for_one(
    brokers: &Brokers,
    set: &[(&'static ConfigKey, String)],
) {
    let dynamic = set.iter().filter(|(key, _)| key.scope != Scope::Static);
    let dynamic: Vec<_> = dynamic
        .map(|(key, file)| (*key, file.as_str(), other(key, 1), other(key, 2)))
        .collect();
    let all: Vec<_> = dynamic
        .iter()
        .map(|(key, _, all, _)| (key.name, Some(all.as_str())))
        .collect();
    let one: Vec<_> = dynamic
        .iter()
        .map(|(key, _, _, one)| (key.name, Some(one.as_str())))
        .collect();
    let none: Vec<_> = dynamic.iter().map(|(key, ..)| (key.name, None)).collect();
    let last = dynamic.last().expect("there are some");
    let expect = |layers: &[i8]| {
        let value = |layer: i8| match layer {
            OF_ONE => &last.3,
            OF_ALL => &last.2,
            _ => last.1,
        };
        // Changes are seen all at once.
        brokers.await_value((BROKER, FIRST), last.0.name, value(layers[0]));
        let described = rows(brokers, (BROKER, FIRST));
        for (key, file, all, one) in &dynamic {
            let mut synonyms = Vec::new();
            for (layer, text) in [(OF_ONE, one.as_str()), (OF_ALL, all), (OF_FILE, file)] {
                if layers.contains(&layer) {
                    synonyms.push((key.name, text, layer));
                }
            }
            synonyms.extend(key.default.map(|default| (key.name, default, OF_NOBODY)));
            assert_row(&described[key.name], key, &synonyms);
        }
    };
    assert_eq!(brokers.alter((BROKER, ALL_BROKERS), &all), Ok(()));
    expect(&[OF_ALL, OF_FILE]);
    assert_eq!(brokers.alter((BROKER, FIRST), &one), Ok(()));
    expect(&[OF_ONE, OF_ALL, OF_FILE]);
    let defaults = rows(brokers, (BROKER, ALL_BROKERS));
    assert_eq!(defaults.len(), dynamic.len());
    for (key, _, all, _) in &dynamic {
        assert_row(&defaults[key.name], key, &[(key.name, all, OF_ALL)]);
    }
    assert_eq!(brokers.alter((BROKER, FIRST), &none), Ok(()));
    expect(&[OF_ALL, OF_FILE]);
    assert_eq!(brokers.alter((BROKER, ALL_BROKERS), &none), Ok(()));
    expect(&[OF_FILE]);
}

fn keys_of_topics_are_described(brokers: &Brokers, set: &[(&'static ConfigKey, String)]) {
    let own: Vec<_> = topic_keys::EFFECTIVE
        .iter()
        .map(|key| (key, other(key, 2)))
        .collect();
    let configs: Vec<_> = own
        .iter()
        .map(|(key, value)| (key.name, value.as_str()))
        .collect();
    brokers.raw().create_topic("all-set", &configs);
    let described = rows(brokers, (TOPIC, "all-set"));
    let settable = topic_keys::all().filter(|key| key.is_settable());
    assert_eq!(described.len(), settable.count());
    for (key, value) in &own {
        let of_file = |name: &str| set.iter().find(|(key, _)| key.name == name);
        let broker = key.broker_keys.iter().filter_map(|(name, _)| of_file(name));
        let broker: Vec<_> = broker.collect();
        let mut synonyms = vec![(key.name, value.as_str(), OF_TOPIC)];
        synonyms.extend(
            broker
                .iter()
                .map(|(key, value)| (key.name, value.as_str(), OF_FILE)),
        );
        let default = |key: &ConfigKey| Some((key.name, key.default?, OF_NOBODY));
        synonyms.extend(broker.iter().filter_map(|(key, _)| default(key)));
        assert_row(&described[key.name], key, &synonyms);
        assert!(!described[key.name].read_only, "{}", key.name);
    }
}

/// What a refusal does not say of the key, the value and what would be right, or nothing.
fn untold(code: i16, text: &str, parts: [&str; 3]) -> Option<String> {
    let is_told = parts.iter().all(|part| text.contains(part));
    let is_refused = code == ErrorCode::InvalidConfig.code() && is_told;
    (!is_refused).then(|| format!("{parts:?} are not in {code}: {text}"))
}

/// What a topic's creation with one key is refused with.
fn refused_topic(raw: &mut Raw, key: &str, value: &str) -> (i16, String) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "refused".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig {
                name: key.to_owned(),
                value: Some(value.to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let topic = raw.call(7, &request).topics.remove(0);
    (topic.error_code, topic.error_message.unwrap_or_default())
}

#[test]
fn wrong_values_and_keys_that_are_not_there_are_refused_by_running_brokers() {
    let brokers = Brokers::start(1, &[]);
    let mut raw = brokers.raw();
    raw.create_topic("there", &[]);
    let mut wrong = Vec::new();
    for key in topic_keys::all() {
        let (value, right) = refusal(key);
        let told = value_told(key, &value);
        for (code, text) in [
            refused_topic(&mut raw, key.name, &value),
            refused(&brokers, (TOPIC, "there"), key.name, &value),
        ] {
            wrong.extend(untold(code, &text, [key.name, &told, &right]));
        }
    }
    for key in broker_keys::all() {
        let (value, right) = refusal(key);
        let told = value_told(key, &value);
        for layer in [FIRST, ALL_BROKERS] {
            let (code, text) = refused(&brokers, (BROKER, layer), key.name, &value);
            wrong.extend(untold(code, &text, [key.name, &told, &right]));
            if key.support == Support::Effective && key.scope == Scope::Static {
                let (code, text) = refused(&brokers, (BROKER, layer), key.name, &other(key, 0));
                wrong.extend(untold(code, &text, [key.name, "dynamically", "restart"]));
            }
        }
    }
    let (code, text) = refused(&brokers, (BROKER, FIRST), "num.partition", "1");
    wrong.extend(untold(
        code,
        &text,
        ["num.partition", "did you mean", "num.partitions"],
    ));
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing of all that was kept.
    assert!(brokers.describe((BROKER, ALL_BROKERS)).is_empty());
}

/// What is refused of a key, and what is said for it: a wrong value, or any.
fn refusal(key: &ConfigKey) -> (String, String) {
    match key.support {
        Support::Refused(reason) => ("any".to_owned(), reason.to_owned()),
        Support::Effective | Support::OnlyDefault(_) => wrong(key),
    }
}

/// The value is named where another one would be right.
fn value_told(key: &ConfigKey, value: &str) -> String {
    match key.support {
        Support::Effective => format!("Invalid value {value} "),
        Support::OnlyDefault(_) => format!("can only be {}", key.default.unwrap_or_default()),
        Support::Refused(_) => "refused".to_owned(),
    }
}

fn refused(brokers: &Brokers, resource: (i8, &str), key: &str, value: &str) -> (i16, String) {
    let altered = brokers.alter(resource, &[(key, Some(value))]);
    altered
        .err()
        .unwrap_or_else(|| (0, format!("{key}={value} was taken")))
}

#[test]
fn wrong_values_and_keys_that_are_not_there_are_refused_in_the_brokers_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.yaml");
    let mut wrong = Vec::new();
    for key in broker_keys::all() {
        let (value, right) = refusal(key);
        let text = file(&["127.0.0.1".to_owned()], &[(key.name, &value)]);
        let mut lines = text.lines();
        let its = format!("  {}: ", key.name);
        let line = lines
            .position(|line| line.starts_with(&its))
            .expect("it is set")
            + 1;
        std::fs::write(&path, &text).unwrap();
        let output = Command::new(tidemark())
            .args(["broker", "--node-name", "node-0", "--config"])
            .arg(&path)
            .output()
            .expect("the binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        let parts = [
            key.name,
            &value_told(key, &value),
            &right,
            &format!("broker.yaml:{line}"),
        ];
        if output.status.success() || !parts.iter().all(|part| told.contains(part)) {
            wrong.push(format!("{parts:?} are not in: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_key_of_apache_kafka_is_known_by_its_name() {
    let Some(kafka) = ApacheKafka::start() else {
        return skipped(
            "the names of Apache Kafka's keys",
            "java, or Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let address = kafka.bootstrap();
    let of_brokers = describe(&address, (BROKER, "1"));
    assert!(of_brokers.len() > 300, "{}", of_brokers.len());
    let unknown = of_brokers
        .iter()
        .filter(|row| broker_keys::find(&row.name).is_none());
    let unknown: Vec<_> = unknown.map(|row| &row.name).collect();
    assert!(unknown.is_empty(), "keys of brokers: {unknown:?}");
    Raw::connect(&address).create_topic("any", &[]);
    let of_topics = describe(&address, (TOPIC, "any"));
    assert!(of_topics.len() > 25, "{}", of_topics.len());
    let unknown = of_topics
        .iter()
        .filter(|row| topic_keys::find(&row.name).is_none());
    let unknown: Vec<_> = unknown.map(|row| &row.name).collect();
    assert!(unknown.is_empty(), "keys of topics: {unknown:?}");
}
