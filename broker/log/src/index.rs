//! Where in a segment is an offset? The sparse `.index` file, and the entry files that all indexes are.
//!
//! While a segment is active its entries are in memory and reach the file only at a roll, a flush or a close: after
//! a crash they are made again from the batches. Of a sealed segment nothing stays in memory; a lookup is a binary
//! search in the file, a few reads of 8 bytes. So 6,000 partitions cost neither memory, nor maps, nor descriptors.

use std::path::{Path, PathBuf};

use crate::vfs::{Vfs, VfsFile, read_file};
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

/// How many entries of a sealed file are read at once when a binary search has come that close.
const BLOCK_ENTRIES: usize = 512;

/// A file of entries in ascending order.
#[derive(Debug)]
pub(crate) struct EntryFile<E> {
    path: PathBuf,
    /// All entries, while the segment is active.
    hot: Option<Vec<E>>,
    /// How many entries are in the file.
    persisted: usize,
    /// Whether the file holds something else than `persisted` entries that came from us.
    stale: bool,
}

impl<E: Entry> EntryFile<E> {
    /// The empty index of a new segment; a file that is there is replaced.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            hot: Some(Vec::new()),
            persisted: 0,
            stale: true,
        }
    }

    /// The index of a sealed segment, whose file has `len` bytes.
    pub(crate) fn sealed(path: PathBuf, len: u64) -> Self {
        let entries = len / E::LEN as u64;
        Self {
            path,
            hot: None,
            persisted: usize::try_from(entries).unwrap_or(usize::MAX),
            stale: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.hot.as_ref().map_or(self.persisted, Vec::len)
    }

    /// Adds an entry to the index of an active segment.
    pub(crate) fn push(&mut self, entry: E) {
        debug_assert!(
            self.hot.is_some(),
            "entries are added to active segments only"
        );
        if let Some(entries) = &mut self.hot {
            entries.push(entry);
        }
    }

    /// The entries in memory (of an active segment).
    pub(crate) fn entries(&self) -> &[E] {
        self.hot.as_deref().unwrap_or(&[])
    }

    /// The last entry for which `holds`; it must hold for a prefix of the entries.
    pub(crate) fn floor<V: Vfs>(
        &self,
        vfs: &V,
        holds: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, LogError> {
        if let Some(entries) = &self.hot {
            return Ok(last_where(entries, &holds));
        }
        if self.persisted == 0 {
            return Ok(None);
        }
        let failed = |source| LogError::io("read", &self.path, source);
        let file = vfs.open(&self.path).map_err(failed)?;
        let (mut low, mut high) = (0, self.persisted);
        let mut bytes = Vec::new();
        // The answer is in low-1..high: entries before low hold, those from high on do not.
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
        Ok(last_where(&entries, &holds))
    }

    /// The last entry.
    pub(crate) fn last<V: Vfs>(&self, vfs: &V) -> Result<Option<E>, LogError> {
        if let Some(entries) = &self.hot {
            return Ok(entries.last().copied());
        }
        let Some(last) = self.persisted.checked_sub(1) else {
            return Ok(None);
        };
        let failed = |source| LogError::io("read", &self.path, source);
        let file = vfs.open(&self.path).map_err(failed)?;
        let mut bytes = Vec::with_capacity(E::LEN);
        file.read_full_at((last * E::LEN) as u64, E::LEN, &mut bytes)
            .map_err(failed)?;
        Ok(E::decode(&bytes))
    }

    /// Brings all entries of a sealed file into memory: its segment becomes active.
    pub(crate) fn load<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        if self.hot.is_some() {
            return Ok(());
        }
        let bytes = read_file(vfs, &self.path)?.unwrap_or_default();
        let entries: Vec<E> = bytes.chunks_exact(E::LEN).filter_map(E::decode).collect();
        self.persisted = entries.len();
        self.stale = bytes.len() != entries.len() * E::LEN;
        self.hot = Some(entries);
        Ok(())
    }

    /// Keeps the first `count` entries of an active segment. The file follows at the next write.
    pub(crate) fn truncate(&mut self, count: usize) {
        if let Some(entries) = &mut self.hot {
            entries.truncate(count);
        }
        if self.persisted > count {
            self.persisted = count;
            self.stale = true;
        }
    }

    /// Writes what the file lacks.
    pub(crate) fn write_pending<V: Vfs>(&mut self, vfs: &V) -> Result<(), LogError> {
        let Some(entries) = &self.hot else {
            return Ok(());
        };
        if self.persisted == entries.len() && !self.stale {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity((entries.len() - self.persisted) * E::LEN);
        for entry in &entries[self.persisted..] {
            entry.encode(&mut bytes);
        }
        let at = (self.persisted * E::LEN) as u64;
        let write = || {
            let file = if self.persisted == 0 && self.stale {
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
        self.persisted = entries.len();
        self.stale = false;
        Ok(())
    }

    /// Forgets the entries in memory, all of which were written.
    pub(crate) fn seal(&mut self) {
        debug_assert!(
            !self.stale && self.count() == self.persisted,
            "written before"
        );
        self.hot = None;
    }

    /// Removes the file.
    pub(crate) fn remove<V: Vfs>(&self, vfs: &V) -> Result<(), LogError> {
        vfs::remove_if_there(vfs, &self.path)
    }
}

fn last_where<E: Copy>(entries: &[E], holds: &impl Fn(&E) -> bool) -> Option<E> {
    let end = entries.partition_point(holds);
    entries[..end].last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::FaultyVfs;

    #[test]
    fn a_sealed_index_finds_what_the_active_one_found() {
        let vfs = FaultyVfs::new(1);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        for count in [0_u32, 1, 2, 511, 512, 513, 1024, 5000] {
            let mut index = EntryFile::new(PathBuf::from("/d/i"));
            for n in 0..count {
                index.push(OffsetEntry {
                    relative: n * 10 + 5,
                    position: n,
                });
            }
            let targets = [0, 4, 5, 6, 1000, 5115, 5116, 25_000, 49_995, 60_000];
            let look = |index: &EntryFile<OffsetEntry>| {
                targets.map(|target| index.floor(&vfs, |entry| entry.relative <= target).unwrap())
            };
            let hot = look(&index);
            index.write_pending(&vfs).unwrap();
            index.seal();
            assert_eq!(look(&index), hot, "{count} entries");
            let len = u64::from(count) * 8;
            let reopened = EntryFile::sealed(PathBuf::from("/d/i"), len);
            assert_eq!(look(&reopened), hot, "{count} entries");
            assert_eq!(reopened.last(&vfs).unwrap(), index.last(&vfs).unwrap());
        }
    }

    #[test]
    fn a_truncated_index_forgets_the_rest_in_the_file_too() {
        let vfs = FaultyVfs::new(1);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        let mut index = EntryFile::new(PathBuf::from("/d/i"));
        for n in 0..10 {
            index.push(OffsetEntry {
                relative: n,
                position: n,
            });
        }
        index.write_pending(&vfs).unwrap();
        index.truncate(4);
        index.push(OffsetEntry {
            relative: 100,
            position: 100,
        });
        index.write_pending(&vfs).unwrap();
        let bytes = read_file(&vfs, Path::new("/d/i")).unwrap().unwrap();
        assert_eq!(bytes.len(), 5 * 8);
        assert_eq!(&bytes[32..], &[0, 0, 0, 100, 0, 0, 0, 100]);
    }
}
