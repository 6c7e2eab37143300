//! Which partitions are being moved, and how many copies must they have meanwhile?

use std::collections::BTreeMap;

use types::NodeId;
use wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::{Admin, refuse_not_controller};
use crate::error::ClientError;
use crate::metadata::{PartitionMetadata, TopicMetadata};

/// A partition's move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas: those that stay, those that are added and those that go.
    pub replicas: Vec<NodeId>,
    /// Replicas that are still being copied.
    pub adding: Vec<NodeId>,
    /// Replicas that go when the others have their copy.
    pub removing: Vec<NodeId>,
}

/// The moves that are under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reassignments {
    by_topic: BTreeMap<String, BTreeMap<i32, Reassignment>>,
}

/// How a partition's replicas count, as the brokers and Apache Kafka's tools count them: while it is moved, metadata names the replicas
/// of before and after together, and the copies that are still being made are not missed, or each move would look like an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// How many there have to be.
    pub wanted: usize,
    /// How many of them are in sync.
    pub in_sync: usize,
}

impl Copies {
    /// Counts those of a partition that is moved as `moving` says, if it is.
    #[must_use]
    pub fn of(partition: &PartitionMetadata, moving: Option<&Reassignment>) -> Self {
        // The two answers are not of one moment: a move that ended before metadata was read no longer counts.
        let moving = moving.filter(|moving| {
            let mut changed = moving.adding.iter().chain(&moving.removing);
            changed.any(|node| partition.replicas.contains(node))
        });
        let wanted = moving.map_or(partition.replicas.len(), |moving| {
            moving.replicas.len().saturating_sub(moving.adding.len())
        });
        Self {
            wanted,
            in_sync: partition.isr.len().min(wanted),
        }
    }

    /// Whether none is missing.
    #[must_use]
    pub fn are_complete(self) -> bool {
        self.in_sync == self.wanted
    }
}

impl Reassignments {
    /// The move of a partition, if there is one.
    #[must_use]
    pub fn of(&self, topic: &str, partition: i32) -> Option<&Reassignment> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// How the replicas of a partition count.
    #[must_use]
    pub fn copies(&self, topic: &str, partition: &PartitionMetadata) -> Copies {
        Copies::of(partition, self.of(topic, partition.index))
    }
}

impl Admin {
    /// The moves that are under way.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn list_reassignments(&self) -> Result<Reassignments, ClientError> {
        let what = || "list the reassignments of partitions".to_owned();
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            ..ListPartitionReassignmentsRequest::default()
        };
        let check = |answer: ListPartitionReassignmentsResponse| {
            refuse_not_controller(std::iter::once(answer.error_code))?;
            ClientError::check(answer.error_code, answer.error_message.clone(), what)?;
            Ok(reassignments(answer))
        };
        self.client.ask_controller(what, &request, check).await
    }

    /// The moves that matter for these topics: nobody is asked while every replica is in sync, because then none is being added.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers. Brokers that are too old to move partitions have no moves.
    pub async fn reassignments_of(
        &self,
        topics: &[&TopicMetadata],
    ) -> Result<Reassignments, ClientError> {
        let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
        if partitions.all(|partition| Copies::of(partition, None).are_complete()) {
            return Ok(Reassignments::default());
        }
        match self.list_reassignments().await {
            Err(ClientError::Version { .. }) => Ok(Reassignments::default()),
            answer => answer,
        }
    }
}

fn reassignments(answer: ListPartitionReassignmentsResponse) -> Reassignments {
    let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
    let by_topic = answer.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| {
            let moving = Reassignment {
                replicas: nodes(p.replicas),
                adding: nodes(p.adding_replicas),
                removing: nodes(p.removing_replicas),
            };
            (p.partition_index, moving)
        });
        (topic.name, partitions.collect())
    });
    Reassignments {
        by_topic: by_topic.collect(),
    }
}

#[cfg(test)]
mod tests {
    use types::LeaderEpoch;

    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// `wanted/in sync` of a partition with these replicas and ISR, while `moving` (all, adding, removing) is told.
    fn check(replicas: &[i32], isr: &[i32], moving: Option<[&[i32]; 3]>, expected: &str) {
        let partition = PartitionMetadata {
            index: 0,
            leader: isr.first().copied().map(NodeId),
            leader_epoch: LeaderEpoch(0),
            replicas: nodes(replicas),
            isr: nodes(isr),
            offline_replicas: Vec::new(),
        };
        let moving = moving.map(|[replicas, adding, removing]| Reassignment {
            replicas: nodes(replicas),
            adding: nodes(adding),
            removing: nodes(removing),
        });
        let copies = Copies::of(&partition, moving.as_ref());
        let Copies { wanted, in_sync } = copies;
        assert_eq!(
            format!("{in_sync}/{wanted}"),
            expected,
            "replicas {replicas:?}, ISR {isr:?}, {moving:?}"
        );
        assert_eq!(copies.are_complete(), in_sync == wanted);
    }

    #[test]
    fn copies_that_are_still_being_made_are_not_missed() {
        let all = Some([&[3, 4, 1, 2][..], &[3, 4], &[1, 2]]);
        check(&[1, 2], &[1, 2], None, "2/2");
        check(&[1, 2], &[1], None, "1/2");
        check(&[3, 4, 1, 2], &[1, 2], all, "2/2");
        check(&[3, 4, 1, 2], &[1], all, "1/2");
        // A copy that has just been made stands in for one of before, as everywhere in Kafka.
        check(&[3, 4, 1, 2], &[1, 3], all, "2/2");
        check(&[3, 4, 1, 2], &[1, 2, 3], all, "2/2");
        // More copies, and fewer.
        check(&[1, 2, 3], &[1], Some([&[1, 2, 3], &[2, 3], &[]]), "1/1");
        check(&[1, 2, 3], &[1, 2], Some([&[1, 2, 3], &[], &[2, 3]]), "2/3");
    }

    #[test]
    fn a_move_that_metadata_no_longer_knows_does_not_count() {
        check(&[5, 6, 7], &[5], Some([&[3, 1], &[3], &[1]]), "1/3");
    }

    #[test]
    fn a_move_that_ended_between_the_answers_asks_for_as_many_copies_as_before() {
        let all = Some([&[3, 4, 1, 2][..], &[3, 4], &[1, 2]]);
        check(&[3, 4], &[3, 4], all, "2/2");
        check(&[3, 4], &[3], all, "1/2");
    }
}
