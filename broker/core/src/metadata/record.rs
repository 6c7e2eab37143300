//! Which changes of the metadata are there?
//!
//! One variant is one kind of record, numbered for ever in `codec.rs`. A changed shape gets a new version there.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::{BrokerEpoch, NodeId, ProducerId, TopicId};

use crate::partition::PartitionRegistration;

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub TopicId);

        impl $name {
            /// The uuid of these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(TopicId(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid!(
    /// The identity of a broker's disk: written once into its data directory.
    BrokerUuid
);
uuid!(
    /// The identity of a broker's process: new at each start (KIP-631).
    Incarnation
);

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// A broker process has made itself known; replaces what was known of the node.
    RegisterBroker(RegisterBroker),
    /// A broker was fenced, unfenced, or began its controlled shutdown.
    BrokerRegistrationChange(BrokerRegistrationChange),
    /// A broker is gone for good.
    UnregisterBroker(UnregisterBroker),
    /// A topic exists; its partitions follow in the same batch.
    Topic(Topic),
    /// A topic is gone, with its partitions and configuration.
    RemoveTopic(RemoveTopic),
    /// A partition exists, or (in a snapshot) is registered like this.
    Partition(Partition),
    /// A partition's replicas, ISR or leader changed.
    PartitionChange(PartitionChange),
    /// A configuration value was set or removed.
    Config(Config),
    /// Producer ids up to here are handed out.
    ProducerIds(ProducerIds),
    /// A feature was finalized at a level.
    FeatureLevel(FeatureLevel),
    /// The largest broker epoch given so far. Only in snapshots: otherwise registrations carry it.
    BrokerEpochs(BrokerEpochs),
}

/// See [`MetadataRecord::RegisterBroker`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    /// The node.
    pub node_id: NodeId,
    /// The epoch of this registration.
    pub broker_epoch: BrokerEpoch,
    /// The process.
    pub incarnation: Incarnation,
    /// The disk.
    pub broker_uuid: BrokerUuid,
    /// Where Kafka clients reach it, by listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Where other nodes reach its gRPC services.
    pub rpc: BrokerEndpoint,
    /// Its failure domain.
    pub rack: Option<String>,
    /// The software version of its process.
    pub software_version: String,
    /// Whether it may lead and be in ISRs.
    pub fenced: bool,
    /// Whether it is handing over its leaderships to stop.
    pub in_controlled_shutdown: bool,
    /// Whether its build reads records with eligible leader replicas (KIP-966). Written only if so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads_elr: bool,
}

/// A name, host and port under which a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BrokerEndpoint {
    /// The listener's name.
    pub name: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// See [`MetadataRecord::BrokerRegistrationChange`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistrationChange {
    /// The node.
    pub node_id: NodeId,
    /// The registration that changes.
    pub broker_epoch: BrokerEpoch,
    /// The new state, if it changes.
    pub fenced: Option<bool>,
    /// The new state, if it changes.
    pub in_controlled_shutdown: Option<bool>,
}

/// See [`MetadataRecord::UnregisterBroker`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterBroker {
    /// The node.
    pub node_id: NodeId,
    /// The registration that ends.
    pub broker_epoch: BrokerEpoch,
}

/// See [`MetadataRecord::Topic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id, never used before.
    pub topic_id: TopicId,
}

/// See [`MetadataRecord::RemoveTopic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTopic {
    /// The topic.
    pub topic_id: TopicId,
}

/// See [`MetadataRecord::Partition`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's index: the next one of its topic.
    pub partition: i32,
    /// Its state.
    pub registration: PartitionRegistration,
}

/// See [`MetadataRecord::PartitionChange`]. Each one raises the partition epoch by one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionChange {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: i32,
    /// What becomes of the leader. Anything but `Unchanged` raises the leader epoch by one.
    pub leader: LeaderChange,
    /// The new ISR, if it changes.
    pub isr: Option<Vec<NodeId>>,
    /// The new assignment, if it changes.
    pub replicas: Option<Vec<NodeId>>,
    /// The replicas that a reassignment adds, if they change. From version 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding_replicas: Option<Vec<NodeId>>,
    /// The replicas that go with a reassignment, if they change. From version 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing_replicas: Option<Vec<NodeId>>,
    /// The eligible leader replicas, if they change. From version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elr: Option<Vec<NodeId>>,
    /// The last known leader of a partition without one, if that changes. From version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_elr: Option<Vec<NodeId>>,
}

impl PartitionChange {
    /// The change that leads from `before` to `after`, whose epochs do not matter: `leader` says what becomes of them.
    #[must_use]
    pub fn between(
        (topic_id, partition): (TopicId, i32),
        before: &PartitionRegistration,
        after: &PartitionRegistration,
        leader: LeaderChange,
    ) -> Self {
        let changed =
            |before: &Vec<NodeId>, after: &Vec<NodeId>| (before != after).then(|| after.clone());
        Self {
            topic_id,
            partition,
            leader,
            isr: changed(&before.isr, &after.isr),
            replicas: changed(&before.replicas, &after.replicas),
            adding_replicas: changed(&before.adding_replicas, &after.adding_replicas),
            removing_replicas: changed(&before.removing_replicas, &after.removing_replicas),
            elr: changed(&before.elr, &after.elr),
            last_known_elr: changed(&before.last_known_elr, &after.last_known_elr),
        }
    }

    /// Whether it would do nothing but raise the partition epoch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leader == LeaderChange::Unchanged
            && self.isr.is_none()
            && self.replicas.is_none()
            && self.adding_replicas.is_none()
            && self.removing_replicas.is_none()
            && !self.tells_elr()
    }

    /// Whether it says something about eligible leader replicas.
    #[must_use]
    pub const fn tells_elr(&self) -> bool {
        self.elr.is_some() || self.last_known_elr.is_some()
    }

    /// Makes `partition` what it is after the change.
    pub fn apply_to(&self, partition: &mut PartitionRegistration) {
        let set = |list: &mut Vec<NodeId>, new: &Option<Vec<NodeId>>| {
            if let Some(new) = new {
                list.clone_from(new);
            }
        };
        set(&mut partition.replicas, &self.replicas);
        set(&mut partition.isr, &self.isr);
        set(&mut partition.adding_replicas, &self.adding_replicas);
        set(&mut partition.removing_replicas, &self.removing_replicas);
        set(&mut partition.elr, &self.elr);
        set(&mut partition.last_known_elr, &self.last_known_elr);
        match self.leader {
            LeaderChange::Unchanged => {}
            LeaderChange::NoLeader => {
                partition.leader = None;
                partition.leader_epoch = partition.leader_epoch.next();
            }
            LeaderChange::Elected(node) => {
                partition.leader = Some(node);
                partition.leader_epoch = partition.leader_epoch.next();
            }
        }
        partition.partition_epoch = partition.partition_epoch.next();
    }
}

/// What a [`PartitionChange`] does to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LeaderChange {
    /// Nothing: the same leader in the same epoch.
    #[default]
    Unchanged,
    /// Nobody leads.
    NoLeader,
    /// This node leads, in a new epoch.
    Elected(NodeId),
}

/// See [`MetadataRecord::Config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Whose configuration.
    pub resource: ConfigResource,
    /// The key.
    pub name: String,
    /// The value; `None` removes it.
    pub value: Option<String>,
}

/// What can be configured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigResource {
    /// All brokers.
    DefaultBroker,
    /// One broker.
    Broker(NodeId),
    /// One topic, by name.
    Topic(Arc<str>),
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultBroker => f.write_str("all brokers"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Topic(name) => write!(f, "topic {name}"),
        }
    }
}

/// See [`MetadataRecord::ProducerIds`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIds {
    /// The broker that got the last block.
    pub node_id: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The first id that is not handed out yet.
    pub next: ProducerId,
}

/// See [`MetadataRecord::FeatureLevel`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureLevel {
    /// The feature.
    pub name: String,
    /// Its finalized level; 0 removes it.
    pub level: i16,
}

/// See [`MetadataRecord::BrokerEpochs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEpochs {
    /// The largest one.
    pub last: BrokerEpoch,
}
