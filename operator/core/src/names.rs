//! What is each child of a cluster called, and how is it labelled?

use std::collections::BTreeMap;

/// gRPC port of every node: replication, quorum, metadata, admin.
pub const RPC_PORT: i32 = 9090;
/// HTTP port of every node: `/metrics`, `/healthz`, `/readyz`.
pub const HTTP_PORT: i32 = 9404;
/// Where the data volume is mounted.
pub const DATA_DIR: &str = "/var/lib/tidemark";
/// Where the ConfigMap is mounted.
pub const CONFIG_DIR: &str = "/etc/tidemark";
/// Key of the broker configuration in the ConfigMap of a pool.
pub const CONFIG_KEY: &str = "broker.yaml";
/// Name of the broker container in every pod.
pub const CONTAINER: &str = "broker";
/// Name of the volume claim template; claims are called `data-POD`.
pub const DATA_VOLUME: &str = "data";
/// `whenDeleted` of a StatefulSet whose claims go with it when nobody else owns them.
pub const CLAIMS_GO: &str = "Delete";
/// `whenDeleted` of a StatefulSet whose claims outlive it.
pub const CLAIMS_STAY: &str = "Retain";

/// Label: the KafkaCluster an object belongs to.
pub const CLUSTER_LABEL: &str = "tidemark.dev/cluster";
/// Label: the pool an object belongs to.
pub const POOL_LABEL: &str = "tidemark.dev/pool";
/// Label of pods with the role `broker`, the ones a bootstrap Service selects.
pub const BROKER_LABEL: &str = "tidemark.dev/broker";
/// Label of pods with the role `controller`.
pub const CONTROLLER_LABEL: &str = "tidemark.dev/controller";
/// Annotation of a pod template: hash of what a node reads only when it starts.
pub const CONFIG_HASH_ANNOTATION: &str = "tidemark.dev/static-config-hash";
/// Annotation of a volume claim: the Kafka cluster whose data is on it.
pub const CLUSTER_ID_ANNOTATION: &str = "tidemark.dev/cluster-id";
/// Annotation of a volume claim: the Kafka node whose data is on it.
pub const NODE_ID_ANNOTATION: &str = "tidemark.dev/node-id";
/// Annotation of a KafkaCluster: `"true"` pauses everything the operator does for it.
pub const PAUSE_ANNOTATION: &str = "tidemark.dev/pause";
/// Finalizer of KafkaTopics.
pub const TOPIC_FINALIZER: &str = "tidemark.dev/topic";

/// Label prefixes that pod templates of users cannot set.
pub const RESERVED_LABEL_PREFIXES: [&str; 2] = ["tidemark.dev/", "app.kubernetes.io/"];

/// The StatefulSet of a pool.
#[must_use]
pub fn stateful_set(cluster: &str, pool: &str) -> String {
    format!("{cluster}-{pool}")
}

/// A pod of a pool; also the node's name in `broker.yaml`.
#[must_use]
pub fn pod(cluster: &str, pool: &str, ordinal: i32) -> String {
    format!("{cluster}-{pool}-{ordinal}")
}

/// The volume claim of a pod.
#[must_use]
pub fn claim(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// The ConfigMap of a pool.
#[must_use]
pub fn config_map(cluster: &str, pool: &str) -> String {
    format!("{cluster}-{pool}-config")
}

/// The headless Service that gives every pod its host name.
#[must_use]
pub fn headless_service(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// The Service clients bootstrap from.
#[must_use]
pub fn bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-bootstrap")
}

/// The host name of a pod inside the Kubernetes cluster.
#[must_use]
pub fn pod_host(cluster: &str, pod: &str, namespace: &str, domain: &str) -> String {
    format!(
        "{pod}.{}.{namespace}.svc.{domain}",
        headless_service(cluster)
    )
}

/// The host name of the bootstrap Service inside the Kubernetes cluster.
#[must_use]
pub fn bootstrap_host(cluster: &str, namespace: &str, domain: &str) -> String {
    format!("{}.{namespace}.svc.{domain}", bootstrap_service(cluster))
}

/// Labels of every object of a cluster.
#[must_use]
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), "tidemark".into()),
        ("app.kubernetes.io/instance".into(), cluster.into()),
        (
            "app.kubernetes.io/managed-by".into(),
            "tidemark-operator".into(),
        ),
        (CLUSTER_LABEL.into(), cluster.into()),
    ])
}

/// Labels of every object of a pool.
#[must_use]
pub fn pool_labels(cluster: &str, pool: &str) -> BTreeMap<String, String> {
    let mut labels = labels(cluster);
    labels.insert(POOL_LABEL.into(), pool.into());
    labels
}

/// The label selector for everything of a cluster, as list and watch requests write it.
#[must_use]
pub fn selector(cluster: &str) -> String {
    format!("{CLUSTER_LABEL}={cluster}")
}
