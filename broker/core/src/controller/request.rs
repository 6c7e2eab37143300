//! What can a broker ask the controller, and what is it answered?
//!
//! The same types are used in the process of the active controller and, in a versioned envelope of msgpack with
//! named fields, between processes. Fields are only ever added, with a default.

use bytes::{BufMut, Bytes, BytesMut};
use config::ConfigMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch, ProducerId, TopicId};

use crate::metadata::{BrokerEndpoint, BrokerUuid, ConfigResource, Incarnation};
use crate::partition::{IsrMember, PartitionRegistration};

/// Version of the envelope.
const VERSION: u8 = 0;

/// A request to the active controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerRequest {
    /// See [`CreateTopicsRequest`].
    CreateTopics(CreateTopicsRequest),
    /// See [`DeleteTopicsRequest`].
    DeleteTopics(DeleteTopicsRequest),
    /// See [`CreatePartitionsRequest`].
    CreatePartitions(CreatePartitionsRequest),
    /// See [`AlterConfigsRequest`]: each named key is changed, the others stay.
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    /// See [`AlterConfigsRequest`]: the given values replace all there were.
    AlterConfigs(AlterConfigsRequest),
    /// See [`AlterPartitionRequest`].
    AlterPartition(AlterPartitionRequest),
    /// See [`ElectLeadersRequest`].
    ElectLeaders(ElectLeadersRequest),
    /// See [`AllocateProducerIdsRequest`].
    AllocateProducerIds(AllocateProducerIdsRequest),
    /// See [`RegisterBrokerRequest`].
    RegisterBroker(RegisterBrokerRequest),
    /// See [`BrokerHeartbeatRequest`].
    BrokerHeartbeat(BrokerHeartbeatRequest),
    /// See [`UnregisterBrokerRequest`].
    UnregisterBroker(UnregisterBrokerRequest),
    /// See [`AlterPartitionReassignmentsRequest`].
    AlterPartitionReassignments(AlterPartitionReassignmentsRequest),
    /// See [`ListPartitionReassignmentsRequest`].
    ListPartitionReassignments(ListPartitionReassignmentsRequest),
    /// See [`UpdateFeaturesRequest`].
    UpdateFeatures(UpdateFeaturesRequest),
}

/// The answer to a [`ControllerRequest`], of the variant of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerResponse {
    /// One result for each topic, in the order of the request.
    CreateTopics(Vec<CreatedTopic>),
    /// One result for each topic, in the order of the request.
    DeleteTopics(Vec<DeletedTopic>),
    /// One result for each topic, in the order of the request.
    CreatePartitions(Vec<TopicResult>),
    /// One result for each resource, in the order of the request.
    IncrementalAlterConfigs(Vec<ResourceResult>),
    /// One result for each resource, in the order of the request.
    AlterConfigs(Vec<ResourceResult>),
    /// The asker's error, or one result for each partition, in the order of the request.
    AlterPartition(Result<Vec<AlteredPartition>, ApiError>),
    /// One result for each partition that was asked for.
    ElectLeaders(Vec<ElectedLeader>),
    /// A block of ids.
    AllocateProducerIds(Result<ProducerIdBlock, ApiError>),
    /// The registration's epoch.
    RegisterBroker(Result<BrokerEpoch, ApiError>),
    /// What the broker is to do.
    BrokerHeartbeat(Result<BrokerState, ApiError>),
    /// Whether the broker is forgotten.
    UnregisterBroker(Result<(), ApiError>),
    /// One result for each partition, in the order of the request.
    AlterPartitionReassignments(Vec<PartitionResult>),
    /// The partitions that are on their way to other replicas, of those that were asked for.
    ListPartitionReassignments(Vec<OngoingReassignment>),
    /// Whether all features have the levels that were asked for; otherwise none has changed.
    UpdateFeatures(Result<(), ApiError>),
}

/// Why something was refused: an error code of Kafka's and, in Kafka's words where Kafka has some, the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code.
    pub code: ErrorCode,
    /// The reason.
    pub message: String,
}

impl ApiError {
    /// An error with this code and reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Keys with values as a client gives them, `None` for null.
pub type ConfigValues = Vec<(String, Option<String>)>;

/// Creates topics, each by itself: one that is refused does not hinder the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CreatableTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; -1 for `num.partitions`, or with assignments.
    pub num_partitions: i32,
    /// Replicas of each; -1 for `default.replication.factor`, or with assignments.
    pub replication_factor: i16,
    /// The replicas of each partition, if they are to be chosen by the asker.
    pub assignments: Vec<ReplicaAssignment>,
    /// Its configuration. `None` values are refused.
    pub configs: ConfigValues,
}

/// The replicas of a partition, the preferred leader first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplicaAssignment {
    /// The partition.
    pub partition: i32,
    /// Its replicas.
    pub replicas: Vec<NodeId>,
}

/// What became of a [`CreatableTopic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// The topic, or why there is none.
    pub result: Result<CreatedTopicDetail, ApiError>,
}

/// A topic that was (or would be) created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopicDetail {
    /// Its id; all zero if only validated.
    pub topic_id: TopicId,
    /// Number of partitions.
    pub num_partitions: i32,
    /// Replicas of partition 0.
    pub replication_factor: i16,
    /// What was set on it.
    pub configs: ConfigMap,
}

/// Deletes topics with their data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeleteTopicsRequest {
    /// The topics.
    pub topics: Vec<TopicRef>,
}

/// A topic by either of its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// What became of a topic to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// As it was asked for.
    pub topic: TopicRef,
    /// Its name and id, or why it stays.
    pub result: Result<(String, TopicId), ApiError>,
}

/// Adds partitions to topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CreatePartitionsRequest {
    /// The topics.
    pub topics: Vec<CreatePartitionsTopic>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// A topic to add partitions to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CreatePartitionsTopic {
    /// The topic.
    pub name: String,
    /// Partitions it shall have then.
    pub count: i32,
    /// The replicas of each new one, if they are to be chosen by the asker.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicResult {
    /// The topic.
    pub name: String,
    /// Whether it was done.
    pub result: Result<(), ApiError>,
}

/// Changes single configuration values (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IncrementalAlterConfigsRequest {
    /// The resources with their changes; a resource is changed wholly or not at all.
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// One change of one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The key.
    pub name: String,
    /// What to do.
    pub op: ConfigOp,
    /// With what. `None` only makes sense to delete.
    pub value: Option<String>,
}

/// What a [`ConfigChange`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOp {
    /// Sets the value.
    Set,
    /// Goes back to the default.
    Delete,
    /// Adds to a list what is not in it.
    Append,
    /// Takes out of a list.
    Subtract,
}

/// Replaces the whole configuration of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AlterConfigsRequest {
    /// The resources with their values.
    pub resources: Vec<(ConfigResource, ConfigValues)>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceResult {
    /// The resource.
    pub resource: ConfigResource,
    /// Whether it was done.
    pub result: Result<(), ApiError>,
}

/// A leader asks for changes of ISRs (KIP-497).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartitionRequest {
    /// The leader.
    pub node_id: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The partitions.
    pub partitions: Vec<AlterPartitionItem>,
}

/// A partition whose ISR is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartitionItem {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// The leader epoch in which the leader asks.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that the change starts from.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR.
    pub isr: Vec<IsrMember>,
}

/// What became of an [`AlterPartitionItem`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlteredPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// The partition after the change, or why it did not change.
    pub result: Result<PartitionRegistration, ApiError>,
}

/// Elects leaders anew (KIP-183, KIP-460).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectLeadersRequest {
    /// Which replica may win.
    pub kind: ElectionKind,
    /// The partitions by topic name; `None` for all, of which then only those with a result worth telling are
    /// answered.
    pub partitions: Option<Vec<(String, Vec<i32>)>>,
}

/// Which replica may become leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElectionKind {
    /// The first of the assigned replicas, if it is in the ISR.
    Preferred,
    /// Any live replica if nobody leads, even one that lacks acknowledged records.
    Unclean,
}

/// What became of one partition's election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectedLeader {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Whether the wanted leader leads now.
    pub result: Result<(), ApiError>,
}

/// Moves partitions to other brokers, each by itself (KIP-455).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartitionReassignmentsRequest {
    /// The partitions.
    pub partitions: Vec<ReassignablePartition>,
    /// Whether a partition may get more or fewer replicas than it has, or is on its way to have (KIP-860).
    pub allow_replication_factor_change: bool,
}

/// A partition to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignablePartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The replicas it shall have, the preferred leader first; `None` gives up the move that is running.
    pub target: Option<Vec<NodeId>>,
}

/// What became of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionResult {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Whether it is or will be done.
    pub result: Result<(), ApiError>,
}

/// Asks which partitions are on their way to other replicas (KIP-455).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListPartitionReassignmentsRequest {
    /// The partitions by topic name; `None` for all.
    pub partitions: Option<Vec<(String, Vec<i32>)>>,
}

/// A partition on its way to other replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OngoingReassignment {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All its replicas: those it will have, then those that go.
    pub replicas: Vec<NodeId>,
    /// Those that it did not have before.
    pub adding_replicas: Vec<NodeId>,
    /// Those that go when it has arrived.
    pub removing_replicas: Vec<NodeId>,
}

/// Finalizes features at other levels (KIP-584): all, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpdateFeaturesRequest {
    /// The features.
    pub updates: Vec<FeatureUpdate>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// The level that a feature shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    /// The feature's name.
    pub feature: String,
    /// The level; 0 is to do without.
    pub level: i16,
    /// Which way the asker means to go.
    pub upgrade_type: UpgradeType,
}

/// Which way a feature's level goes; to stay is allowed with each (KIP-778).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradeType {
    /// Up.
    Upgrade,
    /// Down, as long as nothing is lost.
    SafeDowngrade,
    /// Down, whatever is lost.
    UnsafeDowngrade,
}

/// A broker asks for producer ids to hand out (KIP-730).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducerIdsRequest {
    /// The broker.
    pub node_id: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
}

/// Producer ids that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// The first one.
    pub first: ProducerId,
    /// How many.
    pub count: i32,
}

/// A broker makes itself known at its start (KIP-631).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBrokerRequest {
    /// The cluster it believes to belong to.
    pub cluster_id: String,
    /// Its node id.
    pub node_id: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its disk.
    pub broker_uuid: BrokerUuid,
    /// Where clients reach it.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Where nodes reach it.
    pub rpc: BrokerEndpoint,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Its software version.
    pub software_version: String,
    /// The epoch of the registration since which its disk has lost nothing that was written to it: the process before it
    /// stopped cleanly, or was killed on a kernel that still runs (KIP-966's previous broker epoch, ADR 0004). Older
    /// brokers do not say.
    #[serde(default)]
    pub previous_epoch: Option<BrokerEpoch>,
    /// Whether its disk has been registered before, however long ago. Older brokers do not say.
    #[serde(default)]
    pub had_registered: bool,
    /// Whether its build reads records with eligible leader replicas (KIP-966). Older brokers do not say.
    #[serde(default)]
    pub reads_elr: bool,
}

/// A broker says that it lives, and what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerHeartbeatRequest {
    /// The broker.
    pub node_id: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The offset of the metadata it has applied.
    pub metadata_offset: u64,
    /// It cannot go on, its disk has failed for example, and what it wrote last may be lost.
    pub want_fence: bool,
    /// It wants to stop, after its leaderships are handed over.
    pub want_shut_down: bool,
    /// As in [`RegisterBrokerRequest`].
    #[serde(default)]
    pub reads_elr: bool,
}

/// What the controller thinks of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerState {
    /// It has applied the metadata up to its own registration.
    pub is_caught_up: bool,
    /// It is fenced.
    pub is_fenced: bool,
    /// It leads nothing any more, and the others know: it may exit.
    pub should_shut_down: bool,
}

/// Forgets a broker that is gone for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterBrokerRequest {
    /// The broker.
    pub node_id: NodeId,
}

/// Bytes that are no request or response of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another version.
    #[error("failed to decode a controller message: version {found:?}, this build reads {VERSION}")]
    Version {
        /// The first byte, if there is one.
        found: Option<u8>,
    },
    /// Not what the version says.
    #[error("failed to decode a controller message: {problem}")]
    Body {
        /// What the decoder said.
        problem: String,
    },
}

fn encode(message: &impl Serialize) -> Bytes {
    let body = rmp_serde::to_vec_named(message)
        .expect("messages are plain structs, which msgpack always holds");
    let mut buffer = BytesMut::with_capacity(body.len() + 1);
    buffer.put_u8(VERSION);
    buffer.put_slice(&body);
    buffer.freeze()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(EnvelopeError::Version {
            found: bytes.first().copied(),
        });
    };
    rmp_serde::from_slice(body).map_err(|error| EnvelopeError::Body {
        problem: error.to_string(),
    })
}

impl ControllerRequest {
    /// The request in its envelope.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// The request in this envelope.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        decode(bytes)
    }
}

impl ControllerResponse {
    /// The response in its envelope.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// The response in this envelope.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        decode(bytes)
    }
}
