//! Which transactions in a segment were aborted? The `.txnindex` file.
//!
//! An entry is written when the abort marker is appended, into the segment of the marker. A reader of committed records
//! collects from the segment of its offset on, until an entry's last stable offset says that no later one matters.

use std::path::{Path, PathBuf};

use types::{Offset, ProducerId};

use crate::LogError;
use crate::vfs::{Durability, Vfs, VfsFile, read_file, remove_if_there, replace_file};

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of the marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was appended: earlier offsets are all decided.
    pub last_stable_offset: Offset,
}

/// Version 0 of the entry: version (2 bytes) and the four fields.
const ENTRY_LEN: usize = 34;

impl AbortedTransaction {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&0_i16.to_be_bytes());
        out.extend_from_slice(&self.producer_id.0.to_be_bytes());
        for offset in [self.first_offset, self.last_offset, self.last_stable_offset] {
            out.extend_from_slice(&offset.0.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let field = |at: usize| -> Option<i64> {
            Some(i64::from_be_bytes(*bytes.get(at..)?.first_chunk::<8>()?))
        };
        Some(Self {
            producer_id: ProducerId(field(2)?),
            first_offset: Offset(field(10)?),
            last_offset: Offset(field(18)?),
            last_stable_offset: Offset(field(26)?),
        })
    }
}

/// The `.txnindex` file of one segment; most segments have none.
#[derive(Debug, Clone)]
pub(crate) struct TxnIndex {
    path: PathBuf,
    len: u64,
}

impl TxnIndex {
    /// The index whose file has `len` bytes, 0 if there is no file.
    pub(crate) const fn new(path: PathBuf, len: u64) -> Self {
        Self { path, len }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the entries.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Makes the file, or empties it.
    pub(crate) fn create_empty<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        vfs.create(&self.path)
            .map_err(|source| LogError::io("create", &self.path, source))?;
        self.len = 0;
        Ok(())
    }

    /// Adds an aborted transaction.
    pub(crate) fn append<V: Vfs>(
        &mut self,
        vfs: &V,
        aborted: &AbortedTransaction,
    ) -> Result<(), LogError> {
        let mut bytes = Vec::with_capacity(ENTRY_LEN);
        aborted.encode(&mut bytes);
        let write = || {
            let file = if self.len == 0 {
                vfs.create(&self.path)?
            } else {
                vfs.open(&self.path)?
            };
            file.write_at(self.len, &bytes)
        };
        write().map_err(|source| LogError::io("write", &self.path, source))?;
        self.len += ENTRY_LEN as u64;
        Ok(())
    }

    /// All entries.
    pub(crate) fn read<V: Vfs>(&self, vfs: &V) -> Result<Vec<AbortedTransaction>, LogError> {
        if self.len == 0 {
            return Ok(Vec::new());
        }
        let bytes = read_file(vfs, &self.path)?.unwrap_or_default();
        Ok(bytes
            .chunks_exact(ENTRY_LEN)
            .filter_map(AbortedTransaction::decode)
            .collect())
    }

    /// All entries that were there when this was cloned: entries are only added, but for a truncation or a deletion, after
    /// which this may be an error, or give what is left.
    pub(crate) fn read_as_it_was<V: Vfs>(
        &self,
        vfs: &V,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let mut entries = self.read(vfs)?;
        let count = usize::try_from(self.len).unwrap_or(usize::MAX) / ENTRY_LEN;
        if entries.len() < count {
            return Err(LogError::Format {
                path: self.path.clone(),
                reason: format!("it has {} of {count} entries", entries.len()),
            });
        }
        entries.truncate(count);
        Ok(entries)
    }

    /// Keeps the transactions whose marker lies before `end`.
    pub(crate) fn truncate<V: Vfs>(&mut self, vfs: &V, end: Offset) -> Result<(), LogError> {
        if self.len == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for aborted in self.read(vfs)? {
            if aborted.last_offset < end {
                aborted.encode(&mut bytes);
            }
        }
        if bytes.is_empty() {
            self.remove(vfs)?;
        } else {
            replace_file(vfs, &self.path, &bytes, Durability::Lazy)?;
        }
        self.len = bytes.len() as u64;
        Ok(())
    }

    /// Removes the file.
    pub(crate) fn remove<V: Vfs>(&self, vfs: &V) -> Result<(), LogError> {
        if self.len == 0 {
            return Ok(());
        }
        remove_if_there(vfs, &self.path)
    }

    /// Forgets all entries and the file, whatever is in it.
    pub(crate) fn reset<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        remove_if_there(vfs, &self.path)?;
        self.len = 0;
        Ok(())
    }
}
