//! Which records, and which batches, does compaction keep?
//!
//! A record stays if no later one has its key, unless it is a tombstone whose time is over, or of an aborted
//! transaction. What lies behind the offset map's end stays (but aborted data). A batch whose records all go is dropped,
//! or kept empty where something else is told from it:
//!
//! (a) it is one of the remembered batches of an active producer, now or where the cleaned part ends: its sequence number
//!     would be lost after a recovery or a truncation. A marker that alone holds the producer's epoch is kept whole.
//! (b) it is the last one of the segment that is made: where the next segment begins is where it ends, so that a gap
//!     between two segments always means a loss.

use std::collections::HashMap;

use bytes::Bytes;
use types::retain::empty_batch;
use types::{BatchHeader, Offset, ProducerEpoch, Record, Retained};

use super::CompactionStats;
use super::batches::Batch;
use super::offset_map::OffsetMap;
use super::transactions::Transactions;
use crate::producer_state::ProducerState;
use crate::timestamps::MAX_DECOMPRESSED;
use crate::{LogError, ProducerEntry};

/// The batches that active producers still need.
#[derive(Debug, Default)]
pub(crate) struct ActiveProducers(HashMap<i64, Needs>);

#[derive(Debug, Default)]
struct Needs {
    /// Last offsets of the remembered batches.
    batches: Vec<Offset>,
    /// Epochs that only a marker tells of.
    marker_epochs: Vec<ProducerEpoch>,
}

impl Needs {
    fn add(&mut self, entry: &ProducerEntry) {
        if entry.batches().is_empty() {
            self.marker_epochs.push(entry.epoch);
        }
        self.batches
            .extend(entry.batches().iter().map(|batch| batch.last_offset));
    }
}

impl ActiveProducers {
    pub(crate) fn of(state: &ProducerState) -> Self {
        let mut this = Self::default();
        for (id, entry) in state.iter() {
            this.0.entry(id.0).or_default().add(entry);
        }
        this
    }

    /// Adds what those producers needed at an earlier offset: what comes after it may be truncated.
    pub(crate) fn add_earlier(&mut self, state: &ProducerState) {
        for (id, entry) in state.iter() {
            if let Some(needs) = self.0.get_mut(&id.0) {
                needs.add(entry);
            }
        }
    }

    fn need(&self, header: &BatchHeader) -> bool {
        self.0.get(&header.producer_id).is_some_and(|needs| {
            let epoch = ProducerEpoch(header.producer_epoch);
            needs.batches.contains(&header.last_offset())
                || (header.is_control() && needs.marker_epochs.contains(&epoch))
        })
    }
}

/// What stays of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is copied as it is.
    Whole,
    /// This takes its place.
    Changed(Bytes),
    /// Nothing.
    Gone,
}

/// The rules, for one group of segments.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    pub(crate) map: &'a OffsetMap,
    pub(crate) transactions: &'a mut Transactions,
    pub(crate) producers: &'a ActiveProducers,
    /// A marker before it may go: recovery knows that all transactions before it are decided.
    pub(crate) settled: Offset,
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: i64,
}

impl Filter<'_> {
    /// What becomes of the next batch; `last` if it is the last one of its group.
    ///
    /// # Errors
    /// [`LogError::Records`].
    pub(crate) fn judge(
        &mut self,
        batch: &Batch<'_>,
        last: bool,
        stats: &mut CompactionStats,
    ) -> Result<Verdict, LogError> {
        let header = &batch.header;
        let unreadable = |source| batch.unreadable(source);
        let discardable = self
            .transactions
            .read(header, &batch.bytes)
            .map_err(unreadable)?;
        let needed = self.producers.need(header);
        let discard = if header.is_control() {
            let over = header
                .delete_horizon_ms()
                .is_some_and(|at| at <= self.now_ms);
            let settled = header.last_offset() < self.settled;
            discardable && over && settled && !needed
        } else {
            discardable
        };
        let mut keyless = 0;
        let kept = Retained::of(&batch.bytes, MAX_DECOMPRESSED, |record| {
            keyless += u64::from(record.key.is_none() && !header.is_control());
            !discard && (header.is_control() || self.keeps(header, record))
        });
        let kept = kept.map_err(unreadable)?;
        stats.records_read += kept.records_read() as u64;
        stats.records_kept += kept.len() as u64;
        stats.keyless_records += keyless;
        if kept.is_empty() {
            if !needed && !last {
                return Ok(Verdict::Gone);
            }
            if header.record_count == 0 {
                return Ok(Verdict::Whole);
            }
            let empty = empty_batch(header).map_err(|error| batch.unbuildable(&error))?;
            return Ok(Verdict::Changed(empty));
        }
        let dated = header.delete_horizon_ms().is_none()
            && (kept.has_tombstones() || (discardable && header.is_control()));
        if kept.is_whole() && !dated {
            return Ok(Verdict::Whole);
        }
        let horizon = dated.then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        let changed = kept
            .build(horizon)
            .map_err(|error| batch.unbuildable(&error))?;
        Ok(Verdict::Changed(changed))
    }

    fn keeps(&self, header: &BatchHeader, record: &Record) -> bool {
        if record.offset > self.map.latest() {
            return true;
        }
        let Some(key) = &record.key else {
            // Produced before the topic was compacted: Kafka drops it, too.
            return false;
        };
        if self
            .map
            .get(key)
            .is_some_and(|newest| record.offset < newest)
        {
            return false;
        }
        record.value.is_some()
            || header
                .delete_horizon_ms()
                .is_none_or(|horizon| self.now_ms < horizon)
    }
}
