//! What does a follower's replica do with what its leader sends?

use std::sync::Arc;

use broker_core::partition::{BatchVerdict, HighWatermarkMove, SubscribeVerdict, Truncation};
use broker_log::LogError;
use config::topic_name::is_internal;
use rpc::replication::v1 as proto;
use types::{BatchError, BatchIter, LeaderEpoch, NodeId, Offset, batch};

use super::convert;
use super::replica::{History, Replica, State, position_of};
use super::shared::wall_ms;

/// What the stream to the leader has to do next for the partition.
#[derive(Debug)]
pub(crate) enum FollowStep {
    /// Nothing.
    Nothing,
    /// Tell the leader how far the log goes.
    Progress(proto::FollowerProgress),
    /// Start the partition again, at once.
    Start,
    /// Start it again after a pause: metadata is on its way here or there.
    StartLater,
    /// Start it on the other stream.
    ChangeStream(proto::StreamChange),
}

impl Replica {
    /// Where to start the partition from, as a new session; `None` if this replica does not follow `leader`. Then nothing
    /// changes: the subscription at the leader that it does follow goes on.
    pub(crate) fn start_position(&self, leader: NodeId) -> Option<proto::FetchPosition> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let last_epoch = state.log.leader_epochs().latest_epoch();
        let log_start = self.log_start_for_leader(&state);
        let now_ms = self.now_ms();
        let allowance = self.allowance(&state);
        let follower = state.core.follower_mut()?;
        if follower.leader() != Some(leader) {
            return None;
        }
        // Of the whole process: a replica that was dropped and came back counts on, or what is late of the first one
        // would be taken for the second's.
        let session = self.shared.next_session();
        follower.on_subscribing(now_ms, session);
        let log = follower.log();
        let leader_epoch = follower.leader_epoch();
        state.session = session;
        Some(proto::FetchPosition {
            topic_id: convert::topic_bytes(self.partition.topic_id),
            partition: self.partition.partition,
            leader_epoch: leader_epoch.0,
            fetch_offset: log.end.0,
            last_fetched_epoch: convert::epoch_number(last_epoch),
            log_start_offset: log_start.0,
            session,
            allowance,
        })
    }

    /// Whether the last start at `leader` is without an answer for so long that it, or its answer, must be lost.
    pub(crate) fn start_is_overdue(&self, leader: NodeId) -> bool {
        let now_ms = self.now_ms();
        let state = self.lock();
        let follower = state.core.follower();
        follower.is_some_and(|follower| {
            follower.leader() == Some(leader) && follower.is_overdue(now_ms)
        })
    }

    /// The stream to the leader ended.
    pub(crate) fn on_leader_disconnected(&self) {
        if let Some(follower) = self.lock().core.follower_mut() {
            follower.on_disconnected();
        }
    }

    /// The leader's answer to a start.
    pub(crate) fn on_start_answer(
        self: &Arc<Self>,
        message: &proto::PartitionAnswer,
    ) -> FollowStep {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed || message.session != state.session {
            return FollowStep::Nothing;
        }
        match proto::StreamChange::try_from(message.change_stream) {
            Ok(proto::StreamChange::Unspecified) | Err(_) => {}
            Ok(change) => return FollowStep::ChangeStream(change),
        }
        let Some(answer) = convert::answer_of(message) else {
            return FollowStep::StartLater;
        };
        let Some(follower) = state.core.follower_mut() else {
            return FollowStep::Nothing;
        };
        let epoch = LeaderEpoch(message.leader_epoch);
        match follower.on_answer(epoch, message.session, &answer, &History(&state.log)) {
            SubscribeVerdict::Matched { moved } => {
                let log_start = Offset(message.log_start_offset);
                self.after_leader_position(state, epoch, moved, log_start);
                let durable = self.durable_end(state);
                if durable < state.log.log_end_offset() {
                    // What it has from before counts once it is durable here.
                    self.shared.flush.request(self);
                }
                // Where the log begins and how much of it is durable the subscription did not say.
                FollowStep::Progress(self.progress(state, durable))
            }
            SubscribeVerdict::Truncate(truncation) => match self.truncate(state, truncation) {
                Ok(()) => FollowStep::Start,
                Err(error) => {
                    self.fail(&error);
                    FollowStep::Nothing
                }
            },
            SubscribeVerdict::Resubscribe => FollowStep::Start,
            SubscribeVerdict::Ignore => FollowStep::Nothing,
            SubscribeVerdict::WaitForMetadata => FollowStep::StartLater,
        }
    }

    fn truncate(&self, state: &mut State, truncation: Truncation) -> Result<(), LogError> {
        let before = position_of(&state.log);
        match truncation {
            Truncation::To(offset) => {
                state.log.truncate_to(offset)?;
            }
            Truncation::FullyAndStartAt(offset) => state.log.truncate_fully_and_start_at(offset)?,
        }
        state.tail.clear();
        state.log_start.on_truncated();
        let after = position_of(&state.log);
        tracing::info!(
            partition = %self.partition,
            from = %before.end,
            to = %after.end,
            high_watermark = %state.core.high_watermark(),
            "truncated the log to meet the leader's"
        );
        if let Some(follower) = state.core.follower_mut() {
            follower.on_truncated(after);
        }
        Ok(())
    }

    /// Batches from the leader.
    pub(crate) fn append_as_follower(
        self: &Arc<Self>,
        header: &proto::PartitionBatches,
        batches: &[u8],
    ) -> FollowStep {
        let epoch = LeaderEpoch(header.leader_epoch);
        let next = match checked_end(batches) {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(partition = %self.partition, %error, "received a damaged batch");
                return FollowStep::StartLater;
            }
        };
        if self.shared.room.is_scarce() && !is_internal(&self.partition.name) {
            return FollowStep::StartLater;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return FollowStep::Nothing;
        }
        let Some(follower) = state.core.follower_mut() else {
            return FollowStep::Nothing;
        };
        match follower.on_batches(epoch, Offset(header.fetch_offset), next) {
            BatchVerdict::Append => {}
            BatchVerdict::Ignore => return FollowStep::Nothing,
            BatchVerdict::Resubscribe => return FollowStep::Start,
        }
        let result = state.log.append(batches, wall_ms());
        let end = state.log.log_end_offset();
        let moved = follower.on_append(end);
        let leader_moved = follower.on_high_watermark(epoch, Offset(header.high_watermark));
        let moved = merge(moved, leader_moved);
        self.after_leader_position(state, epoch, moved, Offset(header.log_start_offset));
        if let Err(error) = result {
            self.fail(&error);
            return FollowStep::StartLater;
        }
        self.note_unflushed(state, batches.len());
        if self.shared.await_flush {
            return FollowStep::Nothing;
        }
        FollowStep::Progress(self.progress(state, end))
    }

    /// The HW or the log start of the leader moved. A log start is answered once it is written down here.
    pub(crate) fn on_leader_position(&self, position: &proto::LeaderPosition) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return;
        }
        let epoch = LeaderEpoch(position.leader_epoch);
        let Some(follower) = state.core.follower_mut() else {
            return;
        };
        let moved = follower.on_high_watermark(epoch, Offset(position.high_watermark));
        self.after_leader_position(state, epoch, moved, Offset(position.log_start_offset));
    }

    /// Up to where the log may be acknowledged.
    pub(crate) fn durable_end(&self, state: &State) -> Offset {
        let end = state.log.log_end_offset();
        if self.shared.await_flush {
            end.min(state.log.recovery_point())
        } else {
            end
        }
    }

    fn after_leader_position(
        &self,
        state: &mut State,
        epoch: LeaderEpoch,
        moved: Option<HighWatermarkMove>,
        log_start: Offset,
    ) {
        state.after_move(moved);
        let delete_to = state
            .core
            .follower_mut()
            .and_then(|follower| follower.on_leader_log_start(epoch, log_start));
        if let Some(offset) = delete_to {
            self.delete_below(state, offset);
        }
    }

    /// The progress message for a log that ends (durably, where that counts) at `end`.
    pub(crate) fn progress(&self, state: &State, end: Offset) -> proto::FollowerProgress {
        proto::FollowerProgress {
            topic_id: convert::topic_bytes(self.partition.topic_id),
            partition: self.partition.partition,
            leader_epoch: state.core.leader_epoch().map_or(-1, |epoch| epoch.0),
            log_end_offset: end.0,
            log_start_offset: self.log_start_for_leader(state).0,
            session: state.session,
        }
    }

    /// Whom this replica follows without being in sync.
    pub(crate) fn waiting_leader(&self) -> Option<NodeId> {
        let state = self.lock();
        let leader = state.core.follower()?.leader();
        leader.filter(|_| !self.is_in_sync(&state))
    }

    /// Whether this replica is in the ISR, as far as this broker knows.
    pub(crate) fn is_in_sync(&self, state: &State) -> bool {
        let registration = state.core.registration();
        registration.is_some_and(|known| known.isr.contains(&self.shared.identity.node))
    }

    /// Whom this replica follows at present.
    pub(crate) fn followed_leader(&self) -> Option<NodeId> {
        self.lock()
            .core
            .follower()
            .and_then(|follower| follower.leader())
    }
}

fn merge(
    first: Option<HighWatermarkMove>,
    second: Option<HighWatermarkMove>,
) -> Option<HighWatermarkMove> {
    match (first, second) {
        (Some(first), Some(second)) => Some(HighWatermarkMove {
            from: first.from,
            to: second.to,
        }),
        (first, second) => second.or(first),
    }
}

/// Checks what was received; gives the offset after the last batch.
fn checked_end(batches: &[u8]) -> Result<Offset, BatchError> {
    let mut next = Offset(0);
    for step in BatchIter::new(batches) {
        let (_, bytes) = step?;
        next = batch::verify(bytes)?.next_offset();
    }
    Ok(next)
}
