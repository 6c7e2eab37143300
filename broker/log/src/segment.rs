//! What is one segment of a log: a file of batches and its indexes?

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use types::{BatchHeader, HEADER_LEN, Offset};

use crate::LogError;
use crate::index::{Entry, EntryFile, OffsetEntry};
use crate::scan::{Check, Scanner, Step};
use crate::time_index::TimeEntry;
use crate::txn_index::TxnIndex;
use crate::vfs::{Vfs, VfsFile, remove_if_there};

/// The newest record of a segment: its timestamp, and the last offset of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    /// -1 if no record has a timestamp.
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

/// One segment. The last one of a log is active: its indexes are in memory and its file stays open.
#[derive(Debug)]
pub(crate) struct Segment<V: Vfs> {
    /// Offset of the first record that may be in it; its files' name.
    pub(crate) base: Offset,
    pub(crate) path: PathBuf,
    /// Bytes of the batches.
    pub(crate) size: u64,
    pub(crate) index: EntryFile<OffsetEntry>,
    pub(crate) times: EntryFile<TimeEntry>,
    pub(crate) aborted: TxnIndex,
    /// Open while active; once sealed, the log's small cache holds what is read.
    pub(crate) file: OnceLock<Arc<V::File>>,
    newest: OnceLock<Newest>,
    /// Timestamp of the first batch, if one can be read there.
    first_timestamp: OnceLock<Option<i64>>,
    bytes_since_index: u64,
    /// When the first batch came, for rolling by time.
    pub(crate) first_append_ms: Option<i64>,
    pub(crate) last_append_ms: i64,
    /// Whether the sealed segment with its indexes is durable.
    pub(crate) synced: bool,
}

/// `DIR/OFFSET.extension`.
pub(crate) fn file_path(dir: &Path, base: Offset, extension: &str) -> PathBuf {
    dir.join(format!("{:020}.{extension}", base.0))
}

/// The extensions of a segment's files, the batches first.
pub(crate) const EXTENSIONS: [&str; 4] = ["log", "index", "timeindex", "txnindex"];

/// How the names of a segment's files end while compaction copies into them, and while it swaps them in.
pub(crate) const CLEANED: &str = ".cleaned";
pub(crate) const SWAP: &str = ".swap";

/// How much a scan of a whole segment reads at once.
pub(crate) const SCAN_WINDOW: usize = 256 * 1024;

impl<V: Vfs> Segment<V> {
    /// Creates the files of a new, active segment.
    pub(crate) fn create(vfs: &V, dir: &Path, base: Offset, now_ms: i64) -> Result<Self, LogError> {
        Self::create_named(vfs, base, now_ms, |extension| {
            file_path(dir, base, extension)
        })
    }

    /// Creates the files of a segment that compaction copies into.
    pub(crate) fn create_cleaned(vfs: &V, dir: &Path, base: Offset) -> Result<Self, LogError> {
        Self::create_named(vfs, base, 0, |extension| {
            file_path(dir, base, &format!("{extension}{CLEANED}"))
        })
    }

    fn create_named(
        vfs: &V,
        base: Offset,
        now_ms: i64,
        name: impl Fn(&str) -> PathBuf,
    ) -> Result<Self, LogError> {
        let path = name("log");
        let mut aborted = TxnIndex::new(name("txnindex"), 0);
        aborted.reset(vfs)?;
        let file = vfs
            .create(&path)
            .map_err(|source| LogError::io("create", &path, source))?;
        Ok(Self {
            base,
            path,
            size: 0,
            index: EntryFile::new(name("index")),
            times: EntryFile::new(name("timeindex")),
            aborted,
            file: OnceLock::from(Arc::new(file)),
            newest: OnceLock::new(),
            first_timestamp: OnceLock::new(),
            bytes_since_index: 0,
            first_append_ms: None,
            last_append_ms: now_ms,
            synced: false,
        })
    }

    /// A sealed segment found on disk, with the sizes of its files.
    pub(crate) fn found(dir: &Path, base: Offset, sizes: FileSizes, modified_ms: i64) -> Self {
        Self {
            base,
            path: file_path(dir, base, "log"),
            size: sizes.log,
            index: EntryFile::sealed(file_path(dir, base, "index"), sizes.index),
            times: EntryFile::sealed(file_path(dir, base, "timeindex"), sizes.times),
            aborted: TxnIndex::new(file_path(dir, base, "txnindex"), sizes.aborted),
            file: OnceLock::new(),
            newest: OnceLock::new(),
            first_timestamp: OnceLock::new(),
            bytes_since_index: 0,
            first_append_ms: None,
            last_append_ms: modified_ms,
            synced: true,
        }
    }

    /// The sealed segment that a copy is once its files have their names.
    pub(crate) fn renamed(&self, dir: &Path) -> Self {
        let bytes = |entries: usize, len: usize| (entries * len) as u64;
        let sizes = FileSizes {
            log: self.size,
            index: bytes(self.index.count(), OffsetEntry::LEN),
            times: bytes(self.times.count(), TimeEntry::LEN),
            aborted: self.aborted.len(),
        };
        Self {
            newest: self.newest.clone(),
            first_timestamp: self.first_timestamp.clone(),
            ..Self::found(dir, self.base, sizes, self.last_append_ms)
        }
    }

    /// The open file, for a segment that is active (or is being recovered).
    pub(crate) fn open_file(&self, vfs: &V) -> Result<Arc<V::File>, LogError> {
        if let Some(file) = self.file.get() {
            return Ok(file.clone());
        }
        let file = vfs
            .open(&self.path)
            .map_err(|source| LogError::io("open", &self.path, source))?;
        Ok(self.file.get_or_init(|| Arc::new(file)).clone())
    }

    /// The open file, or one that is open for the caller only.
    pub(crate) fn open_or_reuse(&self, vfs: &V) -> Result<Arc<V::File>, LogError> {
        match self.file.get() {
            Some(file) => Ok(file.clone()),
            None => vfs
                .open(&self.path)
                .map(Arc::new)
                .map_err(|source| LogError::io("open", &self.path, source)),
        }
    }

    /// Whether `offset` can be written relative to the base offset, as the indexes do.
    pub(crate) fn takes_offset(&self, offset: Offset) -> bool {
        (0..=i64::from(i32::MAX)).contains(&(offset.0 - self.base.0))
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.0 - self.base.0).expect("takes_offset was asked before the append")
    }

    /// Enters a batch that was written at `position` into the indexes.
    pub(crate) fn note_batch(&mut self, header: &BatchHeader, position: u64, interval: u32) {
        let last_offset = header.last_offset();
        if position == 0 {
            self.first_timestamp = OnceLock::from(Some(header.max_timestamp));
        }
        if self
            .newest
            .get()
            .is_none_or(|newest| header.max_timestamp > newest.timestamp)
        {
            self.newest = OnceLock::from(Newest {
                timestamp: header.max_timestamp,
                offset: last_offset,
            });
        }
        if self.bytes_since_index > u64::from(interval) {
            self.index.push(OffsetEntry {
                relative: self.relative(last_offset),
                position: u32::try_from(position).expect("a segment is at most 2 GiB"),
            });
            self.note_newest();
            self.bytes_since_index = 0;
        }
        self.bytes_since_index += header.size() as u64;
    }

    fn note_newest(&mut self) {
        if let Some(newest) = self.newest.get() {
            let relative = self.relative(newest.offset);
            self.times.push_if_newer(TimeEntry {
                timestamp: newest.timestamp,
                relative,
            });
        }
    }

    /// Writes the whole indexes, as a sealed segment has them. May be done again.
    pub(crate) fn write_indexes(&mut self, vfs: &V) -> Result<(), LogError> {
        self.note_newest();
        self.index.write_pending(vfs)?;
        self.times.write_pending(vfs)
    }

    /// After [`Self::write_indexes`]: frees the indexes' memory; another segment becomes active. The open file is
    /// handed on.
    pub(crate) fn seal(&mut self) -> Option<Arc<V::File>> {
        self.index.seal();
        self.times.seal();
        self.synced = false;
        self.file.take()
    }

    /// Forgets all three indexes; they are to be made again from all batches.
    pub(crate) fn reset_indexes(&mut self, vfs: &V) -> Result<(), LogError> {
        self.reset_index_entries();
        self.aborted.reset(vfs)
    }

    /// Forgets offset and time index; they are to be made again by [`Self::note_batch`] of all batches.
    pub(crate) fn reset_index_entries(&mut self) {
        self.index = EntryFile::new(self.index.path().to_owned());
        self.times = EntryFile::new(self.times.path().to_owned());
        self.newest = OnceLock::new();
        self.bytes_since_index = 0;
        self.synced = false;
    }

    /// Where to look for the batch that holds `offset`: the position of a batch at or before it.
    pub(crate) fn position_before(&self, vfs: &V, offset: Offset) -> Result<u64, LogError> {
        let relative = offset.0 - self.base.0;
        let entry = self
            .index
            .floor(vfs, |entry| i64::from(entry.relative) <= relative)?;
        // A damaged index may point anywhere; the batches themselves tell.
        Ok(entry
            .map_or(0, |entry| u64::from(entry.position))
            .min(self.size))
    }

    /// The newest record; `None` for a segment without batches.
    pub(crate) fn newest(&self, vfs: &V) -> Result<Option<Newest>, LogError> {
        if let Some(newest) = self.newest.get() {
            return Ok(Some(*newest));
        }
        if self.size == 0 {
            return Ok(None);
        }
        let newest = match self.times.last(vfs)? {
            Some(entry) => Newest {
                timestamp: entry.timestamp,
                offset: self.base.plus(i64::from(entry.relative)),
            },
            // No batch has a timestamp, or the index was lost: the batches tell.
            None => self.scan_newest(vfs)?,
        };
        Ok(Some(*self.newest.get_or_init(|| newest)))
    }

    /// Timestamp of the first batch; `None` for a segment without one. Read once.
    pub(crate) fn first_timestamp(&self, vfs: &V) -> Result<Option<i64>, LogError> {
        if self.size == 0 {
            return Ok(None);
        }
        if let Some(first) = self.first_timestamp.get() {
            return Ok(*first);
        }
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        self.open_or_reuse(vfs)?
            .read_full_at(0, HEADER_LEN, &mut bytes)
            .map_err(|source| LogError::io("read", &self.path, source))?;
        let first = BatchHeader::parse(&bytes)
            .ok()
            .map(|header| header.max_timestamp);
        Ok(*self.first_timestamp.get_or_init(|| first))
    }

    fn scan_newest(&self, vfs: &V) -> Result<Newest, LogError> {
        let file = self.open_or_reuse(vfs)?;
        let mut newest = Newest {
            timestamp: -1,
            offset: self.base,
        };
        let mut scanner = Scanner::new(&*file, &self.path, 0, self.size, SCAN_WINDOW);
        while let Step::Batch { header, .. } = scanner.step(Check::Header)? {
            if header.max_timestamp > newest.timestamp {
                newest = Newest {
                    timestamp: header.max_timestamp,
                    offset: header.last_offset(),
                };
            }
        }
        Ok(newest)
    }

    /// Cuts the segment to `position` bytes, whose batches end before offset `end`, and makes it the active one.
    pub(crate) fn cut(&mut self, vfs: &V, position: u64, end: Offset) -> Result<(), LogError> {
        let file = self.open_file(vfs)?;
        if position < self.size {
            file.truncate(position)
                .and_then(|()| file.sync_data())
                .map_err(|source| LogError::io("truncate", &self.path, source))?;
            self.size = position;
        }
        self.aborted.truncate(vfs, end)?;
        self.activate(vfs)?;
        self.index
            .truncate(vfs, |entry| u64::from(entry.position) < position)?;
        let relative = end.0 - self.base.0;
        self.times
            .truncate(vfs, |entry| i64::from(entry.relative) < relative)?;
        self.newest = OnceLock::new();
        self.synced = false;
        Ok(())
    }

    /// Brings the newest entries of a sealed segment's indexes into memory.
    pub(crate) fn activate(&mut self, vfs: &V) -> Result<(), LogError> {
        self.index.activate(vfs)?;
        self.times.activate(vfs)
    }

    /// Bounds the memory of the active segment's indexes.
    pub(crate) fn spill(&mut self, vfs: &V) -> Result<(), LogError> {
        self.index.spill(vfs)?;
        self.times.spill(vfs)
    }

    /// Takes over from the active indexes what they know of the batches; answers where the batches begin that they do not
    /// cover. The first of those is the one that the last entry points at: to it [`Self::note_resumed`] applies.
    pub(crate) fn resume_after_index(&mut self) -> u64 {
        self.newest = match self.times.newest() {
            Some(entry) => OnceLock::from(Newest {
                timestamp: entry.timestamp,
                offset: self.base.plus(i64::from(entry.relative)),
            }),
            None => OnceLock::new(),
        };
        self.bytes_since_index = 0;
        let last = self.index.newest();
        last.map_or(0, |entry| u64::from(entry.position))
    }

    /// As [`Self::note_batch`], for batches from [`Self::resume_after_index`]'s position on.
    pub(crate) fn note_resumed(&mut self, header: &BatchHeader, position: u64, interval: u32) {
        let last = self.index.newest();
        let has_entry = last.is_some_and(|entry| u64::from(entry.position) == position);
        self.note_batch(
            header,
            position,
            if has_entry { u32::MAX } else { interval },
        );
    }

    /// Removes all files.
    pub(crate) fn remove(&self, vfs: &V) -> Result<(), LogError> {
        remove_if_there(vfs, &self.path)?;
        self.index.remove(vfs)?;
        self.times.remove(vfs)?;
        self.aborted.remove(vfs)
    }
}

/// Bytes of a segment's files; 0 for one that is not there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileSizes {
    pub(crate) log: u64,
    pub(crate) index: u64,
    pub(crate) times: u64,
    pub(crate) aborted: u64,
}
