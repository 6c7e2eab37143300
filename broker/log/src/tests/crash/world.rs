//! What happens in a history, and what must be left after its crash?

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use types::{LeaderEpoch, Offset, TransactionResult};

use crate::faulty::{Faults, FaultyVfs};
use crate::tests::fixture::{
    Batch, ROOT, TestLog, offsets, open, open_as_found, read_all, small, write_checkpoints,
};
use crate::tests::model::{Entry, Producers, check_derived, marker};
use crate::{LogConfig, LogDir, LogError};

/// What kind of faults a history has beside its crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// None: what was synced must be there.
    Honest,
    /// Syncs are lost, so nothing need be there; what is there must be sound. The recovery point is never believed.
    LostSyncs,
    /// Instead of a crash the disk is full for a while.
    Full,
    /// Instead of a crash an operation fails.
    Error,
}

const STEPS: usize = 40;

type Step = fn(&mut World) -> Result<(), LogError>;

pub(super) struct World {
    name: String,
    vfs: FaultyVfs,
    rng: SmallRng,
    mode: Mode,
    log: Option<TestLog>,
    /// All batches up to the log's end, also the deleted ones.
    entries: Vec<Entry>,
    /// In this operation everything may be replaced: what was there before.
    before: Option<Vec<Entry>>,
    /// What a full disk refused last, if nothing was appended since.
    refused: Vec<Entry>,
    synced: Offset,
    /// Log start offset that was checkpointed.
    checkpointed_start: Offset,
    epoch: i32,
    now_ms: i64,
    /// Whether the step at hand truncates.
    truncating: bool,
    /// What happened so far, for the failure message.
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
    pub(super) fn new(seed: u64, mode: Mode, at: Option<u64>) -> Self {
        let vfs = FaultyVfs::new(seed);
        let name = format!("seed {seed}, {mode:?} at operation {at:?}");
        let mut faults = Faults::default();
        match mode {
            Mode::Honest => faults.crash_at = at,
            Mode::LostSyncs => {
                faults.crash_at = at;
                faults.lost_sync_one_in = 3;
            }
            Mode::Full => {
                faults.full_at = at;
                faults.full_for = 1 + seed % 20;
            }
            Mode::Error => faults.error_at = at,
        }
        if mode == Mode::LostSyncs {
            // The directory and its topic id were made durable on a good day.
            open(&vfs, small()).0.flush().expect("no faults yet");
        }
        vfs.set_faults(faults);
        Self {
            name,
            vfs,
            rng: SmallRng::seed_from_u64(seed),
            mode,
            log: None,
            entries: Vec::new(),
            before: None,
            refused: Vec::new(),
            synced: Offset(0),
            checkpointed_start: Offset(0),
            epoch: 0,
            now_ms: 2000,
            truncating: false,
            history: Vec::new(),
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.vfs.operations()
    }

    fn config(&self) -> LogConfig {
        LogConfig {
            retention_bytes: Some(4000),
            file_delete_delay_ms: 100,
            ..small()
        }
    }

    /// The history, its crash, and the end: a kill, a power loss, and all must be there that should.
    pub(super) fn run(&mut self) {
        for _ in 0..STEPS {
            let result = self.step();
            self.settle(result);
        }
        if self.vfs.is_crashed() {
            self.power_loss();
        }
        self.power_loss();
    }

    /// After a step: its error, if any, must be one of the faults, and the log is opened again if it has to be.
    fn settle(&mut self, result: Result<(), LogError>) {
        if let Err(error) = result {
            if self.vfs.is_crashed() {
                self.power_loss();
                return;
            }
            assert!(
                matches!(self.mode, Mode::Full | Mode::Error),
                "{}: {error:?}",
                self.name
            );
        }
        let offline = self
            .log
            .as_ref()
            .is_some_and(|log| log.offline_reason().is_some());
        if offline {
            // A truncation that failed half-way is undone by the process's memory of it going: what it removed may come
            // back at a later power loss, as if it had not been tried. Here the power is lost at once.
            let truncation = self.truncating;
            if !truncation && self.rng.random_bool(0.5) {
                self.log = None;
                self.reopen();
            } else {
                self.power_loss();
            }
        } else if let Some(log) = &self.log {
            // A full disk may have let a part of an append through, and what it refused may come back.
            let leo = log.log_end_offset();
            let kept = self
                .entries
                .partition_point(|entry| entry.header.last_offset() < leo);
            if kept < self.entries.len() {
                self.refused = self.entries.split_off(kept);
            }
            self.before = None;
        }
    }

    fn power_loss(&mut self) {
        self.log = None;
        self.vfs.crash();
        // Sometimes recovery itself is interrupted.
        if self.rng.random_bool(0.3) {
            let crash_at = Some(self.vfs.operations() + self.rng.random_range(1..20));
            self.vfs.set_faults(Faults {
                crash_at,
                ..Faults::default()
            });
            let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.try_open()));
            assert!(opened.is_ok(), "{}: recovery panicked", self.name);
            self.log = None;
            self.vfs.crash();
        }
        self.reopen();
    }

    fn try_open(&mut self) -> Result<(), LogError> {
        let (mode, opened) = open_as_found(&self.vfs, self.config(), self.now_ms)?;
        self.history
            .push(format!("opened with {mode:?}: {:?}", opened.1));
        self.log = Some(opened.0);
        Ok(())
    }

    /// Opens the log and compares it with the model.
    fn reopen(&mut self) {
        if let Err(error) = self.try_open() {
            assert_eq!(self.mode, Mode::Full, "{}: {error:?}", self.name);
            // The disk is still full: there will be room.
            self.vfs.set_faults(Faults::default());
            self.try_open().expect("opens with room");
        }
        let mut log = self.log.take().expect("was opened");
        let (start, leo) = (log.log_start_offset(), log.log_end_offset());
        let name = &self.name;
        let checkpointed = self.checkpointed_start;
        assert!(start >= checkpointed, "{name}: log start {start}");
        let synced = self.synced;
        assert!(
            leo >= synced,
            "{name}: {synced} was synced, {leo} is the end"
        );
        let got = read_all(&log, start.0, 700);
        if let Some(before) = self.before.take() {
            // A log that begins anew is the old one, cut anywhere, or the new one, which is empty.
            self.entries = before;
        }
        self.entries
            .retain(|entry| entry.header.last_offset() < leo);
        let want = self.entries.iter();
        let want = want.filter(|entry| entry.header.last_offset() >= start);
        let want: Vec<_> = want.map(|entry| entry.bytes.clone()).collect();
        let begun_anew = got.is_empty() && start == leo && log.producers().count() == 0;
        if begun_anew && synced <= start {
            // What counted was not there any more.
            self.entries.clear();
        } else {
            assert_eq!(offsets(&got), offsets(&want), "{name}: {start} to {leo}");
            assert!(got == want, "{name}: other batches from {start} to {leo}");
        }
        check_derived(&mut log, &self.entries, name);
        self.epoch += 1;
        self.log = Some(log);
    }

    fn step(&mut self) -> Result<(), LogError> {
        self.now_ms += 50;
        self.vfs.set_clock(self.now_ms);
        if self.log.is_none() {
            self.try_open()?;
        }
        let (name, step): (_, Step) = match self.rng.random_range(0..100) {
            0..55 => ("append", Self::append),
            55..70 => ("flush", Self::flush),
            70..76 => ("truncate", Self::truncate),
            76..78 => ("begin anew", Self::begin_anew),
            78..86 => ("retention", Self::retention),
            86..91 => ("delete records", Self::delete_records),
            91..94 => ("stop cleanly", Self::stop_cleanly),
            94..97 => ("kill", Self::kill),
            _ => ("elect", Self::elect),
        };
        self.truncating = ["truncate", "begin anew"].contains(&name);
        let before = self.vfs.operations() + 1;
        let result = step(self);
        let after = self.log.as_ref().map(|log| {
            let bases: Vec<_> = log.segments.iter().map(|segment| segment.base.0).collect();
            let (start, end) = (log.log_start_offset(), log.log_end_offset());
            format!(
                "{start} to {end}, recovery point {}, segments {bases:?}",
                log.recovery_point()
            )
        });
        let synced = self.synced;
        self.history.push(format!(
            "{name} from operation {before}: {result:?}; {after:?}, synced {synced}"
        ));
        result
    }

    fn log(&mut self) -> &mut TestLog {
        self.log.as_mut().expect("is open")
    }

    fn append(&mut self) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        let mut next = self.log().log_end_offset().0;
        for _ in 0..self.rng.random_range(1..4) {
            // Gaps as a compacted leader's log has them.
            if self.rng.random_bool(0.05) {
                next += self.rng.random_range(1..5);
            }
            let batch = self.next_batch(next);
            next = batch.header.next_offset().0;
            bytes.extend_from_slice(&batch.bytes);
            self.entries.push(batch);
        }
        let now_ms = self.now_ms;
        self.refused.clear();
        self.log().append(&bytes, now_ms).map(|_| ())
    }

    fn next_batch(&mut self, base: i64) -> Entry {
        let producers = Producers::of(&self.entries);
        let id = self.rng.random_range(0..4);
        if producers.open.contains_key(&id) && self.rng.random_bool(0.4) {
            let commit = self.rng.random_bool(0.5);
            let result = if commit {
                TransactionResult::Commit
            } else {
                TransactionResult::Abort
            };
            return Entry::new(marker(base, self.epoch, id, result));
        }
        let mut batch = Batch::at(base)
            .epoch(self.epoch)
            .records(self.rng.random_range(1..4))
            .timestamp(self.now_ms - self.rng.random_range(0..200))
            .value_len(self.rng.random_range(0..150));
        if id < 3 {
            batch = batch.producer(id, 0, producers.next_sequence(id));
            if producers.open.contains_key(&id) || self.rng.random_bool(0.3) {
                batch = batch.transactional();
            }
        }
        Entry::new(batch.bytes())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let handle = self.log().flush_handle()?;
        let offset = handle.offset();
        // Appends go on during a flush.
        let meanwhile = if self.rng.random_bool(0.3) {
            self.append()
        } else {
            Ok(())
        };
        let flushed = handle.flush();
        self.log().finish_flush(flushed)?;
        if self.mode != Mode::LostSyncs {
            let mut durable = self
                .entries
                .iter()
                .rev()
                .map(|entry| entry.header.next_offset());
            let durable = durable.find(|&end| end <= offset);
            self.synced = self.synced.max(durable.unwrap_or_default());
            if self.rng.random_bool(0.6) {
                self.write_checkpoints()?;
            }
        }
        meanwhile
    }

    fn write_checkpoints(&mut self) -> Result<(), LogError> {
        // While it is written either value may be found.
        let start = self.log().log_start_offset();
        let (root, _) = LogDir::open(self.vfs.clone(), ROOT)?;
        let log = self.log.as_mut().expect("is open");
        write_checkpoints(&root, log)?;
        self.checkpointed_start = start;
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), LogError> {
        self.refused.clear();
        if self.mode == Mode::LostSyncs {
            return Ok(());
        }
        let (start, end) = (
            self.log().log_start_offset().0,
            self.log().log_end_offset().0,
        );
        let to = Offset(self.rng.random_range(start.max(end - 15)..=end));
        // The end lies behind the last batch that is left, even if a gap follows it.
        let mut left = self.entries.iter().rev();
        let left = left.find(|entry| entry.header.last_offset() < to);
        let cut = left.map_or(Offset(0), |entry| entry.header.next_offset());
        self.synced = self.synced.min(cut);
        self.epoch += 1;
        // A batch that holds the log start offset goes as a whole.
        self.checkpointed_start = self.checkpointed_start.min(cut);
        self.log().truncate_to(to).map(|_| ())
    }

    fn begin_anew(&mut self) -> Result<(), LogError> {
        if self.mode == Mode::LostSyncs {
            return Ok(());
        }
        let end = self.log().log_end_offset().0;
        let start = Offset(end + self.rng.random_range(1..20));
        self.epoch += 1;
        self.before = Some(std::mem::take(&mut self.entries));
        self.synced = Offset(0);
        self.log().truncate_fully_and_start_at(start)
    }

    fn retention(&mut self) -> Result<(), LogError> {
        let (now_ms, lost_syncs) = (self.now_ms, self.mode == Mode::LostSyncs);
        let log = self.log();
        let end = log.log_end_offset();
        log.roll_if_needed(now_ms)?;
        if lost_syncs {
            // What is deleted may have been the only witness of its producers.
            return Ok(());
        }
        log.enforce_retention(now_ms, end)?;
        log.purge_deleted(now_ms).map(|_| ())
    }

    fn delete_records(&mut self) -> Result<(), LogError> {
        if self.mode == Mode::LostSyncs {
            return Ok(());
        }
        let (start, end) = (
            self.log().log_start_offset().0,
            self.log().log_end_offset().0,
        );
        let to = Offset(self.rng.random_range(start..=end.min(start + 10)));
        self.log().advance_log_start_offset(to)?;
        self.write_checkpoints()
    }

    fn stop_cleanly(&mut self) -> Result<(), LogError> {
        if self.mode == Mode::LostSyncs {
            return self.kill();
        }
        self.log().close()?;
        let end = self.entries.last().map(|entry| entry.header.next_offset());
        self.synced = self.synced.max(end.unwrap_or_default());
        self.write_checkpoints()?;
        let (root, _) = LogDir::open(self.vfs.clone(), ROOT)?;
        // The process ends, also if the mark fails half-way: it may be there although nobody was told so.
        self.log = None;
        root.mark_clean_shutdown(Some(1))?;
        self.kill()
    }

    /// The process ends, the machine goes on.
    fn kill(&mut self) -> Result<(), LogError> {
        self.log = None;
        self.try_open()?;
        let leo = self.log().log_end_offset();
        let end = self
            .entries
            .last()
            .map_or(leo, |entry| entry.header.next_offset());
        assert!(leo >= end, "{}: a kill lost {leo} to {end}", self.name);
        let log = self.log();
        if leo > end && log.log_start_offset() == leo && log.producers().count() == 0 {
            // Cut below the checkpointed log start offset, in a batch that holds it: begun anew there.
            self.entries.clear();
        }
        self.epoch += 1;
        Ok(())
    }

    fn elect(&mut self) -> Result<(), LogError> {
        self.epoch += 1;
        let epoch = LeaderEpoch(self.epoch);
        let log = self.log();
        let end = log.log_end_offset();
        log.assign_leader_epoch(epoch, end);
        Ok(())
    }
}
