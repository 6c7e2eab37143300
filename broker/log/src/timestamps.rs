//! What is the first record of a time, and which is the newest?

use bytes::Bytes;
use types::{BatchError, BatchHeader, LeaderEpoch, Offset, RecordIter};

use crate::scan::{Check, Scanner, Step};
use crate::segment::{Newest, SCAN_WINDOW, Segment};
use crate::vfs::{Vfs, VfsFile};
use crate::{Log, LogError};

/// Records of one batch may decompress to at most this much when a time is looked up. Clients' batches are 1 MiB by
/// default; a larger result is not a batch but a bomb.
pub(crate) const MAX_DECOMPRESSED: usize = 256 << 20;

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// Its timestamp, ms since the epoch.
    pub timestamp: i64,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl<V: Vfs> Log<V> {
    /// The first record (at or after the log start offset, below `upper`) whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// An I/O error, or stored batches that are not readable.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        upper: Offset,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.base >= upper || self.segment_end(index) <= self.log_start {
                continue;
            }
            match segment.newest(&self.vfs)? {
                Some(newest) if newest.timestamp >= timestamp => {}
                Some(_) | None => continue,
            }
            // No record before this entry's is that new.
            let entry = segment
                .times
                .floor(&self.vfs, |entry| entry.timestamp <= timestamp)?;
            let from = entry.map_or(segment.base, |entry| {
                segment.base.plus(i64::from(entry.relative))
            });
            let position = segment.position_before(&self.vfs, from)?;
            let wanted = |_: &BatchHeader, record: i64| record >= timestamp;
            let found = self.find_record(
                index,
                position,
                upper,
                |header| header.max_timestamp >= timestamp,
                wanted,
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record (at or after the log start offset, below `upper`) with the largest timestamp (KIP-734).
    ///
    /// # Errors
    /// An I/O error, or stored batches that are not readable.
    pub fn max_timestamp_offset(
        &self,
        upper: Offset,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let mut largest: Option<(usize, Newest)> = None;
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.base >= upper || self.segment_end(index) <= self.log_start {
                continue;
            }
            if let Some(newest) = segment.newest(&self.vfs)?
                && largest.is_none_or(|(_, known)| newest.timestamp > known.timestamp)
            {
                largest = Some((index, newest));
            }
        }
        let Some((index, newest)) = largest else {
            return Ok(None);
        };
        let position = self.segments[index].position_before(&self.vfs, newest.offset)?;
        self.find_record(
            index,
            position,
            upper,
            |header| header.max_timestamp == newest.timestamp,
            |header, record| record == header.max_timestamp,
        )
    }

    /// The first record from `position` on in a batch that `batch` wants, itself wanted by `record`.
    fn find_record(
        &self,
        index: usize,
        position: u64,
        upper: Offset,
        wants_batch: impl Fn(&BatchHeader) -> bool,
        wants_record: impl Fn(&BatchHeader, i64) -> bool,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let segment = &self.segments[index];
        let file = self.file_of(index)?;
        let mut scanner = Scanner::new(&*file, &segment.path, position, segment.size, SCAN_WINDOW);
        loop {
            let (position, header) = match scanner.step(Check::Header)? {
                Step::Batch {
                    position, header, ..
                } => (position, header),
                Step::Invalid { position, error } => {
                    return Err(corrupt(segment, position, error));
                }
                Step::End => return Ok(None),
            };
            if header.base_offset >= upper {
                return Ok(None);
            }
            if header.last_offset() < self.log_start || !wants_batch(&header) {
                continue;
            }
            let found =
                self.record_in(segment, &file, position, &header, |offset, timestamp| {
                    offset >= self.log_start && offset < upper && wants_record(&header, timestamp)
                })?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn record_in(
        &self,
        segment: &Segment<V>,
        file: &V::File,
        position: u64,
        header: &BatchHeader,
        wants: impl Fn(Offset, i64) -> bool,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let mut bytes = Vec::with_capacity(header.size());
        file.read_full_at(position, header.size(), &mut bytes)
            .map_err(|source| LogError::io("read", &segment.path, source))?;
        let unreadable = |source| LogError::Records {
            path: segment.path.clone(),
            position,
            source,
        };
        let records = RecordIter::new(&Bytes::from(bytes), MAX_DECOMPRESSED).map_err(unreadable)?;
        for record in records {
            let record = record.map_err(unreadable)?;
            if wants(record.offset, record.timestamp) {
                return Ok(Some(TimestampedOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch: header.partition_leader_epoch,
                }));
            }
        }
        Ok(None)
    }
}

fn corrupt<V: Vfs>(segment: &Segment<V>, position: u64, source: BatchError) -> LogError {
    LogError::Corrupt {
        path: segment.path.clone(),
        position,
        source,
    }
}
