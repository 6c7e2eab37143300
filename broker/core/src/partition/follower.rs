//! How does a follower make its log a copy of the leader's, and what does it know of the HW?
//!
//! ```text
//!   BecameFollower --> Unmatched --subscribe--> Accepted at our position --> Matched --batch--> Matched
//!                        ^  ^ |                                               |
//!                        |  | +--Diverging: truncate, subscribe again         | gap, new stream, error
//!                        |  +----OutOfRange: start over at the leader's start |
//!                        +----------------------------------------------------+
//! ```
//! Batches are appended only while matched: in one leader epoch the leader's log only grows, so a prefix that was
//! found equal stays equal.

use types::{LeaderEpoch, NodeId, Offset, PartitionEpoch};

use super::epochs::truncation_offset;
use super::high_watermark::HighWatermark;
use super::{
    Diverging, EpochHistory, HighWatermarkMove, LogPosition, PartitionRegistration,
    SubscriptionAnswer,
};

/// What a follower's log has to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// Records from this offset on.
    To(Offset),
    /// All of it; the log goes on at this offset.
    FullyAndStartAt(Offset),
}

/// What to do after the leader's answer to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeVerdict {
    /// Batches will come.
    Matched {
        /// The HW moved.
        moved: Option<HighWatermarkMove>,
    },
    /// Truncate the log, tell [`Follower::on_truncated`], subscribe again at once.
    Truncate(Truncation),
    /// The answer is not for our position (any more): subscribe again.
    Resubscribe,
    /// It is not for the present subscription: nothing changes.
    Ignore,
    /// Ours is the newer or older epoch: wait for metadata, then subscribe again.
    WaitForMetadata,
}

/// What to do with a batch from the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Append it.
    Append,
    /// We have it already, or it is from another leader epoch or an earlier subscription: drop it.
    Ignore,
    /// Something between our end and the batch is missing: subscribe again.
    Resubscribe,
}

/// A follower of a partition in one leader epoch.
#[derive(Debug)]
pub struct Follower {
    leader: Option<NodeId>,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    log: LogPosition,
    high_watermark: HighWatermark,
    /// What the leader said its HW is; ours is bounded by our own LEO.
    leader_high_watermark: Offset,
    /// The subscription whose answer is awaited or was accepted.
    session: u64,
    /// When that subscription was sent.
    subscribed_ms: i64,
    matched: bool,
}

/// A subscription is answered within a round trip. One without an answer for this long is sent again: whatever became
/// of it, a member of the ISR that does not follow holds the HW back for all of `replica.lag.time.max.ms`.
const ANSWER_OVERDUE_MS: i64 = 2_000;

impl Follower {
    /// A follower as `registration` says, with the local log and the HW known so far.
    #[must_use]
    pub fn new(
        registration: &PartitionRegistration,
        log: LogPosition,
        high_watermark: Offset,
    ) -> Self {
        Self {
            leader: registration.leader,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            log,
            high_watermark: HighWatermark::new(high_watermark),
            leader_high_watermark: high_watermark,
            session: 0,
            subscribed_ms: i64::MAX,
            matched: false,
        }
    }

    /// The leader, `None` while nobody is elected.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The leader epoch.
    #[must_use]
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The partition epoch at which it became a follower of this leader.
    #[must_use]
    pub const fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// Where its log lies.
    #[must_use]
    pub const fn log(&self) -> LogPosition {
        self.log
    }

    /// The HW as far as this replica knows it.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark.get()
    }

    /// Whether the log is known to be a prefix of the leader's.
    #[must_use]
    pub const fn is_matched(&self) -> bool {
        self.matched
    }

    /// The stream to the leader ended: nothing is appended until the logs are found to match anew.
    pub const fn on_disconnected(&mut self) {
        self.matched = false;
    }

    /// A subscription is sent as `session`, which is larger than all before it. Answers to earlier ones say nothing
    /// about the log as it is now: acting on a late "diverging" would cut off what was replicated since.
    pub const fn on_subscribing(&mut self, now_ms: i64, session: u64) {
        self.session = session;
        self.subscribed_ms = now_ms;
        self.matched = false;
    }

    /// Whether a subscription was sent and led to nothing for too long.
    #[must_use]
    pub const fn is_overdue(&self, now_ms: i64) -> bool {
        !self.matched && now_ms.saturating_sub(self.subscribed_ms) >= ANSWER_OVERDUE_MS
    }

    /// The leader answered the subscription `session`, made in `leader_epoch`. `history` is that of the local log.
    pub fn on_answer(
        &mut self,
        leader_epoch: LeaderEpoch,
        session: u64,
        answer: &SubscriptionAnswer,
        history: &dyn EpochHistory,
    ) -> SubscribeVerdict {
        if session != self.session || leader_epoch != self.leader_epoch {
            return SubscribeVerdict::Ignore;
        }
        match *answer {
            SubscriptionAnswer::Accepted {
                fetch_offset,
                last_fetched_epoch,
                high_watermark,
                ..
            } => {
                let here =
                    fetch_offset == self.log.end && last_fetched_epoch == history.latest_epoch();
                if !here && !self.matched {
                    return SubscribeVerdict::Resubscribe;
                }
                self.matched = true;
                let moved = self.on_high_watermark(leader_epoch, high_watermark);
                SubscribeVerdict::Matched { moved }
            }
            SubscriptionAnswer::Diverging(diverging) => self.on_diverging(diverging, history),
            SubscriptionAnswer::OutOfRange { log_start, log_end } => {
                if self.matched {
                    return SubscribeVerdict::Resubscribe;
                }
                if log_start > self.log.end {
                    SubscribeVerdict::Truncate(Truncation::FullyAndStartAt(log_start))
                } else if log_end < self.log.end {
                    SubscribeVerdict::Truncate(self.truncation(log_end))
                } else {
                    SubscribeVerdict::Resubscribe
                }
            }
            SubscriptionAnswer::Fenced(_) | SubscriptionAnswer::NotAReplica => {
                self.matched = false;
                SubscribeVerdict::WaitForMetadata
            }
        }
    }

    fn on_diverging(&self, diverging: Diverging, history: &dyn EpochHistory) -> SubscribeVerdict {
        if self.matched {
            // A late answer to an earlier subscription: what matched since is part of the leader's log.
            return SubscribeVerdict::Resubscribe;
        }
        SubscribeVerdict::Truncate(self.truncation(truncation_offset(
            history,
            self.log.end,
            diverging,
        )))
    }

    /// A truncation that loses no record still drops the entries of epochs without records at the log's end.
    fn truncation(&self, to: Offset) -> Truncation {
        if to < self.log.start {
            Truncation::FullyAndStartAt(to)
        } else {
            Truncation::To(to)
        }
    }

    /// The log was truncated and lies at `log` now.
    pub fn on_truncated(&mut self, log: LogPosition) {
        self.log = log;
        self.matched = false;
        self.high_watermark.bound(log.end);
        self.leader_high_watermark = self.leader_high_watermark.min(log.end);
    }

    /// Batches that carry the log on from `from` to `next` arrived, sent in `leader_epoch`. `from` is the position
    /// the leader read at, which differs from the first base offset where compaction left gaps.
    #[must_use]
    pub fn on_batches(
        &self,
        leader_epoch: LeaderEpoch,
        from: Offset,
        next: Offset,
    ) -> BatchVerdict {
        // While a subscription is under way, what arrives belongs to an earlier one: asking again for each such frame
        // would never come to an end under load.
        if leader_epoch != self.leader_epoch || !self.matched || next <= self.log.end {
            BatchVerdict::Ignore
        } else if from == self.log.end {
            BatchVerdict::Append
        } else {
            BatchVerdict::Resubscribe
        }
    }

    /// The log was extended to `log_end`.
    pub fn on_append(&mut self, log_end: Offset) -> Option<HighWatermarkMove> {
        self.log.end = self.log.end.max(log_end);
        self.high_watermark
            .advance(self.leader_high_watermark.min(self.log.end))
    }

    /// The leader's HW as sent in `leader_epoch`.
    pub fn on_high_watermark(
        &mut self,
        leader_epoch: LeaderEpoch,
        high_watermark: Offset,
    ) -> Option<HighWatermarkMove> {
        if leader_epoch != self.leader_epoch || !self.matched {
            return None;
        }
        self.leader_high_watermark = self.leader_high_watermark.max(high_watermark);
        self.high_watermark
            .advance(self.leader_high_watermark.min(self.log.end))
    }

    /// The leader's log start as sent in `leader_epoch`; gives the offset below which to delete, if it moved.
    pub fn on_leader_log_start(
        &mut self,
        leader_epoch: LeaderEpoch,
        log_start: Offset,
    ) -> Option<Offset> {
        let forward = leader_epoch == self.leader_epoch
            && self.matched
            && log_start > self.log.start
            && log_start <= self.log.end;
        forward.then(|| {
            self.log.start = log_start;
            log_start
        })
    }
}
