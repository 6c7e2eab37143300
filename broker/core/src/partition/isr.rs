//! Which replicas are in sync, and which changes of that are under way (KIP-497)?

use serde::{Deserialize, Serialize};
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, PartitionEpoch};

use super::PartitionRegistration;

/// A member of a proposed ISR. The broker epoch lets the controller refuse an incarnation that died (KIP-903).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrMember {
    /// The replica's node.
    pub node: NodeId,
    /// The broker epoch the leader knows it by; `None` for the leader itself and for members that have not
    /// subscribed since this leader was elected.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// A change of the ISR that the leader asks the controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartitionProposal {
    /// The leader's epoch; the controller refuses any other.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch the proposal is based on: the controller's compare-and-set.
    pub partition_epoch: PartitionEpoch,
    /// The ISR to commit.
    pub isr: Vec<IsrMember>,
}

impl AlterPartitionProposal {
    fn contains(&self, node: NodeId) -> bool {
        self.isr.iter().any(|member| member.node == node)
    }
}

/// What the controller said to a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterPartitionAnswer {
    /// It is committed; this is the registration after it.
    Committed(PartitionRegistration),
    /// It was refused with this code and has no effect.
    Refused(ErrorCode),
    /// No answer: it may or may not be committed.
    Unknown,
}

/// The ISR as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Isr {
    committed: Vec<NodeId>,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    proposal: AlterPartitionProposal,
    /// When to send the proposal again, after an attempt without an answer.
    resend_at_ms: Option<i64>,
}

/// Pause before a proposal without an answer is sent again; the controller client has its own retries inside.
const RESEND_AFTER_MS: i64 = 200;

impl Isr {
    pub(crate) const fn committed_only(committed: Vec<NodeId>) -> Self {
        Self {
            committed,
            pending: None,
        }
    }

    pub(crate) fn committed(&self) -> &[NodeId] {
        &self.committed
    }

    pub(crate) fn is_committed(&self, node: NodeId) -> bool {
        self.committed.contains(&node)
    }

    /// Whether `node` is in the maximal ISR: committed, or in the proposal that is under way.
    pub(crate) fn maximal_contains(&self, node: NodeId) -> bool {
        self.is_committed(node)
            || self
                .pending
                .as_ref()
                .is_some_and(|p| p.proposal.contains(node))
    }

    pub(crate) const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes note of a proposal that the shell sends now.
    pub(crate) fn propose(&mut self, proposal: AlterPartitionProposal) -> AlterPartitionProposal {
        self.pending = Some(Pending {
            proposal: proposal.clone(),
            resend_at_ms: None,
        });
        proposal
    }

    /// The metadata log has a newer ISR: whatever was pending is decided by it.
    pub(crate) fn commit(&mut self, committed: Vec<NodeId>) {
        self.committed = committed;
        self.pending = None;
    }

    /// The proposal to send again, if one is due.
    pub(crate) fn resend(&mut self, now_ms: i64) -> Option<AlterPartitionProposal> {
        let pending = self.pending.as_mut()?;
        if pending.resend_at_ms? > now_ms {
            return None;
        }
        pending.resend_at_ms = None;
        Some(pending.proposal.clone())
    }

    /// Takes the controller's refusal or silence for the proposal based on `based_on`. Gives the replicas that
    /// were to join and were refused.
    pub(crate) fn on_failure(
        &mut self,
        now_ms: i64,
        based_on: PartitionEpoch,
        answer: &AlterPartitionAnswer,
    ) -> Vec<NodeId> {
        let Some(pending) = &mut self.pending else {
            return Vec::new();
        };
        if pending.proposal.partition_epoch != based_on {
            return Vec::new();
        }
        match answer {
            AlterPartitionAnswer::Committed(_) => Vec::new(),
            AlterPartitionAnswer::Unknown => {
                pending.resend_at_ms = Some(now_ms + RESEND_AFTER_MS);
                Vec::new()
            }
            // The controller is ahead of us: a newer registration is on its way, and until it is here the
            // proposal counts, since an earlier attempt of it may be what the controller has committed.
            AlterPartitionAnswer::Refused(
                ErrorCode::InvalidUpdateVersion
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::NewLeaderElected
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId,
            ) => Vec::new(),
            AlterPartitionAnswer::Refused(_) => {
                let refused = pending
                    .proposal
                    .isr
                    .iter()
                    .map(|member| member.node)
                    .filter(|node| !self.committed.contains(node))
                    .collect();
                self.pending = None;
                refused
            }
        }
    }
}
