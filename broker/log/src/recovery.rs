//! How does a log come back after a clean stop, and after a crash at any byte?
//!
//! After a clean stop the active segment's tail behind its last index entry is walked, nothing else is read. After a
//! crash every batch from the segment of the recovery point on is validated, and the log ends before the first one that
//! is not sound; the steps are in `docs/internals/log.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{BatchHeader, LeaderEpoch, Offset, TopicId, TopicPartition};

use crate::compaction::swap;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::listing::Listing;
use crate::log::{EPOCHS_FILE, Unsynced, note_producer};
use crate::producer_state::ProducerState;
use crate::read::{ColdFiles, ReadHints};
use crate::scan::{Check, Scanner, Step};
use crate::segment::{SCAN_WINDOW, Segment};
use crate::vfs::{Vfs, VfsFile, remove_if_there};
use crate::{
    Log, LogConfig, LogError, OpenMode, checkpoint, partition_metadata, producer_snapshot,
};

/// What opening a log had to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments whose batches were all validated.
    pub validated_segments: usize,
    /// Bytes of those.
    pub validated_bytes: u64,
    /// Bytes that were cut off behind the last sound batch.
    pub truncated_bytes: u64,
    /// Segments behind that which were removed.
    pub removed_segments: usize,
    /// Sealed segments whose indexes were missing.
    pub rebuilt_indexes: usize,
    /// Whether the leader epochs were made from all batches, their file being damaged.
    pub rebuilt_epochs: bool,
    /// Why validation stopped where it did.
    pub stopped: Option<String>,
}

impl<V: Vfs> Log<V> {
    /// Opens the log in `dir`, or makes an empty one there (at the log start offset of `mode`), and recovers it after a
    /// crash.
    ///
    /// # Errors
    /// An I/O error, or a directory that belongs to another topic id ([`LogError::Format`]). A damaged end of the log is
    /// no error: it is cut off, and the report says so.
    pub fn open(
        vfs: V,
        dir: PathBuf,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        mode: OpenMode,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), LogError> {
        let is_new = make_dir(&vfs, &dir, topic_id)?;
        let list = || {
            vfs.list(&dir)
                .map_err(|source| LogError::io("list", &dir, source))
        };
        let mut entries = list()?;
        if swap::complete(&vfs, &dir, &entries)? {
            entries = list()?;
        }
        let listing = Listing::of(&dir, entries);
        for path in &listing.garbage {
            remove_if_there(&vfs, path)?;
        }
        let missing: Vec<_> = listing
            .segments
            .values()
            .map(|found| !found.has_index || !found.has_times)
            .collect();
        let segments: Vec<_> = listing
            .segments
            .into_iter()
            .map(|(base, found)| found.segment(&dir, Offset(base)))
            .collect();
        // Beyond its first segment's base the recovery point is the work of a flush.
        let first_base = segments.first().map_or(Offset(0), |first| first.base);
        let unsynced = Unsynced {
            creation: is_new || mode.recovery_point <= first_base,
            ..Unsynced::default()
        };
        let mut log = Self {
            vfs,
            dir,
            topic_partition,
            topic_id,
            config,
            size: segments.iter().map(|segment| segment.size).sum(),
            segments,
            log_start: mode.log_start_offset,
            leo: mode.log_start_offset,
            recovery_point: mode.recovery_point,
            epochs: LeaderEpochCache::default(),
            epochs_dirty: false,
            producers: ProducerState::default(),
            snapshots: listing.snapshots,
            unsynced,
            generation: 0,
            truncated_until: None,
            deleted: Vec::new(),
            first_dirty: mode.first_dirty_offset,
            checkpointed_dirty: mode.first_dirty_offset,
            pending_swap: None,
            offline: None,
            hints: Arc::new(ReadHints::default()),
            cold: ColdFiles::default(),
        };
        let report = log.load(mode, is_new, &missing, now_ms)?;
        Ok((log, report))
    }

    fn load(
        &mut self,
        mode: OpenMode,
        is_new: bool,
        missing: &[bool],
        now_ms: i64,
    ) -> Result<RecoveryReport, LogError> {
        let mut report = RecoveryReport::default();
        if let Some(marker) = self.read_truncation_marker()? {
            self.truncated_until = Some(mode.recovery_point.max(marker));
            self.recovery_point = self.recovery_point.min(marker);
            self.first_dirty = self.first_dirty.min(marker);
        }
        if !mode.clean_shutdown || self.segments.is_empty() {
            self.note_change();
        }
        if self.segments.is_empty() {
            // What an interrupted beginning anew left must not pass for the state of the new log.
            self.remove_snapshots_after(Offset(-1))?;
            if !is_new {
                self.sync_dir()?;
            }
            self.epochs_dirty = true;
            self.recovery_point = self.recovery_point.min(mode.log_start_offset);
            let segment = Segment::create(&self.vfs, &self.dir, mode.log_start_offset, now_ms)?;
            self.segments.push(segment);
        } else {
            self.load_epochs(&mut report)?;
            let damaged = mode.clean_shutdown && !self.walk_tail()?;
            if damaged || !mode.clean_shutdown {
                let first = if damaged {
                    self.segments.len() - 1
                } else {
                    self.first_to_validate()
                };
                self.rebuild_missing(&missing[..first], &mut report)?;
                self.validate(first, &mut report, now_ms)?;
            } else {
                let last = self.segments.len() - 1;
                self.rebuild_missing(&missing[..last], &mut report)?;
                self.producers = self.load_producers(self.leo, now_ms)?;
                self.recovery_point = self.leo;
            }
        }
        self.finish_load(mode, now_ms)?;
        Ok(report)
    }

    fn finish_load(&mut self, mode: OpenMode, now_ms: i64) -> Result<(), LogError> {
        self.log_start = mode.log_start_offset.max(self.segments[0].base);
        if mode.recovery_point > self.leo {
            // The checkpoint vouches for what is not there: it must not do so for what will be.
            self.recovery_point = self.recovery_point.min(self.active().base);
            self.distrust(self.recovery_point, mode.recovery_point)?;
        }
        if self.leo < self.log_start {
            // All that counted is lost: go on where nothing can be mistaken for it.
            self.truncate_fully_and_start_at(self.log_start)?;
        }
        // Only what is durable was cleaned: what is to be appended after a loss was not, whatever the checkpoint says.
        // After the producers were read, who were told by what had been cleaned.
        self.first_dirty = self.first_dirty.min(self.recovery_point);
        self.epochs_dirty |= self.epochs.truncate_from_end(self.leo.plus(1));
        self.complete_epochs()?;
        self.epochs_dirty |= self.epochs.truncate_from_start(self.log_start);
        self.remove_stray_snapshots()?;
        let first_ms = self.active().first_timestamp(&self.vfs)?;
        let active = self.active_mut();
        active.first_append_ms = (active.size > 0).then(|| match first_ms {
            Some(first) if (0..now_ms).contains(&first) => first,
            _ => now_ms,
        });
        Ok(())
    }

    /// After a clean stop: finds the end of the log behind the active segment's last index entry. `false` if what lies
    /// there is not what a clean stop leaves.
    fn walk_tail(&mut self) -> Result<bool, LogError> {
        let vfs = self.vfs.clone();
        let interval = self.config.index_interval_bytes;
        let active = self.active_mut();
        active.activate(&vfs)?;
        let indexed = active.index.newest();
        let mut leo = active.base;
        let mut position = active.resume_after_index();
        let file = active.open_or_reuse(&vfs)?;
        let path = active.path.clone();
        let mut scanner = Scanner::new(&*file, &path, position, active.size, SCAN_WINDOW);
        let start = position;
        loop {
            match scanner.step(Check::Header)? {
                Step::Batch {
                    position: at,
                    header,
                    ..
                } => {
                    let relative = header.last_offset().0 - active.base.0;
                    let wrong_entry = at == start
                        && indexed.is_some_and(|entry| i64::from(entry.relative) != relative);
                    if wrong_entry
                        || header.base_offset < leo
                        || !active.takes_offset(header.last_offset())
                    {
                        return Ok(false);
                    }
                    active.note_resumed(&header, at, interval);
                    leo = header.next_offset();
                    position = at + header.size() as u64;
                }
                Step::End => break,
                Step::Invalid { .. } => return Ok(false),
            }
        }
        self.leo = leo;
        Ok(position == self.active().size && (indexed.is_none() || position > start))
    }

    /// The first segment that a crash may have damaged. The one that ends exactly at the recovery point counts: its
    /// indexes may have been written after its batches were synced.
    fn first_to_validate(&self) -> usize {
        let last = self.segments.len() - 1;
        (0..last)
            .find(|&index| self.segments[index + 1].base >= self.recovery_point)
            .unwrap_or(last)
    }

    /// Validates all batches from segment `first` on and cuts the log before the first that is not sound.
    fn validate(
        &mut self,
        first: usize,
        report: &mut RecoveryReport,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let base = self.segments[first].base;
        self.leo = base;
        // Later snapshots may tell of batches that are no longer there; they are taken anew on the way.
        let later: Vec<_> = self.snapshots.extract_if(.., |&mut at| at > base).collect();
        for offset in later {
            remove_if_there(&self.vfs, &producer_snapshot::path(&self.dir, offset))?;
        }
        self.epochs_dirty |= self.epochs.truncate_from_end(base);
        self.producers = self.load_producers(base, now_ms)?;
        let mut index = first;
        loop {
            if index > first && !self.joins(index) {
                report.stopped = Some(format!(
                    "segment {} does not join the log's end {}",
                    self.segments[index].base, self.leo
                ));
                self.drop_segments(index, report)?;
                // What is last now was sealed.
                let vfs = self.vfs.clone();
                self.active_mut().activate(&vfs)?;
                return self.resume_active();
            }
            self.leo = self.leo.max(self.segments[index].base);
            let end = self.validate_segment(index, report, now_ms)?;
            if end < self.segments[index].size {
                self.cut(index, end, report)?;
                return self.drop_segments(index + 1, report);
            }
            if index + 1 == self.segments.len() {
                return Ok(());
            }
            let vfs = self.vfs.clone();
            self.segments[index].write_indexes(&vfs)?;
            self.segments[index].seal();
            index += 1;
            self.take_snapshot(self.segments[index].base.max(self.leo))?;
        }
    }

    /// Whether segment `index` begins where the log ends so far. A gap is what a lost tail leaves. Below the recovery point
    /// nothing was lost, so there it is what another's compaction left: ours leaves none.
    fn joins(&self, index: usize) -> bool {
        let base = self.segments[index].base;
        let far = i64::from(i32::MAX);
        base == self.leo
            || (base > self.leo && (base <= self.recovery_point || base.0 - self.leo.0 > far))
    }

    /// Makes the indexes of a segment anew from its batches, as long as they are sound; answers where that ends.
    fn validate_segment(
        &mut self,
        index: usize,
        report: &mut RecoveryReport,
        now_ms: i64,
    ) -> Result<u64, LogError> {
        let vfs = self.vfs.clone();
        let interval = self.config.index_interval_bytes;
        let segment = &mut self.segments[index];
        segment.reset_indexes(&vfs)?;
        let file = segment.open_or_reuse(&vfs)?;
        let path = segment.path.clone();
        let mut scanner = Scanner::new(&*file, &path, 0, segment.size, SCAN_WINDOW);
        let mut last_epoch = self.epochs.latest_epoch().unwrap_or(LeaderEpoch(-1));
        report.validated_segments += 1;
        loop {
            match scanner.step(Check::Crc)? {
                Step::Batch {
                    position,
                    header,
                    bytes,
                } => {
                    if let Some(reason) = out_of_place(&header, self.leo, last_epoch, segment) {
                        report.stopped = Some(format!("{}: {reason}", path.display()));
                        return Ok(position);
                    }
                    segment.note_batch(&header, position, interval);
                    last_epoch = header.partition_leader_epoch;
                    self.epochs_dirty |= self.epochs.assign(last_epoch, header.base_offset);
                    let aborted = note_producer(&mut self.producers, &header, bytes, now_ms);
                    if let Some(aborted) = aborted {
                        segment.aborted.append(&vfs, &aborted)?;
                    }
                    self.leo = header.next_offset();
                    report.validated_bytes += header.size() as u64;
                }
                Step::End => return Ok(scanner.position()),
                Step::Invalid { position, error } => {
                    report.stopped =
                        Some(format!("{} at byte {position}: {error}", path.display()));
                    return Ok(position);
                }
            }
        }
    }

    fn drop_segments(&mut self, from: usize, report: &mut RecoveryReport) -> Result<(), LogError> {
        while self.segments.len() > from {
            if let Some(segment) = self.segments.pop() {
                segment.remove(&self.vfs)?;
                self.size -= segment.size;
                report.truncated_bytes += segment.size;
                report.removed_segments += 1;
            }
        }
        self.sync_dir()
    }

    fn cut(
        &mut self,
        index: usize,
        position: u64,
        report: &mut RecoveryReport,
    ) -> Result<(), LogError> {
        let segment = &mut self.segments[index];
        let cut = segment.size - position;
        let file = segment.open_or_reuse(&self.vfs)?;
        // Durable, so that the damaged tail cannot come back behind what is appended next.
        file.truncate(position)
            .and_then(|()| file.sync_data())
            .map_err(|source| LogError::io("truncate", &segment.path, source))?;
        segment.size = position;
        self.size -= cut;
        report.truncated_bytes += cut;
        Ok(())
    }

    /// The log may start earlier than the epochs' file knows: what was to be deleted came back. Its batches tell.
    fn complete_epochs(&mut self) -> Result<(), LogError> {
        let first = self.epochs.entries().first().map(|&(_, start)| start);
        let known_from = first.unwrap_or(self.leo);
        if self.log_start >= known_from {
            return Ok(());
        }
        let mut complete = LeaderEpochCache::default();
        for segment in &self.segments {
            if segment.base < known_from {
                assign_epochs(&self.vfs, segment, &mut complete)?;
            }
        }
        let newest = complete.latest_epoch();
        for &(epoch, start) in self.epochs.entries() {
            if Some(epoch) > newest {
                complete.assign(epoch, start);
            }
        }
        self.epochs = complete;
        self.epochs_dirty = true;
        Ok(())
    }

    fn load_epochs(&mut self, report: &mut RecoveryReport) -> Result<(), LogError> {
        let path = self.dir.join(EPOCHS_FILE);
        match checkpoint::read(&self.vfs, &path, LeaderEpochCache::parse_line) {
            Ok(Some(entries)) => self.epochs = LeaderEpochCache::from_entries(entries),
            Ok(None) | Err(LogError::Format { .. }) => {
                report.rebuilt_epochs = true;
                self.epochs_dirty = true;
                for segment in &self.segments {
                    assign_epochs(&self.vfs, segment, &mut self.epochs)?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes the indexes of sealed segments that lack them.
    fn rebuild_missing(
        &mut self,
        missing: &[bool],
        report: &mut RecoveryReport,
    ) -> Result<(), LogError> {
        let vfs = self.vfs.clone();
        let interval = self.config.index_interval_bytes;
        for (segment, _) in self
            .segments
            .iter_mut()
            .zip(missing)
            .filter(|(_, missing)| **missing)
        {
            segment.reset_index_entries();
            let file = segment.open_or_reuse(&vfs)?;
            let path = segment.path.clone();
            let mut scanner = Scanner::new(&*file, &path, 0, segment.size, SCAN_WINDOW);
            while let Step::Batch {
                position, header, ..
            } = scanner.step(Check::Header)?
            {
                segment.note_batch(&header, position, interval);
            }
            segment.write_indexes(&vfs)?;
            segment.seal();
            report.rebuilt_indexes += 1;
        }
        Ok(())
    }

    /// A snapshot counts at the begin of a segment, and the newest at the end of the log.
    fn remove_stray_snapshots(&mut self) -> Result<(), LogError> {
        let bases: Vec<_> = self.segments.iter().map(|segment| segment.base).collect();
        let leo = self.leo;
        let newest = self.snapshots.iter().copied().filter(|&at| at <= leo).max();
        let stray: Vec<_> = self
            .snapshots
            .extract_if(.., |at| {
                *at > leo || (Some(*at) != newest && bases.binary_search(at).is_err())
            })
            .collect();
        for offset in stray {
            remove_if_there(&self.vfs, &producer_snapshot::path(&self.dir, offset))?;
        }
        Ok(())
    }
}

/// Enters the epochs of a segment's batches.
fn assign_epochs<V: Vfs>(
    vfs: &V,
    segment: &Segment<V>,
    epochs: &mut LeaderEpochCache,
) -> Result<(), LogError> {
    let file = segment.open_or_reuse(vfs)?;
    let mut scanner = Scanner::new(&*file, &segment.path, 0, segment.size, SCAN_WINDOW);
    while let Step::Batch { header, .. } = scanner.step(Check::Header)? {
        epochs.assign(header.partition_leader_epoch, header.base_offset);
    }
    Ok(())
}

/// Why a batch, sound in itself, cannot be the next one of the log. Leader epochs never fall: a lower one is the rest of
/// an older log behind a newer.
fn out_of_place<V: Vfs>(
    header: &BatchHeader,
    next: Offset,
    last_epoch: LeaderEpoch,
    segment: &Segment<V>,
) -> Option<String> {
    if header.base_offset < next || header.last_offset_delta < 0 {
        return Some(format!("offset {} after {next}", header.base_offset));
    }
    if header.partition_leader_epoch < last_epoch {
        let epoch = header.partition_leader_epoch;
        return Some(format!("leader epoch {epoch} after {last_epoch}"));
    }
    (!segment.takes_offset(header.last_offset())).then(|| {
        format!(
            "offset {} is too far from its segment's",
            header.base_offset
        )
    })
}

/// Makes the directory, if need be, and sees that it is the topic's; whether it is new. Nothing is synced: a topic may
/// have thousands of partitions, and what was never flushed may be lost with the directory.
fn make_dir<V: Vfs>(vfs: &V, dir: &Path, topic_id: TopicId) -> Result<bool, LogError> {
    vfs.create_dir_all(dir)
        .map_err(|source| LogError::io("create", dir, source))?;
    match partition_metadata::read(vfs, dir)? {
        Some(found) if found == topic_id => Ok(false),
        Some(found) => Err(LogError::Format {
            path: dir.join(partition_metadata::FILE),
            reason: format!("it belongs to topic id {found}, not {topic_id}"),
        }),
        None => {
            partition_metadata::write(vfs, dir, topic_id)?;
            Ok(true)
        }
    }
}
