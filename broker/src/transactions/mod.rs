//! How do transactions live on the partitions of `__transaction_state` that this broker leads?
//!
//! [`TransactionService`] finds the partition of a transactional id. A partition's task loads the log when leadership
//! comes, aborts what is open for too long and ends when leadership goes; requests change it under its lock and append by
//! themselves, since one transactional id has one change under way. Decisions are those of `broker_core::txn`.
//! Once the end of a transaction is committed, a task of its own writes the markers until every partition has them.

mod ask;
mod markers;
mod partition;
mod rpc;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use ask::{Membership, ask_coordinator};
pub(crate) use markers::{ClusterMarkers, MarkerWriter};
pub(crate) use rpc::TransactionRpc;
pub(crate) use service::{TransactionService, TransactionServiceConfig};

/// The topic that holds the state of transactions.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";
