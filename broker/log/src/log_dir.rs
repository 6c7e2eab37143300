//! Which logs does a log directory hold, and what do its checkpoints say of them?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use types::{Offset, TopicId, TopicPartition};

use crate::vfs::{Durability, Vfs, read_file, remove_if_there, replace_file};
use crate::{Log, LogError, OpenMode, checkpoint, listing, partition_metadata};

/// The file that tells of a clean stop.
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
/// How the name of a directory ends whose log was deleted.
const DELETED_SUFFIX: &str = "-delete";
/// Longest name of a directory.
const MAX_NAME: usize = 255;

/// A checkpoint of one offset for each partition of a log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffsetCheckpoint {
    /// Everything before is durable. Written after flushes; a value that lags only makes recovery slower.
    RecoveryPoint,
    /// Log start offsets that are not a segment's base offset. Written before `DeleteRecords` is answered.
    LogStart,
    /// Where the part of a log begins that was never compacted. One that lags only means that more is read.
    Cleaner,
    /// High watermarks. Written from time to time and at a clean stop.
    HighWatermark,
}

impl OffsetCheckpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RecoveryPoint,
        Self::LogStart,
        Self::Cleaner,
        Self::HighWatermark,
    ];

    /// Kafka's name of the file.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::LogStart => "log-start-offset-checkpoint",
            Self::Cleaner => "cleaner-offset-checkpoint",
            Self::HighWatermark => "replication-offset-checkpoint",
        }
    }
}

/// A directory of logs, as `log.dirs` names it.
#[derive(Debug, Clone)]
pub struct LogDir<V: Vfs> {
    vfs: V,
    root: PathBuf,
}

/// What a log directory held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogDirContents {
    /// Whether the last stop was clean.
    pub clean_shutdown: bool,
    /// The broker epoch of the process that stopped cleanly, as far as it is told.
    pub clean_epoch: Option<i64>,
    /// The logs; opening them (in parallel, if the caller likes) is the caller's. One whose topic id is not that of the
    /// topic of that name any more is a stray.
    pub logs: Vec<FoundLog>,
    /// Directories of logs that were being deleted, or of logs that lost their topic id with the power before a record
    /// was written; [`LogDir::remove_deleted`] finishes that.
    pub deleted: Vec<PathBuf>,
    /// Names of directories that are no logs, and are left alone.
    pub unknown: Vec<String>,
    /// Checkpoints that were damaged and taken as empty, and damaged `partition.metadata` (opening that log will fail):
    /// file and reason.
    pub damaged: Vec<(PathBuf, String)>,
}

/// A log found in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLog {
    /// The partition, from the directory's name.
    pub topic_partition: TopicPartition,
    /// The topic's id, from `partition.metadata`; `None` if that is missing.
    pub topic_id: Option<TopicId>,
    /// The directory.
    pub dir: PathBuf,
    /// How to open it.
    pub mode: OpenMode,
    /// The high watermark at its last checkpoint.
    pub high_watermark: Option<Offset>,
}

impl<V: Vfs> LogDir<V> {
    /// Opens (or makes) the directory and lists what is in it. The clean-shutdown file is removed: until the next clean
    /// stop the logs count as in use.
    ///
    /// # Errors
    /// An I/O error. A damaged checkpoint is none: it is reported, and missing values only make recovery slower (or a
    /// follower start from the segments' own offsets).
    pub fn open(vfs: V, root: impl Into<PathBuf>) -> Result<(Self, LogDirContents), LogError> {
        let root = root.into();
        let parent = root.parent().unwrap_or(&root);
        // Its own name has to be durable before anything in it can be.
        vfs.create_dir_all(&root)
            .and_then(|()| vfs.sync_dir(parent))
            .map_err(|source| LogError::io("create", &root, source))?;
        let this = Self { vfs, root };
        let entries = this
            .vfs
            .list(&this.root)
            .map_err(|source| LogError::io("list", &this.root, source))?;
        let mut contents = LogDirContents {
            clean_shutdown: entries
                .iter()
                .any(|entry| entry.name == CLEAN_SHUTDOWN_FILE),
            ..LogDirContents::default()
        };
        if contents.clean_shutdown {
            contents.clean_epoch = this.read_clean_epoch()?;
        }
        let mut offsets = |checkpoint| this.read_or_report(checkpoint, &mut contents.damaged);
        let recovery_points = offsets(OffsetCheckpoint::RecoveryPoint)?;
        let log_starts = offsets(OffsetCheckpoint::LogStart)?;
        let first_dirty = offsets(OffsetCheckpoint::Cleaner)?;
        let high_watermarks = offsets(OffsetCheckpoint::HighWatermark)?;
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            let dir = this.root.join(&entry.name);
            if entry.name.ends_with(DELETED_SUFFIX) && entry.name.contains('.') {
                contents.deleted.push(dir);
                continue;
            }
            let Some(topic_partition) = parse_dir_name(&entry.name) else {
                contents.unknown.push(entry.name);
                continue;
            };
            let topic_id = match partition_metadata::read(&this.vfs, &dir) {
                Err(LogError::Format { path, reason }) => {
                    contents.damaged.push((path, reason));
                    None
                }
                read => read?,
            };
            if topic_id.is_none() && this.is_unfinished(&dir)? {
                contents.deleted.push(dir);
                continue;
            }
            let offset = |of: &HashMap<TopicPartition, Offset>| of.get(&topic_partition).copied();
            contents.logs.push(FoundLog {
                topic_id,
                mode: OpenMode {
                    clean_shutdown: contents.clean_shutdown,
                    recovery_point: offset(&recovery_points).unwrap_or_default(),
                    log_start_offset: offset(&log_starts).unwrap_or_default(),
                    first_dirty_offset: offset(&first_dirty).unwrap_or_default(),
                },
                high_watermark: offset(&high_watermarks),
                dir,
                topic_partition,
            });
        }
        if contents.clean_shutdown {
            remove_if_there(&this.vfs, &this.root.join(CLEAN_SHUTDOWN_FILE))?;
        }
        // Also if it is gone already: an earlier start may have failed before its removal was durable.
        this.sync()?;
        Ok((this, contents))
    }

    /// What [`Self::mark_clean_shutdown`] wrote. A file that is not understood is still one.
    fn read_clean_epoch(&self) -> Result<Option<i64>, LogError> {
        let bytes = read_file(&self.vfs, &self.root.join(CLEAN_SHUTDOWN_FILE))?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let epoch = text.as_deref().and_then(|text| {
            let (_, rest) = text.split_once("\"brokerEpoch\":")?;
            let mut parts = rest.trim_start().split(|c: char| !c.is_ascii_digit());
            parts.next()?.parse().ok()
        });
        Ok(epoch)
    }

    fn is_unfinished(&self, dir: &Path) -> Result<bool, LogError> {
        let entries = self.vfs.list(dir);
        let entries = entries.map_err(|source| LogError::io("list", dir, source))?;
        Ok(listing::is_unfinished(&entries))
    }

    fn read_or_report(
        &self,
        checkpoint: OffsetCheckpoint,
        damaged: &mut Vec<(PathBuf, String)>,
    ) -> Result<HashMap<TopicPartition, Offset>, LogError> {
        match self.read_checkpoint(checkpoint) {
            Ok(offsets) => Ok(offsets),
            Err(LogError::Format { path, reason }) => {
                damaged.push((path, reason));
                Ok(HashMap::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the names in the directory durable: that logs were deleted.
    ///
    /// # Errors
    /// An I/O error.
    pub fn sync(&self) -> Result<(), LogError> {
        self.vfs
            .sync_dir(&self.root)
            .map_err(|source| LogError::io("sync", &self.root, source))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The directory of a partition's log.
    #[must_use]
    pub fn log_path(&self, topic_partition: &TopicPartition) -> PathBuf {
        self.root.join(topic_partition.to_string())
    }

    /// Bytes that can still be written to the file system.
    ///
    /// # Errors
    /// An I/O error.
    pub fn free_bytes(&self) -> Result<u64, LogError> {
        self.vfs
            .free_bytes(&self.root)
            .map_err(|source| LogError::io("look at", &self.root, source))
    }

    /// Reads a checkpoint; one that does not exist is empty.
    ///
    /// # Errors
    /// An I/O error, or [`LogError::Format`].
    pub fn read_checkpoint(
        &self,
        which: OffsetCheckpoint,
    ) -> Result<HashMap<TopicPartition, Offset>, LogError> {
        let entries = checkpoint::read(&self.vfs, &self.root.join(which.file_name()), |line| {
            let mut fields = line.split(' ');
            let topic = fields.next()?;
            let partition = fields.next()?.parse().ok()?;
            let offset = fields.next()?.parse().ok()?;
            (fields.next().is_none() && !topic.is_empty())
                .then(|| (TopicPartition::new(topic, partition), Offset(offset)))
        })?;
        Ok(entries.unwrap_or_default().into_iter().collect())
    }

    /// Replaces a checkpoint, durable.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write_checkpoint<'a>(
        &self,
        which: OffsetCheckpoint,
        offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), LogError> {
        let lines = offsets.map(|(at, offset)| format!("{} {} {offset}", at.topic, at.partition));
        checkpoint::write(
            &self.vfs,
            &self.root.join(which.file_name()),
            lines,
            Durability::Synced,
        )
    }

    /// Tells the next start that all logs were closed and the checkpoints written. The last thing a clean stop does:
    /// nothing may be appended afterwards, whatever it answers.
    ///
    /// # Errors
    /// An I/O error. The mark may be there all the same.
    pub fn mark_clean_shutdown(&self, broker_epoch: Option<i64>) -> Result<(), LogError> {
        let epoch = broker_epoch.unwrap_or(-1);
        let json = format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}");
        replace_file(
            &self.vfs,
            &self.root.join(CLEAN_SHUTDOWN_FILE),
            json.as_bytes(),
            Durability::Synced,
        )
    }

    /// Renames the directory of a log that is not open (a stray that its owner gave up) so that it no longer counts;
    /// durable after [`LogDir::sync`].
    ///
    /// # Errors
    /// An I/O error.
    pub fn give_up(&self, found: &FoundLog) -> Result<DeletedDir<V>, LogError> {
        let topic_id = found.topic_id.unwrap_or_default();
        rename_deleted(&self.vfs, &found.dir, &found.topic_partition, topic_id)
    }

    /// The directory of a log whose deletion was interrupted, to be removed.
    pub fn remove_deleted(&self, dir: PathBuf) -> DeletedDir<V> {
        DeletedDir {
            vfs: self.vfs.clone(),
            dir,
        }
    }
}

/// The partition of a directory `TOPIC-PARTITION`.
fn parse_dir_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let topic_ok = !topic.is_empty() && topic.len() <= 249 && topic.bytes().all(legal);
    let partition = partition.parse().ok().filter(|_| digits && topic_ok)?;
    Some(TopicPartition::new(topic, partition))
}

/// A directory that no longer counts as a log.
#[derive(Debug)]
#[must_use = "the files are still there until they are removed"]
pub struct DeletedDir<V: Vfs> {
    vfs: V,
    dir: PathBuf,
}

impl<V: Vfs> DeletedDir<V> {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Removes it with all files, which may take a while.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove(self) -> Result<(), LogError> {
        match self.vfs.remove_dir_all(&self.dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::io("remove", &self.dir, source))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl<V: Vfs> Log<V> {
    /// Deletes the log: its directory is renamed, so that it does not come back after [`LogDir::sync`], one for all logs of
    /// a topic. The files go with [`DeletedDir::remove`], which needs no lock. Works on a log that is offline, too.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete(self) -> Result<DeletedDir<V>, LogError> {
        rename_deleted(&self.vfs, &self.dir, &self.topic_partition, self.topic_id)
    }
}

fn rename_deleted<V: Vfs>(
    vfs: &V,
    dir: &Path,
    topic_partition: &TopicPartition,
    topic_id: TopicId,
) -> Result<DeletedDir<V>, LogError> {
    let unique: String = topic_id
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let rest = format!("-{}.{unique}{DELETED_SUFFIX}", topic_partition.partition);
    let mut topic = topic_partition.topic.to_string();
    topic.truncate(MAX_NAME.saturating_sub(rest.len()));
    let to = dir.with_file_name(format!("{topic}{rest}"));
    let renamed = || {
        // Left over from an earlier log of the same id.
        match vfs.remove_dir_all(&to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        vfs.rename(dir, &to)
    };
    renamed().map_err(|source| LogError::io("rename", dir, source))?;
    Ok(DeletedDir {
        vfs: vfs.clone(),
        dir: to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_topic_and_partition_name_a_log() {
        for (name, parsed) in [
            ("orders-0", Some(("orders", 0))),
            ("a-b.c_d-17", Some(("a-b.c_d", 17))),
            ("__consumer_offsets-49", Some(("__consumer_offsets", 49))),
            ("orders", None),
            ("-0", None),
            ("orders-", None),
            ("orders-x", None),
            ("orders-+1", None),
            ("or ders-1", None),
            ("orders-99999999999", None),
        ] {
            let want = parsed.map(|(topic, partition)| TopicPartition::new(topic, partition));
            assert_eq!(parse_dir_name(name), want, "{name}");
        }
    }
}
