//! Which bytes does a reader get?
//!
//! A read returns whole batches of one segment. Its `next_offset` is the end of its last batch, never the next segment's
//! base: a reader that was stopped by its byte limit goes on where it stopped.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use types::{BatchError, BatchHeader, HEADER_LEN, Offset};

use crate::scan::{Check, Scanner, Step};
use crate::vfs::{Vfs, VfsFile};
use crate::{Log, LogError};

/// How much is read at once while a batch is looked for near an index entry: what lies between two entries, mostly.
const LOCATE_WINDOW: usize = 8 * 1024;

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSlice {
    /// Whole batches. The first may begin below the offset asked for.
    pub bytes: Bytes,
    /// Base offset of the first batch.
    pub first_offset: Offset,
    /// Where to go on.
    pub next_offset: Offset,
}

/// A read that needs the log no more: it can be done without the partition's lock.
#[derive(Debug)]
pub struct ReadPlan<V: Vfs> {
    file: Arc<V::File>,
    path: PathBuf,
    lookup: Lookup,
    hints: Arc<ReadHints>,
    hints_generation: u64,
    segment: Offset,
    segment_end: Offset,
    size: u64,
    start: Offset,
    upper: Offset,
    max_bytes: usize,
    at_least_one_batch: bool,
}

/// How the plan finds the first batch.
#[derive(Debug)]
enum Lookup {
    /// It is there: a read that ended there left a hint.
    At(u64),
    /// It is at or after this position.
    From(u64),
}

/// What a plan found in its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Batches.
    Found(ReadSlice),
    /// The first batch is larger than the limit.
    TooLarge,
    /// The segment has no batch from the offset on: compaction removed it. The reader goes on here.
    Hole(Offset),
}

impl<V: Vfs> Log<V> {
    /// The whole batches from the one that holds `start` on, up to `max_bytes`, of one segment; none that begins at or
    /// after `upper` (the high watermark, the last stable offset, or the log end offset). If `at_least_one_batch`, the
    /// first batch comes even if it is larger than `max_bytes`. `None` if nothing of that is there.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`], an I/O error, [`LogError::Corrupt`].
    pub fn read(
        &self,
        start: Offset,
        max_bytes: usize,
        upper: Offset,
        at_least_one_batch: bool,
    ) -> Result<Option<ReadSlice>, LogError> {
        let mut start = start;
        while let Some(plan) = self.plan_read(start, max_bytes, upper, at_least_one_batch)? {
            match plan.outcome()? {
                ReadOutcome::Found(slice) => return Ok(Some(slice)),
                ReadOutcome::TooLarge => return Ok(None),
                ReadOutcome::Hole(end) => start = end,
            }
        }
        Ok(None)
    }

    /// As [`Self::read`], but the reading itself is left to [`ReadPlan::read`].
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`], or an I/O error when the segment's file is opened.
    pub fn plan_read(
        &self,
        start: Offset,
        max_bytes: usize,
        upper: Offset,
        at_least_one_batch: bool,
    ) -> Result<Option<ReadPlan<V>>, LogError> {
        if start < self.log_start || start > self.leo {
            return Err(LogError::OffsetOutOfRange {
                offset: start,
                start: self.log_start,
                end: self.leo,
            });
        }
        let upper = upper.min(self.leo);
        if start >= upper {
            return Ok(None);
        }
        let index = self.segment_of(start);
        let segment = &self.segments[index];
        let lookup = match self.hints.get(segment.base, start) {
            Some(position) => Lookup::At(position),
            None => Lookup::From(segment.position_before(&self.vfs, start)?),
        };
        Ok(Some(ReadPlan {
            file: self.file_of(index)?,
            path: segment.path.clone(),
            lookup,
            hints: self.hints.clone(),
            hints_generation: self.hints.generation(),
            segment: segment.base,
            segment_end: self.segment_end(index),
            size: segment.size,
            start,
            upper,
            max_bytes,
            at_least_one_batch,
        }))
    }

    /// The open file of a segment: the active one's own, or one of the few kept for sealed ones.
    pub(crate) fn file_of(&self, index: usize) -> Result<Arc<V::File>, LogError> {
        let segment = &self.segments[index];
        if index + 1 == self.segments.len() {
            return segment.open_file(&self.vfs);
        }
        if let Some(file) = self.cold.get(segment.base) {
            return Ok(file);
        }
        let file = self
            .vfs
            .open(&segment.path)
            .map_err(|source| LogError::io("open", &segment.path, source))?;
        let file = Arc::new(file);
        self.cold.put(segment.base, file.clone());
        Ok(file)
    }
}

impl<V: Vfs> ReadPlan<V> {
    /// Does the read, for who has no use for what comes after a hole.
    ///
    /// # Errors
    /// An I/O error, [`LogError::Corrupt`].
    pub fn read(&self) -> Result<Option<ReadSlice>, LogError> {
        match self.outcome()? {
            ReadOutcome::Found(slice) => Ok(Some(slice)),
            ReadOutcome::TooLarge | ReadOutcome::Hole(_) => Ok(None),
        }
    }

    /// Does the read.
    ///
    /// # Errors
    /// An I/O error, [`LogError::Corrupt`].
    pub fn outcome(&self) -> Result<ReadOutcome, LogError> {
        let Some(position) = self.locate()? else {
            return Ok(ReadOutcome::Hole(self.segment_end));
        };
        let remaining = usize::try_from(self.size.saturating_sub(position)).unwrap_or(usize::MAX);
        if remaining == 0 {
            return Ok(ReadOutcome::Hole(self.segment_end));
        }
        let want = self.max_bytes.max(HEADER_LEN).min(remaining);
        let mut bytes = Vec::with_capacity(want);
        self.fill(position, want, &mut bytes)?;
        let first = BatchHeader::parse(&bytes).map_err(|source| self.corrupt(position, source))?;
        if first.base_offset >= self.upper {
            return Ok(ReadOutcome::Hole(self.segment_end));
        }
        let size = first.size();
        if size > self.max_bytes && !self.at_least_one_batch {
            return Ok(ReadOutcome::TooLarge);
        }
        if size > bytes.len() {
            if size > remaining {
                let (have, need) = (remaining, size);
                return Err(self.corrupt(position, BatchError::Truncated { have, need }));
            }
            let more = size - bytes.len();
            bytes.reserve_exact(more);
            self.fill(position + bytes.len() as u64, more, &mut bytes)?;
        }
        let (end, next_offset) = self.whole_batches(position, &bytes)?;
        bytes.truncate(end);
        // A limit far above what was there leaves a large allocation behind a few bytes.
        if bytes.capacity() > 2 * end + 4096 {
            bytes.shrink_to_fit();
        }
        self.hints.put(
            self.hints_generation,
            (self.segment, next_offset, position + end as u64),
        );
        Ok(ReadOutcome::Found(ReadSlice {
            bytes: Bytes::from(bytes),
            first_offset: first.base_offset,
            next_offset,
        }))
    }

    fn fill(&self, position: u64, len: usize, out: &mut Vec<u8>) -> Result<(), LogError> {
        self.file
            .read_full_at(position, len, out)
            .map(|_| ())
            .map_err(|source| LogError::io("read", &self.path, source))
    }

    fn corrupt(&self, position: u64, source: BatchError) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            position,
            source,
        }
    }

    /// How many of `bytes` are whole batches below the upper bound, and the offset after them.
    fn whole_batches(&self, position: u64, bytes: &[u8]) -> Result<(usize, Offset), LogError> {
        let (mut end, mut next_offset) = (0, self.start);
        while bytes.len() - end >= HEADER_LEN {
            let header = BatchHeader::parse(&bytes[end..])
                .map_err(|source| self.corrupt(position + end as u64, source))?;
            if header.base_offset >= self.upper || bytes.len() - end < header.size() {
                break;
            }
            end += header.size();
            next_offset = header.next_offset();
        }
        Ok((end, next_offset))
    }

    /// Where the first batch is that ends at or after the start offset.
    fn locate(&self) -> Result<Option<u64>, LogError> {
        let from = match &self.lookup {
            Lookup::At(position) => return Ok(Some(*position)),
            Lookup::From(position) => *position,
        };
        let mut scanner = Scanner::new(&*self.file, &self.path, from, self.size, LOCATE_WINDOW);
        loop {
            match scanner.step(Check::Header)? {
                Step::Batch {
                    position, header, ..
                } => {
                    if header.last_offset() >= self.start {
                        return Ok(Some(position));
                    }
                }
                Step::Invalid { position, error } => return Err(self.corrupt(position, error)),
                Step::End => return Ok(None),
            }
        }
    }
}

/// Where recent reads ended, so that a reader that goes on needs no lookup. A hint is exact: it was put there by a read
/// of this very segment, and a truncation makes all earlier plans' hints void.
#[derive(Debug, Default)]
pub(crate) struct ReadHints {
    state: Mutex<HintState>,
}

/// Segment, offset, position of the batch that begins there.
type Hint = (Offset, Offset, u64);

#[derive(Debug, Default)]
struct HintState {
    generation: u64,
    /// The newest last.
    recent: VecDeque<Hint>,
}

/// How many readers of one partition are remembered: replicas and a few consumer groups.
const HINTS: usize = 8;

impl ReadHints {
    fn lock(&self) -> MutexGuard<'_, HintState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u64 {
        self.lock().generation
    }

    fn get(&self, segment: Offset, offset: Offset) -> Option<u64> {
        let state = self.lock();
        let mut hints = state.recent.iter();
        hints
            .find(|hint| (hint.0, hint.1) == (segment, offset))
            .map(|hint| hint.2)
    }

    fn put(&self, generation: u64, hint: Hint) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        state
            .recent
            .retain(|known| (known.0, known.1) != (hint.0, hint.1));
        if state.recent.len() == HINTS {
            state.recent.pop_front();
        }
        state.recent.push_back(hint);
    }

    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.recent.clear();
    }
}

/// The open files of the sealed segments that were read last.
#[derive(Debug)]
pub(crate) struct ColdFiles<F> {
    files: Mutex<VecDeque<(Offset, Arc<F>)>>,
}

/// 6,000 partitions of 20,000 descriptors: one for the active segment and two more leave room for connections.
const COLD_FILES: usize = 2;

impl<F> Default for ColdFiles<F> {
    fn default() -> Self {
        Self {
            files: Mutex::default(),
        }
    }
}

impl<F> ColdFiles<F> {
    fn get(&self, segment: Offset) -> Option<Arc<F>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .iter()
            .find(|(base, _)| *base == segment)
            .map(|(_, file)| file.clone())
    }

    pub(crate) fn put(&self, segment: Offset, file: Arc<F>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(base, _)| *base != segment);
        if files.len() == COLD_FILES {
            files.pop_front();
        }
        files.push_back((segment, file));
    }

    /// Closes the files of segments that are gone or no longer sealed.
    pub(crate) fn remove(&self, gone: impl Fn(Offset) -> bool) {
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(base, _)| !gone(*base));
    }
}
