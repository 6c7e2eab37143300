//! How is a group of segments copied into one, without what compaction removes?
//!
//! Into files that end in `.cleaned`, which count for nothing until they are whole, durable and renamed.

use std::path::Path;

use types::BatchHeader;

use super::backlog::{Plan, Source};
use super::batches::Batches;
use super::filter::{Filter, Verdict};
use super::{CompactionSettings, CompactionStats, Pace, Stop};
use crate::LogError;
use crate::segment::{CLEANED, EXTENSIONS, Segment, file_path};
use crate::vfs::{Vfs, VfsFile, remove_if_there};

/// Old files of this size are kept open until the partition's lock is free again: removing the name of an open file is
/// quick, freeing its blocks is not. A group of segments has some hundred of them at most.
const LARGE_FILE: u64 = 16 << 20;

/// A copy that waits to be swapped in.
#[derive(Debug)]
pub(crate) struct Recopied<V: Vfs> {
    /// Its files end in `.cleaned`, durable.
    pub(crate) segment: Segment<V>,
    pub(crate) replaces: Vec<Source>,
    pub(crate) generation: u64,
    /// Open, that is all.
    _large: Vec<V::File>,
}

/// Copies a group; `None` if there is not one batch in it.
pub(super) fn recopy<V: Vfs>(
    plan: &Plan<V>,
    group: &[Source],
    filter: &mut Filter<'_>,
    settings: &CompactionSettings,
    pace: &mut Pace<'_>,
    stats: &mut CompactionStats,
) -> Result<Option<Recopied<V>>, Stop> {
    let Some(last) = group.iter().rposition(|source| source.size > 0) else {
        return Ok(None);
    };
    let mut copy = Writer::new(plan, group, settings)?;
    let mut large = Vec::new();
    for (index, source) in group.iter().enumerate() {
        let file = source.open(&plan.vfs)?;
        let mut batches = Batches::new(&file, &source.path, source.size, settings.buffer_bytes);
        let mut read = 0;
        while let Some(batch) = batches.next()? {
            let bytes = batch.bytes.len() as u64;
            read += bytes;
            stats.bytes_read += bytes;
            if pace(bytes).is_break() {
                return Err(Stop::Interrupted);
            }
            let is_last = index == last && read == source.size;
            match filter.judge(&batch, is_last, stats)? {
                Verdict::Whole => copy.push(&batch.header, &batch.bytes, pace)?,
                Verdict::Changed(changed) => copy.push(&batch.header, &changed, pace)?,
                Verdict::Gone => {}
            }
            for aborted in filter.transactions.take_remaining() {
                copy.segment.aborted.append(&plan.vfs, &aborted)?;
            }
        }
        if source.size >= LARGE_FILE {
            large.push(file);
        }
    }
    let newest = group.iter().map(|source| source.last_append_ms).max();
    let segment = copy.finish(newest.unwrap_or(0), pace)?;
    Ok(Some(Recopied {
        segment,
        replaces: group.to_vec(),
        generation: plan.generation,
        _large: large,
    }))
}

/// Removes what an interrupted copy left.
pub(super) fn discard<V: Vfs>(vfs: &V, dir: &Path, base: types::Offset) -> Result<(), LogError> {
    for extension in EXTENSIONS {
        remove_if_there(vfs, &file_path(dir, base, &format!("{extension}{CLEANED}")))?;
    }
    Ok(())
}

/// A segment that is being written.
struct Writer<'p, V: Vfs> {
    plan: &'p Plan<V>,
    segment: Segment<V>,
    /// Whether one of the old segments has an index of aborted transactions.
    has_aborted: bool,
    /// What was not written yet, from `segment.size` on minus its length.
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

impl<'p, V: Vfs> Writer<'p, V> {
    fn new(
        plan: &'p Plan<V>,
        group: &[Source],
        settings: &CompactionSettings,
    ) -> Result<Self, LogError> {
        let mut segment = Segment::create_cleaned(&plan.vfs, &plan.dir, group[0].base)?;
        let has_aborted = group.iter().any(|source| source.has_aborted);
        if has_aborted {
            // Even if it stays empty: the swap has to replace the old one.
            segment.aborted.create_empty(&plan.vfs)?;
        }
        Ok(Self {
            plan,
            segment,
            has_aborted,
            buffer: Vec::new(),
            buffer_bytes: settings.buffer_bytes,
        })
    }

    fn push(&mut self, old: &BatchHeader, bytes: &[u8], pace: &mut Pace<'_>) -> Result<(), Stop> {
        let position = self.segment.size;
        let header = BatchHeader::parse(bytes).map_err(LogError::Batch)?;
        debug_assert_eq!(
            (header.base_offset, header.last_offset()),
            (old.base_offset, old.last_offset()),
            "compaction keeps offsets"
        );
        let size = position + bytes.len() as u64;
        if size > u64::from(u32::MAX) {
            return Err(Stop::Failed(LogError::Format {
                path: self.segment.path.clone(),
                reason: "delete horizons would make it larger than an index can tell".to_owned(),
            }));
        }
        let interval = self.plan.index_interval_bytes;
        self.segment.note_batch(&header, position, interval);
        self.segment.size = size;
        self.segment.spill(&self.plan.vfs)?;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.buffer_bytes {
            self.write(pace)?;
        }
        Ok(())
    }

    fn write(&mut self, pace: &mut Pace<'_>) -> Result<(), Stop> {
        let bytes = self.buffer.len() as u64;
        if pace(bytes).is_break() {
            return Err(Stop::Interrupted);
        }
        let at = self.segment.size - bytes;
        let file = self.segment.open_file(&self.plan.vfs)?;
        file.write_at(at, &self.buffer)
            .map_err(|source| LogError::io("write", &self.segment.path, source))?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and makes everything durable.
    fn finish(mut self, last_append_ms: i64, pace: &mut Pace<'_>) -> Result<Segment<V>, Stop> {
        if !self.buffer.is_empty() {
            self.write(pace)?;
        }
        let vfs = &self.plan.vfs;
        let path = self.segment.path.clone();
        let file = self.segment.open_file(vfs)?;
        // Retention by time looks at it after a restart.
        file.set_modified_ms(last_append_ms)
            .and_then(|()| file.sync_data())
            .map_err(|source| LogError::io("sync", &path, source))?;
        self.segment.last_append_ms = last_append_ms;
        self.segment.write_indexes(vfs)?;
        let mut others = vec![
            self.segment.index.path().to_owned(),
            self.segment.times.path().to_owned(),
        ];
        let aborted = self.segment.aborted.path();
        if self.has_aborted || !self.segment.aborted.is_empty() {
            others.push(aborted.to_owned());
        }
        for path in others {
            vfs.open(&path)
                .and_then(|file| file.sync_data())
                .map_err(|source| LogError::io("sync", &path, source))?;
        }
        Ok(self.segment)
    }
}
