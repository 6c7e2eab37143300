//! How does the log become durable without holding up its writers?
//!
//! [`Log::flush_handle`] notes under the lock what is to be synced, [`FlushHandle::flush`] does it off the lock, and
//! [`Log::finish_flush`] moves the recovery point.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::Offset;

use crate::log::EPOCHS_FILE;
use crate::vfs::{Vfs, VfsFile};
use crate::{Log, LogError, partition_metadata, producer_snapshot};

/// What is to be made durable so that the log is, up to an offset.
#[derive(Debug)]
#[must_use = "nothing is durable before it is flushed"]
pub struct FlushHandle<V: Vfs> {
    vfs: V,
    /// The active segment.
    file: Option<(Arc<V::File>, PathBuf)>,
    /// Sealed segments, their indexes, snapshots, the epochs.
    paths: Vec<PathBuf>,
    dir: Option<PathBuf>,
    /// The log directory, as long as the log's own name in it is not durable.
    parent: Option<PathBuf>,
    done: Flushed,
}

/// Proof of a flush, for [`Log::finish_flush`].
#[derive(Debug, Clone)]
pub struct Flushed {
    offset: Offset,
    generation: u64,
    /// Base offsets of the sealed segments that are durable.
    sealed: Vec<Offset>,
    snapshots: Vec<Offset>,
    changes: u64,
    creation: bool,
}

impl Flushed {
    /// Everything before is durable.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.offset
    }
}

impl<V: Vfs> FlushHandle<V> {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.file.is_none() && self.paths.is_empty() && self.dir.is_none()
    }

    /// The log end offset when the handle was taken.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.done.offset
    }

    /// Syncs the files, the active segment last. Takes as long as the disk takes.
    ///
    /// # Errors
    /// The first I/O error; the log is then to be told by [`Log::finish_flush`].
    pub fn flush(self) -> Result<Flushed, LogError> {
        for path in &self.paths {
            let synced = match self.vfs.open(path) {
                Ok(file) => file.sync_data(),
                // Retention or a truncation removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            synced.map_err(|source| LogError::io("sync", path, source))?;
        }
        for dir in [&self.dir, &self.parent].into_iter().flatten() {
            self.vfs
                .sync_dir(dir)
                .map_err(|source| LogError::io("sync", dir, source))?;
        }
        if let Some((file, path)) = &self.file {
            file.sync_data()
                .map_err(|source| LogError::io("sync", path, source))?;
        }
        Ok(self.done)
    }
}

impl<V: Vfs> Log<V> {
    /// What a flush up to the log end offset has to sync. The indexes of the active segment are not part of it: recovery
    /// makes them again.
    ///
    /// # Errors
    /// The log is offline, or an I/O error.
    pub fn flush_handle(&mut self) -> Result<FlushHandle<V>, LogError> {
        self.check_online()?;
        let written = self.write_epochs();
        self.guard(written)?;
        let mut sealed = Vec::new();
        let mut paths = Vec::new();
        let creation = self.unsynced.creation;
        if creation {
            paths.push(self.dir.join(partition_metadata::FILE));
        }
        let last = self.segments.len() - 1;
        for segment in &self.segments[..last] {
            if !segment.synced {
                sealed.push(segment.base);
                paths.push(segment.path.clone());
                paths.push(segment.index.path().to_owned());
                paths.push(segment.times.path().to_owned());
            }
        }
        // The active segment's aborted transactions are few and its file may not exist: both are cheap.
        for segment in &self.segments {
            if !segment.synced && !segment.aborted.is_empty() {
                paths.push(segment.aborted.path().to_owned());
            }
        }
        for &offset in &self.unsynced.snapshots {
            paths.push(producer_snapshot::path(&self.dir, offset));
        }
        if self.unsynced.epochs {
            paths.push(self.dir.join(EPOCHS_FILE));
        }
        let file = if self.recovery_point < self.leo {
            let active = self.active();
            Some((active.open_file(&self.vfs)?, active.path.clone()))
        } else {
            None
        };
        let dir = (creation || self.unsynced.dir).then(|| self.dir.clone());
        let parent = self.dir.parent().filter(|_| creation);
        Ok(FlushHandle {
            vfs: self.vfs.clone(),
            file,
            paths,
            dir,
            parent: parent.map(Path::to_owned),
            done: Flushed {
                offset: self.leo,
                generation: self.generation,
                sealed,
                snapshots: self.unsynced.snapshots.clone(),
                changes: self.unsynced.changes,
                creation,
            },
        })
    }

    /// Takes note of a flush: the recovery point moves, or after an error the log goes offline (what an earlier write
    /// left in the page cache may be lost, and a second sync would not say so).
    ///
    /// # Errors
    /// The flush's own.
    pub fn finish_flush(&mut self, result: Result<Flushed, LogError>) -> Result<(), LogError> {
        let flushed = match result {
            Ok(flushed) => flushed,
            Err(error) => {
                self.offline = Some(error.to_string());
                return Err(error);
            }
        };
        self.unsynced
            .snapshots
            .retain(|offset| !flushed.snapshots.contains(offset));
        self.unsynced.creation &= !flushed.creation;
        if flushed.changes == self.unsynced.changes {
            self.unsynced.dir = false;
            self.unsynced.epochs = false;
        }
        // A truncation came between: other bytes may lie there now.
        if flushed.generation != self.generation {
            return Ok(());
        }
        for segment in &mut self.segments {
            if flushed.sealed.contains(&segment.base) {
                segment.synced = true;
            }
        }
        self.recovery_point = self.recovery_point.max(flushed.offset);
        self.producers.advance_recovery_point(self.recovery_point);
        self.settle_truncation()
    }

    /// Flushes under the lock.
    ///
    /// # Errors
    /// The log is offline, or an I/O error.
    pub fn flush(&mut self) -> Result<(), LogError> {
        let handle = self.flush_handle()?;
        self.finish_flush(handle.flush())
    }

    /// Makes the log ready for a clean shutdown: indexes, epochs and producers are written, everything is durable. The
    /// caller then writes the checkpoints and, after the last log, the clean-shutdown file.
    ///
    /// # Errors
    /// The log is offline, or an I/O error.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.check_online()?;
        let result = self.try_close();
        self.guard(result)
    }

    /// Whether nothing happened since the last clean stop: most of thousands of partitions are idle.
    fn is_closed(&self) -> bool {
        let Some((active, sealed)) = self.segments.split_last() else {
            return false;
        };
        self.recovery_point == self.leo
            && self.snapshots.last() == Some(&self.leo)
            && self.unsynced.snapshots.is_empty()
            && !self.unsynced.dir
            && !self.unsynced.epochs
            && !self.epochs_dirty
            && sealed.iter().all(|segment| segment.synced)
            && active.index.is_durable()
            && active.times.is_durable()
    }

    /// Whether nothing ever happened to the log: it may as well be made again.
    fn is_untouched(&self) -> bool {
        self.unsynced.creation
            && self.leo == Offset(0)
            && self.segments.len() == 1
            && self.epochs.entries().is_empty()
            && self.producers.is_empty()
    }

    fn try_close(&mut self) -> Result<(), LogError> {
        if self.is_closed() || self.is_untouched() {
            return Ok(());
        }
        let leo = self.leo;
        if self.snapshots.last() != Some(&leo) {
            self.take_snapshot(leo)?;
        }
        let vfs = self.vfs.clone();
        let active = self.active_mut();
        active.index.write_pending(&vfs)?;
        active.times.write_pending(&vfs)?;
        let indexes = [
            active.index.path().to_owned(),
            active.times.path().to_owned(),
        ];
        self.note_change();
        let mut handle = self.flush_handle()?;
        handle.paths.extend(indexes);
        self.finish_flush(handle.flush())?;
        let active = self.active_mut();
        active.index.mark_synced();
        active.times.mark_synced();
        Ok(())
    }
}
