//! What does a user write to get a Kafka cluster, and what does the operator answer?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;

/// The desired state of one Kafka cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tidemark.dev",
    version = "v1alpha1",
    kind = "KafkaCluster",
    namespaced,
    status = "KafkaClusterStatus",
    shortname = "tmc",
    category = "tidemark",
    derive = "PartialEq",
    doc = "A Kafka cluster: one StatefulSet of brokers and controllers per node pool.",
    crates(kube_core = "::kube_core"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Brokers",
        type_ = "string",
        json_path = ".status.ready",
        description = "Ready nodes of all nodes"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Bootstrap",
        type_ = "string",
        json_path = ".status.bootstrapServers"
    ),
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
    validation = Rule::new("self.pools.exists(p, 'controller' in p.roles)").message("one pool must have the role controller").field_path(".pools"),
    validation = Rule::new("self.pools.exists(p, 'broker' in p.roles)").message("one pool must have the role broker").field_path(".pools"),
    validation = Rule::new("self.pools.all(p, self.pools.exists_one(q, q.name == p.name))").message("pool names must be unique").field_path(".pools"),
    validation = Rule::new("self.listeners.all(l, self.listeners.exists_one(m, m.name == l.name))").message("listener names must be unique").field_path(".listeners"),
    validation = Rule::new("self.listeners.all(l, self.listeners.exists_one(m, m.port == l.port))").message("listener ports must be unique").field_path(".listeners"),
    validation = Rule::new("self.pools.all(p, oldSelf.pools.all(o, o.name != p.name || quantity(p.storage.size).compareTo(quantity(o.storage.size)) >= 0))").message("storage.size of a pool cannot shrink").field_path(".pools"),
    validation = Rule::new("self.pools.all(p, oldSelf.pools.all(o, o.name != p.name || (has(p.storage.storageClassName) ? p.storage.storageClassName : '') == (has(o.storage.storageClassName) ? o.storage.storageClassName : '')))").message("storage.storageClassName of a pool is immutable: add a new pool instead").field_path(".pools"),
    validation = Rule::new("self.pools.all(p, oldSelf.pools.all(o, o.name != p.name || (p.roles.all(r, r in o.roles) && o.roles.all(r, r in p.roles))))").message("roles of a pool are immutable: add a new pool instead").field_path(".pools")
)]
#[serde(rename_all = "camelCase")]
pub struct KafkaClusterSpec {
    /// Groups of equal nodes; each becomes one StatefulSet.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pools: Vec<NodePool>,
    /// Where Kafka clients connect. Default: one plaintext listener `internal` on port 9092.
    #[serde(default = "default_listeners")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<Listener>,
    /// Kafka broker configuration by Kafka's own names. Unknown keys, and keys that the operator owns (listeners, node ids, directories), are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "config_schema")]
    pub config: BTreeMap<String, String>,
    /// What an acks=all acknowledgement promises: `replicated` (in memory of min.insync.replicas brokers, as Kafka) or `fsync` (on their disks).
    #[serde(default)]
    pub durability: Durability,
    /// What happens to the volumes when this KafkaCluster is deleted; a pool may say otherwise for its own volumes.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Container image of the nodes. Default: the operator's own image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

/// A group of equal nodes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct NodePool {
    /// Name of the pool, unique in the cluster; pods are called CLUSTER-POOL-ORDINAL.
    #[schemars(
        length(min = 1, max = 16),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// What the nodes do: `controller` (vote on cluster metadata), `broker` (serve clients), or both.
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub roles: Vec<Role>,
    /// Number of nodes.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// The volume of each node.
    pub storage: Storage,
    /// CPU and memory of the broker container.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What to add to the pods.
    #[serde(default, skip_serializing_if = "PoolTemplate::is_empty")]
    pub template: PoolTemplate,
}

/// What a node does.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes on the cluster's metadata.
    Controller,
    /// Stores partitions and serves clients.
    Broker,
}

/// The volume of each node of a pool.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Requested size, for example `10Gi`. It may grow, never shrink.
    #[schemars(
        length(min = 1, max = 20),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
    )]
    pub size: String,
    /// StorageClass of the volumes. Default: the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What happens to this pool's volumes when the KafkaCluster is deleted. Default: `spec.deletionPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// CPU and memory of the broker container, as in a pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

impl Resources {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Additions to what the operator builds for a pool.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct PoolTemplate {
    /// Additions to the pods.
    #[serde(default, skip_serializing_if = "PodTemplate::is_empty")]
    pub pod: PodTemplate,
}

impl PoolTemplate {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// Additions to the pods of a pool.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Annotations to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Labels to add; keys under `tidemark.dev/` and `app.kubernetes.io/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Labels a machine must have to run these pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Scheduling preferences and requirements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints these pods accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How pods spread. Default when neither this nor `affinity` is given: over machines, as far as possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Secrets with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Seconds a node has for its controlled shutdown. Default 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
}

impl PodTemplate {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// The name of an object in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct LocalObjectReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A port on which the brokers serve Kafka clients.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Listener {
    /// Name of the listener, unique in the cluster.
    #[schemars(
        length(min = 1, max = 15),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Port on every broker and on the bootstrap Service.
    #[schemars(range(min = 1024, max = 65535))]
    #[x_kube(validation = Rule::new("self != 9090 && self != 9404").message("ports 9090 (replication) and 9404 (metrics and probes) are taken by the node itself"))]
    pub port: i32,
    /// Who can reach it: `internal` is every pod of the Kubernetes cluster, in plaintext.
    #[serde(rename = "type")]
    pub type_: ListenerType,
}

/// Who can reach a listener.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum ListenerType {
    /// Pods of the same Kubernetes cluster.
    Internal,
}

/// What an acks=all acknowledgement promises.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The record is in memory of at least min.insync.replicas brokers.
    #[default]
    Replicated,
    /// The record is on the disks of at least min.insync.replicas brokers.
    Fsync,
}

fn default_listeners() -> Vec<Listener> {
    vec![Listener {
        name: "internal".into(),
        port: 9092,
        type_: ListenerType::Internal,
    }]
}

fn config_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    super::kafka_topic::string_map_schema()
}

/// What the operator knows about a KafkaCluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KafkaClusterStatus {
    /// `metadata.generation` of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people: Pending, Progressing, Rolling, Ready, Degraded or Invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ready: all nodes serve this generation. Healthy: every partition has all its replicas in sync. Progressing: a change is under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Kafka's cluster id; it never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Where clients bootstrap (first listener).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_servers: Option<String>,
    /// Where clients bootstrap, by listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<ListenerStatus>,
    /// Ready nodes of all nodes, for example `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Every node with its Kafka node id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".into()]))]
    pub brokers: Vec<BrokerStatus>,
    /// Every pool with its size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pools: Vec<PoolStatus>,
    /// The values in force after defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveCluster>,
    /// The rolling restart under way, absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roll: Option<RollStatus>,
}

/// Where clients of one listener bootstrap.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: String,
    /// host:port of its bootstrap Service.
    pub bootstrap_servers: String,
}

/// One node of the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Kafka's node id.
    pub node_id: i32,
    /// Name of the pod.
    pub pod: String,
    /// Name of the pool.
    pub pool: String,
    /// What the node does.
    pub roles: Vec<Role>,
    /// Whether the pod is Ready.
    pub ready: bool,
}

/// Size of one pool.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Name of the pool.
    pub name: String,
    /// Nodes that exist by the operator's will; differs from the spec while a scale down is held back.
    pub replicas: i32,
    /// Nodes that are Ready.
    pub ready_replicas: i32,
}

/// The values in force after defaults.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveCluster {
    /// Container image of the nodes.
    pub image: String,
    /// Broker configuration: the operator's defaults under `spec.config`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// A rolling restart: one pod at a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RollStatus {
    /// `metadata.generation` that the roll brings about.
    pub generation: i64,
    /// The pod at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<RollCurrent>,
    /// Pods that still run the old revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
}

/// The pod that a roll is busy with.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RollCurrent {
    /// Name of the pod.
    pub pod: String,
    /// What the roll is waiting for.
    pub phase: RollPhase,
    /// Why it does not go on, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_block: Option<String>,
}

/// The steps of a restart.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollPhase {
    /// Waits until the cluster can do without the pod.
    Precheck,
    /// The pod was deleted and is coming back.
    AwaitReady,
    /// The pod is back; its replicas catch up.
    AwaitCaughtUp,
}
