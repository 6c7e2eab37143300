//! Which records does the application see of what a broker sent?

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use types::{
    BatchHeader, EndTransactionMarker, LeaderEpoch, Offset, ProducerId, RecordHeader, RecordIter,
    TopicPartition, TransactionResult,
};

use crate::error::ClientError;

/// A record as an application reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: Offset,
    /// When it was created, or appended if the topic says so; ms since the epoch.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the producer's order.
    pub headers: Vec<RecordHeader>,
}

/// Record batches of one partition, verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedBatches {
    /// The partition.
    pub partition: TopicPartition,
    /// Whole batches, one after another; the first may begin below `from`, and control batches are among them.
    pub batches: Bytes,
    /// The offset that was asked for.
    pub from: Offset,
    /// The offset after the last batch.
    pub next: Offset,
    /// The partition's high watermark at that time.
    pub high_watermark: Offset,
    /// The partition's log start offset at that time.
    pub log_start_offset: Offset,
    /// Transactions among the batches that were aborted: producer and first offset, when reading committed.
    pub aborted: Vec<(ProducerId, Offset)>,
}

impl FetchedBatches {
    /// Cuts off a last batch that is not whole. `None` when there is not one whole batch.
    pub(super) fn new(
        partition: TopicPartition,
        records: Bytes,
        from: Offset,
        bounds: (Offset, Offset),
        aborted: Vec<(ProducerId, Offset)>,
    ) -> Result<Option<Self>, ClientError> {
        let mut whole = 0;
        let mut next = from;
        while let Ok(header) = BatchHeader::parse(&records[whole..]) {
            if whole + header.size() > records.len() {
                break;
            }
            whole += header.size();
            next = next.max(header.next_offset());
        }
        if whole == 0 {
            // less than a batch's header is a cut; more that does not parse is nonsense
            return match BatchHeader::parse(&records) {
                Err(error) if records.len() >= types::HEADER_LEN => {
                    Err(malformed(&partition, &error))
                }
                _ => Ok(None),
            };
        }
        let batches = records.slice(..whole);
        let (high_watermark, log_start_offset) = bounds;
        Ok(Some(Self {
            partition,
            batches,
            from,
            next,
            high_watermark,
            log_start_offset,
            aborted,
        }))
    }

    /// The records from `from` on, without control records and, when reading committed, without aborted ones.
    ///
    /// # Errors
    /// Batches that cannot be read, or decompress to more than `max_batch_bytes`.
    pub fn records(
        &self,
        read_committed: bool,
        max_batch_bytes: usize,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        let failed = |e: &dyn std::fmt::Display| malformed(&self.partition, e);
        let mut aborts = Aborts::new(&self.aborted, read_committed);
        let mut records = Vec::new();
        let mut rest = self.batches.clone();
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).map_err(|e| failed(&e))?;
            let batch = rest.slice(..header.size().min(rest.len()));
            rest.advance(batch.len());
            if header.is_control() {
                if read_committed {
                    aborts
                        .on_control(&header, &batch, max_batch_bytes)
                        .map_err(|e| failed(&e))?;
                }
                continue;
            }
            if header.next_offset() <= self.from || aborts.hides(&header) {
                continue;
            }
            for record in RecordIter::new(&batch, max_batch_bytes).map_err(|e| failed(&e))? {
                let record = record.map_err(|e| failed(&e))?;
                if record.offset < self.from {
                    continue;
                }
                records.push(ConsumerRecord {
                    topic: Arc::clone(&self.partition.topic),
                    partition: self.partition.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    leader_epoch: header.partition_leader_epoch,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        Ok(records)
    }
}

fn malformed(partition: &TopicPartition, reason: &dyn std::fmt::Display) -> ClientError {
    ClientError::Records {
        topic_partition: partition.to_string(),
        reason: reason.to_string(),
    }
}

/// Which producers' transactions are aborted at the present place in the log.
struct Aborts {
    /// By descending first offset, so that the next one is the last.
    to_come: Vec<(ProducerId, Offset)>,
    open: BTreeSet<ProducerId>,
}

impl Aborts {
    fn new(aborted: &[(ProducerId, Offset)], read_committed: bool) -> Self {
        let mut to_come = if read_committed {
            aborted.to_vec()
        } else {
            Vec::new()
        };
        to_come.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self {
            to_come,
            open: BTreeSet::new(),
        }
    }

    fn hides(&mut self, header: &BatchHeader) -> bool {
        while let Some((producer, _)) = self
            .to_come
            .pop_if(|(_, first)| *first <= header.last_offset())
        {
            self.open.insert(producer);
        }
        header.is_transactional()
            && header
                .producer()
                .is_some_and(|(id, _)| self.open.contains(&id))
    }

    fn on_control(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
        limit: usize,
    ) -> Result<(), types::RecordError> {
        let Some((producer, _)) = header.producer() else {
            return Ok(());
        };
        for record in RecordIter::new(batch, limit)? {
            let marker = EndTransactionMarker::from_record(&record?);
            if marker.is_some_and(|m| m.result == TransactionResult::Abort) {
                self.open.remove(&producer);
                self.to_come
                    .retain(|(id, first)| *id != producer || *first > header.base_offset);
            }
        }
        Ok(())
    }
}
