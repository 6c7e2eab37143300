//! What do the numbers and names of the Kafka world mean, and how is a record batch laid out?
//!
//! No I/O, no async, no clock. Every number with a meaning is a newtype; `-1` stands for "none" only on the wire.

pub mod error_code;
pub mod ids;

pub mod batch;
pub mod record;

pub mod builder;
pub mod compression;
pub mod retain;
pub mod scan;
mod varint;

#[cfg(test)]
mod record_tests;

pub use batch::{BatchError, BatchHeader, BatchIter, Compression, HEADER_LEN};
pub use builder::{BatchBuilder, BuildError};
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId, TopicId,
    TopicPartition,
};
pub use record::{
    EndTransactionMarker, Record, RecordError, RecordHeader, RecordIter, TransactionResult,
};
pub use retain::Retained;
pub use scan::{Dated, RecordSummary, scan};
