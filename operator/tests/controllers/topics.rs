//! Do topics follow their objects, and no further than they may?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::names::TOPIC_FINALIZER;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::samples::{cluster, topic, topic_said};

/// A cluster `shop` that is settled.
async fn shop(namespace: &Namespace) {
    namespace.create::<KafkaCluster>(cluster("shop", 3)).await;
    namespace.settled("shop").await;
}

fn spec(change: Value) -> Value {
    json!({ "spec": change })
}

/// A configuration of this retention and nothing else.
fn retention(ms: &str) -> BTreeMap<String, String> {
    [("retention.ms".to_owned(), ms.to_owned())].into()
}

async fn phase(namespace: &Namespace, name: &str, phase: &str) -> KafkaTopic {
    let what = format!("is {phase}");
    namespace
        .until(name, &what, |topic: &KafkaTopic| {
            topic.status.as_ref().is_some_and(|status| {
                status.phase.as_deref() == Some(phase)
                    && status.observed_generation == topic.metadata.generation
            })
        })
        .await
}

pub(crate) async fn a_topic_is_created_and_grows_and_follows_its_configuration(
    namespace: Namespace,
) {
    shop(&namespace).await;
    let wish = json!({ "partitions": 6, "replicationFactor": 3, "config": { "retention.ms": "1000", "cleanup.policy": "delete" } });
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", wish))
        .await;
    let ready = namespace.ready("orders").await;
    let status = ready.status.expect("a status");
    assert_eq!(
        status.message.as_deref(),
        Some("6 partitions, replication factor 3, ISR 18/18")
    );
    assert_eq!(status.topic_name.as_deref(), Some("orders"));
    assert!(status.topic_id.is_some());
    assert!(
        ready.metadata.finalizers.is_none(),
        "a topic that stays needs no finalizer"
    );

    namespace
        .merge::<KafkaTopic>("orders", spec(json!({ "partitions": 12 })))
        .await;
    namespace.ready("orders").await;
    let kafka = || namespace.kafka().topic(&namespace.name, "shop", "orders");
    assert_eq!(kafka().map(|(partitions, _)| partitions), Some(12));

    let config = json!({ "config": { "retention.ms": "2000", "cleanup.policy": null } });
    namespace.merge::<KafkaTopic>("orders", spec(config)).await;
    let after = namespace.ready("orders").await;
    let set = kafka().map(|(_, config)| config).expect("the topic");
    assert_eq!(set, retention("2000"));
    assert_eq!(after.status.expect("a status").config, set);
    let creations = namespace
        .kafka()
        .creations(&namespace.name, "shop", "orders");
    assert_eq!(creations, 1);
}

pub(crate) async fn a_topic_that_was_changed_in_kafka_is_put_back(namespace: Namespace) {
    shop(&namespace).await;
    let wish = json!({ "partitions": 3, "config": { "retention.ms": "1000" } });
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", wish))
        .await;
    namespace.ready("orders").await;
    let by_hand = [("retention.ms", "5"), ("max.message.bytes", "7")];
    namespace
        .kafka()
        .by_hand(&namespace.name, "shop", "orders", None, &by_hand);
    let is = |expected: usize| {
        let topic = namespace.kafka().topic(&namespace.name, "shop", "orders");
        topic.is_some_and(|(partitions, config)| {
            partitions == expected && config == retention("1000")
        })
    };
    namespace
        .eventually("put the configuration back", || is(3))
        .await;
    namespace
        .kafka()
        .delete_by_hand(&namespace.name, "shop", "orders");
    namespace
        .eventually("created the topic again", || is(3))
        .await;
    namespace.ready("orders").await;
}

pub(crate) async fn what_kafka_cannot_do_is_said_and_not_done(namespace: Namespace) {
    shop(&namespace).await;
    namespace
        .create::<KafkaTopic>(topic("orders", "shop", json!({ "partitions": 6 })))
        .await;
    namespace.ready("orders").await;
    let fewer = namespace
        .try_merge::<KafkaTopic>("orders", spec(json!({ "partitions": 4 })))
        .await;
    let refusal = fewer.expect_err("fewer partitions are refused").to_string();
    assert!(refusal.contains("partitions can only grow"), "{refusal}");

    // Grown behind the operator's back, the wish of the spec is fewer, which the API server cannot know.
    namespace
        .kafka()
        .by_hand(&namespace.name, "shop", "orders", Some(12), &[]);
    let impossible = phase(&namespace, "orders", "Invalid").await;
    let (reason, message) = topic_said(&impossible);
    assert_eq!(reason, "Impossible");
    assert!(
        message.contains("spec.partitions: the topic has 12 partitions and Kafka cannot reduce them to 6: set at least 12"),
        "{message}"
    );
    let partitions = namespace.kafka().topic(&namespace.name, "shop", "orders");
    assert_eq!(partitions.map(|(partitions, _)| partitions), Some(12));
    namespace
        .merge::<KafkaTopic>("orders", spec(json!({ "partitions": 12 })))
        .await;
    namespace.ready("orders").await;

    let five = json!({ "replicationFactor": 5 });
    namespace
        .create::<KafkaTopic>(topic("wide", "shop", five))
        .await;
    let refused = phase(&namespace, "wide", "Invalid").await;
    let (reason, message) = topic_said(&refused);
    assert_eq!(reason, "Refused");
    assert!(message.contains("replication factor of 5"), "{message}");
    assert_eq!(
        namespace.kafka().topics(&namespace.name, "shop"),
        ["orders"]
    );
    namespace.delete::<KafkaTopic>("wide").await;
    namespace.gone::<KafkaTopic>("wide").await;
}

pub(crate) async fn a_deleted_topic_stays_or_goes_as_its_policy_says(namespace: Namespace) {
    shop(&namespace).await;
    for (name, policy) in [("stays", "Retain"), ("goes", "Delete")] {
        namespace
            .create::<KafkaTopic>(topic(name, "shop", json!({ "deletionPolicy": policy })))
            .await;
    }
    namespace.ready("stays").await;
    let goes = namespace.ready("goes").await;
    assert_eq!(goes.finalizers(), [TOPIC_FINALIZER]);
    for name in ["stays", "goes"] {
        namespace.delete::<KafkaTopic>(name).await;
        namespace.gone::<KafkaTopic>(name).await;
    }
    assert_eq!(namespace.kafka().topics(&namespace.name, "shop"), ["stays"]);

    // The policy may change at any time before, and letting go means letting go.
    for (name, change) in [
        ("kept", json!({ "deletionPolicy": "Retain" })),
        ("unmanaged", json!({ "managed": false })),
    ] {
        namespace
            .create::<KafkaTopic>(topic(name, "shop", json!({ "deletionPolicy": "Delete" })))
            .await;
        namespace.ready(name).await;
        namespace.merge::<KafkaTopic>(name, spec(change)).await;
        namespace
            .until(name, "has no finalizer", |topic: &KafkaTopic| {
                topic.finalizers().is_empty()
            })
            .await;
        namespace.delete::<KafkaTopic>(name).await;
        namespace.gone::<KafkaTopic>(name).await;
    }
    assert_eq!(
        namespace.kafka().topics(&namespace.name, "shop"),
        ["kept", "stays", "unmanaged"]
    );
}

pub(crate) async fn a_topic_waits_for_its_cluster_and_outlives_it(namespace: Namespace) {
    namespace
        .create::<KafkaTopic>(topic(
            "orders",
            "shop",
            json!({ "deletionPolicy": "Delete" }),
        ))
        .await;
    let waiting = phase(&namespace, "orders", "Pending").await;
    let (reason, message) = topic_said(&waiting);
    assert_eq!(reason, "ClusterNotFound");
    let expected = format!(
        "there is no KafkaCluster {}/shop: create it, or correct spec.clusterRef",
        namespace.name
    );
    assert_eq!(message, expected);
    shop(&namespace).await;
    namespace.ready("orders").await;

    namespace.delete::<KafkaCluster>("shop").await;
    namespace.gone::<KafkaCluster>("shop").await;
    namespace
        .until("orders", "misses its cluster", |topic: &KafkaTopic| {
            topic_said(topic).0 == "ClusterNotFound"
        })
        .await;
    // Nobody is left to be asked: the object goes, and the volumes, with the topic on them, stay.
    namespace.delete::<KafkaTopic>("orders").await;
    namespace.gone::<KafkaTopic>("orders").await;
    assert_eq!(namespace.list::<PersistentVolumeClaim>().await.len(), 3);
    assert_eq!(
        namespace.kafka().topics(&namespace.name, "shop"),
        ["orders"]
    );
}

pub(crate) async fn two_objects_for_one_topic_end_in_a_handover(namespace: Namespace) {
    shop(&namespace).await;
    let named = json!({ "topicName": "orders", "deletionPolicy": "Delete" });
    namespace
        .create::<KafkaTopic>(topic("first", "shop", named.clone()))
        .await;
    let first = namespace.ready("first").await;
    // Ages are whole seconds: the second object is of a later one.
    let born = first.metadata.creation_timestamp.expect("created").0;
    namespace
        .eventually("a second passed", || {
            k8s_openapi::jiff::Timestamp::now().as_second() > born.as_second()
        })
        .await;
    namespace
        .create::<KafkaTopic>(topic("second", "shop", named))
        .await;
    let conflict = phase(&namespace, "second", "Conflict").await;
    let (_, message) = topic_said(&conflict);
    let owner = format!("belongs to KafkaTopic {}/first", namespace.name);
    assert!(message.contains(&owner), "{message}");
    namespace.delete::<KafkaTopic>("first").await;
    namespace.gone::<KafkaTopic>("first").await;
    let second = namespace.ready("second").await;
    let ids = |topic: &KafkaTopic| {
        topic
            .status
            .as_ref()
            .and_then(|status| status.topic_id.clone())
    };
    assert_eq!(
        ids(&second).as_deref(),
        Some("topic-1"),
        "the topic is the very same"
    );
    namespace.delete::<KafkaTopic>("second").await;
    namespace.gone::<KafkaTopic>("second").await;
    assert!(namespace.kafka().topics(&namespace.name, "shop").is_empty());
}
