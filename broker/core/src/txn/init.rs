//! Which producer id and epoch does a new instance of a transactional producer get?
//!
//! A higher epoch than any instance before it, which fences those; a transaction that one of them left open is aborted
//! first. A producer that goes on after an error names what it was, and is refused if somebody else came after it (KIP-360).

use types::{ErrorCode, ProducerEpoch, ProducerId};

use super::coordinator::{Transaction, TransactionCoordinator, check_id};
use super::metadata::{TransactionMetadata, TransactionState, is_exhausted};
use super::request::{InitProducerId, Producer, Step};
use crate::group::Now;

impl TransactionCoordinator {
    /// `InitProducerId`; `fresh` is an id that nobody had, once [`Step::NeedsProducerId`] was answered.
    ///
    /// # Errors
    /// `INVALID_TRANSACTION_TIMEOUT`, `PRODUCER_FENCED`, `INVALID_REQUEST`, or `CONCURRENT_TRANSACTIONS` while the
    /// last transaction is not over.
    pub fn init_producer_id(
        &mut self,
        now: Now,
        request: &InitProducerId,
        fresh: Option<ProducerId>,
    ) -> Result<Step, ErrorCode> {
        let id = request.transactional_id.as_str();
        check_id(id)?;
        if !(1..=self.config.max_timeout_ms).contains(&request.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        if !self.transactions.contains_key(id) {
            let Some(fresh) = fresh else {
                return Ok(Step::NeedsProducerId);
            };
            let new = TransactionMetadata::new(fresh, request.timeout_ms, now.wall_ms);
            self.transactions.insert(id.into(), Transaction::new(new));
        }
        let Some(transaction) = self.transactions.get(id) else {
            return Err(ErrorCode::UnknownServerError);
        };
        if transaction.is_changing() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let current = &transaction.current;
        if let Some(expected) = request.expected
            && !may_be(current, expected)
        {
            return Err(ErrorCode::ProducerFenced);
        }
        match current.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            TransactionState::Ongoing => {
                let next = current.fenced(now.wall_ms);
                // The client comes again, and gets an epoch above the one that fences.
                let answer = Err(ErrorCode::ConcurrentTransactions);
                Ok(Step::Write(self.begin(id, next, answer)))
            }
            TransactionState::Empty
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => {
                let Some(next) = next_instance(current, request, fresh, now.wall_ms)? else {
                    return Ok(Step::NeedsProducerId);
                };
                let answer = Ok((next.producer_id, next.producer_epoch));
                Ok(Step::Write(self.begin(id, next, answer)))
            }
            TransactionState::Dead | TransactionState::PrepareEpochFence => {
                Err(ErrorCode::UnknownServerError)
            }
        }
    }
}

/// Whether a producer that was `expected` may be the current one (its epoch is looked at later).
fn may_be(current: &TransactionMetadata, (id, epoch): Producer) -> bool {
    current.producer_epoch.0 < 0
        || id == current.producer_id
        // An exhausted id is being replaced; the client has been told.
        || Some(id) == current.next_producer_id
        // The answer that gave it a new id was lost.
        || (Some(id) == current.previous_producer_id && is_exhausted(epoch))
}

/// `None` if it takes a new id.
fn next_instance(
    current: &TransactionMetadata,
    request: &InitProducerId,
    fresh: Option<ProducerId>,
    wall_ms: i64,
) -> Result<Option<TransactionMetadata>, ErrorCode> {
    let (epoch, timeout_ms) = (current.producer_epoch, request.timeout_ms);
    let expected = request.expected.map(|(_, epoch)| epoch);
    if is_exhausted(epoch) && expected.is_none_or(|expected| expected == epoch) {
        let last = expected.is_some().then_some(epoch);
        return Ok(fresh.map(|id| current.with_producer_id(id, last, timeout_ms, wall_ms)));
    }
    let bumped = ProducerEpoch(epoch.0.saturating_add(1));
    let next = match expected {
        None => current.with_epoch(bumped, None, timeout_ms, wall_ms),
        Some(expected) if expected == epoch || epoch.0 < 0 => {
            let last = Some(epoch).filter(|epoch| epoch.0 >= 0);
            current.with_epoch(bumped, last, timeout_ms, wall_ms)
        }
        // A retry: the same answer again.
        Some(expected) if Some(expected) == current.last_producer_epoch => {
            current.with_epoch(epoch, current.last_producer_epoch, timeout_ms, wall_ms)
        }
        Some(_) => return Err(ErrorCode::ProducerFenced),
    };
    Ok(Some(next))
}
