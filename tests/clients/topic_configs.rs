//! Does a topic's configuration read as Apache Kafka's own does?

use std::collections::{BTreeMap, BTreeSet};

use tests::apache_kafka::ApacheKafka;
use tests::cluster::{Cluster, await_some};
use tests::raw::Raw;
use tests::{root, skipped};
use wire::messages::DescribeConfigsRequest;
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::describe_configs_response::DescribeConfigsResourceResult;

/// Kafka's number for topics.
const TOPIC: i8 = 2;

/// What one topic is made with.
const OVERRIDES: &[(&str, &str)] = &[
    ("cleanup.policy", "compact,delete"),
    ("max.message.bytes", "2000000"),
    ("min.cleanable.dirty.ratio", "0.25"),
    ("retention.ms", "90000"),
    ("segment.ms", "60000"),
    ("unclean.leader.election.enable", "true"),
];

/// Keys and the fields of them that differ, and the words that explain it in this document.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("local.retention.bytes", "listed", TIERED),
    ("local.retention.ms", "listed", TIERED),
    ("remote.log.copy.disable", "listed", TIERED),
    ("remote.log.delete.on.disable", "listed", TIERED),
    ("min.insync.replicas", "source", ELR),
    ("min.insync.replicas", "synonyms", ELR),
    ("retention.ms", "synonyms", UNITS),
    ("segment.ms", "synonyms", UNITS),
];
const DOCUMENT: &str = "docs/operating/differences-from-kafka.md";
const TIERED: &str = "keys of tiered storage in a topic's configuration";
const ELR: &str = "`min.insync.replicas` of a new cluster";
const UNITS: &str = "synonyms of `retention.ms` and `segment.ms`";

/// The fields of every key of a topic, by key.
type Rows = BTreeMap<String, BTreeMap<&'static str, String>>;

/// What a broker says of a topic that was just created, once it knows it.
fn describe(address: &str, topic: &str) -> Rows {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configuration_keys: None,
            ..Default::default()
        }],
        include_synonyms: true,
        ..Default::default()
    };
    let configs = await_some(&format!("{address} describes {topic}"), || {
        let answer = Raw::connect(address).call(4, &request);
        let result = answer.results.into_iter().next()?;
        (result.error_code == 0).then_some(result.configs)
    });
    configs
        .into_iter()
        .map(|row| (row.name.clone(), fields(&row)))
        .collect()
}

fn fields(row: &DescribeConfigsResourceResult) -> BTreeMap<&'static str, String> {
    let synonyms = row.synonyms.iter();
    let synonyms = synonyms.map(|one| format!("{}={:?} from {}", one.name, one.value, one.source));
    BTreeMap::from([
        ("listed", "yes".to_owned()),
        ("value", format!("{:?}", row.value)),
        ("type", row.config_type.to_string()),
        ("source", row.config_source.to_string()),
        ("read only", row.read_only.to_string()),
        ("sensitive", row.is_sensitive.to_string()),
        ("synonyms", synonyms.collect::<Vec<_>>().join(", ")),
    ])
}

/// Every key and field that differs, with what both say. Of a key that only one lists, that is the difference.
fn differences(kafka: &Rows, ours: &Rows) -> BTreeMap<(String, &'static str), String> {
    let names: BTreeSet<&String> = kafka.keys().chain(ours.keys()).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let (theirs, own) = (kafka.get(name), ours.get(name));
        if let (Some(theirs), Some(own)) = (theirs, own) {
            for (field, value) in theirs
                .iter()
                .filter(|(field, value)| own[*field] != **value)
            {
                let text = format!("Kafka: {value}; here: {}", own[field]);
                found.insert((name.clone(), *field), text);
            }
        } else {
            let where_ = if theirs.is_some() { "Kafka" } else { "here" };
            found.insert((name.clone(), "listed"), format!("only {where_}"));
        }
    }
    found
}

#[test]
fn a_topics_configuration_is_described_as_apache_kafka_does_but_for_what_is_explained() {
    let Some(kafka) = ApacheKafka::start() else {
        return skipped(
            "DescribeConfigs beside Apache Kafka",
            "java, or Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let cluster = Cluster::up("examples/single-node");
    let (theirs, own) = (kafka.bootstrap(), cluster.bootstrap());
    let mut found = BTreeMap::new();
    for (topic, overrides) in [("plain", &[][..]), ("set", OVERRIDES)] {
        for address in [&theirs, &own] {
            Raw::connect(address).create_topic(topic, overrides);
        }
        let (theirs, own) = (describe(&theirs, topic), describe(&own, topic));
        assert!(theirs.len() > 25, "{theirs:?}");
        found.extend(differences(&theirs, &own));
    }
    let explained = |key: &str, field: &str| {
        let mut all = EXPLAINED.iter();
        all.any(|(name, what, _)| (*name, *what) == (key, field))
    };
    let unexplained: Vec<_> = found
        .iter()
        .filter(|((key, field), _)| !explained(key, field))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let document = std::fs::read_to_string(root().join(DOCUMENT)).unwrap();
    for (key, field, words) in EXPLAINED {
        assert!(
            found.contains_key(&((*key).to_owned(), *field)),
            "{field} of {key} does not differ any more: strike it from the list"
        );
        assert!(document.contains(words), "{DOCUMENT} does not say: {words}");
    }
}
