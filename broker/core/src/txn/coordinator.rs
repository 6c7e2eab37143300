//! How do requests, timers and append results reach the transactional ids of one partition of `__transaction_state`?

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{ErrorCode, TopicPartition, TransactionResult};

use super::TransactionConfig;
use super::metadata::{TransactionMetadata, TransactionState};
use super::record::{MAX_ID_LEN, TransactionRecord};
use super::request::{AddPartitions, Completion, Producer, Step, Write};
use crate::group::Now;

/// The most transactional ids that one pass removes, so that a pass never floods the log.
const EXPIRED_AT_ONCE: usize = 1_000;

/// The transactional ids of one partition of `__transaction_state`, while this broker leads it.
///
/// # Assumptions
/// - [`TransactionCoordinator::load`] was given every record up to the high watermark, in order, before the first request.
/// - Each [`Write`] is appended and its result reported, once it is below the high watermark or can never get there. When
///   that is not known, the value is dropped and loaded again.
#[derive(Debug)]
pub struct TransactionCoordinator {
    pub(super) config: TransactionConfig,
    pub(super) transactions: BTreeMap<Arc<str>, Transaction>,
    last_write: u64,
}

/// One transactional id with what is under way.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) current: TransactionMetadata,
    pending: Option<Pending>,
    /// Monotonic ms at which an open transaction is aborted.
    deadline_ms: i64,
}

#[derive(Debug)]
struct Pending {
    write: u64,
    /// `None` for a removal.
    next: Option<TransactionMetadata>,
}

impl Transaction {
    pub(super) const fn new(current: TransactionMetadata) -> Self {
        Self {
            current,
            pending: None,
            deadline_ms: i64::MAX,
        }
    }

    pub(super) const fn is_changing(&self) -> bool {
        self.pending.is_some()
    }

    fn start_clock(&mut self, now: Now) {
        let timeout = i64::from(self.current.timeout_ms);
        // What was open before this broker became the coordinator is counted by the wall clock, within reason.
        let open_for = now.wall_ms - self.current.start_ms.unwrap_or(now.wall_ms);
        self.deadline_ms = now.monotonic_ms + (timeout - open_for).clamp(0, timeout.max(0));
    }

    fn completion(&self, id: &Arc<str>) -> Completion {
        Completion {
            transactional_id: id.clone(),
            producer: self.producer(),
            result: if self.current.state == TransactionState::PrepareCommit {
                TransactionResult::Commit
            } else {
                TransactionResult::Abort
            },
            partitions: self.current.partitions.iter().cloned().collect(),
            version: self.current.version,
        }
    }

    pub(super) const fn producer(&self) -> Producer {
        (self.current.producer_id, self.current.producer_epoch)
    }
}

impl TransactionCoordinator {
    /// No transactional ids.
    #[must_use]
    pub const fn new(config: TransactionConfig) -> Self {
        Self {
            config,
            transactions: BTreeMap::new(),
            last_write: 0,
        }
    }

    /// Applies one record of the log while loading.
    pub fn load(&mut self, record: TransactionRecord) {
        match record.value {
            Some(value) if value.state != TransactionState::Dead => {
                let transaction = Transaction::new(value);
                self.transactions
                    .insert(record.transactional_id, transaction);
            }
            Some(_) | None => {
                self.transactions.remove(&record.transactional_id);
            }
        }
    }

    /// Ends loading: what has to be completed because the former coordinator may not have.
    pub fn loaded(&mut self, now: Now) -> Vec<Completion> {
        let mut completions = Vec::new();
        for (id, transaction) in &mut self.transactions {
            if transaction.current.state == TransactionState::Ongoing {
                transaction.start_clock(now);
            }
            if transaction.current.state.is_completing() {
                completions.push(transaction.completion(id));
            }
        }
        completions
    }

    /// Adds partitions to the producer's transaction, beginning it if need be.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, or `CONCURRENT_TRANSACTIONS` while something is under way.
    pub fn add_partitions(&mut self, now: Now, request: &AddPartitions) -> Result<Step, ErrorCode> {
        let transaction = self.checked(&request.transactional_id, request.producer)?;
        let current = &transaction.current;
        match current.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            TransactionState::Ongoing if request.partitions.is_subset(&current.partitions) => {
                return Ok(Step::Done(request.producer));
            }
            TransactionState::Empty
            | TransactionState::Ongoing
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => {}
            TransactionState::Dead | TransactionState::PrepareEpochFence => {
                return Err(ErrorCode::UnknownServerError);
            }
        }
        if request.version.bumps_epoch() && request.producer.1.0 == i16::MAX {
            return Err(ErrorCode::ProducerFenced); // its transaction could not be told from the next
        }
        let next = current.with_partitions(&request.partitions, request.version, now.wall_ms);
        let id = request.transactional_id.as_str();
        Ok(Step::Write(self.begin(id, next, Ok(request.producer))))
    }

    /// Whether the partitions are in the producer's transaction: one result for each.
    ///
    /// # Errors
    /// As [`Self::add_partitions`].
    pub fn verify_partitions(
        &self,
        request: &AddPartitions,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let transaction = self.known(&request.transactional_id)?;
        let current = &transaction.current;
        let open = current.state == TransactionState::Ongoing
            && transaction.producer() == request.producer;
        if !(open && request.partitions.is_subset(&current.partitions)) {
            // What is under way may make it true, or may already be the end.
            self.checked(&request.transactional_id, request.producer)?;
            if current.state.is_completing() {
                return Err(ErrorCode::ConcurrentTransactions);
            }
        }
        let verified = request.partitions.iter().map(|partition| {
            let known = open && current.partitions.contains(partition);
            let code = if known {
                ErrorCode::None
            } else {
                ErrorCode::TransactionAbortable
            };
            (partition.clone(), code)
        });
        Ok(verified.collect())
    }

    /// The result of a write. What has to be completed now, if the record decided the end of a transaction.
    pub fn appended(
        &mut self,
        now: Now,
        write: &Write,
        result: Result<(), ErrorCode>,
    ) -> Option<Completion> {
        let id = &write.record.transactional_id;
        let transaction = self.transactions.get_mut(id)?;
        if transaction.pending.as_ref().map(|pending| pending.write) != Some(write.id) {
            return None;
        }
        let pending = transaction.pending.take()?;
        if result.is_err() {
            if transaction.current.producer_epoch.0 < 0 {
                self.transactions.remove(id); // its first record was not written: it does not exist
            }
            return None;
        }
        let Some(next) = pending.next else {
            self.transactions.remove(id);
            return None;
        };
        let was_open = transaction.current.state == TransactionState::Ongoing;
        transaction.current = next;
        if transaction.current.state == TransactionState::Ongoing && !was_open {
            transaction.start_clock(now);
        }
        let completing = transaction.current.state.is_completing();
        completing.then(|| transaction.completion(id))
    }

    /// All markers of a transaction are written.
    ///
    /// # Errors
    /// `INVALID_TXN_STATE` if it is not being completed (any more).
    pub fn markers_written(
        &mut self,
        now: Now,
        completion: &Completion,
    ) -> Result<Step, ErrorCode> {
        let transaction = (self.transactions.get(&completion.transactional_id))
            .filter(|transaction| transaction.current.state.is_completing())
            .filter(|transaction| transaction.producer() == completion.producer)
            .ok_or(ErrorCode::InvalidTxnState)?;
        if transaction.is_changing() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let next = transaction.current.completed(now.wall_ms);
        let answer = Ok((next.producer_id, next.producer_epoch));
        let id = completion.transactional_id.clone();
        Ok(Step::Write(self.begin(&id, next, answer)))
    }

    /// Aborts the transactions that have been open for too long.
    pub fn abort_timed_out(&mut self, now: Now) -> Vec<Write> {
        let due: Vec<(Arc<str>, TransactionMetadata)> = self
            .transactions
            .iter()
            .filter(|(_, transaction)| transaction.current.state == TransactionState::Ongoing)
            .filter(|(_, transaction)| !transaction.is_changing())
            .filter(|(_, transaction)| transaction.deadline_ms <= now.monotonic_ms)
            .map(|(id, transaction)| (id.clone(), transaction.current.fenced(now.wall_ms)))
            .collect();
        due.into_iter()
            .map(|(id, next)| {
                let answer = Ok((next.producer_id, next.producer_epoch));
                self.begin(&id, next, answer)
            })
            .collect()
    }

    /// Removes the transactional ids that nobody used for `transactional.id.expiration.ms`.
    pub fn expire(&mut self, now: Now) -> Vec<Write> {
        let limit = now.wall_ms.saturating_sub(self.config.id_expiration_ms);
        let due: Vec<Arc<str>> = self
            .transactions
            .iter()
            .filter(|(_, transaction)| !transaction.is_changing())
            .filter(|(_, transaction)| match transaction.current.state {
                TransactionState::Empty
                | TransactionState::CompleteCommit
                | TransactionState::CompleteAbort => transaction.current.last_update_ms <= limit,
                TransactionState::Ongoing
                | TransactionState::PrepareCommit
                | TransactionState::PrepareAbort
                | TransactionState::Dead
                | TransactionState::PrepareEpochFence => false,
            })
            .map(|(id, _)| id.clone())
            .take(EXPIRED_AT_ONCE)
            .collect();
        due.iter().map(|id| self.begin_removal(id)).collect()
    }

    /// The transactional id, if the request comes from its current producer and nothing is under way.
    fn checked(&self, id: &str, (producer, epoch): Producer) -> Result<&Transaction, ErrorCode> {
        let transaction = self.known(id)?;
        // First: what is under way may change producer and epoch. While a transaction of an exhausted epoch is being
        // completed, its client has the new id already.
        let given = Some(producer) == transaction.current.next_producer_id;
        if transaction.is_changing() || (transaction.current.state.is_completing() && given) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if transaction.current.producer_id != producer {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if transaction.current.producer_epoch != epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(transaction)
    }

    fn known(&self, id: &str) -> Result<&Transaction, ErrorCode> {
        check_id(id)?;
        self.transactions
            .get(id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// Begins the change of a transactional id that is there.
    pub(super) fn begin(
        &mut self,
        id: &str,
        next: TransactionMetadata,
        answer: Result<Producer, ErrorCode>,
    ) -> Write {
        self.begin_write(id, Some(next), answer)
    }

    fn begin_removal(&mut self, id: &str) -> Write {
        self.begin_write(id, None, Err(ErrorCode::InvalidProducerIdMapping))
    }

    fn begin_write(
        &mut self,
        id: &str,
        next: Option<TransactionMetadata>,
        answer: Result<Producer, ErrorCode>,
    ) -> Write {
        self.last_write += 1;
        let write = self.last_write;
        if let Some(transaction) = self.transactions.get_mut(id) {
            debug_assert!(!transaction.is_changing(), "one change at a time");
            transaction.pending = Some(Pending {
                write,
                next: next.clone(),
            });
        }
        Write {
            id: write,
            record: TransactionRecord {
                transactional_id: id.into(),
                value: next,
            },
            answer,
        }
    }
}

/// Whether this can be a transactional id.
pub(super) const fn check_id(id: &str) -> Result<(), ErrorCode> {
    if id.is_empty() || id.len() > MAX_ID_LEN {
        Err(ErrorCode::InvalidRequest)
    } else {
        Ok(())
    }
}
