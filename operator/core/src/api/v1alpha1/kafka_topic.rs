//! What does a user write to get a topic, and what does the operator answer?

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;

/// The desired state of one topic.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "KafkaTopic",
    namespaced,
    status = "KafkaTopicStatus",
    shortname = "tmt",
    category = "tidemark",
    derive = "PartialEq",
    doc = "A topic of a KafkaCluster. Topics of the cluster that no KafkaTopic describes are left alone.",
    crates(kube_core = "::kube_core"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topicName"),
    printcolumn(
        name = "Partitions",
        type_ = "integer",
        json_path = ".status.partitions"
    ),
    printcolumn(
        name = "Replication",
        type_ = "integer",
        json_path = ".status.replicationFactor"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = Rule::new("has(self.topicName) == has(oldSelf.topicName) && (!has(self.topicName) || self.topicName == oldSelf.topicName)").message("topicName is immutable: a topic cannot be renamed").field_path(".topicName"),
    validation = Rule::new("!has(self.partitions) || !has(oldSelf.partitions) || self.partitions >= oldSelf.partitions").message("partitions can only grow: Kafka cannot remove partitions from a topic").field_path(".partitions"),
    validation = Rule::new("!has(self.replicationFactor) || !has(oldSelf.replicationFactor) || self.replicationFactor == oldSelf.replicationFactor").message("replicationFactor is immutable in this version").field_path(".replicationFactor"),
    validation = Rule::new("self.clusterRef.name == oldSelf.clusterRef.name && has(self.clusterRef.__namespace__) == has(oldSelf.clusterRef.__namespace__) && (!has(self.clusterRef.__namespace__) || self.clusterRef.__namespace__ == oldSelf.clusterRef.__namespace__)").message("clusterRef is immutable: a topic cannot move to another cluster").field_path(".clusterRef")
)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTopicSpec {
    /// The cluster that has the topic.
    pub cluster_ref: ClusterRef,
    /// Name of the topic. Default: `metadata.name`. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[a-zA-Z0-9._-]+$"))]
    #[x_kube(
        validation = Rule::new("self != '.' && self != '..'").message("a topic cannot be called '.' or '..'"),
        validation = Rule::new("!self.startsWith('__')").message("topics that start with '__' belong to Kafka itself")
    )]
    pub topic_name: Option<String>,
    /// Number of partitions; it can only grow. Default: the cluster's `num.partitions` when the topic is created, and left alone after.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: Option<i32>,
    /// Number of replicas of each partition. Default: the cluster's `default.replication.factor` when the topic is created. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub replication_factor: Option<i32>,
    /// Kafka topic configuration by Kafka's own names. A key that is removed here returns to its default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "config_schema")]
    pub config: BTreeMap<String, String>,
    /// What happens to the topic and its records when this KafkaTopic is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whether the operator looks after the topic; `false` lets go of it and changes nothing.
    #[serde(default = "yes")]
    pub managed: bool,
}

/// Which KafkaCluster is meant.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct ClusterRef {
    /// Name of the KafkaCluster.
    #[schemars(length(min = 1, max = 32))]
    pub name: String,
    /// Namespace of the KafkaCluster. Default: the namespace of this object. Another needs a grant of that cluster; this version has none, so the answer is `NotGranted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

fn yes() -> bool {
    true
}

/// A map of strings with at most 128 entries of at most 4096 characters.
pub(super) fn string_map_schema() -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
    })
}

fn config_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    string_map_schema()
}

/// What the operator knows about a KafkaTopic.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KafkaTopicStatus {
    /// `metadata.generation` of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people: Pending, Progressing, Ready, Degraded, Invalid, Conflict or Unmanaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ready: the topic is as this generation says. Healthy: every partition has a leader and all its replicas in sync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Name of the topic in the cluster; set once the topic was created or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// Kafka's topic id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Partitions the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Replicas each partition has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Replicas in sync of all replicas, for example `18/18`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isr: Option<String>,
    /// Topic configuration in force that was set on the topic itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}
