//! When may a leader change its ISR, and when does leadership move on request?

use std::collections::BTreeSet;

use types::{ErrorCode, NodeId, TopicId};

use super::request::{
    AlterPartitionItem, AlterPartitionRequest, AlteredPartition, ApiError, ElectLeadersRequest,
    ElectedLeader, ElectionKind,
};
use super::{Controller, Decision};
use crate::metadata::record::{LeaderChange, PartitionChange};
use crate::metadata::{MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

/// Leaderships moved back in one go by the timer: what clients notice at once stays small.
const MAX_REBALANCED: usize = 1_000;

impl Controller {
    pub(super) fn alter_partition(
        &self,
        request: &AlterPartitionRequest,
    ) -> Decision<Result<Vec<AlteredPartition>, ApiError>> {
        if let Err(error) = self.check_epoch(request.node_id, request.broker_epoch) {
            return Decision::answer(Err(error));
        }
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let results = request
            .partitions
            .iter()
            .map(|item| {
                let result = if seen.insert((item.topic_id, item.partition)) {
                    self.alter_one(request.node_id, item)
                } else {
                    Err(ApiError::new(
                        ErrorCode::InvalidRequest,
                        "The partition is named twice in one request",
                    ))
                };
                let result = result.map(|(change, registration)| {
                    records.extend(change.map(MetadataRecord::PartitionChange));
                    registration
                });
                AlteredPartition {
                    topic_id: item.topic_id,
                    partition: item.partition,
                    result,
                }
            })
            .collect();
        Decision {
            records,
            response: Ok(results),
        }
    }

    fn alter_one(
        &self,
        asker: NodeId,
        item: &AlterPartitionItem,
    ) -> Result<(Option<PartitionChange>, PartitionRegistration), ApiError> {
        let (topic, partition) = self.checked_partition(asker, item)?;
        let isr: Vec<NodeId> = item.isr.iter().map(|member| member.node).collect();
        let unchanged: BTreeSet<_> = isr.iter().collect();
        if unchanged == partition.isr.iter().collect() {
            return Ok((None, partition.clone()));
        }
        let mut after = partition.clone();
        // The ISR that a reassignment waited for ends it, which may leave the leader without its replica: what is
        // answered then names another one, and the asker waits for the metadata that says so.
        let next = PartitionRegistration {
            isr,
            ..after.clone()
        };
        let next = next.completed();
        let change = self
            .electorate()
            .step(topic, item.partition, partition, &next, false);
        if let Some(change) = &change {
            change.apply_to(&mut after);
        }
        Ok((change, after))
    }

    /// The partition, if `asker` leads it in the epochs it says and the new ISR is one it may ask for.
    fn checked_partition(
        &self,
        asker: NodeId,
        item: &AlterPartitionItem,
    ) -> Result<(&TopicImage, &PartitionRegistration), ApiError> {
        let refuse = |code, message: String| Err(ApiError::new(code, message));
        let Some(topic) = self.image.topic(item.topic_id) else {
            return refuse(
                ErrorCode::UnknownTopicId,
                format!("No topic has the id {}", item.topic_id),
            );
        };
        let Some(partition) = topic.partition(item.partition) else {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("Topic {} has no partition {}", topic.name, item.partition),
            );
        };
        if item.leader_epoch > partition.leader_epoch
            || item.partition_epoch > partition.partition_epoch
        {
            return refuse(
                ErrorCode::NotController,
                "The leader knows a later state of the partition than this controller".to_owned(),
            );
        }
        if item.leader_epoch < partition.leader_epoch {
            return refuse(
                ErrorCode::FencedLeaderEpoch,
                format!("The leader epoch is {} now", partition.leader_epoch),
            );
        }
        if partition.leader != Some(asker) {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Broker {asker} does not lead the partition"),
            );
        }
        if item.partition_epoch < partition.partition_epoch {
            return refuse(
                ErrorCode::InvalidUpdateVersion,
                format!("The partition epoch is {} now", partition.partition_epoch),
            );
        }
        self.check_isr(asker, item, partition)?;
        Ok((topic, partition))
    }

    fn check_isr(
        &self,
        leader: NodeId,
        item: &AlterPartitionItem,
        partition: &PartitionRegistration,
    ) -> Result<(), ApiError> {
        let mut seen = BTreeSet::new();
        for member in &item.isr {
            if !partition.replicas.contains(&member.node) || !seen.insert(member.node) {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    format!("{} is no replica, or is named twice", member.node),
                ));
            }
        }
        if !seen.contains(&leader) {
            return Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "The leader must be in the ISR",
            ));
        }
        for member in &item.isr {
            let why = match self.image.broker(member.node) {
                None => "is not registered",
                Some(broker) if broker.fenced => "is fenced",
                Some(broker) if broker.in_controlled_shutdown => "is in controlled shutdown",
                Some(broker)
                    if member
                        .broker_epoch
                        .is_some_and(|epoch| epoch != broker.epoch) =>
                {
                    "has another broker epoch: it has restarted"
                }
                Some(_) => continue,
            };
            return Err(ApiError::new(
                ErrorCode::IneligibleReplica,
                format!("Broker {} cannot be in the ISR: it {why}", member.node),
            ));
        }
        Ok(())
    }

    pub(super) fn elect_leaders(
        &self,
        request: &ElectLeadersRequest,
    ) -> Decision<Vec<ElectedLeader>> {
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut elect = |topic: &TopicImage, index: i32, tell_unneeded: bool| {
            let Some(partition) = topic.partition(index) else {
                return;
            };
            let result = match request.kind {
                ElectionKind::Preferred => self.elect_preferred(topic, index, partition),
                ElectionKind::Unclean => self.elect_unclean(topic, index, partition),
            };
            let unneeded =
                matches!(&result, Err(error) if error.code == ErrorCode::ElectionNotNeeded);
            if unneeded && !tell_unneeded {
                return;
            }
            results.push(ElectedLeader {
                topic: topic.name.to_string(),
                partition: index,
                result: result.map(|change| records.push(MetadataRecord::PartitionChange(change))),
            });
        };
        let Some(wanted) = &request.partitions else {
            for topic in self.image.topics() {
                for (index, _) in topic.iter() {
                    elect(topic, index, false);
                }
            }
            return Decision {
                records,
                response: results,
            };
        };
        let mut seen: BTreeSet<(TopicId, i32)> = BTreeSet::new();
        let mut unknown = Vec::new();
        for (name, indexes) in wanted {
            let topic = self.image.topic_by_name(name);
            for &index in indexes {
                match topic.filter(|topic| topic.partition(index).is_some()) {
                    Some(topic) if seen.insert((topic.id, index)) => elect(topic, index, true),
                    Some(_) => {}
                    None => unknown.push(unknown_partition(name, index)),
                }
            }
        }
        results.extend(unknown);
        Decision {
            records,
            response: results,
        }
    }

    fn elect_preferred(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionRegistration,
    ) -> Result<PartitionChange, ApiError> {
        let preferred = partition.replicas.first().copied();
        if preferred == partition.leader {
            return Err(ApiError::new(
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed because the preferred leader is already the leader",
            ));
        }
        preferred
            .filter(|node| partition.isr.contains(node) && self.image.is_active(*node))
            .map(|node| {
                let electorate = self.electorate();
                let mut after = partition.clone();
                after.leader = Some(node);
                // Its minimum may be another.
                let holders = electorate.holders(partition, partition);
                after.elr = electorate.eligible(topic, &after, &holders);
                let elected = LeaderChange::Elected(node);
                PartitionChange::between((topic.id, index), partition, &after, elected)
            })
            .ok_or_else(|| {
                ApiError::new(
                    ErrorCode::PreferredLeaderNotAvailable,
                    "The preferred leader was not available.",
                )
            })
    }

    fn elect_unclean(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionRegistration,
    ) -> Result<PartitionChange, ApiError> {
        if partition.leader.is_some() {
            return Err(ApiError::new(
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed because a leader exists",
            ));
        }
        self.electorate()
            .change(topic, index, partition, true)
            .filter(|change| matches!(change.leader, LeaderChange::Elected(_)))
            .ok_or_else(|| {
                ApiError::new(
                    ErrorCode::EligibleLeadersNotAvailable,
                    "No replica of the partition is alive",
                )
            })
    }

    /// Moves leadership to preferred replicas wherever they can take it.
    pub(super) fn preferred_elections(&self) -> Vec<MetadataRecord> {
        self.image
            .topics()
            .flat_map(|topic| {
                topic.iter().filter_map(|(index, partition)| {
                    self.elect_preferred(topic, index, partition).ok()
                })
            })
            .take(MAX_REBALANCED)
            .map(MetadataRecord::PartitionChange)
            .collect()
    }
}

fn unknown_partition(topic: &str, partition: i32) -> ElectedLeader {
    ElectedLeader {
        topic: topic.to_owned(),
        partition,
        result: Err(ApiError::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("No such partition as {topic}-{partition}"),
        )),
    }
}
