//! What does the operator ask of a Kafka cluster?
//!
//! A small trait, so that controllers say what they need and nothing else. Its items are batched by [`batch`]: thousands of topics cost
//! dozens of requests.

pub(crate) mod batch;
mod kafka;

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::BoxFuture;
use operator_core::topic::ObservedTopic;
use types::ErrorCode;

pub use kafka::{ClientAdmin, Resolver};

/// Where a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaEndpoint {
    /// Namespace of the KafkaCluster.
    pub namespace: String,
    /// Name of the KafkaCluster.
    pub cluster: String,
    /// Host name of the bootstrap Service.
    pub host: String,
    /// Port of the first listener.
    pub port: u16,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; `None` is the cluster's default.
    pub partitions: Option<i32>,
    /// Replicas of each partition; `None` is the cluster's default.
    pub replication_factor: Option<i32>,
    /// Configuration set on the topic itself.
    pub config: BTreeMap<String, String>,
}

/// A change of a topic's configuration, key by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// The topic.
    pub topic: String,
    /// Keys to set.
    pub set: BTreeMap<String, String>,
    /// Keys to return to their default.
    pub unset: Vec<String>,
}

/// What a cluster says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// Partitions with fewer replicas in sync than there have to be, or without a leader, as `topic-partition`, over all topics.
    /// Replicas that a running reassignment adds need not be there yet.
    pub under_replicated: Vec<String>,
    /// Node id of the active controller, if the cluster names one.
    pub active_controller: Option<i32>,
}

/// Why a cluster did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// Nobody answered, or not in time.
    #[error("failed to reach the Kafka cluster: {0}")]
    Unreachable(String),
    /// The cluster answered no.
    #[error("{message}")]
    Refused {
        /// Kafka's error code.
        code: ErrorCode,
        /// What the cluster said about it.
        message: String,
    },
}

/// The answer about each item of a request, in the order of the request.
pub type Answers<T> = Result<Vec<Result<T, AdminError>>, AdminError>;

/// What the operator asks of a Kafka cluster. Every call is bounded in time by the implementation (seconds, not minutes).
pub trait KafkaAdmin: Debug + Send + Sync {
    /// Reads the state of all partitions.
    fn health<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
    ) -> BoxFuture<'a, Result<ClusterHealth, AdminError>>;

    /// Reads topics; `None` for one that does not exist.
    fn describe_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<Option<ObservedTopic>>>;

    /// Creates topics.
    fn create_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<NewTopic>,
    ) -> BoxFuture<'a, Answers<()>>;

    /// Grows topics to a number of partitions.
    fn grow_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<(String, i32)>,
    ) -> BoxFuture<'a, Answers<()>>;

    /// Changes configurations of topics.
    fn alter_configs<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        changes: Vec<ConfigChange>,
    ) -> BoxFuture<'a, Answers<()>>;

    /// Deletes topics with their records.
    fn delete_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<()>>;
}
