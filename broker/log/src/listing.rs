//! Which of a log's files are in its directory?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use types::Offset;

use crate::log::EPOCHS_FILE;
use crate::partition_metadata;
use crate::segment::{FileSizes, Segment, file_path};
use crate::vfs::{DirEntry, Vfs};

/// The files of a log's directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) segments: BTreeMap<i64, Found>,
    pub(crate) snapshots: Vec<Offset>,
    /// Left over from deletions and interrupted writes.
    pub(crate) garbage: Vec<PathBuf>,
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sizes: FileSizes,
    pub(crate) modified_ms: i64,
    pub(crate) has_log: bool,
    pub(crate) has_index: bool,
    pub(crate) has_times: bool,
}

/// Whether these are the files of a log that was being made, and nothing else: no batch, and nothing that is not ours.
pub(crate) fn is_unfinished(entries: &[DirEntry]) -> bool {
    entries.iter().all(|entry| {
        let name = entry.name.strip_suffix(".tmp").unwrap_or(&entry.name);
        let is_segment = name
            .strip_suffix(".log")
            .is_some_and(|base| base.len() == 20 && base.bytes().all(|byte| byte.is_ascii_digit()));
        let is_small_file = [partition_metadata::FILE, EPOCHS_FILE].contains(&name);
        !entry.is_dir && (is_small_file || (is_segment && entry.len == 0))
    })
}

impl Found {
    /// The segment at `base`, sealed.
    pub(crate) fn segment<V: Vfs>(&self, dir: &Path, base: Offset) -> Segment<V> {
        let mut segment = Segment::found(dir, base, self.sizes, self.modified_ms);
        if self.sizes.log == 0 && !(self.has_index && self.has_times) {
            // Made and never written to: its indexes have no files yet.
            segment.reset_index_entries();
        }
        segment
    }
}

impl Listing {
    pub(crate) fn of(dir: &Path, entries: Vec<DirEntry>) -> Self {
        let mut listing = Self::default();
        for entry in entries {
            listing.add(dir, &entry);
        }
        // Indexes whose batches are gone.
        for (base, found) in &listing.segments {
            if !found.has_log {
                for extension in ["index", "timeindex", "txnindex"] {
                    let path = file_path(dir, Offset(*base), extension);
                    listing.garbage.push(path);
                }
            }
        }
        listing.segments.retain(|_, found| found.has_log);
        listing
    }

    fn add(&mut self, dir: &Path, entry: &DirEntry) {
        let name = &entry.name;
        if entry.is_dir {
            return;
        }
        if name.ends_with(".deleted") || name.ends_with(".tmp") {
            self.garbage.push(dir.join(name));
            return;
        }
        let Some((base, extension)) = name.split_once('.') else {
            return;
        };
        let digits = base.len() == 20 && base.bytes().all(|byte| byte.is_ascii_digit());
        let Some(base) = base.parse().ok().filter(|_| digits) else {
            return;
        };
        if extension == "snapshot" {
            self.snapshots.push(Offset(base));
            return;
        }
        if !["log", "index", "timeindex", "txnindex"].contains(&extension) {
            return;
        }
        let found = self.segments.entry(base).or_default();
        match extension {
            "log" => {
                found.has_log = true;
                found.sizes.log = entry.len;
                found.modified_ms = entry.modified_ms;
            }
            "index" => {
                found.has_index = true;
                found.sizes.index = entry.len;
            }
            "timeindex" => {
                found.has_times = true;
                found.sizes.times = entry.len;
            }
            _ => found.sizes.aborted = entry.len,
        }
    }
}
