//! What is a batch of records between `send` and its acknowledgement?

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;
use types::batch::set_producer;
use types::{BatchBuilder, Compression, Offset, ProducerEpoch, ProducerId, TopicPartition};

use crate::error::ClientError;

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: i32,
    /// Its offset; `None` with acks=0, and when the broker had it already but no longer knows where.
    pub offset: Option<Offset>,
}

/// The outcome of a batch, which all its records share.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The base offset (-1: not known), or why it failed.
    result: OnceLock<Result<i64, ClientError>>,
    changed: Notify,
}

impl Outcome {
    pub(super) fn set(&self, result: Result<i64, ClientError>) {
        // the first outcome stays: a batch is finished once
        self.result.get_or_init(|| result);
        self.changed.notify_waiters();
    }

    pub(crate) async fn wait(&self) -> &Result<i64, ClientError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable(); // before the look, so that nothing is missed between look and wait
            if let Some(result) = self.result.get() {
                return result;
            }
            changed.await;
        }
    }
}

/// A record on its way; dropping it does not stop the record.
#[derive(Debug)]
#[must_use = "whether the record was written is known only from this"]
pub struct Delivery {
    pub(super) outcome: Arc<Outcome>,
    pub(super) partition: i32,
    pub(super) index: i32,
}

impl Delivery {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// The record was not acknowledged; it may have been written nevertheless when the error is a timeout or a closed
    /// connection.
    pub async fn wait(&self) -> Result<RecordMetadata, ClientError> {
        let base = self.outcome.wait().await.clone()?;
        let offset = (base >= 0).then(|| Offset(base + i64::from(self.index)));
        Ok(RecordMetadata {
            partition: self.partition,
            offset,
        })
    }
}

/// A batch, first open for records, then closed and on its way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) outcome: Arc<Outcome>,
    pub(super) opened: Instant,
    /// Bytes reserved in the buffer.
    pub(super) memory: usize,
    pub(super) records: Records,
    /// Producer id, epoch and first sequence that it was sent with.
    pub(super) stamp: Option<(ProducerId, ProducerEpoch, i32)>,
    pub(super) count: i32,
    /// Whether a try failed.
    pub(super) retried: bool,
}

/// Records that are collected, or a finished batch.
#[derive(Debug)]
pub(super) enum Records {
    Open(BatchBuilder),
    Built(Bytes),
}

impl Batch {
    pub(super) fn open(id: u64, now: Instant) -> Self {
        Self {
            id,
            outcome: Arc::default(),
            opened: now,
            memory: 0,
            records: Records::Open(BatchBuilder::new()),
            stamp: None,
            count: 0,
            retried: false,
        }
    }

    /// Bytes so far, before compression.
    pub(super) fn len(&self) -> usize {
        match &self.records {
            Records::Open(builder) => builder.uncompressed_len(),
            Records::Built(bytes) => bytes.len(),
        }
    }

    /// The bytes to send, built at the first call and stamped anew when `stamp` has changed.
    pub(super) fn bytes(
        &mut self,
        partition: &TopicPartition,
        stamp: Option<(ProducerId, ProducerEpoch, i32)>,
        compression: Compression,
    ) -> Result<Bytes, ClientError> {
        let records = std::mem::replace(&mut self.records, Records::Built(Bytes::new()));
        let bytes = match records {
            Records::Open(builder) => {
                let builder = match stamp {
                    Some((id, epoch, sequence)) => builder.producer(id, epoch, sequence),
                    None => builder,
                };
                builder
                    .compression(compression)
                    .build()
                    .map_err(|e| ClientError::build(partition, &e))?
            }
            Records::Built(bytes) => match stamp {
                Some((id, epoch, sequence)) if self.stamp != stamp => {
                    let mut fresh = BytesMut::from(bytes);
                    set_producer(&mut fresh, id, epoch, sequence);
                    fresh.freeze()
                }
                _ => bytes,
            },
        };
        self.stamp = stamp;
        self.records = Records::Built(bytes.clone());
        Ok(bytes)
    }
}

/// The sequence number `count` records further on; it wraps from 2^31 - 1 to 0.
pub(super) fn advance_sequence(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}
