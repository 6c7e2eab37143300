//! Which replicas outside the ISR hold every acknowledged record (KIP-966)?
//!
//! While an ISR is smaller than `min.insync.replicas`, the high watermark stands still. Whoever left it in that state, or
//! made it that small by leaving, therefore holds everything that was ever acknowledged, and may lead when nobody of the
//! ISR can: it is an eligible leader replica (ELR).
//!
//! A. The ELR is empty, or the ISR is smaller than `min.insync.replicas`. This is the minimum as the controller knows it;
//!    a leader acknowledges nothing while there is an ELR, so it does not matter if it knows another one.
//! B. Every member of ISR and ELR holds every acknowledged record, as far as the controller can know. A broker that may
//!    have lost some leaves both when it registers.
//! C. What a broker may have lost is told by how it comes back: nothing, if it says that its disk has lost nothing since
//!    the registration that is known; its newest records, if not; everything, if it has another disk. One that says that it
//!    cannot go on may have lost its newest records at once: a failed write leaves it open what is on the disk.
//! D. A partition without a leader remembers the last one or, if its disk is gone, somebody else who was eligible: the one
//!    to wait for when nobody is eligible any more.

use types::NodeId;

use super::election::Electorate;
use super::request::RegisterBrokerRequest;
use super::{Controller, ELR_FEATURE, ELR_LEVEL};
use crate::metadata::record::FeatureLevel;
use crate::metadata::{BrokerImage, MetadataImage, MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

pub(super) const MIN_ISR: &str = "min.insync.replicas";

/// What the logs of a broker may lack of what its process before had written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Nothing,
    /// What was written last.
    Newest,
    Everything,
}

impl Loss {
    /// See C. Nobody knows the disk of a broker that was unregistered meanwhile, but it knows whether it is a new one.
    pub(super) fn of(known: Option<&BrokerImage>, request: &RegisterBrokerRequest) -> Self {
        let Some(known) = known else {
            return match request.had_registered {
                true => Self::Newest,
                false => Self::Everything,
            };
        };
        if known.broker_uuid != request.broker_uuid {
            Self::Everything
        } else if known.incarnation == request.incarnation
            || request.previous_epoch == Some(known.epoch)
        {
            Self::Nothing
        } else {
            Self::Newest
        }
    }
}

impl Electorate<'_> {
    /// The replicas that hold every acknowledged record, in the order of assignment: who left the ISR in this very step is
    /// still one of them.
    pub(super) fn holders(
        &self,
        before: &PartitionRegistration,
        next: &PartitionRegistration,
    ) -> Vec<NodeId> {
        let holds = |node: &NodeId| before.isr.contains(node) || next.holds_everything(*node);
        let kept = |node: &NodeId| !self.lost.contains(node) && !self.unclean.contains(node);
        let replicas = next.replicas.iter().copied();
        replicas.filter(holds).filter(kept).collect()
    }

    /// The ELR of a partition that has its new ISR and leader, see A. A leader that lacks records makes all others
    /// lack what it writes.
    pub(super) fn eligible(
        &self,
        topic: &TopicImage,
        after: &PartitionRegistration,
        holders: &[NodeId],
    ) -> Vec<NodeId> {
        let is_unclean = after.leader.is_some_and(|node| !holders.contains(&node));
        let mut beside_isr = holders.to_vec();
        beside_isr.retain(|node| !after.isr.contains(node));
        if !self.keeps_elr
            || is_unclean
            || beside_isr.is_empty()
            || after.isr.len() >= self.min_isr(topic, after)
        {
            return Vec::new();
        }
        beside_isr
    }

    /// See D.
    pub(super) fn last_known(
        &self,
        before: &PartitionRegistration,
        after: &PartitionRegistration,
    ) -> Vec<NodeId> {
        if !self.keeps_elr || after.leader.is_some() {
            return Vec::new();
        }
        let known = before.leader.iter().chain(&after.last_known_elr);
        let eligible = before.isr.iter().chain(&after.elr);
        known
            .chain(eligible)
            .find(|node| after.replicas.contains(node) && !self.lost.contains(node))
            .map_or_else(Vec::new, |node| vec![*node])
    }

    /// `min.insync.replicas`, capped as the leader caps it.
    fn min_isr(&self, topic: &TopicImage, partition: &PartitionRegistration) -> usize {
        let node = partition.leader.unwrap_or(self.controller);
        self.topic_value(topic, node, MIN_ISR)
            .and_then(|value| value.trim().parse::<usize>().ok())
            .unwrap_or(1)
            .min(partition.replication_factor())
            .max(1)
    }
}

impl Controller {
    /// The record that begins to keep eligible leader replicas, once every broker can read of them.
    pub(super) fn begin_elr(&self) -> Option<MetadataRecord> {
        let is_due = self.image.feature(ELR_FEATURE) == 0
            && self.image.brokers().all(|broker| broker.reads_elr);
        is_due.then(|| {
            MetadataRecord::FeatureLevel(FeatureLevel {
                name: ELR_FEATURE.to_owned(),
                level: ELR_LEVEL,
            })
        })
    }

    /// Of how many partitions a broker that registers is the only one left that may hold every acknowledged record,
    /// although it may have lost some: with `durability: replicated` a power loss may have taken them.
    #[must_use]
    pub fn at_risk(&self, request: &RegisterBrokerRequest) -> usize {
        let node = request.node_id;
        let known = self.image.broker(node);
        if known.is_none() || Loss::of(known.map(AsRef::as_ref), request) == Loss::Nothing {
            return 0;
        }
        count_partitions(&self.image, |partition| {
            let mut holders = partition.isr.iter().chain(&partition.elr);
            let is_last = partition.holds_everything(node) || partition.last_known_elr == [node];
            is_last && holders.all(|holder| *holder == node)
        })
    }
}

fn count_partitions(
    image: &MetadataImage,
    counts: impl Fn(&PartitionRegistration) -> bool,
) -> usize {
    let partitions = image.topics().flat_map(|topic| topic.iter());
    partitions
        .filter(|(_, partition)| counts(partition))
        .count()
}
