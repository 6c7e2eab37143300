//! How does Raft read and write its log? (Reads from memory, writes through the one thread of `io.rs`.)

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, OptionalSend, StorageIOError};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::super::codec;
use super::super::types::{Entry, LogId, StorageError, TypeConfig, Vote};
use super::files::LogFilesError;
use super::io::{Done, Loaded, Write};

/// The Raft log of one disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskLog {
    memory: Arc<Mutex<Memory>>,
    writes: mpsc::Sender<Write>,
}

/// Everything that is on the disk: entries since the last snapshot and a bounded number before it.
#[derive(Debug, Default)]
struct Memory {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

impl DiskLog {
    /// Opens (or makes) the log below `metadata`.
    ///
    /// # Errors
    /// When a file cannot be used, or entries that were acknowledged are damaged.
    pub(crate) fn open(metadata: &Path) -> Result<Self, LogFilesError> {
        let (writes, loaded) = super::io::start(metadata)?;
        let memory = Memory::from_loaded(loaded, metadata)?;
        Ok(Self {
            memory: Arc::new(Mutex::new(memory)),
            writes,
        })
    }

    /// Whether this disk holds (or has purged) any entry: it belongs to a quorum. A vote alone does not count,
    /// since a disk that only voted knows no members.
    #[must_use]
    pub(crate) fn has_entries(&self) -> bool {
        let memory = self.memory.lock();
        !memory.entries.is_empty() || memory.purged.is_some()
    }

    /// Holds up every write until what is returned is dropped.
    #[cfg(test)]
    pub(crate) async fn stall(&self) -> std::sync::mpsc::SyncSender<()> {
        let (end, over) = std::sync::mpsc::sync_channel(0);
        assert!(self.writes.send(Write::Stall(over)).await.is_ok());
        end
    }

    async fn write(
        &self,
        make: impl FnOnce(Done) -> Write,
        on_error: impl FnOnce(AnyError) -> StorageIOError<u64>,
    ) -> Result<(), StorageError> {
        let (done, finished) = oneshot::channel();
        let result = match self.writes.send(make(done)).await {
            Ok(()) => finished.await.unwrap_or_else(|_| Err(thread_gone())),
            Err(_) => Err(thread_gone()),
        };
        result.map_err(|error| on_error(AnyError::new(&error)).into())
    }
}

fn thread_gone() -> io::Error {
    io::Error::other("the metadata log's thread has ended")
}

impl Memory {
    /// The index that the next entry must have; any, for a log that never had one.
    fn next_index(&self) -> Option<u64> {
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        last.max(self.purged.map(|purged| purged.index))
            .map(|last| last + 1)
    }

    fn from_loaded(loaded: Loaded, metadata: &Path) -> Result<Self, LogFilesError> {
        let mut memory = Self {
            entries: BTreeMap::new(),
            vote: loaded.vote,
            purged: loaded.purged,
        };
        for (index, bytes) in loaded.entries {
            if memory.purged.is_some_and(|purged| index <= purged.index) {
                continue;
            }
            let invalid = |source| LogFilesError::Io {
                path: metadata.join("log"),
                source,
            };
            let entry = rpc::quorum::v1::Entry::decode(bytes.as_slice())
                .map_err(|error| invalid(io::Error::other(error)))?;
            let entry =
                codec::entry_from_wire(entry).map_err(|error| invalid(io::Error::other(error)))?;
            if entry.log_id.index != index {
                return Err(LogFilesError::Damaged {
                    path: metadata.join("log"),
                    position: index,
                    what: "an entry's index is not the one its place says",
                });
            }
            memory.entries.insert(index, entry);
        }
        Ok(memory)
    }
}

impl RaftLogReader<TypeConfig> for DiskLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let memory = self.memory.lock();
        Ok(memory
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}

impl RaftLogStorage<TypeConfig> for DiskLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let memory = self.memory.lock();
        let last = memory
            .entries
            .last_key_value()
            .map(|(_, entry)| entry.log_id);
        Ok(LogState {
            last_purged_log_id: memory.purged,
            last_log_id: last.or(memory.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.write(
            |done| Write::Vote { vote, done },
            StorageIOError::write_vote,
        )
        .await?;
        self.memory.lock().vote = Some(vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.memory.lock().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut payloads = Vec::new();
        let mut first = None;
        {
            let mut memory = self.memory.lock();
            let mut next = memory.next_index();
            let purged = memory.purged.map(|purged| purged.index);
            for entry in entries {
                let index = entry.log_id.index;
                if Some(index) <= purged {
                    // A snapshot has it.
                    continue;
                }
                assert!(
                    next.is_none_or(|next| next == index),
                    "entry {index} does not follow what is there ({next:?} would): Raft truncates before it overwrites, \
                     and purges what a snapshot replaced before it goes on behind it"
                );
                next = Some(index + 1);
                first.get_or_insert(index);
                payloads.push(codec::entry_to_wire(&entry).encode_to_vec());
                memory.entries.insert(index, entry);
            }
        }
        let Some(first) = first else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let write = Write::Append {
            first,
            payloads,
            flushed: callback,
        };
        self.writes
            .send(write)
            .await
            .map_err(|_| StorageIOError::write_logs(AnyError::new(&thread_gone())).into())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let index = log_id.index;
        self.memory.lock().entries.split_off(&index);
        self.write(
            |done| Write::Truncate { index, done },
            StorageIOError::write_logs,
        )
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        {
            let mut memory = self.memory.lock();
            memory.purged = memory.purged.max(Some(log_id));
            memory.entries = memory.entries.split_off(&(log_id.index + 1));
        }
        self.write(
            |done| Write::Purge { upto: log_id, done },
            StorageIOError::write_logs,
        )
        .await
    }
}
