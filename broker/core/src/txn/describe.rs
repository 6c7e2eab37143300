//! How are transactions shown to administrators (KIP-664)?

use super::coordinator::TransactionCoordinator;
use super::metadata::TransactionState;
use super::request::{ListedTransaction, TransactionDescription};
use crate::group::Now;

impl TransactionCoordinator {
    /// `DescribeTransactions`; `None` for an unknown transactional id.
    #[must_use]
    pub fn describe(&self, id: &str) -> Option<TransactionDescription> {
        let transaction = self.transactions.get(id)?;
        let current = &transaction.current;
        // A new id whose first record is being written is not there yet.
        (current.producer_epoch.0 >= 0).then(|| TransactionDescription {
            state: current.state,
            timeout_ms: current.timeout_ms,
            start_ms: current.start_ms,
            producer: transaction.producer(),
            partitions: current.partitions.iter().cloned().collect(),
        })
    }

    /// `ListTransactions`: every transactional id.
    pub fn list(&self, now: Now) -> impl Iterator<Item = ListedTransaction> + '_ {
        self.transactions
            .iter()
            .filter(|(_, transaction)| transaction.current.producer_epoch.0 >= 0)
            .map(move |(id, transaction)| {
                let current = &transaction.current;
                let is_open = match current.state {
                    TransactionState::Ongoing
                    | TransactionState::PrepareCommit
                    | TransactionState::PrepareAbort => true,
                    TransactionState::Empty
                    | TransactionState::CompleteCommit
                    | TransactionState::CompleteAbort
                    | TransactionState::Dead
                    | TransactionState::PrepareEpochFence => false,
                };
                ListedTransaction {
                    transactional_id: id.clone(),
                    producer_id: current.producer_id,
                    state: current.state,
                    open_for_ms: (current.start_ms)
                        .filter(|_| is_open)
                        .map(|start| now.wall_ms - start),
                }
            })
    }
}
