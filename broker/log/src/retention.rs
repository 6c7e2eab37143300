//! Which old segments go, and when do their files?
//!
//! A segment goes as a whole, oldest first, and only below the high watermark. Its files are renamed to `.deleted` at
//! once, `.log` first, and removed after `file.delete.delay.ms`, so that readers who hold them go on undisturbed.

use std::path::PathBuf;

use types::Offset;

use crate::segment::{EXTENSIONS, Segment, file_path};
use crate::vfs::{Vfs, VfsFile, remove_if_there};
use crate::{Log, LogError, producer_snapshot};

/// Why a segment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteReason {
    /// Its newest record is older than `retention.ms`.
    Time,
    /// The log was larger than `retention.bytes`.
    Size,
    /// It lay below the log start offset.
    LogStart,
}

/// A segment that is no longer part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedSegment {
    /// Its base offset.
    pub base_offset: Offset,
    /// Bytes of its batches.
    pub size: u64,
    /// Why it went.
    pub reason: DeleteReason,
    /// Its renamed files.
    pub(crate) files: Vec<PathBuf>,
    /// When it went; `None` until the next look at the clock.
    pub(crate) at_ms: Option<i64>,
}

impl<V: Vfs> Log<V> {
    /// Begins a new segment if the active one is full, or older than `segment.ms` and not empty.
    ///
    /// # Errors
    /// The log is offline, or an I/O error.
    pub fn roll_if_needed(&mut self, now_ms: i64) -> Result<bool, LogError> {
        self.check_online()?;
        let active = self.active();
        let full = active.size >= u64::from(self.config.segment_bytes);
        if active.size > 0 && (full || self.is_old(now_ms)) {
            self.roll(None, now_ms)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Deletes what `retention.ms` and `retention.bytes` no longer keep and what lies below the log start offset, as far
    /// as the high watermark. The log start offset follows. If everything is too old, the active segment is rolled and
    /// goes, too.
    ///
    /// A record's time is its own timestamp, but not later than when it was appended: a timestamp in the future does not
    /// keep a segment for ever.
    ///
    /// # Errors
    /// The log is offline, or an I/O error.
    pub fn enforce_retention(
        &mut self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        self.check_online()?;
        let result = self.try_retention(now_ms, high_watermark);
        let deleted = self.guard(result)?;
        for segment in &mut self.deleted {
            segment.at_ms.get_or_insert(now_ms);
        }
        Ok(deleted)
    }

    fn try_retention(
        &mut self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        let mut deleted = self.delete_below_log_start()?;
        if !self.config.delete {
            return Ok(deleted);
        }
        loop {
            let end = self.segment_end(0);
            let only = self.segments.len() == 1;
            if end > high_watermark || self.segments[0].size == 0 {
                break;
            }
            let Some(reason) = self.retention_reason(now_ms)? else {
                break;
            };
            if only {
                // Size never takes the last segment: it would be below the limit then.
                if reason != DeleteReason::Time {
                    break;
                }
                self.roll(None, now_ms)?;
            }
            deleted.push(self.delete_first(reason)?);
        }
        Ok(deleted)
    }

    fn retention_reason(&self, now_ms: i64) -> Result<Option<DeleteReason>, LogError> {
        let first = &self.segments[0];
        if let Some(retention_ms) = self.config.retention_ms
            && let Some(newest) = first.newest(&self.vfs)?
        {
            let newest_ms = match newest.timestamp {
                // Without a timestamp its append is all that is known.
                none if none < 0 => first.last_append_ms,
                timestamp => timestamp.min(first.last_append_ms),
            };
            if now_ms.saturating_sub(newest_ms) > retention_ms {
                return Ok(Some(DeleteReason::Time));
            }
        }
        let too_large = self
            .config
            .retention_bytes
            .is_some_and(|keep| self.size.saturating_sub(first.size) >= keep);
        Ok(too_large.then_some(DeleteReason::Size))
    }

    pub(crate) fn delete_below_log_start(&mut self) -> Result<Vec<DeletedSegment>, LogError> {
        let mut deleted = Vec::new();
        while self.segments.len() > 1 && self.segment_end(0) <= self.log_start {
            deleted.push(self.delete_first(DeleteReason::LogStart)?);
        }
        self.epochs_dirty |= self.epochs.truncate_from_start(self.log_start);
        Ok(deleted)
    }

    fn delete_first(&mut self, reason: DeleteReason) -> Result<DeletedSegment, LogError> {
        self.cancel_swap()?;
        // A checkpoint may speak of the log start offset that this makes.
        self.sync_creation()?;
        self.keep_producers(self.segments[1].base)?;
        let segment = &self.segments[0];
        let (base_offset, size) = (segment.base, segment.size);
        let files = self.rename_deleted(segment)?;
        self.segments.remove(0);
        self.cold.remove(|base| base == base_offset);
        self.size -= size;
        self.log_start = self.log_start.max(self.segments[0].base);
        self.epochs_dirty |= self.epochs.truncate_from_start(self.log_start);
        self.drop_snapshots_below(self.segments[0].base)?;
        self.note_change();
        let deleted = DeletedSegment {
            base_offset,
            size,
            reason,
            files,
            at_ms: None,
        };
        self.deleted.push(deleted.clone());
        Ok(deleted)
    }

    /// The batches before `base` will not tell of their producers any more: the snapshot there has to be durable.
    fn keep_producers(&mut self, base: Offset) -> Result<(), LogError> {
        if !self.unsynced.snapshots.contains(&base) {
            return Ok(());
        }
        let path = producer_snapshot::path(&self.dir, base);
        let synced = self.vfs.open(&path).and_then(|file| file.sync_data());
        synced.map_err(|source| LogError::io("sync", &path, source))?;
        self.sync_dir()?;
        self.unsynced.snapshots.retain(|&known| known != base);
        Ok(())
    }

    /// The producer state is not shortened by retention: the snapshot at the first kept segment has all of it.
    fn drop_snapshots_below(&mut self, base: Offset) -> Result<(), LogError> {
        let Some(newest) = self.snapshots.last().copied() else {
            return Ok(());
        };
        for &offset in &self.snapshots {
            if offset < base && offset != newest {
                remove_if_there(&self.vfs, &producer_snapshot::path(&self.dir, offset))?;
            }
        }
        self.snapshots
            .retain(|&offset| offset >= base || offset == newest);
        let kept = &self.snapshots;
        self.unsynced
            .snapshots
            .retain(|offset| kept.contains(offset));
        Ok(())
    }

    fn rename_deleted(&self, segment: &Segment<V>) -> Result<Vec<PathBuf>, LogError> {
        let mut renamed = Vec::new();
        for extension in EXTENSIONS {
            let from = file_path(&self.dir, segment.base, extension);
            let to = file_path(&self.dir, segment.base, &format!("{extension}.deleted"));
            match self.vfs.rename(&from, &to) {
                Ok(()) => renamed.push(to),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io("rename", &from, error)),
            }
        }
        Ok(renamed)
    }

    /// Removes the files of segments that were deleted at least `file.delete.delay.ms` ago; answers how many segments.
    ///
    /// # Errors
    /// An I/O error; what could not be removed is tried again.
    pub fn purge_deleted(&mut self, now_ms: i64) -> Result<usize, LogError> {
        let before = self.deleted.len();
        let delay = self.config.file_delete_delay_ms;
        while let Some(segment) = self.deleted.first_mut() {
            let at_ms = *segment.at_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(at_ms) < delay {
                break;
            }
            for file in &segment.files {
                remove_if_there(&self.vfs, file)?;
            }
            self.deleted.remove(0);
        }
        Ok(before - self.deleted.len())
    }
}
