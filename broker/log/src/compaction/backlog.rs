//! Which segments of a log may be cleaned, and how badly do they want it?

use std::path::PathBuf;

use types::Offset;

use super::filter::ActiveProducers;
use crate::segment::Segment;
use crate::txn_index::{AbortedTransaction, TxnIndex};
use crate::vfs::Vfs;
use crate::{Log, LogError, producer_snapshot};

/// An entry of the offset index and one of the time index.
const ENTRY_BYTES: u64 = 8 + 12;

/// What compaction would find in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Before it the log was cleaned.
    pub first_dirty: Offset,
    /// From here on nothing may be cleaned yet; not below `first_dirty`.
    pub first_uncleanable: Offset,
    /// Bytes of the segments before the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of the segments with dirty records that may be cleaned.
    pub dirty_bytes: u64,
    /// How long ago `max.compaction.lag.ms` ran out for the oldest dirty record, ms; 0 if it did not.
    pub overdue_ms: i64,
}

impl Backlog {
    /// The share of dirty bytes in those that may be cleaned, 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio is rounded")]
        let ratio = self.dirty_bytes as f64 / total as f64;
        ratio
    }

    /// Whether it is time: more than `min.cleanable.dirty.ratio` is dirty, or something has waited too long.
    #[must_use]
    pub fn is_due(&self, min_dirty_ratio: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.dirty_ratio() > min_dirty_ratio)
    }
}

/// A sealed segment as it was when a cleaning began.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) base: Offset,
    /// Where the next segment begins.
    pub(crate) end: Offset,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) last_append_ms: i64,
    pub(crate) has_aborted: bool,
}

impl Source {
    pub(crate) fn open<V: Vfs>(&self, vfs: &V) -> Result<V::File, LogError> {
        vfs.open(&self.path)
            .map_err(|source| LogError::io("open", &self.path, source))
    }
}

/// What a cleaning goes by: everything that it needs of the log's memory.
#[derive(Debug)]
pub(crate) struct Plan<V> {
    pub(crate) vfs: V,
    pub(crate) dir: PathBuf,
    pub(crate) generation: u64,
    pub(crate) now_ms: i64,
    pub(crate) first_dirty: Offset,
    /// The part of what is clean that the checkpoint tells of.
    pub(crate) settled: Offset,
    pub(crate) first_uncleanable: Offset,
    /// All segments before the first uncleanable offset.
    pub(crate) sources: Vec<Source>,
    /// The indexes of aborted transactions as they were then.
    abort_indexes: Vec<TxnIndex>,
    /// What is in them.
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) producers: ActiveProducers,
    pub(crate) delete_retention_ms: i64,
    pub(crate) index_interval_bytes: u32,
    pub(crate) segment_bytes: u64,
}

impl<V: Vfs> Plan<V> {
    /// Reads what else the cleaning goes by, without the log's lock: a file that changed meanwhile is an error.
    pub(crate) fn read_files(&mut self) -> Result<(), LogError> {
        for index in &self.abort_indexes {
            self.aborted.extend(index.read_as_it_was(&self.vfs)?);
        }
        self.add_earlier_producers()
    }

    /// Sees to it that a log that is cut where the cleaned part ends still knows its producers.
    fn add_earlier_producers(&mut self) -> Result<(), LogError> {
        let bound = self.first_uncleanable;
        match producer_snapshot::read(&self.vfs, &self.dir, bound, self.now_ms) {
            Ok(state) => self.producers.add_earlier(&state),
            // A segment has one at its begin, unless a crash cost it: then only the present counts.
            Err(LogError::Format { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The most bytes that a copy of these takes, with its indexes.
    pub(crate) fn room_for(&self, group: &[Source]) -> u64 {
        let bytes: u64 = group.iter().map(|source| source.size).sum();
        let entries = bytes / u64::from(self.index_interval_bytes).max(1) + 2;
        bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES))
    }

    /// Neighbours that fit into one segment, so that segments do not get ever smaller.
    pub(crate) fn groups<'s>(&self, sources: &'s [Source]) -> Vec<&'s [Source]> {
        let mut groups = Vec::new();
        let mut rest = sources;
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|source| {
                    bytes += source.size;
                    let far = source.end.0 - 1 - first.base.0 > i64::from(i32::MAX);
                    source.base == first.base || (bytes <= self.segment_bytes && !far)
                })
                .count();
            let (group, after) = rest.split_at(count);
            groups.push(group);
            rest = after;
        }
        groups
    }
}

impl<V: Vfs> Log<V> {
    /// What compaction would find now. Reads a few bytes of a segment that was found at the start, once.
    ///
    /// # Errors
    /// An I/O error.
    pub fn compaction_backlog(
        &self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Backlog, LogError> {
        let first_dirty = self.valid_first_dirty();
        let bound = self.uncleanable_from(now_ms, high_watermark, first_dirty)?;
        let mut backlog = Backlog {
            first_dirty,
            first_uncleanable: first_dirty,
            clean_bytes: 0,
            dirty_bytes: 0,
            overdue_ms: 0,
        };
        let mut oldest = None;
        for (index, segment) in self.sealed().iter().enumerate() {
            let end = self.segment_end(index);
            if end > bound {
                break;
            }
            if end <= first_dirty {
                backlog.clean_bytes += segment.size;
                continue;
            }
            backlog.first_uncleanable = end;
            backlog.dirty_bytes += segment.size;
            if self.config.max_compaction_lag_ms < i64::MAX {
                let first = segment.first_timestamp(&self.vfs)?.filter(|&at| at > 0);
                oldest = oldest.into_iter().chain(first).min();
            }
        }
        let overdue = oldest.map_or(0, |oldest| {
            now_ms
                .saturating_sub(self.config.max_compaction_lag_ms.max(0))
                .saturating_sub(oldest)
        });
        backlog.overdue_ms = overdue.max(0);
        Ok(backlog)
    }

    /// All segments but the active one.
    fn sealed(&self) -> &[Segment<V>] {
        &self.segments[..self.segments.len() - 1]
    }

    /// The first dirty offset, if the log still holds it.
    fn valid_first_dirty(&self) -> Offset {
        let start = self.log_start.max(self.segments[0].base);
        if self.first_dirty < start || self.first_dirty > self.leo {
            start
        } else {
            self.first_dirty
        }
    }

    /// Only segments that end at or before this may be cleaned.
    fn uncleanable_from(
        &self,
        now_ms: i64,
        high_watermark: Offset,
        first_dirty: Offset,
    ) -> Result<Offset, LogError> {
        let stable = self
            .first_unstable_offset()
            .map_or(high_watermark, |unstable| unstable.min(high_watermark));
        // What is not durable could be lost after the records that it outdates were removed for good. So could a marker,
        // which leaves the records of its transaction undecided.
        let mut bound = self.active().base.min(stable).min(self.recovery_point);
        if let Some(undurable) = self.producers.first_undurable_offset(self.recovery_point) {
            bound = bound.min(undurable);
        }
        let lag = self.config.min_compaction_lag_ms;
        if lag > 0 {
            let youngest = now_ms.saturating_sub(lag);
            for (index, segment) in self.sealed().iter().enumerate() {
                if self.segment_end(index) <= first_dirty {
                    continue;
                }
                if segment.base >= bound {
                    break;
                }
                let newest = segment.newest(&self.vfs)?;
                if newest.is_some_and(|newest| newest.timestamp > youngest) {
                    bound = bound.min(segment.base);
                }
            }
        }
        Ok(bound)
    }

    pub(crate) fn plan_compaction(
        &self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Plan<V>, LogError> {
        self.check_online()?;
        let backlog = self.compaction_backlog(now_ms, high_watermark)?;
        let mut sources = Vec::new();
        for (index, segment) in self.sealed().iter().enumerate() {
            let end = self.segment_end(index);
            if end > backlog.first_uncleanable {
                break;
            }
            sources.push(Source {
                base: segment.base,
                end,
                path: segment.path.clone(),
                size: segment.size,
                last_append_ms: segment.last_append_ms,
                has_aborted: !segment.aborted.is_empty(),
            });
        }
        Ok(Plan {
            vfs: self.vfs.clone(),
            dir: self.dir.clone(),
            generation: self.generation,
            now_ms,
            first_dirty: backlog.first_dirty,
            settled: backlog.first_dirty.min(self.checkpointed_dirty),
            first_uncleanable: backlog.first_uncleanable,
            sources,
            // Those whose marker comes later, too: their data may lie here.
            abort_indexes: self
                .segments
                .iter()
                .map(|segment| segment.aborted.clone())
                .filter(|index| !index.is_empty())
                .collect(),
            aborted: Vec::new(),
            producers: self.active_producers(),
            delete_retention_ms: self.config.delete_retention_ms,
            index_interval_bytes: self.config.index_interval_bytes,
            segment_bytes: u64::from(self.config.segment_bytes.min(i32::MAX.cast_unsigned())),
        })
    }

    /// Whether these are still neighbouring sealed segments of the log.
    pub(crate) fn holds(&self, sources: &[Source]) -> bool {
        let Some(first) = sources.first() else {
            return true;
        };
        let from = self.segment_of(first.base);
        let sealed = self.sealed();
        sealed.get(from..from + sources.len()).is_some_and(|held| {
            let mut pairs = held.iter().zip(sources);
            pairs
                .all(|(segment, source)| (segment.base, segment.size) == (source.base, source.size))
        })
    }
}
