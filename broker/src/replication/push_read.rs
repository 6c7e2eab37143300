//! What does a leader's replica give to a follower's stream: a start's answer, batches, positions?

use std::sync::Arc;

use broker_core::partition::{AckOutcome, FollowerSession, LogPosition, SubscriptionAnswer};
use broker_log::{LogError, ReadOutcome, ReadPlan, RealVfs};
use bytes::Bytes;
use rpc::replication::v1 as proto;
use tokio::time::Instant;
use types::{BatchIter, ErrorCode, LeaderEpoch, Offset};

use super::convert;
use super::push::{PushPartition, PushPosition, PushStream, StreamKind};
use super::replica::{History, Replica, State, position_of};
use super::throttle::Pace;

/// A partition further behind than this, and beyond the tail cache, goes to the catch-up stream.
const CATCH_UP_BYTES: u64 = 8 << 20;
/// It comes back when it is this near: well below, or it would go to and fro under load.
const NEAR_BYTES: u64 = 2 << 20;

/// A piece for a frame.
#[derive(Debug)]
pub(crate) enum PushRead {
    /// Nothing new.
    Nothing,
    /// There are batches, but no credit for them; perhaps a position.
    Starved {
        position: Option<proto::LeaderPosition>,
    },
    /// There are batches, but a throttle lets none pass before `until`; perhaps a position.
    Held {
        position: Option<proto::LeaderPosition>,
        until: Instant,
    },
    /// Only the HW or the log start moved.
    Position(proto::LeaderPosition),
    /// Batches; `more` if others follow.
    Batches {
        header: proto::PartitionBatches,
        chunks: Vec<Bytes>,
        more: bool,
    },
}

/// What is decided under the lock.
enum Decision {
    Done {
        read: PushRead,
        counts: bool,
    },
    /// Read from the file, then continue.
    File {
        plan: Box<ReadPlan<RealVfs>>,
        from: Offset,
        header: proto::PartitionBatches,
        end: Offset,
        counts: bool,
    },
}

impl From<PushRead> for Decision {
    fn from(read: PushRead) -> Self {
        let counts = false;
        Self::Done { read, counts }
    }
}

impl Replica {
    /// Answers a follower's start on `stream`; gives what is to be pushed if it was accepted.
    pub(crate) fn subscribe(
        replica: &Arc<Self>,
        stream: &Arc<PushStream>,
        position: &proto::FetchPosition,
    ) -> Option<Arc<PushPartition>> {
        let subscription = convert::subscription(stream.peer, stream.broker_epoch, position);
        let now_ms = replica.now_ms();
        let mut guard = replica.lock();
        let state = &mut *guard;
        let far = stream.kind == StreamKind::Live
            && is_behind(state, subscription.fetch_offset, CATCH_UP_BYTES);
        let leader = if state.closed {
            None
        } else {
            state.core.leader_mut()
        };
        let Some(leader) = leader else {
            stream.answer(convert::error_message(
                position,
                ErrorCode::NotLeaderOrFollower,
            ));
            return None;
        };
        let answer = leader.on_subscribe(now_ms, &subscription, &History(&state.log));
        let leader_epoch = leader.leader_epoch();
        let mut message = convert::answer_message(position, &answer);
        let SubscriptionAnswer::Accepted {
            high_watermark,
            log_start,
            outcome,
            ..
        } = answer
        else {
            stream.answer(message);
            return None;
        };
        if far {
            // It subscribes again, on the other stream; should it not, nobody ends this session.
            let ended = leader.on_unsubscribe(now_ms, subscription.session());
            state.after_move(outcome.moved);
            state.after_move(ended);
            message.change_stream = proto::StreamChange::ToCatchUp.into();
            stream.answer(message);
            return None;
        }
        stream.answer(message);
        let push = PushPartition::new(
            Arc::clone(replica),
            Arc::clone(stream),
            subscription.session,
            leader_epoch,
            PushPosition {
                next: subscription.fetch_offset,
                sent: subscription.fetch_offset,
                high_watermark,
                log_start,
                pace: Pace::at_start(position),
            },
        );
        Some(begin(state, Arc::new(push), outcome))
    }

    /// Ends a push: the follower stopped it or its stream ended.
    pub(crate) fn unsubscribe(&self, push: &Arc<PushPartition>) {
        push.close();
        let mut state = self.lock();
        state.pushes.retain(|other| !Arc::ptr_eq(other, push));
        let now_ms = self.now_ms();
        let session = push.stream.session(push.session);
        let moved = state
            .core
            .leader_mut()
            .and_then(|leader| leader.on_unsubscribe(now_ms, session));
        state.after_move(moved);
        // Nobody waits for a replica that is gone.
        state.settle_deletes();
    }

    /// A follower's log ends at `log.end` now.
    pub(crate) fn on_follower_ack(
        &self,
        from: FollowerSession,
        leader_epoch: LeaderEpoch,
        log: LogPosition,
    ) {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        let Some(leader) = state.core.leader_mut() else {
            return;
        };
        let outcome = leader.on_follower_ack(now_ms, from, leader_epoch, log);
        state.after_move(outcome.moved);
        state.settle_deletes();
        if outcome.may_join {
            self.propose(&mut state);
        }
    }

    /// Reads at most about `max_bytes` for a push; 0 means that there is no credit.
    pub(crate) async fn read_for_push(push: &Arc<PushPartition>, max_bytes: usize) -> PushRead {
        let decision = {
            let state = push.replica.lock();
            decide(&state, push, max_bytes)
        };
        match decision {
            Decision::Done { read, counts } => {
                passed(push, &read, counts);
                read
            }
            Decision::File {
                plan,
                from,
                header,
                end,
                counts,
            } => {
                let read = tokio::task::spawn_blocking(move || {
                    Ok(match plan.outcome()? {
                        ReadOutcome::Found(slice) => Some((slice.bytes, slice.next_offset)),
                        ReadOutcome::Hole(end) => Some((Bytes::new(), end)),
                        // Not when at least one batch was asked for.
                        ReadOutcome::TooLarge => None,
                    })
                })
                .await;
                // The task cannot panic and is never cancelled.
                let read = read.unwrap_or(Ok(None));
                let read = finish(push, read, from, header, end);
                passed(push, &read, counts);
                read
            }
        }
    }
}

/// A follower was accepted: it is pushed to instead of what it had before.
fn begin(state: &mut State, push: Arc<PushPartition>, outcome: AckOutcome) -> Arc<PushPartition> {
    state.pushes.retain(|other| {
        let replaced = other.stream.peer == push.stream.peer;
        if replaced {
            other.close();
        }
        !replaced
    });
    state.pushes.push(Arc::clone(&push));
    state.after_move(outcome.moved);
    state.settle_deletes();
    if outcome.may_join {
        push.replica.propose(state);
    }
    push.mark();
    push
}

/// Whether more than `bytes` lie after the offset, taking the records of the log as equally large, and it is not in
/// memory either.
fn is_behind(state: &State, offset: Offset, bytes: u64) -> bool {
    let in_memory = state.tail.start().is_some_and(|tail| offset >= tail);
    !in_memory && position_of(&state.log).has_after(offset, state.log.size_bytes(), bytes)
}

fn decide(state: &State, push: &PushPartition, max_bytes: usize) -> Decision {
    let Some(leader) = state.core.leader() else {
        return PushRead::Nothing.into();
    };
    if push.is_closed() || leader.leader_epoch() != push.leader_epoch {
        return PushRead::Nothing.into();
    }
    let mut at = push.position.lock();
    let end = state.log.log_end_offset();
    let position = moved_position(state, push, &mut at, leader.high_watermark());
    if at.next >= end {
        return position
            .map_or(PushRead::Nothing, PushRead::Position)
            .into();
    }
    if max_bytes == 0 {
        return PushRead::Starved { position }.into();
    }
    let (max_bytes, counts) = match push
        .replica
        .may_send(leader, push.stream.peer, &mut at.pace)
    {
        Ok(piece) => (piece.bytes.min(max_bytes), piece.counts),
        Err(until) => return PushRead::Held { position, until }.into(),
    };
    let header = proto::PartitionBatches {
        topic_id: convert::topic_bytes(push.replica.partition.topic_id),
        partition: push.replica.partition.partition,
        leader_epoch: push.leader_epoch.0,
        high_watermark: at.high_watermark.0,
        log_start_offset: at.log_start.0,
        fetch_offset: at.sent.0,
        ..proto::PartitionBatches::default()
    };
    if let Some((chunks, next)) = state.tail.read(at.next, end, max_bytes)
        && !chunks.is_empty()
    {
        let header = described(header, &chunks);
        at.advance(next, header.bytes as usize);
        let more = next < end;
        let read = PushRead::Batches {
            header,
            chunks,
            more,
        };
        return Decision::Done { read, counts };
    }
    let from = at.next;
    match state.log.plan_read(from, max_bytes, end, true) {
        Ok(Some(plan)) => Decision::File {
            plan: Box::new(plan),
            from,
            header,
            end,
            counts,
        },
        Ok(None) => PushRead::Nothing.into(),
        Err(error) => {
            drop(at);
            failed(push, &error);
            PushRead::Nothing.into()
        }
    }
}

/// The HW and the log start, if they are not what was sent last.
fn moved_position(
    state: &State,
    push: &PushPartition,
    at: &mut PushPosition,
    high_watermark: Offset,
) -> Option<proto::LeaderPosition> {
    let log_start = state.log.log_start_offset();
    let moved = high_watermark > at.high_watermark || log_start > at.log_start;
    at.high_watermark = high_watermark;
    at.log_start = log_start;
    moved.then(|| proto::LeaderPosition {
        topic_id: convert::topic_bytes(push.replica.partition.topic_id),
        partition: push.replica.partition.partition,
        leader_epoch: push.leader_epoch.0,
        high_watermark: high_watermark.0,
        log_start_offset: log_start.0,
    })
}

/// What passed the leader's throttle is counted.
fn passed(push: &PushPartition, read: &PushRead, counts: bool) {
    if let PushRead::Batches { header, .. } = read
        && counts
    {
        let throttle = &push.replica.shared.throttles.leader;
        throttle.record(Instant::now(), header.bytes as usize);
    }
}

fn described(mut header: proto::PartitionBatches, chunks: &[Bytes]) -> proto::PartitionBatches {
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    header.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let first = chunks
        .first()
        .and_then(|chunk| BatchIter::new(chunk).next());
    if let Some(Ok((batch, _))) = first {
        header.base_offset = batch.base_offset.0;
    }
    header
}

/// Goes on after a read of the file.
fn finish(
    push: &Arc<PushPartition>,
    read: Result<Option<(Bytes, Offset)>, LogError>,
    from: Offset,
    header: proto::PartitionBatches,
    end: Offset,
) -> PushRead {
    let (bytes, next) = match read {
        Ok(Some(found)) => found,
        Ok(None) => return PushRead::Nothing,
        Err(error) => {
            failed(push, &error);
            return PushRead::Nothing;
        }
    };
    {
        let mut at = push.position.lock();
        if push.is_closed() || at.next != from {
            return PushRead::Nothing;
        }
        at.advance(next, bytes.len());
    }
    if push.stream.kind == StreamKind::CatchUp {
        go_live_if_near(push, next);
    }
    if bytes.is_empty() {
        // A hole that compaction left at the end of a segment: the next read begins after it.
        push.mark();
        return PushRead::Nothing;
    }
    let chunks = vec![bytes];
    PushRead::Batches {
        header: described(header, &chunks),
        chunks,
        more: next < end,
    }
}

/// A partition that has caught up goes (back) to the live stream.
fn go_live_if_near(push: &Arc<PushPartition>, next: Offset) {
    let near = !is_behind(&push.replica.lock(), next, NEAR_BYTES);
    if near {
        push.close();
        push.stream.answer(proto::PartitionAnswer {
            topic_id: convert::topic_bytes(push.replica.partition.topic_id),
            partition: push.replica.partition.partition,
            leader_epoch: push.leader_epoch.0,
            session: push.session,
            fetch_offset: next.0,
            change_stream: proto::StreamChange::ToLive.into(),
            ..proto::PartitionAnswer::default()
        });
    }
}

/// The offset fell out of the log (retention): the follower has to start anew. Anything else stops the broker.
fn failed(push: &PushPartition, error: &LogError) {
    push.close();
    if let LogError::OffsetOutOfRange { start, end, .. } = error {
        push.stream.answer(proto::PartitionAnswer {
            topic_id: convert::topic_bytes(push.replica.partition.topic_id),
            partition: push.replica.partition.partition,
            error_code: ErrorCode::OffsetOutOfRange as i32,
            leader_epoch: push.leader_epoch.0,
            session: push.session,
            log_start_offset: start.0,
            log_end_offset: end.0,
            ..proto::PartitionAnswer::default()
        });
    } else {
        push.replica.fail(error);
    }
}
