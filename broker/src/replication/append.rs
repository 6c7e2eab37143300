//! How does a produce get into a leader's log?
//!
//! One lock, no task hop: check the leader and min ISR, check the producer, patch offsets and epoch, write, tell
//! the core, wake the followers' streams. What waits for the HW gets a receiver.

use std::sync::Arc;

use broker_core::partition::{ProduceRefusal, Settlement};
use broker_log::ProducerCheck;
use tokio::sync::oneshot;
use types::{BatchHeader, ErrorCode, LeaderEpoch, Offset, ProducerId, batch};

use super::model::{PartitionError, ProduceError, ProduceOk};
use super::replica::{Replica, State};
use super::transactions::{TransactionRule, check_transaction};
use super::validate::Prepared;
use super::waiters::Outcome;

/// An append that happened; `wait` is there when its acks are not satisfied yet.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) ok: ProduceOk,
    pub(crate) wait: Option<oneshot::Receiver<Outcome>>,
}

impl Replica {
    /// Appends as leader. `epoch` is what a coordinator believes the leader epoch to be; clients have none.
    pub(crate) fn append_as_leader(
        self: &Arc<Self>,
        prepared: Prepared,
        acks: i16,
        epoch: Option<LeaderEpoch>,
        wall_ms: i64,
    ) -> Result<Appended, ProduceError> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        if state.closed {
            return Err(absent(state.absence()));
        }
        let Some(leader) = state.core.leader() else {
            return Err(ProduceError {
                leader_hint: Self::hint(&state),
                ..ProduceError::new(
                    ErrorCode::NotLeaderOrFollower,
                    "this broker does not lead the partition",
                )
            });
        };
        leader
            .check_produce(acks, epoch)
            .map_err(|refusal| refused(&refusal))?;
        let leader_epoch = leader.leader_epoch();
        let log_append_time_ms = prepared.log_append_time_ms;
        let (base_offset, end) = match known_duplicate(&state, &prepared)? {
            Some((first, last)) => (first, last.plus(1)),
            None => self.write(&mut state, prepared, leader_epoch, now_ms, wall_ms)?,
        };
        let ok = ProduceOk {
            base_offset,
            log_append_time_ms,
            log_start_offset: state.log.log_start_offset(),
        };
        let wait = wait_for(&mut state, acks, end)?;
        drop(state);
        Ok(Appended { ok, wait })
    }

    /// Writes new batches at the end of the log; gives their first offset and the end.
    fn write(
        self: &Arc<Self>,
        state: &mut State,
        mut prepared: Prepared,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
        wall_ms: i64,
    ) -> Result<(Offset, Offset), ProduceError> {
        let base = state.log.log_end_offset();
        let (mut at, mut next) = (0, base);
        for header in &prepared.batches {
            let bytes = &mut prepared.bytes[at..at + header.size()];
            batch::set_base_offset(bytes, next);
            batch::set_leader_epoch(bytes, leader_epoch);
            next = next.plus(i64::from(header.record_count));
            at += header.size();
        }
        let bytes = prepared.bytes.freeze();
        let appended = state.log.append(&bytes, wall_ms);
        for header in prepared.batches.iter().filter(|h| h.is_transactional()) {
            // A transaction that is open needs no guard, one that ended must not let what was checked before in.
            state.verifying.forget(header.producer_id);
        }
        self.note_unflushed(state, bytes.len());
        // Also after an error a part may be in the log, when a segment ended between two batches.
        let end = state.log.log_end_offset();
        if appended.is_ok() {
            state.tail.push(now_ms, base, end, bytes);
        } else if end > base {
            state.tail.clear();
        }
        if end > base {
            let moved = state
                .core
                .leader_mut()
                .and_then(|leader| leader.on_append(now_ms, end));
            if moved.is_some() {
                state.after_move(moved);
            } else {
                state.mark_pushes();
            }
        }
        match appended {
            Ok(_) => Ok((base, end)),
            Err(error) => {
                self.fail(&error);
                Err(ProduceError::new(error.code(), error.to_string()))
            }
        }
    }
}

pub(crate) fn absent(error: PartitionError) -> ProduceError {
    ProduceError {
        leader_hint: error.leader_hint,
        ..ProduceError::new(error.code, "this broker has no replica of the partition")
    }
}

fn refused(refusal: &ProduceRefusal) -> ProduceError {
    let code = match refusal {
        ProduceRefusal::Fenced(fence) => fence.code(),
        ProduceRefusal::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
    };
    ProduceError::new(code, refusal.to_string())
}

/// The offsets of an idempotent producer's batch that is in the log already.
fn known_duplicate(
    state: &State,
    prepared: &Prepared,
) -> Result<Option<(Offset, Offset)>, ProduceError> {
    let Some(header) = prepared.batches.first() else {
        return Ok(None);
    };
    if !matches!(prepared.rule, TransactionRule::Produce { .. }) {
        check_transaction(state, header, prepared.rule)?;
        return Ok(None);
    }
    match state.log.check_producer(header) {
        Ok(ProducerCheck::Append) => {
            if prepared.is_behind_refused
                && state.log.producer(ProducerId(header.producer_id)).is_none()
            {
                return Err(behind_refused(state, header));
            }
            check_transaction(state, header, prepared.rule)?;
            Ok(None)
        }
        Ok(ProducerCheck::Duplicate {
            base_offset,
            last_offset,
            timestamp: _,
        }) => Ok(Some((base_offset, last_offset))),
        Err(code) => Err(ProduceError::new(
            code,
            format!(
                "producer {} epoch {} sequence {} does not follow what the partition has of it",
                header.producer_id, header.producer_epoch, header.base_sequence
            ),
        )),
    }
}

/// The log knows nothing of the producer and would take any sequence number, but one before it is still to come. This is the
/// error after which every client sends both again in their order: `OUT_OF_ORDER_SEQUENCE_NUMBER` would cost librdkafka
/// the epoch, and with it the transaction.
fn behind_refused(state: &State, header: &BatchHeader) -> ProduceError {
    let message = format!(
        "a batch of producer {} before sequence {} was refused and has to come first",
        header.producer_id, header.base_sequence
    );
    ProduceError {
        leader_hint: Replica::hint(state),
        ..ProduceError::new(ErrorCode::NotLeaderOrFollower, message)
    }
}

fn wait_for(
    state: &mut State,
    acks: i16,
    end: Offset,
) -> Result<Option<oneshot::Receiver<Outcome>>, ProduceError> {
    let Some(leader) = state.core.leader() else {
        return Ok(None);
    };
    match acks {
        -1 => match leader.settle(end) {
            Settlement::Done => Ok(None),
            Settlement::Waiting => Ok(Some(state.produces.push(end))),
            Settlement::NotEnoughReplicasAfterAppend => Err(ProduceError::new(
                ErrorCode::NotEnoughReplicasAfterAppend,
                "the in-sync replicas became fewer than min.insync.replicas",
            )),
        },
        1 if leader.durable_end() < end => Ok(Some(state.flushes.push(end))),
        _ => Ok(None),
    }
}
