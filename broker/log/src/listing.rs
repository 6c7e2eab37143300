//! Which of a log's files are in its directory?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use types::Offset;

use crate::segment::{FileSizes, file_path};
use crate::vfs::DirEntry;

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
