//! Which logs are in the log directory, and what becomes of those that nobody asks for?
//!
//! All logs are opened at start, in parallel, since only then is it known what recovery costs. A replica takes its
//! log by partition and topic id. What the cluster's metadata does not name is renamed to `NAME.TOPICID-stray` and
//! left for the operator: nothing is deleted but what was deleted as a topic or moved to other brokers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use broker_log::{
    DeletedDir, FoundLog, LogConfig, LogDir, LogDirContents, LogError, OffsetCheckpoints, OpenMode,
    RealVfs, Vfs,
};
use parking_lot::{Mutex, MutexGuard};
use types::{BrokerEpoch, Offset, TopicPartition};

use super::model::TopicIdPartition;
use super::replica::DiskLog;
use super::shared::wall_ms;

/// The log directory of a broker.
#[derive(Debug)]
pub(crate) struct Directory {
    dir: LogDir<RealVfs>,
    clean_epoch: Option<BrokerEpoch>,
    waiting: Mutex<HashMap<TopicPartition, Opened>>,
    /// Found without a topic id: never taken, set aside with the other strays.
    nameless: Mutex<Vec<FoundLog>>,
    checkpoints: Mutex<OffsetCheckpoints<RealVfs>>,
}

/// The file system that the log directory lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
}

/// A log that was closed without having been taken.
#[derive(Debug)]
pub(crate) struct ClosedLog {
    pub(crate) name: TopicPartition,
    pub(crate) log_start: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) first_dirty: Offset,
    pub(crate) high_watermark: Offset,
}

#[derive(Debug)]
struct Opened {
    log: DiskLog,
    high_watermark: Offset,
}

/// The file system that a path lies on.
pub(crate) fn volume_of(path: &Path) -> std::io::Result<Volume> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Volume {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

impl Directory {
    /// Opens the directory and all logs in it.
    pub(crate) fn open(root: &Path) -> Result<Self, LogError> {
        let (dir, contents) = LogDir::open(RealVfs, root)?;
        for (path, reason) in &contents.damaged {
            tracing::warn!(path = %path.display(), reason, "a damaged checkpoint is taken as empty");
        }
        for name in &contents.unknown {
            tracing::info!(name, "not a log: left alone");
        }
        for path in contents.deleted.clone() {
            dir.remove_deleted(path).remove()?;
        }
        let clean = contents.clean_shutdown;
        let clean_epoch = contents.clean_epoch.map(BrokerEpoch);
        let (waiting, nameless) = open_all(contents)?;
        tracing::info!(root = %root.display(), logs = waiting.len(), clean, "log directory opened");
        let checkpoints = OffsetCheckpoints::read(dir.clone())?;
        Ok(Self {
            dir,
            clean_epoch,
            waiting: Mutex::new(waiting),
            nameless: Mutex::new(nameless),
            checkpoints: Mutex::new(checkpoints),
        })
    }

    /// The broker epoch of the process that stopped cleanly here, if the last stop was a clean one.
    pub(crate) const fn clean_epoch(&self) -> Option<BrokerEpoch> {
        self.clean_epoch
    }

    pub(crate) const fn dir(&self) -> &LogDir<RealVfs> {
        &self.dir
    }

    /// The partition's log with its checkpointed HW: the one found at start, or a new one.
    pub(crate) fn take(
        &self,
        partition: &TopicIdPartition,
        config: LogConfig,
    ) -> Result<(DiskLog, Offset), LogError> {
        let name = partition.topic_partition();
        let found = self.waiting.lock().remove(&name);
        if let Some(mut opened) = found {
            if opened.log.topic_id() == partition.topic_id {
                opened.log.set_config(config);
                return Ok((opened.log, opened.high_watermark));
            }
            // Of an earlier topic of that name.
            let (dir, id) = (opened.log.dir().to_owned(), opened.log.topic_id());
            drop(opened);
            set_aside(&dir, &id.to_string())?;
        }
        let mut nameless = self.nameless.lock();
        if let Some(at) = nameless.iter().position(|f| f.topic_partition == name) {
            set_aside(&nameless.swap_remove(at).dir, "no-id")?;
        }
        drop(nameless);
        self.checkpoints.lock().forget(&name)?;
        let (log, _) = DiskLog::open(
            RealVfs,
            self.dir.log_path(&name),
            name,
            partition.topic_id,
            config,
            OpenMode::default(),
            wall_ms(),
        )?;
        Ok((log, Offset(0)))
    }

    /// Deletes the log of a partition that was moved to other brokers while this one was away: its directory is renamed,
    /// the files are the caller's to remove. Nothing, if none was found at start.
    pub(crate) fn discard(
        &self,
        partition: &TopicIdPartition,
    ) -> Result<Option<DeletedDir<RealVfs>>, LogError> {
        let name = partition.topic_partition();
        let mut waiting = self.waiting.lock();
        let is_its = |found: &Opened| found.log.topic_id() == partition.topic_id;
        if !waiting.get(&name).is_some_and(is_its) {
            return Ok(None);
        }
        let found = waiting.remove(&name);
        drop(waiting);
        found.map(|found| found.log.delete()).transpose()
    }

    /// The metadata is complete: what was found and not taken is renamed and left.
    pub(crate) fn set_strays_aside(&self) -> Result<(), LogError> {
        let strays: Vec<_> = self
            .waiting
            .lock()
            .drain()
            .map(|(_, opened)| opened)
            .collect();
        for opened in strays {
            let (dir, id) = (opened.log.dir().to_owned(), opened.log.topic_id());
            drop(opened);
            set_aside(&dir, &id.to_string())?;
        }
        let nameless = std::mem::take(&mut *self.nameless.lock());
        for found in nameless {
            set_aside(&found.dir, "no-id")?;
        }
        Ok(())
    }

    /// Whether some logs have not been asked for yet.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.lock().is_empty() || !self.nameless.lock().is_empty()
    }

    /// The logs that nobody took, to be closed with the others at a clean stop: metadata may never have come.
    pub(crate) fn close_waiting(&self) -> Result<Vec<ClosedLog>, LogError> {
        let mut closed = Vec::new();
        for (name, mut opened) in self.waiting.lock().drain() {
            opened.log.close()?;
            closed.push(ClosedLog {
                name,
                log_start: opened.log.log_start_offset(),
                recovery_point: opened.log.recovery_point(),
                first_dirty: opened.log.first_dirty_offset(),
                high_watermark: opened.high_watermark,
            });
        }
        Ok(closed)
    }

    /// The file system that it lies on.
    pub(crate) fn volume(&self) -> std::io::Result<Volume> {
        volume_of(self.dir.path())
    }

    /// Replaces checkpoints where they differ from what was written last. While one does, no log is made: what is written
    /// speaks of logs that are there, read under this guard.
    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, OffsetCheckpoints<RealVfs>> {
        self.checkpoints.lock()
    }
}

/// Renames the directory of a log that the metadata does not know.
pub(crate) fn set_aside(dir: &Path, id: &str) -> Result<(), LogError> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{id}-stray"));
    let to = dir.with_file_name(name);
    tracing::warn!(from = %dir.display(), to = %to.display(), "the metadata does not know this log: set aside");
    RealVfs.rename(dir, &to).map_err(|source| LogError::Io {
        operation: "rename",
        path: dir.to_owned(),
        source,
    })
}

type Waiting = HashMap<TopicPartition, Opened>;

/// Opens the logs on as many threads as there are cores; recovery reads whole segments.
fn open_all(contents: LogDirContents) -> Result<(Waiting, Vec<FoundLog>), LogError> {
    let (named, nameless): (Vec<_>, Vec<_>) = contents
        .logs
        .into_iter()
        .partition(|found| found.topic_id.is_some());
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let (next, opened) = (AtomicUsize::new(0), Mutex::new(Ok(HashMap::new())));
    std::thread::scope(|scope| {
        for _ in 0..cores.min(named.len()) {
            scope.spawn(|| {
                while let Some(found) = named.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = open_found(found);
                    let mut opened = opened.lock();
                    match (result, opened.as_mut()) {
                        (Ok(log), Ok(all)) => {
                            all.insert(found.topic_partition.clone(), log);
                        }
                        (Err(error), Ok(_)) => *opened = Err(error),
                        (_, Err(_)) => return,
                    }
                }
            });
        }
    });
    Ok((opened.into_inner()?, nameless))
}

fn open_found(found: &FoundLog) -> Result<Opened, LogError> {
    let (log, report) = DiskLog::open(
        RealVfs,
        PathBuf::clone(&found.dir),
        found.topic_partition.clone(),
        found.topic_id.unwrap_or_default(),
        LogConfig::default(),
        found.mode,
        wall_ms(),
    )?;
    if report.truncated_bytes > 0 || report.removed_segments > 0 {
        tracing::warn!(log = %found.topic_partition, ?report, "recovered a log with a damaged end");
    }
    Ok(Opened {
        log,
        high_watermark: found.high_watermark.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use broker_log::OffsetCheckpoint;
    use types::TopicId;

    use super::*;

    #[test]
    fn a_log_that_is_made_anew_inherits_no_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let topic = |id| TopicIdPartition::new(TopicId([id; 16]), "profiles", 0);
        let name = topic(1).topic_partition();
        for restarted in [false, true] {
            let directory = Directory::open(root.path()).unwrap();
            for which in OffsetCheckpoint::ALL {
                let one = BTreeMap::from([(name.clone(), Offset(100))]);
                directory.checkpoints().write(which, one).unwrap();
            }
            let directory = if restarted {
                Directory::open(root.path()).unwrap()
            } else {
                directory
            };
            let id = if restarted { 2 } else { 1 };
            let (log, _) = directory.take(&topic(id), LogConfig::default()).unwrap();
            assert_eq!(log.first_dirty_offset(), Offset(0));
            for which in OffsetCheckpoint::ALL {
                let left = directory.dir().read_checkpoint(which).unwrap();
                assert_eq!(left.get(&name), None, "{which:?}");
            }
            drop(log);
            std::fs::remove_dir_all(directory.dir().log_path(&name)).unwrap();
        }
    }
}
