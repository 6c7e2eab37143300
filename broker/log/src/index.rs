//! Where in a segment is an offset? The sparse `.index` file, and the entry files that all indexes are.
//!
//! Of an active segment the newest few hundred entries are in memory (where nearly all lookups go), older ones have been
//! written; of a sealed segment nothing is in memory. A lookup in the file is a binary search, a few reads of 8 bytes. So
//! thousands of partitions cost neither memory, nor maps, nor descriptors. After a crash the entries of segments behind
//! the recovery point are made again from the batches, so nothing here is ever synced before its segment is sealed.

use std::path::{Path, PathBuf};

use crate::vfs::{Vfs, VfsFile};
use crate::{LogError, vfs};

/// An entry of fixed size.
pub(crate) trait Entry: Copy + std::fmt::Debug {
    /// Its bytes in the file.
    const LEN: usize;
    fn encode(self, out: &mut Vec<u8>);
    /// `None` for fewer bytes than [`Entry::LEN`].
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// An entry of the offset index: the batch at `position` ends with offset base + `relative`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative: u32,
    pub(crate) position: u32,
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (relative, rest) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            relative: u32::from_be_bytes(*relative),
            position: u32::from_be_bytes(*rest.first_chunk::<4>()?),
        })
    }
}

/// How many entries of a file are read at once when a binary search has come that close.
const BLOCK_ENTRIES: usize = 512;

/// How many entries stay in memory at least: with one per 4 KiB, they cover the newest MiB of the segment.
const KEEP: usize = 256;

/// A file of entries in ascending order.
#[derive(Debug)]
pub(crate) struct EntryFile<E> {
    path: PathBuf,
    /// The newest entries; all others are in the file.
    tail: Vec<E>,
    /// How many entries come before the tail.
    tail_from: usize,
    /// How many entries are in the file; at least `tail_from`.
    written: usize,
    /// Whether the file does not exist yet, or goes on behind them.
    stale: bool,
    /// Whether what was written is durable.
    synced: bool,
}

impl<E: Entry> EntryFile<E> {
    /// The empty index of a new segment; a file that is there is replaced.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            tail: Vec::new(),
            tail_from: 0,
            written: 0,
            stale: true,
            synced: false,
        }
    }

    /// The index of a sealed segment, whose file has `len` bytes.
    pub(crate) fn sealed(path: PathBuf, len: u64) -> Self {
        let entries = usize::try_from(len / E::LEN as u64).unwrap_or(usize::MAX);
        Self {
            path,
            tail: Vec::new(),
            tail_from: entries,
            written: entries,
            stale: !len.is_multiple_of(E::LEN as u64),
            synced: true,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many entries there are.
    pub(crate) const fn count(&self) -> usize {
        self.tail_from + self.tail.len()
    }

    /// Whether the file lacks something.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.stale || self.written != self.count()
    }

    /// Whether all entries are in the file, durable.
    pub(crate) const fn is_durable(&self) -> bool {
        self.synced && !self.is_dirty()
    }

    /// The file was synced after the last write.
    pub(crate) const fn mark_synced(&mut self) {
        self.synced = true;
    }

    /// Adds an entry to the index of an active segment.
    pub(crate) fn push(&mut self, entry: E) {
        self.tail.push(entry);
    }

    /// The last entry in memory: the very last one, if the segment is active.
    pub(crate) fn newest(&self) -> Option<E> {
        self.tail.last().copied()
    }

    fn read<V: Vfs>(&self, vfs: &V, from: usize, count: usize) -> Result<Vec<E>, LogError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::with_capacity(count * E::LEN);
        let read = vfs
            .open(&self.path)
            .and_then(|file| file.read_full_at((from * E::LEN) as u64, count * E::LEN, &mut bytes));
        read.map_err(|source| LogError::io("read", &self.path, source))?;
        Ok(bytes.chunks_exact(E::LEN).filter_map(E::decode).collect())
    }

    /// How many entries there are for which `holds`, and the last of them; it must hold for a prefix of the entries.
    fn prefix<V: Vfs>(
        &self,
        vfs: &V,
        holds: impl Fn(&E) -> bool,
    ) -> Result<(usize, Option<E>), LogError> {
        if self.tail_from == 0 || self.tail.first().is_some_and(&holds) {
            let end = self.tail.partition_point(holds);
            let last = self.tail[..end].last().copied();
            return Ok((self.tail_from + end, last));
        }
        let failed = |source| LogError::io("read", &self.path, source);
        let file = vfs.open(&self.path).map_err(failed)?;
        let (mut low, mut high) = (0, self.tail_from);
        let mut bytes = Vec::new();
        // The answer is in low..=high: entries before low hold, those from high on do not.
        while high - low > BLOCK_ENTRIES {
            let middle = low.midpoint(high);
            bytes.clear();
            file.read_full_at((middle * E::LEN) as u64, E::LEN, &mut bytes)
                .map_err(failed)?;
            match E::decode(&bytes) {
                Some(entry) if holds(&entry) => low = middle + 1,
                // A file that ends early has no entries there.
                Some(_) | None => high = middle,
            }
        }
        let from = low.saturating_sub(1);
        bytes.clear();
        file.read_full_at((from * E::LEN) as u64, (high - from) * E::LEN, &mut bytes)
            .map_err(failed)?;
        let entries: Vec<E> = bytes.chunks_exact(E::LEN).filter_map(E::decode).collect();
        let end = entries.partition_point(holds);
        Ok((from + end, entries[..end].last().copied()))
    }

    /// The last entry for which `holds`; it must hold for a prefix of the entries.
    pub(crate) fn floor<V: Vfs>(
        &self,
        vfs: &V,
        holds: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, LogError> {
        Ok(self.prefix(vfs, holds)?.1)
    }

    /// The last entry.
    pub(crate) fn last<V: Vfs>(&self, vfs: &V) -> Result<Option<E>, LogError> {
        match (self.newest(), self.tail_from) {
            (Some(newest), _) => Ok(Some(newest)),
            (None, 0) => Ok(None),
            (None, count) => Ok(self.read(vfs, count - 1, 1)?.first().copied()),
        }
    }

    /// Brings the newest entries into memory: the segment becomes active.
    pub(crate) fn activate<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        if self.tail.is_empty() {
            let from = self.tail_from.saturating_sub(KEEP);
            self.tail = self.read(vfs, from, self.tail_from - from)?;
            self.tail_from = from;
            // The file may have been cut since it was listed.
            self.written = self.written.min(self.count());
        }
        Ok(())
    }

    /// Keeps the entries of an active segment for which `holds`, a prefix. The file follows at the next write.
    pub(crate) fn truncate<V: Vfs>(
        &mut self,
        vfs: &V,
        holds: impl Fn(&E) -> bool,
    ) -> Result<(), LogError> {
        let (keep, _) = self.prefix(vfs, holds)?;
        if keep >= self.tail_from {
            self.tail.truncate(keep - self.tail_from);
        } else {
            self.tail.clear();
            self.tail_from = keep;
        }
        if self.written > keep {
            self.written = keep;
            self.stale = true;
        }
        self.activate(vfs)
    }

    /// Writes what the file lacks.
    pub(crate) fn write_pending<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        if !self.is_dirty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for entry in &self.tail[self.written - self.tail_from..] {
            entry.encode(&mut bytes);
        }
        let at = (self.written * E::LEN) as u64;
        let write = || {
            let file = if self.written == 0 && self.stale {
                vfs.create(&self.path)?
            } else {
                vfs.open(&self.path)?
            };
            if self.stale {
                file.truncate(at)?;
            }
            file.write_at(at, &bytes)
        };
        write().map_err(|source| LogError::io("write", &self.path, source))?;
        self.written = self.count();
        self.stale = false;
        self.synced = false;
        Ok(())
    }

    /// Writes and forgets older entries when many are in memory.
    pub(crate) fn spill<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        if self.tail.len() < 2 * KEEP {
            return Ok(());
        }
        self.write_pending(vfs)?;
        let old = self.tail.len() - KEEP;
        self.tail.drain(..old);
        self.tail_from += old;
        Ok(())
    }

    /// Forgets the entries in memory, all of which were written.
    pub(crate) fn seal(&mut self) {
        debug_assert!(!self.is_dirty(), "written before");
        self.tail_from = self.count();
        self.tail = Vec::new();
    }

    /// Removes the file.
    pub(crate) fn remove<V: Vfs>(&self, vfs: &V) -> Result<(), LogError> {
        vfs::remove_if_there(vfs, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::FaultyVfs;
    use crate::vfs::read_file;

    fn index(count: u32, vfs: &FaultyVfs) -> EntryFile<OffsetEntry> {
        let mut index = EntryFile::new(PathBuf::from("/d/i"));
        for n in 0..count {
            index.push(OffsetEntry {
                relative: n * 10 + 5,
                position: n,
            });
            index.spill(vfs).unwrap();
        }
        index
    }

    fn file_system() -> FaultyVfs {
        let vfs = FaultyVfs::new(1);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        vfs
    }

    #[test]
    fn every_entry_is_found_in_memory_and_in_the_file() {
        let vfs = file_system();
        for count in [0_u32, 1, 2, 511, 512, 513, 1024, 5000] {
            let look = |index: &EntryFile<OffsetEntry>| {
                for target in (0..count * 10 + 20).step_by(7) {
                    let want =
                        (target >= 5 && count > 0).then(|| ((target - 5) / 10).min(count - 1));
                    let got = index.floor(&vfs, |entry| entry.relative <= target).unwrap();
                    assert_eq!(got.map(|entry| entry.position), want, "{target} of {count}");
                }
                let last = index.last(&vfs).unwrap().map(|entry| entry.position + 1);
                assert_eq!(last.unwrap_or(0), count);
            };
            let mut index = index(count, &vfs);
            assert!(index.tail.len() < 2 * KEEP);
            look(&index);
            index.write_pending(&vfs).unwrap();
            index.seal();
            look(&index);
            let mut again = EntryFile::sealed(PathBuf::from("/d/i"), u64::from(count) * 8);
            look(&again);
            again.activate(&vfs).unwrap();
            assert!(!again.is_dirty());
            look(&again);
        }
    }

    #[test]
    fn a_truncated_index_forgets_the_rest_in_the_file_too() {
        let vfs = file_system();
        for (count, keep) in [
            (10, 4),
            (10, 0),
            (10, 10),
            (2000, 4),
            (2000, 1500),
            (2000, 1999),
        ] {
            for sealed in [false, true] {
                let mut index = index(count, &vfs);
                index.write_pending(&vfs).unwrap();
                if sealed {
                    index.seal();
                    index.activate(&vfs).unwrap();
                }
                index.truncate(&vfs, |entry| entry.position < keep).unwrap();
                assert_eq!(index.newest().map_or(0, |entry| entry.position + 1), keep);
                index.push(OffsetEntry {
                    relative: 1_000_000,
                    position: 1_000_000,
                });
                index.write_pending(&vfs).unwrap();
                let bytes = read_file(&vfs, Path::new("/d/i")).unwrap().unwrap();
                assert_eq!(bytes.len(), (keep as usize + 1) * 8, "{count} {keep}");
                assert_eq!(bytes[keep as usize * 8..][..4], 1_000_000_u32.to_be_bytes());
            }
        }
    }
}
