//! Do the tables, the layers and the broker's file say what they should?

use crate::key::Support;
use crate::*;

const FILE: &str = "\
apiVersion: tidemark.dev/broker/v1
clusterId: AAAAAAAAAAAAAAAAAAAAAQ
nodes:
- {name: shop-main-0, id: 0, roles: [controller, broker], host: a.example, rack: null}
- {name: shop-main-1, id: 1, roles: [broker], host: b.example, rack: r2}
dataDir: /var/lib/tidemark
listeners:
- {name: internal, port: 9092}
config:
  min.insync.replicas: 2
  log.retention.hours: \"24\"
  auto.create.topics.enable: false
durability: fsync
";

fn map(entries: &[(&str, &str)]) -> ConfigMap {
    entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_broker_file_is_read_and_written_back_the_same() {
    let config = BrokerConfig::parse("broker.yaml", FILE).expect("valid");
    assert_eq!(config.node(Some("shop-main-1")).expect("known").id.0, 1);
    assert_eq!(config.rpc_port, 9090);
    assert_eq!(config.durability, Durability::Fsync);
    let settings = config.settings().expect("checked");
    assert_eq!(settings.min_insync_replicas, 2);
    assert!(!settings.auto_create_topics_enable);
    let text = config.to_yaml().expect("writable");
    assert_eq!(BrokerConfig::parse("again.yaml", &text), Ok(config));
}

#[test]
fn mistakes_in_a_broker_file_name_line_and_remedy() {
    for (from, to, place, says) in [
        (
            "broker/v1",
            "broker/v9",
            "broker.yaml:1",
            "tidemark.dev/broker/v1",
        ),
        (
            "AAAAAAAAAAAAAAAAAAAAAQ",
            "short",
            "broker.yaml:2",
            "22 characters",
        ),
        ("id: 1", "id: 0", "broker.yaml:5", "given twice"),
        ("[broker]", "[brokr]", "broker.yaml:5", "brokr"),
        (
            "roles: [controller, broker]",
            "roles: [broker]",
            "broker.yaml:3",
            "controller",
        ),
        ("port: 9092", "port: 9090", "broker.yaml:8", "used twice"),
        (
            "min.insync.replicas",
            "min.insync.replica",
            "broker.yaml:10",
            "did you mean min.insync.replicas?",
        ),
        (
            "\"24\"",
            "soon",
            "broker.yaml:11",
            "Not a number of type INT",
        ),
        (
            "auto.create.topics.enable: false",
            "num.io.threads: 8",
            "broker.yaml:12",
            "refused",
        ),
        ("durability", "durabilty", "broker.yaml:13", "durabilty"),
        ("dataDir: /var/lib/tidemark\n", "", "broker.yaml", "dataDir"),
    ] {
        let text = FILE.replacen(from, to, 1);
        assert_ne!(text, FILE, "{from} is not in the file");
        let error = BrokerConfig::parse("broker.yaml", &text)
            .expect_err(to)
            .to_string();
        assert!(error.starts_with(place), "{to}: wrong place in {error}");
        assert!(error.contains(says), "{to}: {error}");
    }
}

#[test]
fn every_default_is_a_value_its_key_accepts() {
    for key in broker_keys::all().chain(topic_keys::all()) {
        if let (Some(default), true) = (key.default, key.is_settable()) {
            assert_eq!(key.check(default), Ok(()), "{}", key.name);
        }
    }
    assert_eq!(BrokerSettings::default().log_retention_hours, 168);
    assert_eq!(TopicSettings::default().retention_ms, 604_800_000);
}

#[test]
fn names_are_unique_and_synonyms_exist() {
    for table in [
        broker_keys::all().collect::<Vec<_>>(),
        topic_keys::all().collect(),
    ] {
        for (index, key) in table.iter().enumerate() {
            assert!(
                table[..index].iter().all(|other| other.name != key.name),
                "{} stands twice in its table",
                key.name
            );
        }
    }
    for key in topic_keys::all() {
        for (name, _) in key.broker_keys {
            let broker = broker_keys::find(name).unwrap_or_else(|| panic!("no broker key {name}"));
            if key.support == Support::Effective {
                assert_eq!(broker.support, Support::Effective, "{name}");
            }
        }
    }
}

#[test]
fn values_are_judged_with_kafkas_words() {
    for (name, value, says) in [
        (
            "retention.ms",
            "abc",
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (
            "min.insync.replicas",
            "0",
            "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1",
        ),
        (
            "unclean.leader.election.enable",
            "yes",
            "Expected value to be either true or false",
        ),
        (
            "compression.type",
            "brotli",
            "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "cleanup.policy",
            "archive",
            "String must be one of: compact, delete",
        ),
        ("segment.bytes", "1000", "Value must be at least 1048576"),
        (
            "retention.mss",
            "1",
            "Unknown topic config name: retention.mss (did you mean retention.ms?)",
        ),
        (
            "min.cleanable.dirty.ratio",
            "1.5",
            "Value must be no more than 1",
        ),
        ("flush.messages", "1", "durability: fsync"),
        ("remote.storage.enable", "true", "tiered storage"),
        ("local.retention.ms", "-2", "tiered storage"),
    ] {
        let error = topic_keys::check(name, value).expect_err(name).to_string();
        assert!(error.contains(says), "{name}={value}: {error}");
    }
    for (name, value) in [
        ("preallocate", "FALSE"),
        ("flush.messages", " 9223372036854775807"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("retention.ms", "-1"),
    ] {
        assert_eq!(topic_keys::check(name, value), Ok(()), "{name}");
    }
    for policy in ["compact", "compact,delete"] {
        assert_eq!(topic_keys::check("cleanup.policy", policy), Ok(()));
        assert_eq!(broker_keys::check("log.cleanup.policy", policy), Ok(()));
    }
    assert!(matches!(
        broker_keys::check_dynamic("log.retention.hours", "1"),
        Err(KeyError::ReadOnly { .. })
    ));
}

#[test]
fn the_first_layer_that_sets_a_value_wins_in_the_topics_unit() {
    let file = map(&[("log.retention.hours", "2"), ("min.insync.replicas", "2")]);
    let all = map(&[("min.insync.replicas", "3")]);
    let one = map(&[("log.retention.ms", "5")]);
    let none = ConfigMap::new();
    let mut layers = BrokerLayers {
        file: Some(&file),
        ..BrokerLayers::default()
    };
    let resolve = |overrides: &ConfigMap, layers: &BrokerLayers<'_>| {
        TopicSettings::resolve(overrides, layers).expect("valid")
    };
    assert_eq!(resolve(&none, &layers).retention_ms, 7_200_000);
    assert_eq!(resolve(&none, &layers).min_insync_replicas, 2);
    layers.dynamic_default = Some(&all);
    layers.dynamic_broker = Some(&one);
    assert_eq!(resolve(&none, &layers).retention_ms, 5);
    assert_eq!(resolve(&none, &layers).min_insync_replicas, 3);
    let topic = map(&[("min.insync.replicas", "1")]);
    assert_eq!(resolve(&topic, &layers).min_insync_replicas, 1);
}

#[test]
fn describe_lists_every_key_with_source_and_synonyms() {
    let file = map(&[("log.retention.hours", "2")]);
    let layers = BrokerLayers {
        file: Some(&file),
        ..BrokerLayers::default()
    };
    let rows = layers.describe_topic(&map(&[("segment.ms", "10")]));
    let row = |name: &str| {
        rows.iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("no row {name}"))
    };
    let retention = row("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("7200000"));
    assert_eq!(retention.source, ConfigSource::StaticBroker);
    assert_eq!(
        retention
            .synonyms
            .iter()
            .map(|s| (s.name, s.value.as_deref(), s.source))
            .collect::<Vec<_>>(),
        [
            ("log.retention.hours", Some("2"), ConfigSource::StaticBroker),
            ("log.retention.hours", Some("168"), ConfigSource::Default),
        ]
    );
    assert_eq!(row("segment.ms").source, ConfigSource::DynamicTopic);
    assert_eq!(row("segment.ms").synonyms[0].name, "segment.ms");
    assert_eq!(row("segment.bytes").source, ConfigSource::Default);
    assert!(rows.iter().any(|row| row.name == "delete.retention.ms"));
    assert!(rows.iter().all(|row| row.name != "local.retention.ms"));
    let broker = layers.describe_broker();
    let hours = broker
        .iter()
        .find(|row| row.name == "log.retention.hours")
        .expect("listed");
    assert!(hours.read_only);
    assert_eq!(hours.value.as_deref(), Some("2"));
}

#[test]
fn a_migration_policy_may_be_written_in_either_case() {
    let read = |text: &str| {
        let mut config = BrokerConfig::parse("broker.yaml", FILE).expect("valid");
        let key = "group.consumer.migration.policy";
        config.config = map(&[(key, text)]);
        let settings = config.settings()?;
        Ok::<_, KeyError>(settings.group_consumer_migration_policy)
    };
    assert_eq!(read("upgrade"), Ok(MigrationPolicy::Upgrade));
    assert_eq!(read("BIDIRECTIONAL"), Ok(MigrationPolicy::Bidirectional));
    assert_eq!(read("Disabled"), Ok(MigrationPolicy::Disabled));
    assert_eq!(read("downgrade"), Ok(MigrationPolicy::Downgrade));
    assert!(read("both").is_err());
}

#[test]
fn the_reference_page_is_the_one_in_docs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = reference_markdown();
    if std::env::var_os("TIDEMARK_BLESS").is_some() {
        std::fs::write(&path, &page).expect("writable docs folder");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "{} differs from the tables: run TIDEMARK_BLESS=1 cargo test -p config",
        path.display()
    );
}
