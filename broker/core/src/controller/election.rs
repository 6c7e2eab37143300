//! Who leads a partition, and who stays in its ISR, when brokers come and go?
//!
//! A. A leader is active and in the ISR. An unclean election makes the ISR be the leader alone.
//! B. A broker that leaves is taken out of every ISR, except that an ISR is never emptied by leaving: those who left
//!    last have all acknowledged records, and one of them must come back first. Only the loss of its disk takes out
//!    the last member.
//! C. The first live member of the ISR in the order of assignment is elected; a live leader stays.
//! D. An unclean election prefers a replica that was assigned before a running reassignment to one that is only being
//!    made.

use std::collections::BTreeSet;

use config::ConfigMap;
use types::NodeId;

use crate::metadata::record::{LeaderChange, PartitionChange};
use crate::metadata::{MetadataImage, MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

/// The brokers as they will be after a change that is being decided.
#[derive(Debug)]
pub(super) struct Electorate<'a> {
    image: &'a MetadataImage,
    file: &'a ConfigMap,
    controller: NodeId,
    /// Brokers that stop being active.
    pub(super) leaving: BTreeSet<NodeId>,
    /// A broker that becomes active.
    pub(super) joining: Option<NodeId>,
    /// Brokers whose disk is gone.
    pub(super) lost: BTreeSet<NodeId>,
}

/// Which partitions a change can concern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    All,
    InIsrOrLeading(NodeId),
    WithoutLeader,
}

impl Scope {
    fn contains(self, partition: &PartitionRegistration) -> bool {
        match self {
            Self::All => true,
            Self::InIsrOrLeading(node) => {
                partition.leader == Some(node) || partition.isr.contains(&node)
            }
            Self::WithoutLeader => partition.leader.is_none(),
        }
    }
}

impl<'a> Electorate<'a> {
    pub(super) fn new(image: &'a MetadataImage, file: &'a ConfigMap, controller: NodeId) -> Self {
        Self {
            image,
            file,
            controller,
            leaving: BTreeSet::new(),
            joining: None,
            lost: BTreeSet::new(),
        }
    }

    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.joining == Some(node) || (self.image.is_active(node) && !self.leaving.contains(&node))
    }

    /// The changes of all partitions in `scope` that the electorate makes necessary.
    pub(super) fn changes(&self, scope: Scope) -> Vec<MetadataRecord> {
        self.image
            .topics()
            .flat_map(|topic| self.topic_changes(topic, scope))
            .collect()
    }

    fn topic_changes(&self, topic: &TopicImage, scope: Scope) -> Vec<MetadataRecord> {
        // Looked up only for a topic that has a partition in scope: most have none.
        let mut unclean = None;
        topic
            .iter()
            .filter(|(_, partition)| scope.contains(partition))
            .filter_map(|(index, partition)| {
                let unclean = *unclean.get_or_insert_with(|| self.unclean_allowed(topic));
                self.change(topic, index, partition, unclean)
            })
            .map(MetadataRecord::PartitionChange)
            .collect()
    }

    /// The change of one partition, if there is one.
    pub(super) fn change(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionRegistration,
        unclean: bool,
    ) -> Option<PartitionChange> {
        let mut isr = self.remaining_isr(partition);
        let eligible = |node: &NodeId| isr.contains(node) && self.is_active(*node);
        let elected = partition
            .leader
            .filter(eligible)
            .or_else(|| partition.replicas.iter().copied().find(eligible));
        let leader = elected.or_else(|| {
            let survivor = partition
                .original_replicas()
                .chain(partition.adding_replicas.iter().copied())
                .find(|n| self.is_active(*n));
            survivor.filter(|_| unclean)
        });
        if let (None, Some(unclean_leader)) = (elected, leader) {
            isr = vec![unclean_leader];
        }
        let leader = match (partition.leader, leader) {
            (old, new) if old == new => LeaderChange::Unchanged,
            (_, Some(new)) => LeaderChange::Elected(new),
            (_, None) => LeaderChange::NoLeader,
        };
        let isr = (isr != partition.isr).then_some(isr);
        if leader == LeaderChange::Unchanged && isr.is_none() {
            return None;
        }
        Some(PartitionChange {
            topic_id: topic.id,
            partition: index,
            leader,
            isr,
            ..PartitionChange::default()
        })
    }

    /// The ISR without those who are not active, see B.
    fn remaining_isr(&self, partition: &PartitionRegistration) -> Vec<NodeId> {
        let keep = |isr: &[NodeId], stays: &dyn Fn(NodeId) -> bool| -> Vec<NodeId> {
            isr.iter().copied().filter(|node| stays(*node)).collect()
        };
        let on_disk = keep(&partition.isr, &|node| !self.lost.contains(&node));
        let active = keep(&on_disk, &|node| self.is_active(node));
        if active.is_empty() { on_disk } else { active }
    }

    /// Whether the topic prefers a leader that lacks records over none.
    pub(super) fn unclean_allowed(&self, topic: &TopicImage) -> bool {
        const KEY: &str = "unclean.leader.election.enable";
        let layers = self.image.broker_layers(self.controller, self.file);
        self.image
            .topic_config(&topic.name)
            .get(KEY)
            .map(String::as_str)
            .or_else(|| layers.set_value(KEY))
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }
}
