//! What do scenarios write, and how do they read what the operator says?

use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::conditions;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object from JSON.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of this kind")
}

/// A cluster with one pool `main` of brokers that are controllers too. No real machine takes its pods.
pub(crate) fn cluster(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "tidemark.dev/v1alpha1", "kind": "KafkaCluster", "metadata": { "name": name },
        "spec": { "pools": [pool("main", &["controller", "broker"], replicas)] },
    })
}

/// A pool.
pub(crate) fn pool(name: &str, roles: &[&str], replicas: i32) -> Value {
    json!({
        "name": name, "roles": roles, "replicas": replicas, "storage": { "size": "1Gi" },
        "template": { "pod": { "nodeSelector": { "test": "no-machine" } } },
    })
}

/// A topic.
pub(crate) fn topic(name: &str, cluster: &str, more: Value) -> Value {
    let mut spec = json!({ "clusterRef": { "name": cluster } });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "apiVersion": "tidemark.dev/v1alpha1", "kind": "KafkaTopic", "metadata": { "name": name }, "spec": spec })
}

/// The reason and message of a condition, for reading.
pub(crate) fn said(cluster: &KafkaCluster, type_: &str) -> (String, String) {
    let conditions = cluster.status.as_ref().map(|status| &status.conditions);
    conditions
        .and_then(|conditions| conditions::find(conditions, type_))
        .map(|condition| (condition.reason.clone(), condition.message.clone()))
        .unwrap_or_default()
}

/// The same of a topic's Ready.
pub(crate) fn topic_said(topic: &KafkaTopic) -> (String, String) {
    let conditions = topic.status.as_ref().map(|status| &status.conditions);
    conditions
        .and_then(|conditions| conditions::find(conditions, "Ready"))
        .map(|condition| (condition.reason.clone(), condition.message.clone()))
        .unwrap_or_default()
}
