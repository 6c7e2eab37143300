//! What is asked of a transaction coordinator, and what does it want done?

use std::collections::BTreeSet;
use std::sync::Arc;

use types::{ProducerEpoch, ProducerId, TopicPartition, TransactionResult};

use super::metadata::{TransactionState, TransactionVersion};
use super::record::TransactionRecord;

/// A producer at an epoch.
pub type Producer = (ProducerId, ProducerEpoch);

/// `InitProducerId` with a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerId {
    /// The transactional id.
    pub transactional_id: String,
    /// How long its transactions may be open, ms.
    pub timeout_ms: i32,
    /// What the producer was before, if it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
}

/// `AddPartitionsToTxn`, `AddOffsetsToTxn`, or what a produce adds by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer.
    pub producer: Producer,
    /// The partitions to add.
    pub partitions: BTreeSet<TopicPartition>,
    /// What the request's version says.
    pub version: TransactionVersion,
}

/// `EndTxn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTransaction {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer.
    pub producer: Producer,
    /// Commit or abort.
    pub result: TransactionResult,
    /// What the request's version says.
    pub version: TransactionVersion,
}

/// What follows from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing has to be written: the producer as it is.
    Done(Producer),
    /// This record has to be committed first.
    Write(Write),
    /// A new producer id is needed: ask again with one.
    NeedsProducerId,
}

/// A record to append; its result goes to [`super::TransactionCoordinator::appended`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Names the write.
    pub id: u64,
    /// What to append.
    pub record: TransactionRecord,
    /// The answer once the record is committed.
    pub answer: Result<Producer, types::ErrorCode>,
}

/// Markers to write to every partition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Producer and epoch of the markers.
    pub producer: Producer,
    /// Commit or abort.
    pub result: TransactionResult,
    /// Where.
    pub partitions: Vec<TopicPartition>,
    /// The protocol of the transaction.
    pub version: TransactionVersion,
}

/// A transaction for `DescribeTransactions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Where it is.
    pub state: TransactionState,
    /// How long it may be open, ms.
    pub timeout_ms: i32,
    /// Wall clock of its begin, ms.
    pub start_ms: Option<i64>,
    /// Its producer.
    pub producer: Producer,
    /// Its partitions.
    pub partitions: Vec<TopicPartition>,
}

/// A transaction in `ListTransactions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer's id.
    pub producer_id: ProducerId,
    /// Where it is.
    pub state: TransactionState,
    /// How long it has been open, ms; `None` if it is not.
    pub open_for_ms: Option<i64>,
}
