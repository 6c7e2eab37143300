//! What does a leader check of transactions before an append (KIP-890)?
//!
//! A transactional batch is only taken when its producer's transaction is open here, or when the coordinator was asked
//! and nothing ended the transaction since: the guard that was given before asking must still be the current one. So a
//! batch that comes late never begins a transaction that nobody would end. Markers of a coordinator that was replaced, and
//! those that are meant for an earlier transaction, are refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use types::builder::end_transaction_batch;
use types::{BatchHeader, EndTransactionMarker, ErrorCode, Offset, ProducerEpoch, ProducerId};

use super::append::absent;
use super::manager::{ReplicaManager, settled};
use super::model::{PartitionError, ProduceError, TopicIdPartition};
use super::replica::{Replica, State};
use super::shared::wall_ms;
use super::validate::{Origin, prepare};

/// Producers that may be asked for at once on one partition; the oldest is forgotten beyond it, and comes again.
const VERIFYING_MAX: usize = 10_000;

/// What has to be true of the producer's transaction for a batch to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionRule {
    /// Nothing: a coordinator's own records.
    Free,
    /// A client's batch; the guard is that of its verification, if there was one.
    Produce {
        /// See [`Verification::Needed`].
        guard: Option<u64>,
    },
    /// Offsets in a transaction, which have no sequence numbers.
    Offsets {
        /// See [`Verification::Needed`].
        guard: Option<u64>,
    },
    /// The end of the transaction.
    Marker {
        /// Leader epoch of its coordinator.
        coordinator_epoch: i32,
        /// Whether its epoch is above that of the transaction.
        bumped: bool,
    },
}

/// Whether the coordinator has to be asked before an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The transaction is open on the partition.
    Open,
    /// It has to; this guard goes with the append.
    Needed(u64),
}

/// The end of a producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Producer and epoch.
    pub producer: (ProducerId, ProducerEpoch),
    /// Commit or abort, and by whom.
    pub marker: EndTransactionMarker,
    /// Whether its epoch is above that of the transaction.
    pub bumped: bool,
}

impl Marker {
    /// What has to be true for it to be appended.
    #[must_use]
    pub const fn rule(&self) -> TransactionRule {
        TransactionRule::Marker {
            coordinator_epoch: self.marker.coordinator_epoch,
            bumped: self.bumped,
        }
    }

    /// The control batch.
    ///
    /// # Errors
    /// None in practice.
    pub fn batch(&self, now_ms: i64) -> Result<bytes::Bytes, ProduceError> {
        end_transaction_batch(self.producer, self.marker, now_ms)
            .map_err(|error| ProduceError::new(ErrorCode::UnknownServerError, error.to_string()))
    }
}

/// A producer that is known on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence number of its last record, -1 for none.
    pub last_sequence: i32,
    /// Timestamp of its last record, ms.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that wrote its last marker, -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// The sequence number that a producer's batch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstSequence {
    /// The number.
    pub base: i32,
    /// Whether the first batch of a transaction begins with zero (version 2, where each has an epoch of its own).
    pub from_zero: bool,
}

/// The producers whose coordinator is being asked.
#[derive(Debug, Default)]
pub(crate) struct Verifying {
    asked: HashMap<i64, Asked>,
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    guard: u64,
    epoch: ProducerEpoch,
    /// The lowest sequence number that was asked for, refused ones too: no later batch may overtake it.
    lowest: Option<i32>,
}

impl Verifying {
    fn guard(&mut self, producer: i64, epoch: ProducerEpoch, first: Option<FirstSequence>) -> u64 {
        let first = first.map(|first| if first.from_zero { 0 } else { first.base });
        if let Some(asked) = self.asked.get_mut(&producer)
            && asked.epoch == epoch
        {
            asked.lowest = asked.lowest.into_iter().chain(first).min();
            return asked.guard;
        }
        if self.asked.len() >= VERIFYING_MAX {
            let oldest = self.asked.iter().min_by_key(|(_, asked)| asked.guard);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.asked.remove(&oldest);
            }
        }
        self.last += 1;
        let guard = self.last;
        let lowest = first;
        self.asked.insert(
            producer,
            Asked {
                guard,
                epoch,
                lowest,
            },
        );
        guard
    }

    fn get(&self, producer: i64, epoch: ProducerEpoch) -> Option<Asked> {
        let asked = self.asked.get(&producer);
        asked.filter(|asked| asked.epoch == epoch).copied()
    }

    /// Guards given before are void.
    pub(crate) fn forget(&mut self, producer: i64) {
        self.asked.remove(&producer);
    }

    /// All guards given before are void.
    pub(crate) fn clear(&mut self) {
        self.asked.clear();
    }
}

fn is_open(state: &State, id: ProducerId, epoch: ProducerEpoch) -> bool {
    state
        .log
        .producer(id)
        .is_some_and(|entry| entry.epoch == epoch && entry.current_txn_first_offset.is_some())
}

/// Whether the batch may be appended, as far as its producer's transaction goes.
pub(crate) fn check_transaction(
    state: &State,
    header: &BatchHeader,
    rule: TransactionRule,
) -> Result<(), ProduceError> {
    let Some((id, epoch)) = header.producer() else {
        return Ok(());
    };
    let refused = |code: ErrorCode, why: &str| {
        let text = format!("producer {id} epoch {epoch}: {why}");
        Err(ProduceError::new(code, text))
    };
    let known = state.log.producer(id);
    let is_old = known.is_some_and(|entry| epoch < entry.epoch);
    match rule {
        TransactionRule::Free => Ok(()),
        TransactionRule::Produce { .. } if !header.is_transactional() => {
            if is_open(state, id, epoch) {
                let why = "its transaction is open here, the batch is not part of it";
                refused(ErrorCode::InvalidTxnState, why)
            } else {
                Ok(())
            }
        }
        _ if is_old => refused(ErrorCode::InvalidProducerEpoch, "a newer epoch was seen"),
        TransactionRule::Produce { guard } | TransactionRule::Offsets { guard } => {
            let current = state.verifying.get(id.0, epoch);
            if is_open(state, id, epoch) {
                Ok(())
            } else if let Some(asked) = current
                && guard == Some(asked.guard)
            {
                // Nothing is known of the producer: any sequence number would begin.
                let overtakes = asked
                    .lowest
                    .is_some_and(|lowest| header.base_sequence > lowest);
                if known.is_none() && overtakes {
                    let why = "the batch before it was refused";
                    refused(ErrorCode::OutOfOrderSequenceNumber, why)
                } else {
                    Ok(())
                }
            } else {
                refused(
                    ErrorCode::InvalidTxnState,
                    "it has no open transaction here",
                )
            }
        }
        TransactionRule::Marker {
            coordinator_epoch,
            bumped,
        } => {
            if known.is_some_and(|entry| entry.coordinator_epoch > coordinator_epoch) {
                let why = "a newer coordinator has written a marker";
                refused(ErrorCode::TransactionCoordinatorFenced, why)
            } else if bumped && is_open(state, id, epoch) {
                let why = "the marker is that of an earlier transaction";
                refused(ErrorCode::InvalidProducerEpoch, why)
            } else {
                Ok(())
            }
        }
    }
}

impl ReplicaManager {
    /// Whether the coordinator has to be asked before a transactional append of this producer, of a batch that begins with
    /// `first`. `Open` too for what
    /// cannot be appended here: the append says why.
    #[must_use]
    pub fn verification(
        &self,
        partition: &TopicIdPartition,
        (id, epoch): (ProducerId, ProducerEpoch),
        first: Option<FirstSequence>,
    ) -> Verification {
        let Some(replica) = self.find(partition) else {
            return Verification::Open;
        };
        let mut state = replica.lock();
        if state.core.leader().is_none() || is_open(&state, id, epoch) {
            Verification::Open
        } else {
            Verification::Needed(state.verifying.guard(id.0, epoch, first))
        }
    }

    /// Ends a transaction on a partition that is led here; done when the marker is below the high watermark.
    ///
    /// # Errors
    /// `TRANSACTION_COORDINATOR_FENCED`, `INVALID_PRODUCER_EPOCH`, and those of an append.
    pub async fn write_marker(
        &self,
        partition: &TopicIdPartition,
        marker: Marker,
        timeout: Duration,
    ) -> Result<(), ProduceError> {
        let replica = self
            .find(partition)
            .ok_or_else(|| absent(self.absence(partition)))?;
        let now_ms = wall_ms();
        let batch = marker.batch(now_ms)?;
        let mut prepared = prepare(batch, &replica.settings(), Origin::Coordinator, now_ms)?;
        prepared.rule = marker.rule();
        let appended = replica.append_as_leader(prepared, -1, None, now_ms)?;
        settled(&replica, appended, timeout).await.map(|_| ())
    }

    /// The producers that are known on a partition which is led here, by id.
    ///
    /// # Errors
    /// Not the leader, or no such partition.
    pub fn active_producers(
        &self,
        partition: &TopicIdPartition,
    ) -> Result<Vec<ActiveProducer>, PartitionError> {
        let replica: Arc<Replica> = self
            .find(partition)
            .ok_or_else(|| self.absence(partition))?;
        let state = replica.lock();
        if state.core.leader().is_none() {
            return Err(PartitionError {
                code: ErrorCode::NotLeaderOrFollower,
                leader_hint: Replica::hint(&state),
            });
        }
        let producers = state.log.producers().map(|(id, entry)| ActiveProducer {
            id,
            epoch: entry.epoch,
            last_sequence: entry.last_sequence(),
            last_timestamp_ms: entry.last_timestamp,
            coordinator_epoch: entry.coordinator_epoch,
            transaction_start: entry.current_txn_first_offset,
        });
        let mut producers: Vec<ActiveProducer> = producers.collect();
        producers.sort_by_key(|producer| producer.id);
        Ok(producers)
    }
}
