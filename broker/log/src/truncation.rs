//! How does a log lose records on purpose, at its end (a diverging follower) or at its start?
//!
//! A truncation is durable when it returns, so that its old tail can not come back under newer records. Below the
//! recovery point it leaves a marker file first: the log directory's checkpoint, written rarely, would else vouch for
//! what is appended anew.

use std::path::PathBuf;

use types::Offset;

use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log::note_producer;
use crate::producer_state::ProducerState;
use crate::scan::{Check, Scanner, Step};
use crate::segment::{SCAN_WINDOW, Segment};
use crate::vfs::{Durability, Vfs, VfsFile, remove_if_there};
use crate::{DeletedSegment, Log, LogError, checkpoint, partition_metadata, producer_snapshot};

/// Names an offset from which on nothing is vouched for, whatever the log directory's checkpoint says.
pub(crate) const MARKER_FILE: &str = "truncation-checkpoint";

impl<V: Vfs> Log<V> {
    /// Removes the records from `offset` on, and those before it in the same batch. Answers the new log end offset, which
    /// is that after the last batch left. An `offset` at the log end offset only forgets epochs without records, one above
    /// it changes nothing, one below the log start offset is as
    /// [`Self::truncate_fully_and_start_at`].
    ///
    /// # Errors
    /// The log is offline, or an I/O error (the log is then offline).
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.check_online()?;
        if offset >= self.leo {
            // A leader epoch that was entered and never written in may be what diverges.
            if offset == self.leo {
                self.epochs_dirty |= self.epochs.truncate_from_end(offset);
            }
            return Ok(self.leo);
        }
        if offset < self.log_start || offset < self.segments[0].base {
            self.truncate_fully_and_start_at(offset)?;
            return Ok(self.leo);
        }
        let result = self.try_truncate(offset);
        self.hard_guard(result)?;
        Ok(self.leo)
    }

    fn try_truncate(&mut self, offset: Offset) -> Result<(), LogError> {
        // The last segment that keeps anything.
        let keep = self.segment_of(offset);
        let (position, log_end) = cut_position(&self.vfs, &self.segments[keep], offset)?;
        self.before_truncation(log_end)?;
        // Removal from the end on keeps the rest contiguous at any crash.
        while self.segments.len() > keep + 1 {
            if let Some(segment) = self.segments.pop() {
                self.size -= segment.size;
                segment.remove(&self.vfs)?;
            }
        }
        self.remove_snapshots_after(log_end)?;
        self.sync_dir()?;
        let vfs = self.vfs.clone();
        let active = self.active_mut();
        let before = active.size;
        active.cut(&vfs, position, log_end)?;
        self.size -= before - position;
        self.leo = log_end;
        self.resume_active()?;
        self.epochs_dirty |= self.epochs.truncate_from_end(log_end);
        self.log_start = self.log_start.min(log_end);
        self.recovery_point = self.recovery_point.min(log_end);
        let high_watermark = self.producers.high_watermark().min(log_end);
        let now_ms = self.active().last_append_ms;
        let mut producers = self.load_producers(log_end, now_ms)?;
        // A snapshot does not tell of markers that are not replicated, or not durable; what was known until now does.
        producers.adopt_decided(&self.producers, log_end);
        self.producers = producers;
        self.producers.advance_high_watermark(high_watermark);
        Ok(())
    }

    /// Walks the batches after the active segment's last index entry, for the newest record and the end.
    pub(crate) fn resume_active(&mut self) -> Result<(), LogError> {
        let vfs = self.vfs.clone();
        let interval = self.config.index_interval_bytes;
        let active = self.active_mut();
        let position = active.resume_after_index();
        let file = active.open_file(&vfs)?;
        let path = active.path.clone();
        let mut scanner = Scanner::new(&*file, &path, position, active.size, SCAN_WINDOW);
        while let Step::Batch {
            position, header, ..
        } = scanner.step(Check::Header)?
        {
            active.note_resumed(&header, position, interval);
        }
        Ok(())
    }

    /// Removes all records and begins anew at `offset`, as a follower does whose leader's log starts after its end.
    ///
    /// # Errors
    /// The log is offline, or an I/O error (the log is then offline).
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.check_online()?;
        let result = self.try_start_at(offset);
        self.hard_guard(result)
    }

    fn try_start_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.before_truncation(offset)?;
        while let Some(segment) = self.segments.pop() {
            if let Err(error) = segment.remove(&self.vfs) {
                // Never without a segment, even offline.
                self.segments.push(segment);
                return Err(error);
            }
        }
        // Old segments must not come back beside the new one.
        let renewed = self
            .remove_snapshots_after(Offset(-1))
            .and_then(|()| self.sync_dir())
            .and_then(|()| Segment::create(&self.vfs, &self.dir, offset, 0));
        self.size = 0;
        self.log_start = offset;
        self.leo = offset;
        self.recovery_point = offset;
        self.epochs = LeaderEpochCache::default();
        self.epochs_dirty = true;
        self.producers = ProducerState::default();
        match renewed {
            Ok(segment) => self.segments.push(segment),
            Err(error) => {
                self.segments.push(Segment::found(
                    &self.dir,
                    offset,
                    crate::segment::FileSizes::default(),
                    0,
                ));
                return Err(error);
            }
        }
        self.take_snapshot(offset)?;
        self.write_epochs()
    }

    /// What every truncation does first: readers' hints and running flushes are void, and if the log will end at `offset`
    /// below the recovery point, that is marked.
    fn before_truncation(&mut self, offset: Offset) -> Result<(), LogError> {
        self.generation += 1;
        // It would bring back what goes now.
        self.cancel_swap()?;
        self.first_dirty = self.first_dirty.min(offset);
        self.hints.clear();
        self.cold.remove(|_| true);
        if offset < self.recovery_point || self.truncated_until.is_some() {
            self.distrust(offset, self.recovery_point)?;
        }
        Ok(())
    }

    /// Leaves the marker: from `from` on nothing is known to be durable, though a checkpoint up to `until` says so.
    pub(crate) fn distrust(&mut self, from: Offset, until: Offset) -> Result<(), LogError> {
        let marked = self.read_truncation_marker()?.unwrap_or(from).min(from);
        let line = std::iter::once(marked.0.to_string());
        checkpoint::write(&self.vfs, &self.marker_path(), line, Durability::Synced)?;
        self.sync_creation()?;
        self.truncated_until = Some(self.truncated_until.unwrap_or(until).max(until));
        Ok(())
    }

    fn marker_path(&self) -> PathBuf {
        self.dir.join(MARKER_FILE)
    }

    pub(crate) fn read_truncation_marker(&self) -> Result<Option<Offset>, LogError> {
        let lines = checkpoint::read(&self.vfs, &self.marker_path(), |line| {
            line.parse().ok().map(Offset)
        })?;
        Ok(lines.and_then(|lines| lines.first().copied()))
    }

    /// Removes the marker once neither the recovery point's checkpoint nor the cleaners' vouches for more than there is.
    pub(crate) fn settle_truncation(&mut self) -> Result<(), LogError> {
        let durable = |until| self.recovery_point >= until;
        if !self.truncated_until.is_some_and(durable) || self.checkpointed_dirty > self.first_dirty
        {
            return Ok(());
        }
        self.truncated_until = None;
        let removed = remove_if_there(&self.vfs, &self.marker_path());
        self.guard(removed)
    }

    pub(crate) fn remove_snapshots_after(&mut self, end: Offset) -> Result<(), LogError> {
        while let Some(&last) = self.snapshots.last() {
            if last <= end {
                break;
            }
            remove_if_there(&self.vfs, &producer_snapshot::path(&self.dir, last))?;
            self.snapshots.pop();
            self.unsynced.snapshots.retain(|&known| known != last);
        }
        Ok(())
    }

    /// Makes the names in the log's directory durable, and its own.
    pub(crate) fn sync_dir(&mut self) -> Result<(), LogError> {
        if self.unsynced.creation {
            return self.sync_creation();
        }
        self.vfs
            .sync_dir(&self.dir)
            .map_err(|source| LogError::io("sync", &self.dir, source))
    }

    /// Makes the log itself durable, which was put off when it was made. To be done before anything that must be found
    /// again after a power loss although no record was flushed yet.
    pub(crate) fn sync_creation(&mut self) -> Result<(), LogError> {
        if !self.unsynced.creation {
            return Ok(());
        }
        let metadata = self.dir.join(partition_metadata::FILE);
        let synced = self.vfs.open(&metadata).and_then(|file| file.sync_data());
        synced.map_err(|source| LogError::io("sync", &metadata, source))?;
        for dir in [Some(self.dir.as_path()), self.dir.parent()]
            .into_iter()
            .flatten()
        {
            self.vfs
                .sync_dir(dir)
                .map_err(|source| LogError::io("sync", dir, source))?;
        }
        self.unsynced.creation = false;
        Ok(())
    }

    /// The producer state before `end`: the newest sound snapshot at or before it, and the batches after that.
    pub(crate) fn load_producers(
        &mut self,
        end: Offset,
        now_ms: i64,
    ) -> Result<ProducerState, LogError> {
        let (mut state, from) = self.load_snapshot(end, now_ms)?.unwrap_or_default();
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.base >= end || self.segment_end(index) <= from {
                continue;
            }
            let file = segment.open_or_reuse(&self.vfs)?;
            let position = segment.position_before(&self.vfs, from)?;
            let mut scanner =
                Scanner::new(&*file, &segment.path, position, segment.size, SCAN_WINDOW);
            while let Step::Batch { header, bytes, .. } = scanner.step(Check::Header)? {
                if header.base_offset >= end {
                    break;
                }
                if header.base_offset >= from {
                    note_producer(&mut state, &header, bytes, now_ms);
                }
            }
        }
        Ok(state)
    }

    /// The newest sound snapshot at or before `end`, if there is one; damaged ones are removed.
    fn load_snapshot(
        &mut self,
        end: Offset,
        now_ms: i64,
    ) -> Result<Option<(ProducerState, Offset)>, LogError> {
        let mut usable = self.snapshots.partition_point(|&offset| offset <= end);
        while let Some(last) = usable.checked_sub(1) {
            let offset = self.snapshots[last];
            match producer_snapshot::read(&self.vfs, &self.dir, offset, now_ms) {
                Ok(mut state) => {
                    state.set_loaded_at(offset);
                    // The marker of a transaction that was open then comes at or after the snapshot. Compaction may have
                    // removed it only before the first dirty offset.
                    if offset < self.first_dirty {
                        state.end_transactions_before(self.first_dirty);
                    }
                    return Ok(Some((state, offset)));
                }
                Err(LogError::Format { path, .. }) => {
                    remove_if_there(&self.vfs, &path)?;
                    self.snapshots.remove(last);
                    usable = last;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Moves the log start offset forward (DeleteRecords, or the leader's log start); never back, never above the log end
    /// offset. Segments that lie below it as a whole are removed, renamed at first. The caller sees to it that it is not
    /// above the high watermark, and that the log directory's checkpoint is written before it answers.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] above the log end offset, the log is offline, an I/O error.
    pub fn advance_log_start_offset(
        &mut self,
        offset: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        self.check_online()?;
        if offset > self.leo {
            return Err(LogError::OffsetOutOfRange {
                offset,
                start: self.log_start,
                end: self.leo,
            });
        }
        if offset <= self.log_start {
            return Ok(Vec::new());
        }
        // The checkpoint that the caller writes must find the log.
        let result = self.sync_creation().and_then(|()| {
            self.log_start = offset;
            self.delete_below_log_start()
        });
        self.guard(result)
    }

    /// As [`Log::guard`], for changes that a full disk interrupts half-way, too.
    pub(crate) fn hard_guard<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            self.offline = Some(error.to_string());
        }
        result
    }
}

/// Where to cut a segment so that nothing from `offset` on remains, and the offset at which it then ends: that after its
/// last batch, also if `offset` lies in a gap behind that, since recovery finds the end there, too.
fn cut_position<V: Vfs>(
    vfs: &V,
    segment: &Segment<V>,
    offset: Offset,
) -> Result<(u64, Offset), LogError> {
    // An entry for exactly `offset` would point at the batch to be cut, which may begin earlier.
    let from = segment.position_before(vfs, Offset(offset.0 - 1))?;
    let file = segment.open_or_reuse(vfs)?;
    let mut scanner = Scanner::new(&*file, &segment.path, from, segment.size, SCAN_WINDOW);
    let mut end = segment.base;
    loop {
        match scanner.step(Check::Header)? {
            Step::Batch {
                position, header, ..
            } => {
                if header.last_offset() >= offset {
                    return Ok((position, end));
                }
                end = header.next_offset();
            }
            Step::End => return Ok((segment.size, end)),
            Step::Invalid { position, error } => {
                return Err(LogError::Corrupt {
                    path: segment.path.clone(),
                    position,
                    source: error,
                });
            }
        }
    }
}
