//! Which files hold the Raft log, and what is left of them after a crash at any byte?
//!
//! `log/<first index>.log` are segments, each a header and then frames, in order and without gaps. Only the last
//! one grows. `purged` names the last entry that a snapshot made unnecessary. Every method returns after its
//! change is synced; a segment is removed as a whole, from the end for a truncation, from the start for a purge.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{atomic_file, frame};

/// A segment that has grown beyond this is followed by a new one; the unit in which a purge frees disk.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Magic, format version 1, and the index of the first entry.
const HEADER_BYTES: u64 = 16;
const HEADER_MAGIC: [u8; 8] = *b"TMQLOG\0\x01";

/// Why the log's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogFilesError {
    /// The file system refused.
    #[error("failed to use the metadata log file {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Acknowledged entries are damaged or missing: this disk must not vote.
    #[error(
        "failed to read the metadata log: {path} at byte {position}: {what}. \
         Entries that were acknowledged are lost: wipe this node's metadata folder to let it join again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage starts.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    /// Position of each entry's frame, the first entry's first.
    positions: Vec<u64>,
    bytes: u64,
}

impl Segment {
    fn next(&self) -> u64 {
        self.first + self.positions.len() as u64
    }
}

/// The segments of one log, open for appending.
#[derive(Debug)]
pub(crate) struct LogFiles {
    folder: PathBuf,
    segments: VecDeque<Segment>,
    /// The last segment, when there is one.
    tail: Option<File>,
    segment_bytes: u64,
}

/// An entry's index and its bytes.
pub(crate) type IndexedPayload = (u64, Vec<u8>);

impl LogFiles {
    /// Opens the log in `folder` (made when absent), cuts a torn tail off, and returns every entry's bytes.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<IndexedPayload>), LogFilesError> {
        Self::open_with(folder, SEGMENT_BYTES)
    }

    pub(crate) fn open_with(
        folder: &Path,
        segment_bytes: u64,
    ) -> Result<(Self, Vec<IndexedPayload>), LogFilesError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let mut files = Self {
            folder: folder.to_owned(),
            segments: VecDeque::new(),
            tail: None,
            segment_bytes,
        };
        let mut entries = Vec::new();
        let firsts = files.list()?;
        for (position, first) in firsts.iter().enumerate() {
            let last = position + 1 == firsts.len();
            files.load(*first, last, &mut entries)?;
        }
        if let Some(segment) = files.segments.back() {
            let path = segment.path.clone();
            files.tail = Some(
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(at(&path))?,
            );
        }
        Ok((files, entries))
    }

    fn list(&self) -> Result<Vec<u64>, LogFilesError> {
        let mut firsts = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let name = entry.map_err(at(&self.folder))?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
            if let Some(first) = stem.and_then(|stem| stem.parse().ok()) {
                firsts.push(first);
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.log"))
    }

    fn load(
        &mut self,
        first: u64,
        last: bool,
        entries: &mut Vec<IndexedPayload>,
    ) -> Result<(), LogFilesError> {
        let path = self.path(first);
        let bytes = fs::read(&path).map_err(at(&path))?;
        let damaged = |position: usize, what| LogFilesError::Damaged {
            path: path.clone(),
            position: position as u64,
            what,
        };
        if !header_is_right(&bytes, first) {
            // A crash while the segment was made: nothing can have been acknowledged in it.
            if last && frame::is_torn_tail(&bytes, 0) {
                fs::remove_file(&path).map_err(at(&path))?;
                return atomic_file::sync_folder_of(&path).map_err(at(&path));
            }
            return Err(damaged(0, "the header is not one of a metadata log"));
        }
        if let Some(previous) = self.segments.back()
            && previous.next() != first
        {
            return Err(damaged(0, "the entries before this file are missing"));
        }
        let mut segment = Segment {
            path: path.clone(),
            first,
            positions: Vec::new(),
            bytes: HEADER_BYTES,
        };
        let mut position = HEADER_BYTES as usize;
        loop {
            match frame::read(&bytes, position) {
                frame::Frame::End => break,
                frame::Frame::Intact { payload, next, .. } => {
                    entries.push((segment.next(), payload.to_vec()));
                    segment.positions.push(position as u64);
                    position = next;
                }
                frame::Frame::Damaged if last && frame::is_torn_tail(&bytes, position) => {
                    cut(&path, position as u64).map_err(at(&path))?;
                    break;
                }
                frame::Frame::Damaged => {
                    return Err(damaged(position, "an entry does not match its checksum"));
                }
            }
        }
        segment.bytes = position as u64;
        self.segments.push_back(segment);
        Ok(())
    }

    /// Appends entries with consecutive indexes, the first at `first`, in one synced write.
    pub(crate) fn append(&mut self, first: u64, payloads: &[Vec<u8>]) -> Result<(), LogFilesError> {
        if let Some(segment) = self.segments.back() {
            assert_eq!(
                segment.next(),
                first,
                "Raft appends without gaps and truncates before it overwrites"
            );
        }
        let full = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes >= self.segment_bytes);
        if full {
            self.roll(first)?;
        }
        let segment = self.segments.back_mut().expect("a segment was just made");
        let file = self.tail.as_ref().expect("the last segment is open");
        let start = segment.bytes;
        let mut buffer = Vec::new();
        for payload in payloads {
            segment.positions.push(start + buffer.len() as u64);
            frame::write(&mut buffer, start, payload);
        }
        file.write_all_at(&buffer, start)
            .and_then(|()| file.sync_data())
            .map_err(at(&segment.path))?;
        segment.bytes = start + buffer.len() as u64;
        Ok(())
    }

    fn roll(&mut self, first: u64) -> Result<(), LogFilesError> {
        let path = self.path(first);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(at(&path))?;
        let mut header = HEADER_MAGIC.to_vec();
        header.extend_from_slice(&first.to_le_bytes());
        file.write_all_at(&header, 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| atomic_file::sync_folder_of(&path))
            .map_err(at(&path))?;
        self.tail = Some(file);
        self.segments.push_back(Segment {
            path,
            first,
            positions: Vec::new(),
            bytes: HEADER_BYTES,
        });
        Ok(())
    }

    /// Removes every entry from `index` on.
    pub(crate) fn truncate(&mut self, index: u64) -> Result<(), LogFilesError> {
        while self
            .segments
            .back()
            .is_some_and(|segment| segment.first >= index)
        {
            let segment = self.segments.pop_back().expect("there is a last segment");
            self.tail = None;
            remove(&segment.path)?;
        }
        if let Some(segment) = self.segments.back_mut() {
            let keep = usize::try_from(index - segment.first).unwrap_or(usize::MAX);
            if let Some(position) = segment.positions.get(keep).copied() {
                segment.positions.truncate(keep);
                segment.bytes = position;
                cut(&segment.path, position).map_err(at(&segment.path))?;
            }
            if self.tail.is_none() {
                let file = OpenOptions::new().write(true).open(&segment.path);
                self.tail = Some(file.map_err(at(&segment.path))?);
            }
        }
        Ok(())
    }

    /// Frees segments whose every entry is at or before `index`.
    pub(crate) fn purge(&mut self, index: u64) -> Result<(), LogFilesError> {
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.next() <= index + 1)
        {
            let segment = self.segments.pop_front().expect("there is a first segment");
            if self.segments.is_empty() {
                self.tail = None;
            }
            remove(&segment.path)?;
        }
        Ok(())
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> LogFilesError {
    let path = path.to_owned();
    move |source| LogFilesError::Io {
        path: path.clone(),
        source,
    }
}

fn header_is_right(bytes: &[u8], first: u64) -> bool {
    bytes.get(..8) == Some(HEADER_MAGIC.as_slice())
        && bytes.get(8..16) == Some(first.to_le_bytes().as_slice())
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

fn remove(path: &Path) -> Result<(), LogFilesError> {
    fs::remove_file(path)
        .and_then(|()| atomic_file::sync_folder_of(path))
        .map_err(at(path))
}
