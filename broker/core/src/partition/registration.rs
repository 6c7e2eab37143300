//! What has the controller decided about a partition?

use serde::{Deserialize, Serialize};
use types::{LeaderEpoch, NodeId, PartitionEpoch};

/// The part of a partition's metadata record that its replicas act on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionRegistration {
    /// The leader, `None` while nobody can be elected.
    pub leader: Option<NodeId>,
    /// How many times leadership was decided.
    pub leader_epoch: LeaderEpoch,
    /// How many times anything here changed.
    pub partition_epoch: PartitionEpoch,
    /// The assigned replicas, the preferred leader first. While a reassignment runs, those that go are the last.
    pub replicas: Vec<NodeId>,
    /// The committed in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Those of `replicas` that a running reassignment adds. Written only while there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding_replicas: Vec<NodeId>,
    /// Those of `replicas` that go when the running reassignment is done. Written only while there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing_replicas: Vec<NodeId>,
    /// Replicas outside the ISR that hold every acknowledged record all the same, because the ISR has been smaller than
    /// `min.insync.replicas` since they left it: eligible leader replicas (KIP-966). Written only while there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<NodeId>,
    /// The last leader of a partition that has none (KIP-966): whom it waits for when nobody else is known to hold every
    /// acknowledged record. Written only while there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_known_elr: Vec<NodeId>,
}

impl PartitionRegistration {
    /// Whether it is on its way to other replicas.
    #[must_use]
    pub const fn is_reassigning(&self) -> bool {
        !(self.adding_replicas.is_empty() && self.removing_replicas.is_empty())
    }

    /// The replicas there were before the running reassignment; all, if none runs.
    pub fn original_replicas(&self) -> impl Iterator<Item = NodeId> {
        let replicas = self.replicas.iter().copied();
        replicas.filter(|node| !self.adding_replicas.contains(node))
    }

    /// The replicas there will be when the running reassignment is done; all, if none runs.
    pub fn target_replicas(&self) -> impl Iterator<Item = NodeId> {
        let replicas = self.replicas.iter().copied();
        replicas.filter(|node| !self.removing_replicas.contains(node))
    }

    /// How many copies of a record there have to be. Those that are still being made do not count, as in Kafka: or each
    /// reassignment would raise an alarm.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.original_replicas().count()
    }

    /// Whether there are replicas that would have to miss what is acknowledged next, so that nothing may be.
    #[must_use]
    pub const fn has_eligible_replicas(&self) -> bool {
        !self.elr.is_empty()
    }

    /// Whether ISR or ELR name the replica: whether it is known to hold every acknowledged record.
    #[must_use]
    pub fn holds_everything(&self, node: NodeId) -> bool {
        self.isr.contains(&node) || self.elr.contains(&node)
    }

    /// Whether fewer replicas are in sync than there have to be copies.
    #[must_use]
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replication_factor()
    }
}
