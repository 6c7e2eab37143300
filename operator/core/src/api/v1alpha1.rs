//! What does a user write in version `v1alpha1`?

// KubeSchema repeats each struct, with its `pub`, inside a function; printer columns repeat their keys.
#[allow(unreachable_pub, clippy::duplicated_attributes)]
mod kafka_cluster;
#[allow(unreachable_pub, clippy::duplicated_attributes)]
mod kafka_topic;
mod shared;

pub use kafka_cluster::{
    BrokerStatus, Durability, EffectiveCluster, KafkaCluster, KafkaClusterSpec, KafkaClusterStatus,
    Listener, ListenerStatus, ListenerType, LocalObjectReference, NodePool, PodTemplate,
    PoolStatus, PoolTemplate, Resources, Role, RollCurrent, RollPhase, RollStatus, Storage,
};
pub use kafka_topic::{ClusterRef, KafkaTopic, KafkaTopicSpec, KafkaTopicStatus};
pub use shared::DeletionPolicy;

/// The version of every kind in this module.
pub const VERSION: &str = "v1alpha1";
