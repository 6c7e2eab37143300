//! What is the log of one partition, and how does a batch get into it?
//!
//! One writer at a time (the partition's lock is the caller's). An append is one write to the active segment, after a
//! look at the headers; everything else that it changes is in memory: index entries, leader epochs, producers. What a
//! crash may cost is said in `docs/internals/log.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use types::batch::BatchIter;
use types::{
    BatchHeader, EndTransactionMarker, ErrorCode, LeaderEpoch, Offset, ProducerId, RecordIter,
    TopicId, TopicPartition,
};

use crate::leader_epoch_cache::LeaderEpochCache;
use crate::producer_state::{ProducerCheck, ProducerEntry, ProducerState};
use crate::read::{ColdFiles, ReadHints};
use crate::retention::DeletedSegment;
use crate::segment::Segment;
use crate::txn_index::AbortedTransaction;
use crate::vfs::{Vfs, VfsFile};
use crate::{LogConfig, LogError, checkpoint, producer_snapshot};

/// What is known of a log before it is opened, from the files of the log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenMode {
    /// Whether the clean-shutdown file was there: then nothing is validated.
    pub clean_shutdown: bool,
    /// Everything before is durable and need not be validated.
    pub recovery_point: Offset,
    /// Records before do not count any more, even those that are still there.
    pub log_start_offset: Offset,
    /// Compaction has been up to here.
    pub first_dirty_offset: Offset,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The log end offset now.
    pub leo: Offset,
    /// Largest timestamp of the batches, ms since the epoch.
    pub max_timestamp: i64,
    /// How many batches there were.
    pub batches: u32,
    /// Whether a new segment was begun.
    pub rolled: bool,
}

/// The log of one partition.
#[derive(Debug)]
pub struct Log<V: Vfs> {
    pub(crate) vfs: V,
    pub(crate) dir: PathBuf,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) config: LogConfig,
    /// By base offset; never empty, the last is active.
    pub(crate) segments: Vec<Segment<V>>,
    pub(crate) size: u64,
    pub(crate) log_start: Offset,
    pub(crate) leo: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) epochs: LeaderEpochCache,
    /// Whether the epoch checkpoint lags behind `epochs`.
    pub(crate) epochs_dirty: bool,
    pub(crate) producers: ProducerState,
    /// Snapshots on disk, ascending.
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) unsynced: Unsynced,
    /// Counts truncations: a flush that began before one says nothing about what came after.
    pub(crate) generation: u64,
    /// After a truncation below the recovery point: when the log is durable up to here again, the marker goes.
    pub(crate) truncated_until: Option<Offset>,
    pub(crate) deleted: Vec<DeletedSegment>,
    /// Compaction has been up to here, if the log still begins before it.
    pub(crate) first_dirty: Offset,
    /// What the log directory's checkpoint says of that.
    pub(crate) checkpointed_dirty: Offset,
    /// Base offset of a compacted segment that is about to take the place of others.
    pub(crate) pending_swap: Option<Offset>,
    pub(crate) offline: Option<String>,
    pub(crate) hints: Arc<ReadHints>,
    pub(crate) cold: ColdFiles<V::File>,
}

/// Small files and names that the next flush makes durable.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    /// Whether the log's own names (its directory, `partition.metadata`) may not be durable yet.
    pub(crate) creation: bool,
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) epochs: bool,
    pub(crate) dir: bool,
    /// Counts the changes: a flush that began before the last one leaves the rest to the next.
    pub(crate) changes: u64,
}

impl<V: Vfs> Log<V> {
    /// The partition.
    pub const fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The topic's id, as in `partition.metadata`.
    pub const fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Offset of the first record that counts.
    pub const fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// Offset that the next record gets (LEO).
    pub const fn log_end_offset(&self) -> Offset {
        self.leo
    }

    /// Everything before is durable.
    pub const fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Bytes of all batches.
    pub const fn size_bytes(&self) -> u64 {
        self.size
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Base offset of the active segment.
    pub fn active_segment_base(&self) -> Offset {
        self.active().base
    }

    /// The settings in force.
    pub const fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings; they count from the next operation on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The leader epochs.
    pub const fn leader_epochs(&self) -> &LeaderEpochCache {
        &self.epochs
    }

    /// Enters a leader epoch that begins at `start`, as a new leader does before it writes. Kept in memory until the
    /// next flush: an epoch without records need not survive a crash, one with records is in their batches.
    pub fn assign_leader_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.epochs_dirty |= self.epochs.assign(epoch, start);
    }

    /// Whether the batch of an idempotent producer is new, a duplicate of one of its last five, or to be refused. Asked
    /// by a leader before it appends (one batch at a time); a batch without producer is always new.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an epoch that was fenced, `OUT_OF_ORDER_SEQUENCE_NUMBER` for anything but the next
    /// sequence number or one of the five, `INVALID_RECORD` for a producer without a sequence number.
    pub fn check_producer(&self, header: &BatchHeader) -> Result<ProducerCheck, ErrorCode> {
        self.producers.check(header)
    }

    /// What is known of a producer.
    pub fn producer(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(id)
    }

    /// All known producers, in no particular order.
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter()
    }

    /// First offset of the oldest transaction that is open, or whose marker the high watermark has not passed yet. The
    /// last stable offset is the smaller of this and the high watermark.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.producers.first_unstable_offset()
    }

    /// Tells that the high watermark moved, for [`Self::first_unstable_offset`]. Costs nothing without transactions.
    pub fn advance_high_watermark(&mut self, high_watermark: Offset) {
        self.producers.advance_high_watermark(high_watermark);
    }

    /// The aborted transactions that a reader of committed records must know for offsets `from..upper`.
    ///
    /// # Errors
    /// An I/O error.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upper: Offset,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let mut found = Vec::new();
        for segment in &self.segments[self.segment_of(from)..] {
            if segment.aborted.is_empty() {
                continue;
            }
            for aborted in segment.aborted.read(&self.vfs)? {
                if aborted.last_offset >= from && aborted.first_offset < upper {
                    found.push(aborted);
                }
                if aborted.last_stable_offset >= upper {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// Forgets producers that were silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now_ms: i64) {
        if !self.producers.is_empty() {
            self.producers
                .remove_expired(now_ms, self.config.producer_id_expiration_ms);
        }
    }

    /// Appends whole batches whose offsets and leader epochs are assigned, with one write unless a segment ends between
    /// them. Offsets may have gaps, but the first must not be below the log end offset.
    ///
    /// The batches' CRCs are the caller's business: a leader checks what it was sent, a follower what it received.
    ///
    /// # Errors
    /// [`LogError::Batch`] and [`LogError::OutOfOrder`] before anything is written. [`LogError::DiskFull`]: nothing of
    /// the batches that did not fit was appended (those before a segment's end may have been: the log end offset tells);
    /// it may be tried again. After any other I/O error the log is offline.
    pub fn append(&mut self, batches: &[u8], now_ms: i64) -> Result<AppendInfo, LogError> {
        self.check_online()?;
        let mut info = self.inspect(batches)?;
        let mut rest = batches;
        while !rest.is_empty() {
            match self.fitting(rest, now_ms)? {
                0 => {
                    self.roll(Some(rest), now_ms)?;
                    info.rolled = true;
                }
                fitting => {
                    let (now, later) = rest.split_at(fitting);
                    self.write(now, now_ms)?;
                    rest = later;
                }
            }
        }
        Ok(info)
    }

    fn inspect(&self, batches: &[u8]) -> Result<AppendInfo, LogError> {
        let mut info = AppendInfo {
            first_offset: self.leo,
            last_offset: self.leo,
            leo: self.leo,
            max_timestamp: -1,
            batches: 0,
            rolled: false,
        };
        for step in BatchIter::new(batches) {
            let (header, _) = step?;
            if header.base_offset < info.leo || header.last_offset_delta < 0 {
                return Err(LogError::OutOfOrder {
                    got: header.base_offset,
                    next: info.leo,
                });
            }
            if info.batches == 0 {
                info.first_offset = header.base_offset;
            }
            info.batches += 1;
            info.max_timestamp = info.max_timestamp.max(header.max_timestamp);
            info.last_offset = header.last_offset();
            info.leo = header.next_offset();
        }
        Ok(info)
    }

    /// How many of the bytes go into the active segment; 0 if it is to be rolled first.
    fn fitting(&self, batches: &[u8], now_ms: i64) -> Result<usize, LogError> {
        let active = self.active();
        if active.size > 0 && self.is_old(now_ms) {
            return Ok(0);
        }
        let limit = u64::from(self.config.segment_bytes.min(i32::MAX.cast_unsigned()));
        let mut fitting = 0;
        for step in BatchIter::new(batches) {
            let (header, batch) = step?;
            let end = active.size + (fitting + batch.len()) as u64;
            // A segment takes one batch, however large.
            let empty = active.size == 0 && fitting == 0;
            if (end > limit && !empty) || !active.takes_offset(header.last_offset()) {
                break;
            }
            fitting += batch.len();
        }
        Ok(fitting)
    }

    /// Whether the active segment is due to be rolled by time.
    pub(crate) fn is_old(&self, now_ms: i64) -> bool {
        let config = &self.config;
        // The active segment is never compacted (KIP-354).
        let oldest = if config.compact && config.max_compaction_lag_ms > 0 {
            config.segment_ms.min(config.max_compaction_lag_ms)
        } else {
            config.segment_ms
        };
        self.active()
            .first_append_ms
            .is_some_and(|first| now_ms.saturating_sub(first) >= oldest)
    }

    fn write(&mut self, batches: &[u8], now_ms: i64) -> Result<(), LogError> {
        let interval = self.config.index_interval_bytes;
        let Some(active) = self.segments.last_mut() else {
            return Ok(());
        };
        let file = active.open_file(&self.vfs)?;
        if let Err(source) = file.write_at(active.size, batches) {
            let error = LogError::io("append to", &active.path, source);
            // A part may have been written: it must not stay behind the end, nor come back after a crash.
            let cut = file.truncate(active.size).and_then(|()| file.sync_data());
            if !matches!(error, LogError::DiskFull { .. }) || cut.is_err() {
                self.offline = Some(error.to_string());
            }
            return Err(error);
        }
        let mut position = active.size;
        active.first_append_ms.get_or_insert(now_ms);
        active.last_append_ms = now_ms;
        active.size += batches.len() as u64;
        self.size += batches.len() as u64;
        let mut aborted = Vec::new();
        for (header, batch) in BatchIter::new(batches).flatten() {
            active.note_batch(&header, position, interval);
            position += batch.len() as u64;
            self.leo = header.next_offset();
            if self.epochs.latest_epoch() != Some(header.partition_leader_epoch) {
                self.epochs_dirty |= self
                    .epochs
                    .assign(header.partition_leader_epoch, header.base_offset);
            }
            aborted.extend(note_producer(&mut self.producers, &header, batch, now_ms));
        }
        // The entries stay in memory if the disk is full, and are tried again; the roll reports other errors.
        let _ = active.spill(&self.vfs);
        for aborted in aborted {
            let result = active.aborted.append(&self.vfs, &aborted);
            if let Err(error) = result {
                // The batch is in the log but its index is not: only opening the log anew mends that.
                self.offline = Some(error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Begins a new segment, at the end of the log or for the batches that come next.
    pub(crate) fn roll(&mut self, next: Option<&[u8]>, now_ms: i64) -> Result<(), LogError> {
        let result = self.try_roll(next, now_ms);
        self.guard(result)
    }

    fn try_roll(&mut self, next: Option<&[u8]>, now_ms: i64) -> Result<(), LogError> {
        let mut base = self.leo;
        if let Some(next) = next {
            let header = BatchHeader::parse(next)?;
            // Normally the new segment joins the last one without a gap, so that a gap tells recovery of a loss; only
            // offsets that far away cannot be written relative to the end of the log.
            if header.last_offset().0 - base.0 > i64::from(i32::MAX) {
                base = header.base_offset;
            }
        }
        // All that can fail comes first, so that a full disk leaves the log as it was.
        let vfs = self.vfs.clone();
        self.active_mut().write_indexes(&vfs)?;
        self.take_snapshot(base)?;
        let segment = Segment::create(&self.vfs, &self.dir, base, now_ms)?;
        self.note_change();
        if self.active().size == 0 {
            // An empty segment is replaced.
            if let Some(empty) = self.segments.pop() {
                self.segments.push(segment);
                empty.remove(&self.vfs)?;
            }
        } else {
            let sealed = self.active_mut();
            let sealed_base = sealed.base;
            if let Some(file) = sealed.seal() {
                self.cold.put(sealed_base, file);
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Writes the producer state before `offset` (the end of the log).
    pub(crate) fn take_snapshot(&mut self, offset: Offset) -> Result<(), LogError> {
        producer_snapshot::write(&self.vfs, &self.dir, offset, &self.producers)?;
        self.unsynced.snapshots.push(offset);
        self.note_change();
        self.snapshots.retain(|&known| known < offset);
        self.snapshots.push(offset);
        Ok(())
    }

    /// Writes `leader-epoch-checkpoint` if it lags behind.
    pub(crate) fn write_epochs(&mut self) -> Result<(), LogError> {
        if self.epochs_dirty {
            let path = self.dir.join(EPOCHS_FILE);
            checkpoint::write(
                &self.vfs,
                &path,
                self.epochs.lines(),
                crate::vfs::Durability::Lazy,
            )?;
            self.epochs_dirty = false;
            self.unsynced.epochs = true;
            self.note_change();
        }
        Ok(())
    }

    pub(crate) fn active(&self) -> &Segment<V> {
        self.segments.last().expect("a log has a segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment<V> {
        self.segments.last_mut().expect("a log has a segment")
    }

    /// Notes that names in the directory changed.
    pub(crate) fn note_change(&mut self) {
        self.unsynced.dir = true;
        self.unsynced.changes += 1;
    }

    /// Index of the segment whose range `offset` falls into.
    pub(crate) fn segment_of(&self, offset: Offset) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1)
    }

    /// Where the range of segment `index` ends.
    pub(crate) fn segment_end(&self, index: usize) -> Offset {
        self.segments
            .get(index + 1)
            .map_or(self.leo, |next| next.base)
    }

    pub(crate) fn check_online(&self) -> Result<(), LogError> {
        match &self.offline {
            None => Ok(()),
            Some(reason) => Err(LogError::Offline {
                path: self.dir.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// Takes the log offline after an I/O error other than a full disk.
    pub(crate) fn guard<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error @ LogError::Io { .. }) = &result {
            self.offline = Some(error.to_string());
        }
        result
    }

    /// Why the log takes no more appends, if an I/O error took it offline.
    pub fn offline_reason(&self) -> Option<&str> {
        self.offline.as_deref()
    }
}

/// The name of the leader epochs' checkpoint in a log's directory.
pub(crate) const EPOCHS_FILE: &str = "leader-epoch-checkpoint";

/// Takes a batch that is in the log into the producer state.
pub(crate) fn note_producer(
    producers: &mut ProducerState,
    header: &BatchHeader,
    batch: &[u8],
    now_ms: i64,
) -> Option<AbortedTransaction> {
    if header.producer_id < 0 {
        return None;
    }
    if !header.is_control() {
        producers.append(header, now_ms);
        return None;
    }
    // A marker has one small record; a control batch that is none changes no producer.
    let batch = Bytes::copy_from_slice(batch);
    let record = RecordIter::new(&batch, MAX_MARKER).ok()?.next()?.ok()?;
    let marker = EndTransactionMarker::from_record(&record)?;
    producers.append_marker(header, marker, now_ms)
}

/// A marker's record has some 20 bytes; this much allows for other compressed control records to be looked at.
const MAX_MARKER: usize = 64 * 1024;
