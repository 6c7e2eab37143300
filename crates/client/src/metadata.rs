//! Who leads which partition, as far as the client knows?

use std::collections::BTreeMap;

use types::{ErrorCode, LeaderEpoch, NodeId, TopicId};
use wire::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};

use crate::error::error_code;

/// A broker's address for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: NodeId,
    /// Host name or address.
    pub host: String,
    /// Port of the listener that the client uses.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// A partition's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number within the topic.
    pub index: i32,
    /// The leader; `None` when there is none now.
    pub leader: Option<NodeId>,
    /// How many times leadership was decided.
    pub leader_epoch: LeaderEpoch,
    /// The assigned replicas, preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Replicas that are offline.
    pub offline_replicas: Vec<NodeId>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its identity; zero from brokers that have none.
    pub id: TopicId,
    /// Whether it is one of the cluster's own.
    pub is_internal: bool,
    /// Its partitions by number, without gaps.
    pub partitions: Vec<PartitionMetadata>,
}

/// What is known of a cluster; replaced as a whole at each refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// A broker that takes requests for the controller.
    pub controller: Option<NodeId>,
    /// Brokers that are alive.
    pub brokers: BTreeMap<NodeId, Broker>,
    /// Topics by name: all, or those that were asked for.
    pub topics: BTreeMap<String, TopicMetadata>,
    /// Why topics that were asked for are not there.
    pub missing: BTreeMap<String, ErrorCode>,
}

impl Metadata {
    /// A topic's registration of one partition.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.partitions.get(index)
    }

    /// The leader of a partition, if it has one that is alive.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(NodeId, LeaderEpoch)> {
        let partition = self.partition(topic, partition)?;
        let leader = partition
            .leader
            .filter(|id| self.brokers.contains_key(id))?;
        Some((leader, partition.leader_epoch))
    }

    /// The name of a topic by its id.
    #[must_use]
    pub fn topic_name(&self, id: TopicId) -> Option<&str> {
        self.topics
            .values()
            .find(|t| t.id == id)
            .map(|t| t.name.as_str())
    }

    /// What is known after an answer: `all` when it speaks of every topic, so that others are gone.
    pub(crate) fn merged(&self, answer: MetadataResponse, all: bool) -> Self {
        let mut next = Self {
            cluster_id: answer.cluster_id.or_else(|| self.cluster_id.clone()),
            controller: Some(NodeId(answer.controller_id)).filter(|id| id.0 >= 0),
            ..Self::default()
        };
        for broker in answer.brokers {
            let id = NodeId(broker.node_id);
            let port = u16::try_from(broker.port).unwrap_or(0);
            next.brokers.insert(
                id,
                Broker {
                    id,
                    host: broker.host,
                    port,
                    rack: broker.rack,
                },
            );
        }
        if !all {
            next.topics.clone_from(&self.topics);
            next.missing.clone_from(&self.missing);
        }
        for topic in answer.topics {
            let Some(name) = topic.name.clone() else {
                continue;
            };
            match error_code(topic.error_code) {
                ErrorCode::None | ErrorCode::LeaderNotAvailable if !topic.partitions.is_empty() => {
                    let known = self.topics.get(&name);
                    next.missing.remove(&name);
                    next.topics
                        .insert(name.clone(), topic_metadata(name, topic, known));
                }
                code => {
                    next.topics.remove(&name);
                    next.missing.insert(name, code);
                }
            }
        }
        next
    }

    /// What a broker hinted with an error (KIP-951): the new leader. `None` when it is nothing new.
    pub(crate) fn with_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: NodeId,
        epoch: LeaderEpoch,
        endpoint: Option<Broker>,
    ) -> Option<Self> {
        let known = self.partition(topic, partition)?;
        if leader.0 < 0 || epoch <= known.leader_epoch {
            return None;
        }
        if !self.brokers.contains_key(&leader) && endpoint.is_none() {
            return None;
        }
        let mut next = self.clone();
        if let Some(broker) = endpoint {
            next.brokers.insert(leader, broker);
        }
        let index = usize::try_from(partition).ok()?;
        let known = next.topics.get_mut(topic)?.partitions.get_mut(index)?;
        known.leader = Some(leader);
        known.leader_epoch = epoch;
        Some(next)
    }
}

/// A topic as answered, except that a partition never goes back to an older leader epoch: brokers learn of an election
/// at different times, and one that is behind must not undo what another said.
fn topic_metadata(
    name: String,
    topic: MetadataResponseTopic,
    known: Option<&TopicMetadata>,
) -> TopicMetadata {
    let known = known.filter(|k| k.id == topic.topic_id);
    let mut partitions: Vec<PartitionMetadata> = topic
        .partitions
        .into_iter()
        .map(|p| PartitionMetadata {
            index: p.partition_index,
            leader: Some(NodeId(p.leader_id)).filter(|id| id.0 >= 0),
            leader_epoch: LeaderEpoch(p.leader_epoch),
            replicas: p.replica_nodes.into_iter().map(NodeId).collect(),
            isr: p.isr_nodes.into_iter().map(NodeId).collect(),
            offline_replicas: p.offline_replicas.into_iter().map(NodeId).collect(),
        })
        .collect();
    partitions.sort_by_key(|p| p.index);
    for partition in &mut partitions {
        let older = known.and_then(|k| k.partitions.iter().find(|p| p.index == partition.index));
        if let Some(older) = older
            && older.leader_epoch > partition.leader_epoch
        {
            partition.leader = older.leader;
            partition.leader_epoch = older.leader_epoch;
        }
    }
    TopicMetadata {
        name,
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    }
}
