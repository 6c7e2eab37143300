//! How does a copy take the place of its segments, whatever happens meanwhile?
//!
//! 1. Under the lock, if the segments are still what was copied: the `.cleaned` files become `.swap`, the batches last.
//!    A durable `.log.swap` is the decision.
//! 2. Off the lock the directory is synced. What removes one of the segments now (a truncation, retention) takes the
//!    decision back first.
//! 3. Under the lock: the later segments of the group are removed, the last first, then the `.swap` files get their names,
//!    the batches last. Until then the old first segment is there, so a `.swap` always has something to replace.
//!
//! At the start [`complete`] does step 3 for a `.log.swap` that is found, and removes what did not get that far.

use std::io;
use std::path::{Path, PathBuf};

use types::Offset;

use super::recopy::Recopied;
use crate::scan::{Check, Scanner, Step};
use crate::segment::{CLEANED, EXTENSIONS, SCAN_WINDOW, SWAP, file_path};
use crate::vfs::{DirEntry, Vfs, remove_if_there};
use crate::{Log, LogError, producer_snapshot};

impl<V: Vfs> Log<V> {
    /// Step 1; `false` if the log changed since it was copied.
    pub(crate) fn begin_swap(&mut self, copy: &Recopied<V>) -> Result<bool, LogError> {
        let changed = self.generation != copy.generation || !self.holds(&copy.replaces);
        if changed || self.offline.is_some() {
            return Ok(false);
        }
        let base = copy.segment.base;
        let renamed = self.rename_all(base, CLEANED, SWAP);
        self.pending_swap = Some(base);
        self.note_change();
        if renamed.is_err() {
            self.cancel_swap()?;
        }
        renamed.map(|()| true)
    }

    /// Step 3, after the directory was synced; `false` if the decision was taken back.
    pub(crate) fn finish_swap(
        &mut self,
        copy: &Recopied<V>,
        synced: io::Result<()>,
    ) -> Result<bool, LogError> {
        if self.pending_swap != Some(copy.segment.base) {
            return Ok(false);
        }
        let synced = synced.map_err(|source| LogError::io("sync", &self.dir, source));
        let result = synced.and_then(|()| self.try_finish_swap(copy));
        // Which names are there is not known after an error: only opening the log anew tells.
        self.hard_guard(result)?;
        Ok(true)
    }

    fn try_finish_swap(&mut self, copy: &Recopied<V>) -> Result<(), LogError> {
        let base = copy.segment.base;
        for source in copy.replaces.iter().skip(1).rev() {
            remove_files(&self.vfs, &self.dir, source.base)?;
        }
        self.rename_all(base, SWAP, "")?;
        self.pending_swap = None;
        self.note_change();
        let from = self.segment_of(base);
        let to = from + copy.replaces.len();
        let end = self.segment_end(to - 1);
        let segment = copy.segment.renamed(&self.dir);
        self.size += segment.size;
        let replaced = self.segments.splice(from..to, [segment]);
        self.size -= replaced.map(|old| old.size).sum::<u64>();
        self.hints.clear();
        self.cold.remove(|of| of >= base && of < end);
        self.remove_snapshots_within(base, end)
    }

    /// Snapshots that no longer stand at the begin of a segment.
    fn remove_snapshots_within(&mut self, base: Offset, end: Offset) -> Result<(), LogError> {
        let within = |at: &Offset| *at > base && *at < end;
        for offset in self.snapshots.iter().copied().filter(within) {
            remove_if_there(&self.vfs, &producer_snapshot::path(&self.dir, offset))?;
        }
        self.snapshots.retain(|at| !within(at));
        self.unsynced.snapshots.retain(|at| !within(at));
        Ok(())
    }

    /// Takes a decision back before one of the segments goes; durable when it returns.
    pub(crate) fn cancel_swap(&mut self) -> Result<(), LogError> {
        let Some(base) = self.pending_swap else {
            return Ok(());
        };
        for extension in EXTENSIONS {
            remove_if_there(&self.vfs, &named(&self.dir, base, extension, SWAP))?;
        }
        self.sync_dir()?;
        self.pending_swap = None;
        Ok(())
    }

    fn rename_all(&self, base: Offset, from: &str, to: &str) -> Result<(), LogError> {
        rename_all(&self.vfs, &self.dir, base, from, to)
    }
}

fn named(dir: &Path, base: Offset, extension: &str, suffix: &str) -> PathBuf {
    file_path(dir, base, &format!("{extension}{suffix}"))
}

/// Renames the files of a segment that are there, the batches last.
fn rename_all<V: Vfs>(
    vfs: &V,
    dir: &Path,
    base: Offset,
    from: &str,
    to: &str,
) -> Result<(), LogError> {
    for extension in EXTENSIONS.iter().rev() {
        let path = named(dir, base, extension, from);
        match vfs.rename(&path, &named(dir, base, extension, to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && *extension != "log" => {}
            Err(error) => return Err(LogError::io("rename", &path, error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Removes the files of a segment, the batches last.
fn remove_files<V: Vfs>(vfs: &V, dir: &Path, base: Offset) -> Result<(), LogError> {
    for extension in EXTENSIONS.iter().rev() {
        remove_if_there(vfs, &named(dir, base, extension, ""))?;
    }
    Ok(())
}

/// Ends the swaps that an earlier process decided, and removes what it left of others; answers whether files changed.
pub(crate) fn complete<V: Vfs>(
    vfs: &V,
    dir: &Path,
    entries: &[DirEntry],
) -> Result<bool, LogError> {
    let mut changed = false;
    for entry in entries {
        if let Some(base) = based(&entry.name, &format!(".log{SWAP}")) {
            let path = dir.join(&entry.name);
            // It was durable before it got its name: one that is not whole comes from a disk that loses syncs.
            if let Some(end) = sound_end(vfs, &path, entry.len)? {
                let later = |other: &&DirEntry| {
                    based(&other.name, ".log").is_some_and(|other| other > base && other < end)
                };
                for other in entries.iter().filter(later).rev() {
                    if let Some(other) = based(&other.name, ".log") {
                        remove_files(vfs, dir, other)?;
                    }
                }
                rename_all(vfs, dir, base, SWAP, "")?;
            } else {
                remove_if_there(vfs, &path)?;
            }
            changed = true;
        }
    }
    for entry in entries {
        if entry.name.ends_with(CLEANED) || entry.name.ends_with(SWAP) {
            remove_if_there(vfs, &dir.join(&entry.name))?;
            changed = true;
        }
    }
    if changed {
        vfs.sync_dir(dir)
            .map_err(|source| LogError::io("sync", dir, source))?;
    }
    Ok(changed)
}

/// The offset in a name `OFFSETsuffix`.
fn based(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let all = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all).map(Offset)
}

/// The offset after the last batch of a file of whole, sound batches.
fn sound_end<V: Vfs>(vfs: &V, path: &Path, len: u64) -> Result<Option<Offset>, LogError> {
    let file = vfs
        .open(path)
        .map_err(|source| LogError::io("open", path, source))?;
    let mut scanner = Scanner::new(&file, path, 0, len, SCAN_WINDOW);
    let mut end = None;
    loop {
        match scanner.step(Check::Crc)? {
            Step::Batch { header, .. } => end = Some(header.next_offset()),
            Step::End => return Ok(end),
            Step::Invalid { .. } => return Ok(None),
        }
    }
}
