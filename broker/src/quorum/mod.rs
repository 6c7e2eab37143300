//! How do the controllers agree on the cluster's metadata?
//!
//! The quorum replicates opaque batches of records in one order to a [`Machine`] on every controller. It is Raft
//! (openraft) with what that lacks added around it: the Raft id of a voter is derived from a uuid on its disk, so
//! a wiped disk is a new learner and can never vote as the old one (`bootstrap.rs`); elections are preceded by a
//! pre-vote (`election.rs`); a leader that no quorum answers stops leading (`status.rs`); a clean stop hands
//! leadership over (`runtime.rs`). `docs/adr/0001-metadata-quorum.md` says why.
//!
//! Everything outside this folder sees [`MetadataQuorum`] and [`QuorumStatus`].

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use tokio::sync::watch;

pub mod directory;
pub mod runtime;
pub mod state_machine;
pub mod types;

mod bootstrap;
mod codec;
mod election;
mod heartbeat;
mod identity;
mod restraint;
mod service;
mod status;
mod storage;
mod transport;

#[cfg(test)]
mod tests;

pub use codec::CodecError;
pub use directory::{ControllerNode, Directory};
pub use identity::{IdentityError, disk_uuid};
pub use runtime::{QuorumConfig, QuorumError, QuorumRuntime, Timing};
pub use service::RaftService;
pub use state_machine::{Freeze, Machine, MachineError};
pub use storage::LogFilesError;
pub use types::Member;

pub(crate) use codec::{member_from_wire, member_to_wire};
pub(crate) use storage::atomic_file::replace as replace_file;

/// Version of the shape of the quorum's messages.
pub const PROTOCOL_VERSION: u32 = 1;

/// What one controller knows of the quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumStatus {
    /// The highest term seen.
    pub term: u64,
    /// The leader of that term, when known.
    pub leader: Option<Member>,
    /// The term in which this node is the active controller: it leads, has applied everything that was committed
    /// before its term, and a quorum answered it lately. Proposals are made under this term.
    pub leading: Option<u64>,
    /// Members with a vote.
    pub voters: Vec<Member>,
    /// Members that follow the log without a vote.
    pub learners: Vec<Member>,
    /// The last metadata offset applied on this node.
    pub applied: u64,
    /// The last index of this node's log.
    pub last_log_index: u64,
    /// On the leader: the last offset known to be on each member, by Raft id.
    pub matched: BTreeMap<u64, u64>,
    /// Why the quorum stopped on this node (a disk failure, metadata it cannot apply). The process must end.
    pub failed: Option<String>,
}

/// A proposal did not become metadata, or nobody can say whether it will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead in the term of the proposal. The records are void, now and later, unless
    /// leadership was lost while they were on their way: then a new leader may still commit them.
    #[error("failed to commit metadata: this node does not lead the quorum in term {term}")]
    NotLeader {
        /// The term of the proposal.
        term: u64,
    },
    /// The quorum stopped on this node.
    #[error("failed to commit metadata: the quorum stopped on this node: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Agreement on one order of record batches among the controllers.
///
/// # Guarantees
/// - A batch is applied at most once, at one offset, on every controller, in offset order.
/// - A batch is applied only if its proposer led in the proposal's term when the batch was appended: nothing from
///   another leader lies between what the proposer had applied when it began to lead and its batch.
/// - `propose` returns after the batch is applied on this node.
///
/// # Caveats
/// - After [`ProposeError::NotLeader`] the batch may still be committed by the next leader.
/// - Offsets have gaps.
pub trait MetadataQuorum: Send + Sync + 'static {
    /// What this node knows, and every change of it.
    fn status(&self) -> watch::Receiver<QuorumStatus>;

    /// Commits `records`, decided while [`QuorumStatus::leading`] was `term`, and returns their offset.
    fn propose(
        &self,
        term: u64,
        records: Bytes,
    ) -> impl Future<Output = Result<u64, ProposeError>> + Send;
}
