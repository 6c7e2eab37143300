//! Up to where do two logs agree, judged by their leader epochs (KIP-101, KIP-279, KIP-595)?
//!
//! Both sides know which epoch began at which offset. The follower states its LEO and the epoch of its last
//! record; the leader looks up where that epoch ended in its own log. An end before the follower's LEO, or the
//! answer of an older epoch, means that the follower holds records the leader never had: it truncates and asks
//! again until the two meet. Every round removes at least one epoch or ends the loop, so it terminates.

use types::{LeaderEpoch, Offset};

/// Which leader epoch began at which offset of a log (the leader epoch cache).
pub trait EpochHistory {
    /// The largest epoch `<= epoch` that the log has, and the offset after its last record. For an epoch before
    /// the first one: that epoch itself and the offset where the first one begins. `None` for an empty history.
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// The epoch of the last entry.
    fn latest_epoch(&self) -> Option<LeaderEpoch>;
}

/// The leader's answer to a follower (or consumer) whose log has diverged: where `epoch` ended at the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diverging {
    /// The largest epoch at the leader that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// Offset after that epoch's last record at the leader.
    pub end_offset: Offset,
}

/// Compares `(position, last_epoch)` of another log with the history of ours, which ends at `log_end`.
///
/// `None` means that the other log is a prefix of ours as far as epochs can tell.
#[must_use]
pub fn find_divergence(
    history: &dyn EpochHistory,
    log_end: Offset,
    position: Offset,
    last_epoch: Option<LeaderEpoch>,
) -> Option<Diverging> {
    let last_epoch = last_epoch?;
    match history.end_offset_for(last_epoch) {
        Some((epoch, end_offset)) if epoch < last_epoch || end_offset < position => {
            Some(Diverging { epoch, end_offset })
        }
        Some(_) => None,
        None if position > log_end => Some(Diverging {
            epoch: last_epoch,
            end_offset: log_end,
        }),
        None => None,
    }
}

/// Where a follower truncates when told of `diverging`; its log ends at `log_end`.
#[must_use]
pub fn truncation_offset(
    history: &dyn EpochHistory,
    log_end: Offset,
    diverging: Diverging,
) -> Offset {
    match history.end_offset_for(diverging.epoch) {
        // The epoch is known here as well: both have its records up to the nearer end.
        Some((epoch, end)) if epoch == diverging.epoch => {
            end.min(diverging.end_offset).min(log_end)
        }
        // Only an older epoch is: drop everything after it, then ask again about that one.
        Some((_, end)) => end.min(log_end),
        None => diverging.end_offset.min(log_end),
    }
}
