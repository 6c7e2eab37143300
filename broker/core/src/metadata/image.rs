//! What is the metadata at one offset?
//!
//! Cloning an image costs a few reference counts: all maps are persistent and share what they have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{BrokerLayers, ConfigMap, KeyError, TopicSettings};
use imbl::{OrdMap, Vector};
use types::{BrokerEpoch, NodeId, ProducerId, TopicId};

use super::record::{BrokerEndpoint, BrokerUuid, ConfigResource, Incarnation, RegisterBroker};
use crate::partition::PartitionRegistration;

/// The metadata of the cluster after the records of one offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataImage {
    /// The offset of the last entry that was applied, 0 for none. Offsets have gaps.
    pub(super) offset: u64,
    pub(super) brokers: OrdMap<NodeId, Arc<BrokerImage>>,
    pub(super) last_broker_epoch: BrokerEpoch,
    pub(super) topics: OrdMap<TopicId, Arc<TopicImage>>,
    pub(super) topic_ids: OrdMap<Arc<str>, TopicId>,
    pub(super) configs: OrdMap<ConfigResource, Arc<ConfigMap>>,
    pub(super) producer_ids: Option<super::record::ProducerIds>,
    pub(super) features: OrdMap<String, i16>,
    pub(super) topics_version: TopicsVersion,
}

/// The offset at which a topic last came, went or grew. No part of what an image says: one that was loaded from a
/// snapshot knows no more than the snapshot's own offset, and is equal to one that followed every record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TopicsVersion(pub(super) u64);

impl PartialEq for TopicsVersion {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TopicsVersion {}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// The node.
    pub node_id: NodeId,
    /// The epoch of its registration.
    pub epoch: BrokerEpoch,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its disk.
    pub broker_uuid: BrokerUuid,
    /// Where Kafka clients reach it, by listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Where other nodes reach its gRPC services.
    pub rpc: BrokerEndpoint,
    /// Its failure domain.
    pub rack: Option<String>,
    /// The software version of its process.
    pub software_version: String,
    /// Whether it is kept from leading and from ISRs.
    pub fenced: bool,
    /// Whether it is handing over its leaderships to stop.
    pub in_controlled_shutdown: bool,
    /// Whether its build reads records with eligible leader replicas.
    pub reads_elr: bool,
}

impl BrokerImage {
    /// Whether it may lead and join ISRs: neither fenced nor stopping.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Its address on the listener of that name.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints.iter().find(|e| e.name == listener)
    }

    pub(super) fn new(record: &RegisterBroker) -> Self {
        Self {
            node_id: record.node_id,
            epoch: record.broker_epoch,
            incarnation: record.incarnation,
            broker_uuid: record.broker_uuid,
            endpoints: record.endpoints.clone(),
            rpc: record.rpc.clone(),
            rack: record.rack.clone(),
            software_version: record.software_version.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            reads_elr: record.reads_elr,
        }
    }

    pub(super) fn to_record(&self) -> RegisterBroker {
        RegisterBroker {
            node_id: self.node_id,
            broker_epoch: self.epoch,
            incarnation: self.incarnation,
            broker_uuid: self.broker_uuid,
            endpoints: self.endpoints.clone(),
            rpc: self.rpc.clone(),
            rack: self.rack.clone(),
            software_version: self.software_version.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            reads_elr: self.reads_elr,
        }
    }
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id.
    pub id: TopicId,
    /// Its partitions, by index.
    pub partitions: Vector<Arc<PartitionRegistration>>,
}

impl TopicImage {
    /// The partition of that index.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Arc<PartitionRegistration>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// The partitions with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Arc<PartitionRegistration>)> {
        (0..).zip(self.partitions.iter())
    }

    /// Replicas of partition 0, or those it will have when it is reassigned; new partitions get as many.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.partitions
            .get(0)
            .map_or(0, |partition| partition.target_replicas().count())
    }
}

impl MetadataImage {
    /// The image before any record.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The offset of the last applied entry; 0 before any.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves on, never back, when a topic comes, goes or grows; hardly ever otherwise.
    #[must_use]
    pub const fn topics_version(&self) -> u64 {
        self.topics_version.0
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The broker of that id.
    #[must_use]
    pub fn broker(&self, id: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// Whether the broker is registered, unfenced and not stopping.
    #[must_use]
    pub fn is_active(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(|broker| broker.is_active())
    }

    /// The largest broker epoch given so far.
    #[must_use]
    pub const fn last_broker_epoch(&self) -> BrokerEpoch {
        self.last_broker_epoch
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// Number of topics.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|t| t.partitions.len()).sum()
    }

    /// The topic of that id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// A partition by its topic's id.
    #[must_use]
    pub fn partition(&self, topic: TopicId, index: i32) -> Option<&Arc<PartitionRegistration>> {
        self.topic(topic)?.partition(index)
    }

    /// What is set for a resource at run time; empty for most.
    #[must_use]
    pub fn config(&self, resource: &ConfigResource) -> &ConfigMap {
        static EMPTY: ConfigMap = BTreeMap::new();
        self.configs
            .get(resource)
            .map_or(&EMPTY, |map| map.as_ref())
    }

    /// What is set for a topic; empty for most.
    #[must_use]
    pub fn topic_config(&self, name: &str) -> &ConfigMap {
        self.config(&ConfigResource::Topic(name.into()))
    }

    /// The layers of a broker's configuration over `file`, the `config` of its file.
    #[must_use]
    pub fn broker_layers<'a>(&'a self, node: NodeId, file: &'a ConfigMap) -> BrokerLayers<'a> {
        BrokerLayers {
            dynamic_broker: Some(self.config(&ConfigResource::Broker(node))),
            dynamic_default: Some(self.config(&ConfigResource::DefaultBroker)),
            file: Some(file),
        }
    }

    /// The effective configuration of a topic on broker `node` with `file` as the `config` of its file.
    ///
    /// # Errors
    /// The first stored value that this build does not accept.
    pub fn topic_settings(
        &self,
        topic: &str,
        node: NodeId,
        file: &ConfigMap,
    ) -> Result<TopicSettings, KeyError> {
        TopicSettings::resolve(self.topic_config(topic), &self.broker_layers(node, file))
    }

    /// The first producer id that is not handed out.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.producer_ids
            .as_ref()
            .map_or(ProducerId(0), |ids| ids.next)
    }

    /// The finalized features and their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
    }

    /// The finalized level of a feature, 0 for none.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }
}
