//! Which partitions move to which brokers, and when have they arrived (KIP-455)?
//!
//! The steps themselves are in `partition/reassignment.rs`. All of a reassignment is in the partition's registration,
//! so that any later controller goes on with it: the leader's request for an ISR that contains the whole target ends it.

use std::collections::BTreeSet;

use types::{ErrorCode, NodeId};

use super::request::{
    AlterPartitionReassignmentsRequest, ApiError, ListPartitionReassignmentsRequest,
    OngoingReassignment, PartitionResult, ReassignablePartition,
};
use super::topics::{MAX_PARTITIONS_PER_REQUEST, refuse, too_many_partitions};
use super::{Controller, Decision};
use crate::metadata::record::PartitionChange;
use crate::metadata::{MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

impl Controller {
    pub(super) fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Decision<Vec<PartitionResult>> {
        let count = i64::try_from(request.partitions.len()).unwrap_or(i64::MAX);
        let too_many = count > MAX_PARTITIONS_PER_REQUEST;
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let response = request
            .partitions
            .iter()
            .map(|item| {
                let result = if too_many {
                    too_many_partitions()
                } else if seen.insert((&item.topic, item.partition)) {
                    self.reassign(item, request.allow_replication_factor_change)
                } else {
                    refuse(
                        ErrorCode::InvalidRequest,
                        "The partition is named twice in one request",
                    )
                };
                PartitionResult {
                    topic: item.topic.clone(),
                    partition: item.partition,
                    result: result.map(|change| {
                        records.extend(change.map(MetadataRecord::PartitionChange));
                    }),
                }
            })
            .collect();
        Decision { records, response }
    }

    /// The change that begins or gives up one reassignment; none if the partition is as it is wanted already.
    fn reassign(
        &self,
        item: &ReassignablePartition,
        allow_replication_factor_change: bool,
    ) -> Result<Option<PartitionChange>, ApiError> {
        let found = self.image.topic_by_name(&item.topic);
        let Some((topic, partition)) =
            found.and_then(|topic| Some((topic, topic.partition(item.partition)?)))
        else {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!(
                    "Unable to find partition {}:{}.",
                    item.topic, item.partition
                ),
            );
        };
        let Some(target) = &item.target else {
            return self.give_up(topic, item.partition, partition);
        };
        self.check_replicas(target)?;
        let wanted = partition.target_replicas().count();
        if !allow_replication_factor_change && target.len() != wanted {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "The replication factor is changed from {wanted} to {}",
                    target.len()
                ),
            );
        }
        let next = partition.reassigned(target);
        if leaves_nobody(partition, &next) {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Unable to reassign {}:{} because the running reassignment has brought all in-sync replicas to \
                     brokers that the new target does not name.",
                    item.topic, item.partition
                ),
            );
        }
        Ok(self
            .electorate()
            .step(topic, item.partition, partition, &next, false))
    }

    fn give_up(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionRegistration,
    ) -> Result<Option<PartitionChange>, ApiError> {
        if !partition.is_reassigning() {
            return refuse(
                ErrorCode::NoReassignmentInProgress,
                "No partition reassignment is in progress.",
            );
        }
        let unclean = self.electorate().unclean_allowed(topic);
        let mut next = partition.reverted();
        if leaves_nobody(partition, &next) {
            if !unclean {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Unable to revert partition assignment for {}:{index} because it would require an unclean \
                         leader election.",
                        topic.name
                    ),
                );
            }
            let active = |node: &&NodeId| self.image.is_active(**node);
            let survivor = next.replicas.iter().find(active);
            next.isr = survivor
                .or(next.replicas.first())
                .copied()
                .into_iter()
                .collect();
        }
        Ok(self
            .electorate()
            .step(topic, index, partition, &next, unclean))
    }

    pub(super) fn list_partition_reassignments(
        &self,
        request: &ListPartitionReassignmentsRequest,
    ) -> Decision<Vec<OngoingReassignment>> {
        let mut found = Vec::new();
        let mut look = |topic: &TopicImage, index: i32| {
            if let Some(partition) = topic.partition(index).filter(|p| p.is_reassigning()) {
                found.push(OngoingReassignment {
                    topic: topic.name.to_string(),
                    partition: index,
                    replicas: partition.replicas.clone(),
                    adding_replicas: partition.adding_replicas.clone(),
                    removing_replicas: partition.removing_replicas.clone(),
                });
            }
        };
        match &request.partitions {
            None => {
                for topic in self.image.topics() {
                    topic.iter().for_each(|(index, _)| look(topic, index));
                }
            }
            Some(wanted) => {
                for (name, indexes) in wanted {
                    if let Some(topic) = self.image.topic_by_name(name) {
                        indexes.iter().for_each(|index| look(topic, *index));
                    }
                }
            }
        }
        Decision::answer(found)
    }
}

/// Whether a step takes out all who have every acknowledged record.
fn leaves_nobody(before: &PartitionRegistration, next: &PartitionRegistration) -> bool {
    let nobody =
        |partition: &PartitionRegistration| partition.isr.is_empty() && partition.elr.is_empty();
    nobody(next) && !nobody(before)
}
