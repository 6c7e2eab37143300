//! May this client commit or abort now?
//!
//! What counts is the version of the request. With version 2 the epoch moves on at every end, so the same epoch means the
//! next transaction, and a retry is told by the epoch that it did not learn of.

use types::{ErrorCode, ProducerEpoch, ProducerId, TransactionResult};

use super::coordinator::{Transaction, TransactionCoordinator, check_id};
use super::metadata::{TransactionMetadata, TransactionState, is_exhausted};
use super::request::{EndTransaction, Producer, Step};
use crate::group::Now;

/// What an end that is allowed means.
enum Verdict {
    /// Write the decision.
    Prepare,
    /// It was done before: answer as then.
    Repeated,
}

impl TransactionCoordinator {
    /// `EndTxn`; `fresh` is an id that nobody had, once [`Step::NeedsProducerId`] was answered.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `INVALID_TXN_STATE`, or `CONCURRENT_TRANSACTIONS` while the
    /// same end is under way.
    pub fn end(
        &mut self,
        now: Now,
        request: &EndTransaction,
        fresh: Option<ProducerId>,
    ) -> Result<Step, ErrorCode> {
        let id = request.transactional_id.as_str();
        check_id(id)?;
        let transaction = (self.transactions.get(id)).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let current = &transaction.current;
        let bumps = request.version.bumps_epoch();
        let verdict = if bumps {
            verdict_v2(transaction, request)?
        } else {
            verdict_v1(transaction, request)?
        };
        match verdict {
            Verdict::Repeated => Ok(Step::Done(transaction.producer())),
            Verdict::Prepare => {
                let rotates = bumps && is_exhausted(current.producer_epoch);
                if rotates && fresh.is_none() {
                    return Ok(Step::NeedsProducerId);
                }
                let next_id = fresh.filter(|_| rotates);
                let next = current.prepared(request.result, request.version, next_id, now.wall_ms);
                let answer = Ok(after_completion(&next));
                Ok(Step::Write(self.begin(id, next, answer)))
            }
        }
    }
}

/// What the producer is once the transaction is complete: the client may go on as that at once.
fn after_completion(prepared: &TransactionMetadata) -> Producer {
    match prepared.next_producer_id {
        Some(id) => (id, ProducerEpoch(0)),
        None => (prepared.producer_id, prepared.producer_epoch),
    }
}

fn verdict_v1(transaction: &Transaction, request: &EndTransaction) -> Result<Verdict, ErrorCode> {
    let current = &transaction.current;
    if current.producer_id != request.producer.0 {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if current.producer_epoch != request.producer.1 {
        return Err(ErrorCode::ProducerFenced);
    }
    if transaction.is_changing() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let commit = request.result == TransactionResult::Commit;
    match (current.state, commit) {
        (TransactionState::Ongoing, _) => Ok(Verdict::Prepare),
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
            Ok(Verdict::Repeated)
        }
        (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
            Err(ErrorCode::ConcurrentTransactions)
        }
        (
            TransactionState::Empty
            | TransactionState::PrepareCommit
            | TransactionState::PrepareAbort
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort
            | TransactionState::Dead
            | TransactionState::PrepareEpochFence,
            _,
        ) => Err(ErrorCode::InvalidTxnState),
    }
}

fn verdict_v2(transaction: &Transaction, request: &EndTransaction) -> Result<Verdict, ErrorCode> {
    let current = &transaction.current;
    let (id, epoch) = request.producer;
    // The answer that told of a new producer id was lost.
    let missed_id = current.version.bumps_epoch()
        && current.previous_producer_id == Some(id)
        && current.producer_id != id
        && epoch.0 == i16::MAX - 1
        && current.producer_epoch.0 == 0;
    // The answer that told of a new epoch was lost.
    let missed_epoch = current.version.bumps_epoch()
        && current.producer_id == id
        && current.producer_epoch.0.checked_sub(1) == Some(epoch.0);
    let same = current.producer_id == id && current.producer_epoch == epoch;
    if current.state.is_completing() && current.next_producer_id == Some(id) {
        // The client goes on under its new id already.
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if current.producer_id != id && !missed_id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let repeated = missed_id || missed_epoch;
    let valid = match current.state {
        TransactionState::Ongoing
        | TransactionState::Empty
        | TransactionState::Dead
        | TransactionState::PrepareEpochFence => same,
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => missed_epoch,
        TransactionState::CompleteCommit | TransactionState::CompleteAbort => repeated || same,
    };
    if !valid {
        return Err(ErrorCode::ProducerFenced);
    }
    if transaction.is_changing() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let commit = request.result == TransactionResult::Commit;
    match (current.state, commit) {
        (TransactionState::Ongoing, _) | (TransactionState::Empty, false) => Ok(Verdict::Prepare),
        (TransactionState::CompleteCommit, true) if repeated => Ok(Verdict::Repeated),
        (TransactionState::CompleteAbort, false) if repeated => Ok(Verdict::Repeated),
        // The client began a transaction and wrote nothing in it.
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, false)
            if !repeated =>
        {
            Ok(Verdict::Prepare)
        }
        (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
            Err(ErrorCode::ConcurrentTransactions)
        }
        (
            TransactionState::Empty
            | TransactionState::PrepareCommit
            | TransactionState::PrepareAbort
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort
            | TransactionState::Dead
            | TransactionState::PrepareEpochFence,
            _,
        ) => Err(ErrorCode::InvalidTxnState),
    }
}
