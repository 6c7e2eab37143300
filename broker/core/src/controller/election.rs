//! Who leads a partition, and who stays in its ISR, when brokers come and go?
//!
//! A. A leader is active and in the ISR. An unclean election makes the ISR be the leader alone.
//! B. A broker that leaves is taken out of every ISR, also as the last member. Where that leaves fewer members than
//!    `min.insync.replicas`, nothing more is acknowledged, and whoever left holds all that was: it becomes an eligible
//!    leader replica (ELR, KIP-966) until the ISR is large enough again. `eligibility.rs` says who is one.
//! C. The first live member of the ISR in the order of assignment is elected; a live leader stays. If the ISR is empty,
//!    the first live one of the ELR is, and becomes the ISR.
//! D. If ISR and ELR are empty, everybody has come back from a stop that may have cost records. The partition waits for
//!    its last leader, which was the last to acknowledge anything.
//! E. An unclean election prefers a replica that was assigned before a running reassignment to one that is only being
//!    made.
//! F. Until the feature is finalized an ISR is never emptied by leaving: those who left last have all acknowledged
//!    records, and one of them must come back first. Only the loss of its disk takes out the last member.

use std::collections::BTreeSet;

use config::ConfigMap;
use types::NodeId;

use super::ELR_FEATURE;
use crate::metadata::record::{LeaderChange, PartitionChange};
use crate::metadata::{MetadataImage, MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

pub(super) const UNCLEAN: &str = "unclean.leader.election.enable";

/// The brokers as they will be after a change that is being decided.
#[derive(Debug)]
pub(super) struct Electorate<'a> {
    pub(super) image: &'a MetadataImage,
    pub(super) file: &'a ConfigMap,
    pub(super) controller: NodeId,
    /// Whether eligible leader replicas are kept.
    pub(super) keeps_elr: bool,
    /// Brokers that stop being active.
    pub(super) leaving: BTreeSet<NodeId>,
    /// A broker that becomes active.
    pub(super) joining: Option<NodeId>,
    /// Brokers whose disk is gone.
    pub(super) lost: BTreeSet<NodeId>,
    /// Brokers that may have lost the newest of their records.
    pub(super) unclean: BTreeSet<NodeId>,
}

/// Which partitions a change can concern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    All,
    /// Those that count on what this broker holds.
    CountingOn(NodeId),
    WithoutLeader,
    /// Those without a leader, and those whose ISR is not all that holds everything.
    Unsettled,
}

impl Scope {
    fn contains(self, partition: &PartitionRegistration) -> bool {
        match self {
            Self::All => true,
            Self::CountingOn(node) => {
                partition.leader == Some(node)
                    || partition.holds_everything(node)
                    || partition.last_known_elr.contains(&node)
            }
            Self::WithoutLeader => partition.leader.is_none(),
            Self::Unsettled => partition.leader.is_none() || partition.has_eligible_replicas(),
        }
    }
}

impl<'a> Electorate<'a> {
    pub(super) fn new(image: &'a MetadataImage, file: &'a ConfigMap, controller: NodeId) -> Self {
        Self {
            image,
            file,
            controller,
            keeps_elr: image.feature(ELR_FEATURE) > 0,
            leaving: BTreeSet::new(),
            joining: None,
            lost: BTreeSet::new(),
            unclean: BTreeSet::new(),
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
        self.step(topic, index, partition, partition, unclean)
    }

    /// The change from `before` to `next` (of which only the replicas and the ISR are decided) with the leader and the
    /// eligible replicas that this asks for; none if nothing changes. Replicas that go raise the leader epoch even under
    /// the same leader: they are listened to no more.
    pub(super) fn step(
        &self,
        topic: &TopicImage,
        index: i32,
        before: &PartitionRegistration,
        next: &PartitionRegistration,
        unclean: bool,
    ) -> Option<PartitionChange> {
        let after = self.after(topic, before, next, unclean);
        let shrinks = before.replicas.iter().any(|n| !after.replicas.contains(n));
        let leader = match after.leader {
            new if new == before.leader && !shrinks => LeaderChange::Unchanged,
            Some(new) => LeaderChange::Elected(new),
            None => LeaderChange::NoLeader,
        };
        let change = PartitionChange::between((topic.id, index), before, &after, leader);
        (!change.is_empty()).then_some(change)
    }

    /// The partition after [`Electorate::step`], its epochs aside.
    fn after(
        &self,
        topic: &TopicImage,
        before: &PartitionRegistration,
        next: &PartitionRegistration,
        unclean: bool,
    ) -> PartitionRegistration {
        let mut after = next.clone();
        let holders = self.holders(before, next);
        after.isr = self.remaining_isr(next);
        after.leader = self
            .clean_leader(before.leader, &after, &holders)
            .or_else(|| self.survivor(next).filter(|_| unclean));
        if let Some(leader) = after.leader
            && !after.isr.contains(&leader)
        {
            after.isr = vec![leader];
        }
        after.elr = self.eligible(topic, &after, &holders);
        after.last_known_elr = self.last_known(before, &after);
        after
    }

    /// The ISR without those who are not active, see B and F.
    fn remaining_isr(&self, partition: &PartitionRegistration) -> Vec<NodeId> {
        let keep = |isr: &[NodeId], stays: &dyn Fn(NodeId) -> bool| -> Vec<NodeId> {
            isr.iter().copied().filter(|node| stays(*node)).collect()
        };
        let on_disk = keep(&partition.isr, &|node| !self.lost.contains(&node));
        let active = keep(&on_disk, &|node| self.is_active(node));
        if active.is_empty() && !self.keeps_elr {
            on_disk
        } else {
            active
        }
    }

    /// See C and D. `after` has its new ISR already.
    fn clean_leader(
        &self,
        leader: Option<NodeId>,
        after: &PartitionRegistration,
        holders: &[NodeId],
    ) -> Option<NodeId> {
        let first = |nodes: &[NodeId]| {
            let may_lead = |node: &NodeId| nodes.contains(node) && self.is_active(*node);
            let stays = leader.filter(may_lead);
            stays.or_else(|| after.replicas.iter().copied().find(may_lead))
        };
        if !self.keeps_elr || !after.isr.is_empty() {
            first(&after.isr)
        } else if holders.is_empty() {
            first(&after.last_known_elr)
        } else {
            first(holders)
        }
    }

    /// Who is left to lead if records may be lost, see E.
    fn survivor(&self, partition: &PartitionRegistration) -> Option<NodeId> {
        partition
            .original_replicas()
            .chain(partition.adding_replicas.iter().copied())
            .find(|node| self.is_active(*node))
    }

    /// Whether the topic prefers a leader that lacks records over none.
    pub(super) fn unclean_allowed(&self, topic: &TopicImage) -> bool {
        self.topic_value(topic, self.controller, UNCLEAN)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// What is set for a topic on `node`, by itself or by the brokers' layers; `None` where the default holds.
    pub(super) fn topic_value<'t>(
        &'t self,
        topic: &'t TopicImage,
        node: NodeId,
        key: &str,
    ) -> Option<&'t str> {
        let own = self.image.topic_config(&topic.name).get(key);
        own.map(String::as_str)
            .or_else(|| self.image.broker_layers(node, self.file).set_value(key))
    }
}
