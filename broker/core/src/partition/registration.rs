//! What has the controller decided about a partition?

use serde::{Deserialize, Serialize};
use types::{LeaderEpoch, NodeId, PartitionEpoch};

/// The part of a partition's metadata record that its replicas act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRegistration {
    /// The leader, `None` while nobody can be elected.
    pub leader: Option<NodeId>,
    /// How many times leadership was decided.
    pub leader_epoch: LeaderEpoch,
    /// How many times anything here changed.
    pub partition_epoch: PartitionEpoch,
    /// The assigned replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The committed in-sync replicas.
    pub isr: Vec<NodeId>,
}
