//! What happens to a compacted log in a history, and what must a reader find after every cleaning and every crash?

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use types::{Compression, Offset, TransactionResult};

use super::history::{Keyed, all_records, committed, committed_map, header, map_of, records};
use super::{Held, compacted};
use crate::faulty::{Faults, FaultyVfs};
use crate::tests::fixture::{ROOT, TestLog, open_as_found, read_all, write_checkpoints};
use crate::tests::model::{Entry, Producers, marker};
use crate::{
    Compaction, CompactionSettings, LogConfig, LogDir, LogError, OffsetCheckpoint, ProducerCheck,
    Room, compact,
};

const STEPS: usize = 60;
const KEYS: i64 = 8;
const DELETE_RETENTION_MS: i64 = 400;

pub(super) struct World {
    name: String,
    vfs: FaultyVfs,
    rng: SmallRng,
    held: Held,
    /// All batches up to the log's end as they were appended.
    entries: Vec<Entry>,
    synced: Offset,
    checkpointed_start: Offset,
    high_watermark: Offset,
    epoch: i32,
    now_ms: i64,
    /// From here on no cleaning may have changed anything.
    untouched_from: Offset,
    /// When a cleaning first might have seen the tombstone at this offset.
    seen_ms: BTreeMap<i64, i64>,
    cleanings: usize,
    history: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("history of {}:\n{}", self.name, self.history.join("\n"));
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, crash_at: Option<u64>) -> Self {
        let vfs = FaultyVfs::new(seed);
        vfs.set_faults(Faults {
            crash_at,
            short_read_one_in: 7,
            ..Faults::default()
        });
        Self {
            name: format!("seed {seed}, crash at operation {crash_at:?}"),
            vfs,
            rng: SmallRng::seed_from_u64(seed),
            held: Held::default(),
            entries: Vec::new(),
            synced: Offset(0),
            checkpointed_start: Offset(0),
            high_watermark: Offset(0),
            epoch: 0,
            now_ms: 2000,
            untouched_from: Offset(0),
            seen_ms: BTreeMap::new(),
            cleanings: 0,
            history: Vec::new(),
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.vfs.operations()
    }

    pub(super) fn cleanings(&self) -> usize {
        self.cleanings
    }

    fn config(&self) -> LogConfig {
        LogConfig {
            delete_retention_ms: DELETE_RETENTION_MS,
            segment_bytes: 700,
            index_interval_bytes: 100,
            ..compacted()
        }
    }

    pub(super) fn run(&mut self) {
        for _ in 0..STEPS {
            self.now_ms += self.rng.random_range(1..60);
            self.vfs.set_clock(self.now_ms);
            if let Err(error) = self.step() {
                assert!(self.vfs.is_crashed(), "{}: {error:?}", self.name);
                self.power_loss();
            }
        }
        if self.vfs.is_crashed() {
            self.power_loss();
        }
        self.check();
        self.power_loss();
    }

    fn step(&mut self) -> Result<(), LogError> {
        if self.held.0.borrow().is_none() {
            self.open()?;
            self.check();
        }
        let before = self.vfs.operations() + 1;
        let (name, result) = match self.rng.random_range(0..100) {
            0..50 => ("append", self.append()),
            50..65 => ("flush", self.flush()),
            65..82 => ("clean", self.clean()),
            82..85 => ("roll", self.roll()),
            85..88 => ("delete records", self.delete_records()),
            88..92 => ("truncate", self.truncate()),
            92..95 => ("stop cleanly", self.stop_cleanly()),
            95..98 => ("kill", self.kill()),
            _ => ("elect", self.elect()),
        };
        self.note(&format!("{name} from operation {before}: {result:?}"));
        result
    }

    fn note(&mut self, what: &str) {
        let state = self.held.0.borrow().as_ref().map(|log| {
            let bases: Vec<_> = log.segments.iter().map(|segment| segment.base.0).collect();
            format!(
                "{} to {}, recovery point {}, dirty from {}, segments {bases:?}",
                log.log_start_offset(),
                log.log_end_offset(),
                log.recovery_point(),
                log.first_dirty_offset()
            )
        });
        let high_watermark = self.high_watermark;
        let line = format!("{what}; {state:?}, high watermark {high_watermark}");
        self.history.push(line);
    }

    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> R {
        step(self.held.0.borrow_mut().as_mut().expect("is open"))
    }

    fn end(&self) -> Offset {
        self.with(|log| log.log_end_offset())
    }

    fn open(&mut self) -> Result<(), LogError> {
        let (mode, opened) = open_as_found(&self.vfs, self.config(), self.now_ms)?;
        self.history
            .push(format!("opened with {mode:?}: {:?}", opened.1));
        let (mut log, report) = opened;
        let leo = log.log_end_offset();
        assert!(
            leo >= self.synced,
            "{}: {leo} of {}",
            self.name,
            self.synced
        );
        self.entries
            .retain(|entry| entry.header.last_offset() < leo);
        let last = self.entries.last().map(|entry| entry.header.next_offset());
        let begins_anew = report.stopped.is_some() && log.segments[0].base == leo;
        let goes_on_beyond = last.is_some_and(|last| last < leo);
        if log.log_start_offset() == leo && (begins_anew || goes_on_beyond) {
            // All that counted is lost, and with it what batches below the log's start had told of producers.
            self.entries.clear();
        }
        // A snapshot does not tell which markers the others do not have yet: now they have all.
        self.high_watermark = leo;
        self.untouched_from = self.untouched_from.min(leo);
        self.seen_ms.retain(|&offset, _| offset < leo.0);
        log.advance_high_watermark(self.high_watermark);
        self.epoch += 1;
        *self.held.0.borrow_mut() = Some(log);
        Ok(())
    }

    fn power_loss(&mut self) {
        *self.held.0.borrow_mut() = None;
        self.vfs.crash();
        // Sometimes recovery itself is interrupted.
        if self.rng.random_bool(0.4) {
            let crash_at = Some(self.vfs.operations() + self.rng.random_range(1..15));
            self.vfs.set_faults(Faults {
                crash_at,
                ..Faults::default()
            });
            let opened = self.open();
            self.history
                .push(format!("interrupted recovery: {opened:?}"));
            *self.held.0.borrow_mut() = None;
            self.vfs.crash();
        }
        self.open().expect("opens after a crash");
        self.check();
    }

    fn append(&mut self) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        let mut next = self.end().0;
        for _ in 0..self.rng.random_range(1..4) {
            let batch = self.next_batch(next);
            next = batch.header.next_offset().0;
            bytes.extend_from_slice(&batch.bytes);
            self.entries.push(batch);
        }
        let now_ms = self.now_ms;
        self.with(|log| log.append(&bytes, now_ms))?;
        self.replicate();
        Ok(())
    }

    /// The high watermark moves, sometimes as far as the end.
    fn replicate(&mut self) {
        let end = self.end();
        if self.rng.random_bool(0.3) {
            self.high_watermark = end;
        } else {
            let offset = self.rng.random_range(self.high_watermark.0..=end.0);
            self.high_watermark = Offset(offset);
        }
        let high_watermark = self.high_watermark;
        self.with(|log| log.advance_high_watermark(high_watermark));
    }

    fn next_batch(&mut self, base: i64) -> Entry {
        let producers = Producers::of(&self.entries);
        let id = self.rng.random_range(0..4);
        if producers.open.contains_key(&id) && self.rng.random_bool(0.5) {
            let commit = self.rng.random_bool(0.5);
            let result = if commit {
                TransactionResult::Commit
            } else {
                TransactionResult::Abort
            };
            return Entry::new(marker(base, self.epoch, id, result));
        }
        let codec = match self.rng.random_range(0..10) {
            0 => Compression::Zstd,
            1 => Compression::Lz4,
            2 => Compression::Gzip,
            3 => Compression::Snappy,
            _ => Compression::None,
        };
        let mut batch = Keyed::at(base)
            .epoch(self.epoch)
            .codec(codec)
            .timestamp(self.now_ms - self.rng.random_range(0..200));
        for n in 0..self.rng.random_range(1..5) {
            let key = self.rng.random_range(0..KEYS);
            let value = format!("{}:{}", base + n, ".".repeat(self.rng.random_range(0..40)));
            let tombstone = self.rng.random_bool(0.25);
            batch = batch.record(key, (!tombstone).then_some(&value));
        }
        if id < 3 {
            batch = batch.producer(id, producers.next_sequence(id));
            if producers.open.contains_key(&id) || self.rng.random_bool(0.3) {
                batch = batch.transactional();
            }
        }
        Entry::new(batch.bytes())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.with(TestLog::flush)?;
        self.synced = self.end();
        if self.rng.random_bool(0.5) {
            self.write_checkpoints()?;
        }
        Ok(())
    }

    fn write_checkpoints(&mut self) -> Result<(), LogError> {
        let start = self.with(|log| log.log_start_offset());
        let (root, _) = LogDir::open(self.vfs.clone(), ROOT)?;
        self.with(|log| write_checkpoints(&root, log))?;
        self.checkpointed_start = start;
        Ok(())
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let now_ms = self.now_ms;
        self.with(|log| {
            let empty = log.log_end_offset() == log.active_segment_base();
            if empty {
                Ok(())
            } else {
                log.roll(None, now_ms)
            }
        })
    }

    fn delete_records(&mut self) -> Result<(), LogError> {
        let start = self.with(|log| log.log_start_offset()).0;
        let most = self.high_watermark.0.max(start).min(start + 8);
        let to = Offset(self.rng.random_range(start..=most));
        self.with(|log| log.advance_log_start_offset(to))?;
        self.write_checkpoints()
    }

    /// As a follower does: never below the high watermark, where its leader could not differ.
    fn truncate(&mut self) -> Result<(), LogError> {
        let (low, end) = (self.high_watermark, self.end());
        // Batches are truncated as a whole, and never one that the high watermark lies in.
        let mut cuts: Vec<_> = self.entries.iter().map(|e| e.header.base_offset).collect();
        cuts.retain(|&at| at >= low && at < end);
        let Some(&to) = cuts.get(self.rng.random_range(0..cuts.len().max(1))) else {
            return Ok(());
        };
        self.synced = self.synced.min(to);
        self.epoch += 1;
        self.untouched_from = self.untouched_from.min(to);
        // A crash may leave the log as it was.
        self.with(|log| log.truncate_to(to))?;
        self.entries.retain(|entry| entry.header.base_offset < to);
        self.seen_ms.retain(|&offset, _| offset < to.0);
        Ok(())
    }

    fn stop_cleanly(&mut self) -> Result<(), LogError> {
        self.with(TestLog::close)?;
        self.synced = self.end();
        self.write_checkpoints()?;
        let (root, _) = LogDir::open(self.vfs.clone(), ROOT)?;
        root.mark_clean_shutdown(Some(1))?;
        self.kill()
    }

    /// The process ends, the machine goes on.
    fn kill(&mut self) -> Result<(), LogError> {
        let end = self.end();
        *self.held.0.borrow_mut() = None;
        self.open()?;
        assert_eq!(self.end(), end, "{}: a kill lost records", self.name);
        self.check();
        Ok(())
    }

    fn elect(&mut self) -> Result<(), LogError> {
        self.epoch += 1;
        Ok(())
    }

    /// A cleaning, with others at work meanwhile.
    fn clean(&mut self) -> Result<(), LogError> {
        if self.rng.random_bool(0.5) {
            self.with(TestLog::flush)?;
            self.synced = self.end();
        }
        let (now_ms, high_watermark) = (self.now_ms, self.high_watermark);
        let min_compaction_lag_ms = if self.rng.random_bool(0.3) { 150 } else { 0 };
        let config = LogConfig {
            min_compaction_lag_ms,
            ..self.config()
        };
        self.with(|log| log.set_config(config));
        let backlog = self.with(|log| log.compaction_backlog(now_ms, high_watermark))?;
        self.expect_cleaning_below(backlog.first_uncleanable);
        let settings = CompactionSettings {
            map_bytes: 1 << 20,
            // Sometimes only ten keys fit.
            load_factor: if self.rng.random_bool(0.3) { 0.01 } else { 0.9 },
            buffer_bytes: self.rng.random_range(1..2000),
            hash_seed: 9,
            left_free: 0,
            room: Room::default(),
        };
        let held = self.held.clone();
        let quiet = self.rng.random_bool(0.6);
        let result = compact(&held, &settings, now_ms, high_watermark, &mut |_| {
            if quiet || !self.rng.random_bool(0.01) {
                return ControlFlow::Continue(());
            }
            self.meanwhile()
        });
        if self.vfs.is_crashed() {
            return result.map(|_| ()).and(Err(LogError::OutOfOrder {
                got: Offset(0),
                next: Offset(0),
            }));
        }
        let result = result?;
        self.history.push(format!("cleaning: {result:?}"));
        self.check();
        if let (Compaction::Done(stats), true) = (result, quiet) {
            self.cleanings += 1;
            self.check_cleaned(stats.to);
        }
        if matches!(result, Compaction::Done(_)) {
            let dirty = self.with(|log| log.first_dirty_offset());
            let (root, _) = LogDir::open(self.vfs.clone(), ROOT)?;
            let at = crate::tests::fixture::partition();
            root.write_checkpoint(OffsetCheckpoint::Cleaner, [(&at, dirty)].into_iter())?;
            self.with(|log| log.on_cleaner_checkpoint(dirty))?;
        }
        Ok(())
    }

    /// Whatever becomes of the cleaning, records and tombstones before this may have been seen by it.
    fn expect_cleaning_below(&mut self, bound: Offset) {
        self.untouched_from = self.untouched_from.max(bound);
        for entry in &self.entries {
            if entry.header.base_offset >= bound || entry.header.is_control() {
                continue;
            }
            for record in records(&entry.bytes) {
                if record.value.is_none() {
                    self.seen_ms.entry(record.offset.0).or_insert(self.now_ms);
                }
            }
        }
    }

    /// What others do while a cleaner reads or writes.
    fn meanwhile(&mut self) -> ControlFlow<()> {
        let result = match self.rng.random_range(0..6) {
            0 => return ControlFlow::Break(()),
            1 => self.append(),
            2 => self.flush(),
            3 => self.roll(),
            4 => self.truncate(),
            _ => self.delete_records(),
        };
        self.note(&format!("meanwhile: {result:?}"));
        // A crash ends the cleaner by its own next operation.
        assert!(
            result.is_ok() || self.vfs.is_crashed(),
            "{}: {result:?}",
            self.name
        );
        ControlFlow::Continue(())
    }

    fn batches(&self) -> Vec<Bytes> {
        self.with(|log| read_all(log, log.log_start_offset().0, 700))
    }

    fn originals(&self) -> Vec<Bytes> {
        self.entries
            .iter()
            .map(|entry| entry.bytes.clone())
            .collect()
    }

    /// Everything that must hold at any time.
    fn check(&mut self) {
        let name = self.name.clone();
        let start = self.with(|log| log.log_start_offset());
        assert!(
            start >= self.checkpointed_start,
            "{name}: log start {start}"
        );
        let end = self.end();
        let last = self.entries.last().map(|entry| entry.header.next_offset());
        assert_eq!(last.unwrap_or(end), end, "{name}: the end");
        let batches = self.batches();
        self.check_nothing_is_invented(&batches);
        self.check_map(&batches, start);
        self.check_tombstones(&batches, start);
        self.check_producers();
        self.check_indexes(&batches, start);
        for pair in self.with(|log| segment_ends(log)).windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "{name}: segments join");
        }
    }

    fn check_nothing_is_invented(&self, batches: &[Bytes]) {
        let name = &self.name;
        let mut before = Offset(-1);
        for batch in batches {
            let got = header(batch);
            assert!(got.base_offset > before, "{name}: order");
            before = got.last_offset();
            let mut entries = self.entries.iter();
            let original = entries
                .find(|entry| entry.header.base_offset == got.base_offset)
                .unwrap_or_else(|| panic!("{name}: a batch at {}", got.base_offset));
            let identity = |header: &types::BatchHeader| {
                (
                    header.last_offset(),
                    header.partition_leader_epoch,
                    header.producer(),
                    header.last_sequence(),
                    header.is_control(),
                    header.is_transactional(),
                )
            };
            assert_eq!(identity(&got), identity(&original.header), "{name}");
            if got.base_offset >= self.untouched_from {
                assert_eq!(
                    *batch, original.bytes,
                    "{name}: dirty at {}",
                    got.base_offset
                );
            }
            let whole = records(&original.bytes);
            for record in records(batch) {
                assert!(
                    whole.contains(&record),
                    "{name}: {record:?} at {}",
                    got.base_offset
                );
            }
        }
        let untouched = |entry: &&Entry| entry.header.base_offset >= self.untouched_from;
        let start = self.with(|log| log.log_start_offset());
        for entry in self.entries.iter().filter(untouched) {
            if entry.header.last_offset() >= start {
                assert!(
                    batches.contains(&entry.bytes),
                    "{name}: dirty at {}",
                    entry.header.base_offset
                );
            }
        }
    }

    /// A reader of committed records has what the whole history gives.
    fn check_map(&mut self, batches: &[Bytes], start: Offset) {
        let end = self.end();
        let unstable = self.with(|log| log.first_unstable_offset());
        assert_eq!(
            unstable,
            self.unstable(),
            "{}: last stable offset",
            self.name
        );
        let stable = unstable.unwrap_or(end);
        let aborted = self
            .with(|log| log.aborted_transactions(start, end))
            .expect("reads");
        let below = |batches: &[Bytes]| -> Vec<Bytes> {
            let stable = batches
                .iter()
                .filter(|batch| header(batch).base_offset < stable);
            stable.cloned().collect()
        };
        let got = committed_map(&below(batches), &aborted, start);
        // What is open is above the last stable offset; all else below it is decided by a marker somewhere.
        let decided: Vec<_> = committed(&self.originals());
        let want = map_of(&below(&decided), start);
        assert_eq!(got, want, "{}: {start} to {stable}", self.name);
    }

    /// First offset of the oldest transaction that is open, or whose marker is not replicated.
    fn unstable(&self) -> Option<Offset> {
        let mut open = BTreeMap::new();
        let mut undecided = Vec::new();
        for header in self.entries.iter().map(|entry| entry.header) {
            if !header.is_control() && header.is_transactional() {
                open.entry(header.producer_id).or_insert(header.base_offset);
            } else if let Some(first) = open.remove(&header.producer_id)
                && header.base_offset >= self.high_watermark
            {
                undecided.push(first);
            }
        }
        open.into_values().chain(undecided).min()
    }

    fn check_tombstones(&self, batches: &[Bytes], start: Offset) {
        let left: Vec<_> = all_records(batches)
            .iter()
            .map(|record| record.offset)
            .collect();
        let mut newest = BTreeMap::new();
        for record in committed(&self.originals()).iter().flat_map(records) {
            newest.insert(record.key.clone(), record);
        }
        for record in newest.values().filter(|record| record.value.is_none()) {
            let seen = self.seen_ms.get(&record.offset.0).copied();
            let due = seen.is_some_and(|seen| self.now_ms >= seen + DELETE_RETENTION_MS);
            assert!(
                due || record.offset < start || left.contains(&record.offset),
                "{}: the tombstone at {} went too early",
                self.name,
                record.offset
            );
        }
    }

    /// The last five batches of each producer are known, whatever was compacted and recovered.
    fn check_producers(&self) {
        let start = self.with(|log| log.log_start_offset());
        for (id, batches) in &Producers::of(&self.entries).batches {
            let window = &batches[batches.len().saturating_sub(5)..];
            for header in window.iter().filter(|header| header.base_offset >= start) {
                let check = self.with(|log| log.check_producer(header));
                let known = matches!(
                    check,
                    Ok(ProducerCheck::Duplicate { base_offset, last_offset, .. })
                        if (base_offset, last_offset) == (header.base_offset, header.last_offset())
                );
                assert!(
                    known,
                    "{}: {check:?} for producer {id} at {}",
                    self.name, header.base_offset
                );
            }
        }
    }

    fn check_indexes(&self, batches: &[Bytes], start: Offset) {
        let (name, end) = (&self.name, self.end());
        let all: Vec<_> = batches
            .iter()
            .flat_map(records)
            .filter(|record| record.offset >= start)
            .collect();
        for batch in batches {
            let own = header(batch);
            let from = own.base_offset.max(start);
            let slice = self.with(|log| log.read(from, 1, end, true)).expect(name);
            assert_eq!(slice.expect(name).bytes, *batch, "{name}: read at {from}");
            let time = own.max_timestamp;
            let found = self
                .with(|log| log.offset_for_timestamp(time, end))
                .expect(name);
            let want = all.iter().find(|record| record.timestamp >= time);
            assert_eq!(
                found.map(|found| found.offset),
                want.map(|record| record.offset),
                "{name}: time {time}"
            );
        }
    }

    /// After a cleaning that nobody disturbed: one record a key, none of an aborted transaction.
    fn check_cleaned(&self, to: Offset) {
        let committed = committed(&self.originals());
        let decided: Vec<_> = committed
            .iter()
            .flat_map(records)
            .map(|r| r.offset)
            .collect();
        let mut keys = BTreeMap::new();
        let start = self.with(|log| log.log_start_offset());
        for record in all_records(&self.batches()) {
            if record.offset >= to {
                break;
            }
            // The batch that the log start lies in is whole.
            if record.offset < start {
                continue;
            }
            assert!(
                decided.contains(&record.offset),
                "{}: aborted at {}",
                self.name,
                record.offset
            );
            let before = keys.insert(record.key, record.offset);
            assert_eq!(before, None, "{}: an outdated record", self.name);
        }
    }
}

/// First and end offset of each segment with batches, the active one apart.
fn segment_ends(log: &TestLog) -> Vec<(Offset, Offset)> {
    let mut ends = Vec::new();
    for (index, segment) in log.segments.iter().enumerate() {
        let file = log.file_of(index).expect("opens");
        let mut bytes = Vec::new();
        let len = usize::try_from(segment.size).expect("small");
        crate::VfsFile::read_full_at(&*file, 0, len, &mut bytes).expect("reads");
        let mut end = segment.base;
        for batch in types::BatchIter::new(&bytes) {
            end = batch.expect("whole batches").0.next_offset();
        }
        ends.push((segment.base, end));
    }
    ends
}
