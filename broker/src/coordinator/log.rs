//! What does a coordinator need of the log under it?

use bytes::Bytes;
use futures::future::BoxFuture;
use types::{ErrorCode, LeaderEpoch, Offset};

use crate::replication::TransactionRule;

/// Why an append did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to append to a coordinator's topic: {code}")]
pub(crate) struct OffsetsLogError {
    /// Kafka's code.
    pub(crate) code: ErrorCode,
    /// Whether the records may be in the log nevertheless, so that they may still be committed.
    pub(crate) maybe_appended: bool,
}

/// A batch to append.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorBatch {
    pub(crate) bytes: Bytes,
    /// What has to be true of the producer's transaction.
    pub(crate) rule: TransactionRule,
}

/// The partitions of a coordinator's topic on this broker.
pub(crate) trait OffsetsLog: Send + Sync + 'static {
    /// First offset and log end offset of a partition this broker leads.
    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode>;

    /// Whole batches from `from` on, below the high watermark. Waits a moment if there are none yet, and gives none then.
    fn read(
        &self,
        partition: i32,
        from: Offset,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ErrorCode>>;

    /// Appends a batch in `epoch` by the time the future first waits, and completes when it is below the high watermark.
    fn append(
        &self,
        partition: i32,
        epoch: LeaderEpoch,
        batch: CoordinatorBatch,
    ) -> BoxFuture<'static, Result<(), OffsetsLogError>>;
}
