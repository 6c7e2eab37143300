//! Which transactions are open, who may end them, and what has to be written where before they are over?
//!
//! A pure state machine: one [`TransactionCoordinator`] holds the transactional ids of one partition of
//! `__transaction_state`. A request gives a [`Step`]: an answer, or a record to append first. While a record is being
//! appended its transactional id takes no other change ([`TransactionCoordinator::appended`] ends that), so nothing is
//! answered that the log could still lose.
//!
//! ```text
//!            add partitions          end (commit or abort)           markers on all partitions
//!   Empty ------------------> Ongoing ---------------------> Prepare* -----------------------> Complete*
//!     ^                         ^ | timeout, or a new instance of the producer:                 |   |
//!     |                         | '--> PrepareAbort under a higher epoch (fencing)              |   |
//!     |                         '---------------------- add partitions -------------------------'   |
//!     '----------------------------------- InitProducerId ------------------------------------------'
//! ```
//! (a) `Prepare*` is committed before the client hears of it, and is finished by whoever coordinates next. (b) An epoch is
//! given to one instance only. (c) With transactions version 2 (KIP-890) every end moves the producer to its next epoch, so
//! that nothing sent for a transaction can land in a later one. Which version counts is said by each request, never by
//! the cluster. Source: KIP-98, KIP-360, KIP-890.

mod coordinator;
mod describe;
mod end;
mod init;
pub mod metadata;
mod pattern;
pub mod record;
pub mod request;
#[cfg(test)]
mod tests;

pub use coordinator::TransactionCoordinator;
pub use metadata::{TransactionMetadata, TransactionState, TransactionVersion};
pub use pattern::IdPattern;
pub use record::TransactionRecord;
pub use request::{Completion, Step, Write};

/// Broker configuration that transactions obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
}

impl Default for TransactionConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            id_expiration_ms: 604_800_000,
        }
    }
}
