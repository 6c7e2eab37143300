//! Does a request speak of the leader epoch this replica is in (KIP-320)?

use types::{ErrorCode, LeaderEpoch};

/// Why a request is refused by its leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EpochFence {
    /// The sender's epoch is older than ours: it has missed a leader change.
    #[error("leader epoch {theirs} is fenced, the current one is {ours}")]
    Fenced {
        /// The sender's epoch.
        theirs: LeaderEpoch,
        /// Our epoch.
        ours: LeaderEpoch,
    },
    /// The sender's epoch is newer than ours: we have missed a leader change.
    #[error("leader epoch {theirs} is not known here yet, the current one is {ours}")]
    Unknown {
        /// The sender's epoch.
        theirs: LeaderEpoch,
        /// Our epoch.
        ours: LeaderEpoch,
    },
}

impl EpochFence {
    /// Kafka's error code.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Fenced { .. } => ErrorCode::FencedLeaderEpoch,
            Self::Unknown { .. } => ErrorCode::UnknownLeaderEpoch,
        }
    }
}

/// Compares the epoch of a request with ours; a request without one passes.
///
/// # Errors
/// [`EpochFence`] if the epochs differ.
pub fn check_epoch(ours: LeaderEpoch, theirs: Option<LeaderEpoch>) -> Result<(), EpochFence> {
    match theirs {
        Some(theirs) if theirs < ours => Err(EpochFence::Fenced { theirs, ours }),
        Some(theirs) if theirs > ours => Err(EpochFence::Unknown { theirs, ours }),
        Some(_) | None => Ok(()),
    }
}
