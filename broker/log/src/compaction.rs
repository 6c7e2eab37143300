//! How does a log keep only the last record of each key?
//!
//! As Apache Kafka's cleaner does (KIP-58, KIP-354, KIP-534), in three steps off the partition's lock, which is taken
//! between them only: (1) [`Log::compaction_backlog`] tells which sealed segments may be cleaned; (2) a map of the last
//! offset of each key is made of the dirty ones, as far as memory goes; (3) all segments up to there are copied in groups,
//! without what the map says is outdated, and each copy is swapped in for its group.
//!
//! What is cleaned is durable and decided: it ends before the recovery point, the high watermark and the last stable
//! offset. Offsets never change; readers keep the files that they have open. See `docs/internals/log.md`.

mod backlog;
mod batches;
mod filter;
mod offset_map;
mod recopy;
mod room;
pub(crate) mod swap;
mod transactions;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use types::Offset;

pub use backlog::Backlog;
pub use room::Room;

use crate::vfs::Vfs;
use crate::{Log, LogError};
use backlog::{Plan, Source};
use batches::Batches;
use filter::{ActiveProducers, Filter};
use offset_map::OffsetMap;
use recopy::{Recopied, discard, recopy};
use room::reserve;
use transactions::Transactions;

/// What a cleaner may use.
#[derive(Debug, Clone)]
pub struct CompactionSettings {
    /// `log.cleaner.dedupe.buffer.size` for one cleaner: the most bytes of the offset map.
    pub map_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`: how full the map may get, 0 to 1.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size` for one cleaner: bytes that are read or written at once.
    pub buffer_bytes: usize,
    /// How many bytes of the disk a copy leaves free for others.
    pub left_free: u64,
    /// That of the disk: the same for all cleaners of it.
    pub room: Room,
    /// A secret number, other in each process.
    pub hash_seed: u64,
}

/// Gives a cleaner the log for a moment, as the partition's lock allows.
pub trait LogAccess<V: Vfs> {
    /// Runs `step` on the log; `None` if there is no such log any more.
    fn with<R>(&self, step: impl FnOnce(&mut Log<V>) -> R) -> Option<R>;
}

/// What a cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CompactionStats {
    /// The log was dirty from here on.
    pub from: Offset,
    /// It is clean up to here now.
    pub to: Offset,
    /// Bytes that were read, for the map and for copying.
    pub bytes_read: u64,
    /// Bytes of the segments that were replaced.
    pub bytes_before: u64,
    /// Bytes of the segments that took their place.
    pub bytes_after: u64,
    /// Records that were read for copying.
    pub records_read: u64,
    /// Records that were copied.
    pub records_kept: u64,
    /// Records without a key that were dropped.
    pub keyless_records: u64,
    /// How full the offset map was, 0 to 1.
    pub map_utilization: f64,
}

/// How a cleaning ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compaction {
    /// The log is clean up to where the statistics say.
    Done(CompactionStats),
    /// There was nothing to clean.
    Nothing,
    /// A copy of the segments that come next would not fit on the disk. The log is as sound as before.
    NoRoom {
        /// Bytes that have to be free for it.
        needed: u64,
        /// Bytes that are, and are not for copies that others make.
        free: u64,
    },
    /// The log was truncated, lost segments or went away meanwhile, or the caller wanted an end. The log is as sound as
    /// before; it may be tried again.
    Interrupted,
}

/// Why a step of a cleaning ended early.
#[derive(Debug)]
enum Stop {
    Interrupted,
    NoRoom { needed: u64, free: u64 },
    Failed(LogError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Failed(error)
    }
}

/// Told of bytes that were read or written: it may take its time (a throttle), or say that the cleaning has to end.
pub type Pace<'p> = dyn FnMut(u64) -> ControlFlow<()> + 'p;

/// Cleans a log once, from its first dirty offset on as far as may be. Takes as long as the disk does. There must be one
/// cleaner at a time for a log.
///
/// # Errors
/// [`LogError::DiskFull`]: to be tried again when there is room. [`LogError::Corrupt`], [`LogError::Records`]: stored
/// batches cannot be read. [`LogError::Io`]: if it happened while files were swapped, the log is offline, else it goes on
/// as before. [`LogError::Panicked`]: likewise, if it happened while the cleaner had the log. None of these loses a record.
pub fn compact<V: Vfs, A: LogAccess<V>>(
    log: &A,
    settings: &CompactionSettings,
    now_ms: i64,
    high_watermark: Offset,
    pace: &mut Pace<'_>,
) -> Result<Compaction, LogError> {
    let log = &Watched {
        log,
        inside: Cell::new(false),
    };
    let cleaning = || try_compact(log, settings, now_ms, high_watermark, pace);
    // Nothing that the closure used is used again, but for the log, whose memory may be half changed.
    catch_unwind(AssertUnwindSafe(cleaning)).unwrap_or_else(|panic| {
        let inside = log.inside.replace(false);
        let path = log.with(|log| log.dir.clone()).unwrap_or_default();
        let error = LogError::panicked(path.display().to_string(), &*panic);
        if inside {
            log.with(|log| log.offline = Some(error.to_string()));
        }
        Err(error)
    })
}

/// Knows whether a step runs on the log.
struct Watched<'a, A> {
    log: &'a A,
    inside: Cell<bool>,
}

impl<V: Vfs, A: LogAccess<V>> LogAccess<V> for Watched<'_, A> {
    fn with<R>(&self, step: impl FnOnce(&mut Log<V>) -> R) -> Option<R> {
        self.inside.set(true);
        let result = self.log.with(step);
        self.inside.set(false);
        result
    }
}

fn try_compact<V: Vfs, A: LogAccess<V>>(
    log: &A,
    settings: &CompactionSettings,
    now_ms: i64,
    high_watermark: Offset,
    pace: &mut Pace<'_>,
) -> Result<Compaction, LogError> {
    let Some(plan) = log.with(|log| log.plan_compaction(now_ms, high_watermark)) else {
        return Ok(Compaction::Interrupted);
    };
    let mut plan = plan?;
    if plan.first_dirty >= plan.first_uncleanable {
        return Ok(Compaction::Nothing);
    }
    let mut swapped = 0;
    let read = plan.read_files().map_err(Stop::Failed);
    match read.and_then(|()| run(log, &plan, settings, pace, &mut swapped)) {
        Ok(stats) => Ok(Compaction::Done(stats)),
        Err(Stop::Interrupted) => Ok(Compaction::Interrupted),
        Err(Stop::NoRoom { needed, free }) => Ok(Compaction::NoRoom { needed, free }),
        Err(Stop::Failed(error)) => {
            // A file that was truncated or deleted meanwhile reads like a damaged one.
            let rest = &plan.sources[swapped..];
            let still = log.with(|log| log.generation == plan.generation && log.holds(rest));
            if still == Some(true) {
                Err(error)
            } else {
                Ok(Compaction::Interrupted)
            }
        }
    }
}

fn run<V: Vfs, A: LogAccess<V>>(
    log: &A,
    plan: &Plan<V>,
    settings: &CompactionSettings,
    pace: &mut Pace<'_>,
    swapped_sources: &mut usize,
) -> Result<CompactionStats, Stop> {
    let mut stats = CompactionStats {
        from: plan.first_dirty,
        ..CompactionStats::default()
    };
    // Before anything is read for nothing: the first group is copied whatever the map says.
    if let Some(first) = plan.groups(&plan.sources).first() {
        drop(reserve(plan, first, settings)?);
    }
    let map = build_map(plan, settings, pace, &mut stats)?;
    stats.map_utilization = map.utilization();
    stats.to = map.latest().plus(1);
    let end = plan
        .sources
        .partition_point(|source| source.base < stats.to);
    let mut transactions = Transactions::new(plan.aborted.clone());
    for group in plan.groups(&plan.sources[..end]) {
        let _room = reserve(plan, group, settings)?;
        let mut filter = Filter {
            map: &map,
            transactions: &mut transactions,
            producers: &plan.producers,
            settled: plan.settled,
            now_ms: plan.now_ms,
            delete_retention_ms: plan.delete_retention_ms,
        };
        let copied = recopy(plan, group, &mut filter, settings, pace, &mut stats);
        let swapped = match copied {
            Ok(Some(copy)) => swap_in(log, plan, &copy).map(|()| {
                stats.bytes_before += group.iter().map(|source| source.size).sum::<u64>();
                stats.bytes_after += copy.segment.size;
            }),
            Ok(None) => Ok(()),
            Err(stop) => Err(stop),
        };
        if let Err(stop) = swapped {
            // If this fails, too, the next start removes the files.
            let _ = discard(&plan.vfs, &plan.dir, group[0].base);
            return Err(stop);
        }
        *swapped_sources += group.len();
    }
    let to = stats.to;
    log.with(|log| log.set_first_dirty(plan.generation, to));
    Ok(stats)
}

/// Makes the copy take the place of its group: the new names are durable before the old files go.
fn swap_in<V: Vfs, A: LogAccess<V>>(
    log: &A,
    plan: &Plan<V>,
    copy: &Recopied<V>,
) -> Result<(), Stop> {
    let begun = log.with(|log| log.begin_swap(copy));
    if !begun.ok_or(Stop::Interrupted)?? {
        return Err(Stop::Interrupted);
    }
    let synced = plan.vfs.sync_dir(&plan.dir);
    let finished = log.with(|log| log.finish_swap(copy, synced));
    if finished.ok_or(Stop::Interrupted)?? {
        Ok(())
    } else {
        Err(Stop::Interrupted)
    }
}

/// The last offset of each key from the first dirty offset on, in whole batches, as far as the map goes.
fn build_map<V: Vfs>(
    plan: &Plan<V>,
    settings: &CompactionSettings,
    pace: &mut Pace<'_>,
    stats: &mut CompactionStats,
) -> Result<OffsetMap, Stop> {
    // There are not more keys than offsets.
    let offsets = plan.first_uncleanable.0 - plan.first_dirty.0;
    let mut map = OffsetMap::new(
        settings.map_bytes,
        settings.load_factor,
        u64::try_from(offsets).unwrap_or(0),
        settings.hash_seed,
    );
    let dirty = plan.sources.iter().filter(|one| one.end > plan.first_dirty);
    let first = dirty
        .clone()
        .next()
        .map_or(plan.first_dirty, |one| one.base);
    // Of earlier ones the markers are not read.
    let aborted = plan.aborted.iter().filter(|one| one.last_offset >= first);
    let mut transactions = Transactions::new(aborted.copied().collect());
    let mut dirty = dirty;
    let full = dirty.try_for_each(|source| {
        match map_source(
            plan,
            source,
            settings,
            &mut map,
            &mut transactions,
            pace,
            stats,
        ) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(None),
            Err(stop) => ControlFlow::Break(Some(stop)),
        }
    });
    if let ControlFlow::Break(Some(stop)) = full {
        return Err(stop);
    }
    if map.latest() < plan.first_dirty {
        return Err(Stop::Failed(LogError::Format {
            path: plan.dir.clone(),
            reason: format!(
                "the keys of one batch do not fit into {} bytes: log.cleaner.dedupe.buffer.size has to be larger",
                settings.map_bytes
            ),
        }));
    }
    Ok(map)
}

/// Enters a segment's keys; `false` when the map is full.
fn map_source<V: Vfs>(
    plan: &Plan<V>,
    source: &Source,
    settings: &CompactionSettings,
    map: &mut OffsetMap,
    transactions: &mut Transactions,
    pace: &mut Pace<'_>,
    stats: &mut CompactionStats,
) -> Result<bool, Stop> {
    let file = source.open(&plan.vfs)?;
    let mut batches = Batches::new(&file, &source.path, source.size, settings.buffer_bytes);
    while let Some(batch) = batches.next()? {
        let bytes = batch.bytes.len() as u64;
        stats.bytes_read += bytes;
        if pace(bytes).is_break() {
            return Err(Stop::Interrupted);
        }
        let header = &batch.header;
        let read = transactions.read(header, &batch.bytes);
        let aborted = read.map_err(|source| batch.unreadable(source))?;
        if header.last_offset() < plan.first_dirty {
            continue;
        }
        if !aborted && !header.is_control() {
            for record in batch.records()? {
                let record = record.map_err(|source| batch.unreadable(source))?;
                if let Some(key) = &record.key
                    && record.offset >= plan.first_dirty
                    && !map.put(key, record.offset)
                {
                    return Ok(false);
                }
            }
        }
        map.advance_latest(header.last_offset());
    }
    map.advance_latest(source.end.plus(-1));
    Ok(true)
}

impl<V: Vfs> Log<V> {
    /// Where the part of the log begins that was never cleaned.
    pub const fn first_dirty_offset(&self) -> Offset {
        self.first_dirty
    }

    /// Tells that the log directory's checkpoint has this as the first dirty offset, durable. What recovery has to know, the
    /// next cleaning relies on only then.
    ///
    /// # Errors
    /// An I/O error.
    pub fn on_cleaner_checkpoint(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.checkpointed_dirty == offset {
            return Ok(());
        }
        self.checkpointed_dirty = offset;
        self.settle_truncation()
    }

    /// What was told of the checkpoint last.
    pub const fn checkpointed_first_dirty_offset(&self) -> Offset {
        self.checkpointed_dirty
    }

    fn set_first_dirty(&mut self, generation: u64, offset: Offset) {
        if self.generation == generation {
            self.first_dirty = offset;
        }
    }

    fn active_producers(&self) -> ActiveProducers {
        ActiveProducers::of(&self.producers)
    }
}
