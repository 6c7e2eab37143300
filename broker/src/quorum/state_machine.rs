//! What happens to a committed entry? (It is handed to the [`Machine`], unless it is void.)

use std::io;
use std::path::Path;

use bytes::Bytes;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, StorageIOError};

use super::storage::snapshot::SnapshotFile;
use super::types::{
    Applied, Entry, LogId, SnapshotData, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};

/// A committed entry could not be applied: this build does not understand it, or the disk is wrong.
#[derive(Debug, thiserror::Error)]
#[error("failed to apply the metadata at offset {offset}: {what}")]
pub struct MachineError {
    /// The metadata offset.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Serialises a frozen image, off the thread that applies entries.
pub type Freeze = Box<dyn FnOnce() -> Bytes + Send + Sync>;

/// What the quorum replicates: a deterministic state that changes only by committed record batches.
///
/// Offsets ascend but have gaps: the quorum's own entries carry no records.
pub trait Machine: Send + Sync + 'static {
    /// Applies one committed batch.
    ///
    /// # Errors
    /// When the records make no sense to this build; the node then stops instead of diverging.
    fn apply(&mut self, offset: u64, records: &Bytes) -> Result<(), MachineError>;

    /// Takes a view of the state that later batches do not change.
    fn freeze(&self) -> Freeze;

    /// Replaces the state by what [`Machine::freeze`] gave on some node at `offset`.
    ///
    /// # Errors
    /// When the image makes no sense to this build.
    fn restore(&mut self, offset: u64, image: &Bytes) -> Result<(), MachineError>;
}

/// Raft's view of the machine.
pub(crate) struct StateMachine {
    machine: Box<dyn Machine>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: SnapshotFile,
}

impl StateMachine {
    /// Takes the state from the newest snapshot below `metadata`, when there is one.
    pub(crate) fn open(metadata: &Path, mut machine: Box<dyn Machine>) -> io::Result<Self> {
        let snapshot = SnapshotFile::new(metadata);
        let (last_applied, membership) = match snapshot.load()? {
            Some((meta, data)) => {
                let offset = meta.last_log_id.map_or(0, |id| id.index);
                machine.restore(offset, &data.0).map_err(io::Error::other)?;
                (meta.last_log_id, meta.last_membership)
            }
            None => (None, StoredMembership::default()),
        };
        Ok(Self {
            machine,
            last_applied,
            membership,
            snapshot,
        })
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<Applied, StorageError> {
        let log_id = entry.log_id;
        let mut accepted = true;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
            }
            EntryPayload::Normal(proposal) if proposal.term == log_id.leader_id.term => {
                self.machine
                    .apply(log_id.index, &proposal.records)
                    .map_err(|error| StorageIOError::apply(log_id, AnyError::new(&error)))?;
            }
            EntryPayload::Normal(_) => accepted = false,
        }
        self.last_applied = Some(log_id);
        Ok(Applied { accepted })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        entries
            .into_iter()
            .map(|entry| self.apply_entry(entry))
            .collect()
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
                snapshot_id: self
                    .last_applied
                    .map_or_else(|| "empty".to_owned(), |id| id.to_string()),
            },
            freeze: Some(self.machine.freeze()),
            file: self.snapshot.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let failed =
            |error: AnyError| StorageIOError::write_snapshot(Some(meta.signature()), error);
        save(&self.snapshot, meta, &snapshot)
            .await
            .map_err(|error| failed(AnyError::new(&error)))?;
        let offset = meta.last_log_id.map_or(0, |id| id.index);
        self.machine
            .restore(offset, &snapshot.0)
            .map_err(|error| failed(AnyError::new(&error)))?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let loaded = self
            .snapshot
            .load()
            .map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        Ok(loaded.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(data),
        }))
    }
}

/// Serialises and saves one frozen state.
pub(crate) struct SnapshotBuilder {
    meta: SnapshotMeta,
    freeze: Option<Freeze>,
    file: SnapshotFile,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let failed = |error: io::Error| {
            StorageIOError::write_snapshot(Some(self.meta.signature()), AnyError::new(&error))
        };
        let freeze = self
            .freeze
            .take()
            .ok_or_else(|| failed(io::Error::other("a snapshot builder builds once")))?;
        let image = tokio::task::spawn_blocking(freeze)
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        let data = SnapshotData(image);
        save(&self.file, &self.meta, &data).await.map_err(failed)?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(data),
        })
    }
}

async fn save(file: &SnapshotFile, meta: &SnapshotMeta, data: &SnapshotData) -> io::Result<()> {
    let (file, meta, data) = (file.clone(), meta.clone(), data.clone());
    tokio::task::spawn_blocking(move || file.save(&meta, &data))
        .await
        .map_err(io::Error::other)?
}
