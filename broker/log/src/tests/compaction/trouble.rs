//! What keeps a log from being cleaned, what does that cost, and whom does a cleaning hold up?

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;

use types::{Offset, TopicId, TopicPartition, TransactionResult};

use super::history::{Keyed, all_records};
use super::{Held, append, compacted, fill, filled, roll, settings};
use crate::faulty::{Faults, FaultyVfs};
use crate::tests::fixture::{
    ROOT, TestLog, dir, offsets, open, partition, read_all, write_checkpoints,
};
use crate::tests::model::marker;
use crate::truncation::MARKER_FILE;
use crate::{
    Compaction, CompactionSettings, Log, LogAccess, LogConfig, LogDir, LogError, OffsetCheckpoint,
    OpenMode, Vfs, compact,
};

fn clean(log: &impl LogAccess<FaultyVfs>) -> Result<Compaction, LogError> {
    clean_with(log, &settings())
}

fn clean_with(
    log: &impl LogAccess<FaultyVfs>,
    settings: &CompactionSettings,
) -> Result<Compaction, LogError> {
    let end = log.with(|log| {
        log.flush().expect("flushes");
        log.log_end_offset()
    });
    let mut pace = |_| ControlFlow::Continue(());
    compact(log, settings, 9000, end.expect("is held"), &mut pace)
}

fn is_done(result: &Result<Compaction, LogError>) -> bool {
    matches!(result, Ok(Compaction::Done(_)))
}

const LARGE: u64 = 1 << 30;

/// The disk has room for so much more.
fn leave_free(vfs: &FaultyVfs, bytes: u64) {
    let capacity = |capacity| {
        vfs.set_faults(Faults {
            capacity: Some(capacity),
            ..Faults::default()
        });
    };
    capacity(LARGE);
    let used = LARGE - vfs.free_bytes(&dir()).expect("looks");
    capacity(used + bytes);
}

#[test]
fn without_room_for_a_copy_a_cleaning_is_put_off_and_nothing_is_written() {
    let (vfs, mut log) = filled(400, 90);
    log.flush().expect("flushes");
    leave_free(&vfs, 700);
    let held = Held::new(log);
    let (operations, bytes) = (vfs.operations(), vfs.bytes_read());
    let result = clean(&held);
    let Ok(Compaction::NoRoom { needed, free }) = result else {
        panic!("{result:?}");
    };
    assert!(free == 700 && needed > 700, "{needed} of {free}");
    assert_eq!(vfs.operations(), operations, "nothing was tried");
    assert!(vfs.bytes_read() - bytes < 1000, "nor read for nothing");
    // One segment's worth is enough, since what a copy replaces goes before the next is made.
    leave_free(&vfs, 1200);
    let more = CompactionSettings {
        left_free: 1000,
        ..settings()
    };
    let result = clean_with(&held, &more);
    assert!(
        matches!(result, Ok(Compaction::NoRoom { .. })),
        "producers need some: {result:?}"
    );
    let result = clean(&held);
    assert!(is_done(&result), "{result:?}");
    let log = held.take();
    assert_eq!(all_records(&read_all(&log, 0, 500)).len(), 90);
}

#[test]
fn two_cleaners_do_not_count_on_the_same_room() {
    let (vfs, log) = filled(400, 90);
    let (mut other, _) = Log::open(
        vfs.clone(),
        Path::new(ROOT).join("other-0"),
        TopicPartition::new("other", 0),
        TopicId([7; 16]),
        compacted(),
        OpenMode::default(),
        5000,
    )
    .expect("opens");
    fill(&mut other, 400, 90);
    roll(&mut other);
    other.flush().expect("flushes");
    let (first, second) = (Held::new(log), Held::new(other));
    let end = first.with(|log| {
        log.flush().expect("flushes");
        log.log_end_offset()
    });
    // Enough for one copy, not for two.
    leave_free(&vfs, 1500);
    let shared = settings();
    let mut meanwhile = None;
    let mut pace = |_| {
        let copying = *shared.room.taken() > 0;
        if copying && meanwhile.is_none() {
            meanwhile = Some(clean_with(&second, &shared));
        }
        ControlFlow::Continue(())
    };
    let result = compact(&first, &shared, 9000, end.expect("is held"), &mut pace);
    assert!(is_done(&result), "{result:?}");
    assert!(
        matches!(meanwhile, Some(Ok(Compaction::NoRoom { .. }))),
        "{meanwhile:?}"
    );
    let result = clean_with(&second, &shared);
    assert!(is_done(&result), "its turn comes: {result:?}");
}

#[test]
fn an_io_error_is_no_damage_and_the_next_cleaning_may_succeed() {
    let mut failed = 0;
    for at in 1..40 {
        let (vfs, mut log) = filled(100, 5);
        log.flush().expect("flushes");
        vfs.set_faults(Faults {
            error_at: Some(vfs.operations() + at),
            ..Faults::default()
        });
        let held = Held::new(log);
        match clean(&held) {
            Ok(result) => assert!(matches!(result, Compaction::Done(_)), "{result:?}"),
            Err(error) => {
                failed += 1;
                assert!(!error.is_damage(), "{error:?}");
                let offline = held.with(|log| log.offline_reason().is_some());
                if offline == Some(false) {
                    let again = clean(&held);
                    assert!(is_done(&again), "{at}: {again:?}");
                }
            }
        }
    }
    assert!(failed > 5, "{failed}");
}

#[test]
fn a_panic_while_a_log_is_cleaned_is_an_error_of_that_log() {
    let (_vfs, mut log) = filled(100, 5);
    log.flush().expect("flushes");
    let before = read_all(&log, 0, 500);
    let held = Held::new(log);
    let mut calls = 0;
    let mut pace = |_| {
        calls += 1;
        assert!(calls < 30, "an error in the program");
        ControlFlow::Continue(())
    };
    let result = compact(&held, &settings(), 9000, Offset(100), &mut pace);
    let Err(LogError::Panicked { log, reason }) = &result else {
        panic!("{result:?}");
    };
    assert!(log.contains("orders-3"), "{log}");
    assert_eq!(reason, "an error in the program");
    // It was not in the middle of the log's memory: the log goes on.
    let log = held.take();
    assert_eq!(log.offline_reason(), None);
    assert_eq!(read_all(&log, 0, 500), before);
}

/// Panics in the cleaner's `at`th use of the log.
struct PanickingAt {
    held: Held,
    at: usize,
    uses: Cell<usize>,
}

impl LogAccess<FaultyVfs> for PanickingAt {
    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> Option<R> {
        self.uses.set(self.uses.get() + 1);
        let at = self.uses.get();
        self.held.with(|log| {
            let result = step(log);
            assert!(at != self.at, "half-way");
            result
        })
    }
}

impl PanickingAt {
    fn clean(log: TestLog, at: usize) -> (Result<Compaction, LogError>, Option<String>) {
        let panicking = Self {
            held: Held::new(log),
            at,
            uses: Cell::new(0),
        };
        let mut pace = |_| ControlFlow::Continue(());
        let result = compact(&panicking, &settings(), 9000, Offset(100), &mut pace);
        let log = panicking.held.take();
        (result, log.offline_reason().map(str::to_owned))
    }
}

#[test]
fn a_panic_while_the_cleaner_has_the_log_takes_it_offline() {
    for at in 1..4 {
        let (_vfs, mut log) = filled(100, 5);
        log.flush().expect("flushes");
        let (result, offline) = PanickingAt::clean(log, at);
        assert!(
            matches!(result, Err(LogError::Panicked { .. })),
            "{at}: {result:?}"
        );
        let offline = offline.expect("nobody knows what its memory is like");
        assert!(offline.contains("half-way"), "{offline}");
    }
}

/// Checks that no file is read while the log is held.
struct Unhurried {
    held: Held,
    vfs: FaultyVfs,
}

impl LogAccess<FaultyVfs> for Unhurried {
    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> Option<R> {
        let before = self.vfs.reads();
        let result = self.held.with(step);
        assert_eq!(self.vfs.reads(), before, "reads while others wait");
        result
    }
}

/// One transaction in each segment is aborted.
fn with_aborted(end: i64) -> (FaultyVfs, TestLog) {
    let (vfs, mut log) = filled(5, 5);
    let mut sequence = 0;
    while log.log_end_offset().0 < end {
        let at = log.log_end_offset().0;
        append(
            &mut log,
            Keyed::at(at)
                .producer(7, sequence)
                .transactional()
                .record(1, Some("aborted")),
        );
        sequence += 1;
        let abort = marker(at + 1, 0, 7, TransactionResult::Abort);
        log.append(&abort, 2000).expect("appends");
        fill(&mut log, at + 12, 5);
    }
    roll(&mut log);
    log.flush().expect("flushes");
    log.advance_high_watermark(Offset(end));
    (vfs, log)
}

#[test]
fn nobody_waits_for_a_file_that_a_cleaner_reads() {
    let (vfs, mut log) = with_aborted(101);
    log.set_config(LogConfig {
        max_compaction_lag_ms: 1000,
        min_compaction_lag_ms: 1,
        ..compacted()
    });
    let log = Unhurried {
        held: Held::new(log),
        vfs,
    };
    let look = |log: &Unhurried| {
        let backlog = log.with(|log| log.compaction_backlog(9000, Offset(101)));
        backlog.expect("is held").expect("looks")
    };
    assert!(look(&log).overdue_ms > 0);
    let mut pace = |_| ControlFlow::Continue(());
    let result = compact(&log, &settings(), 9000, Offset(101), &mut pace);
    assert!(is_done(&result), "{result:?}");
    log.held.with(|log| fill(log, 140, 5));
    log.held.with(roll);
    log.held.with(|log| log.flush().expect("flushes"));
    look(&log);
}

#[test]
fn the_first_timestamp_of_a_segment_is_read_once_and_is_that_of_its_first_batch() {
    let (vfs, mut log) = filled(100, 5);
    log.flush().expect("flushes");
    drop(log);
    let (mut log, _) = open(&vfs, compacted());
    log.set_config(LogConfig {
        max_compaction_lag_ms: 1000,
        ..compacted()
    });
    log.flush().expect("flushes");
    let overdue = |log: &TestLog| {
        let backlog = log.compaction_backlog(9000, log.log_end_offset());
        backlog.expect("looks").overdue_ms
    };
    // Record n has timestamp 1000 + n.
    assert_eq!(overdue(&log), 9000 - 1000 - 1000);
    let reads = vfs.reads();
    assert_eq!(overdue(&log), 9000 - 1000 - 1000);
    assert_eq!(vfs.reads(), reads);
    // Cut to nothing, a segment gets another first batch.
    log.truncate_to(Offset(0)).expect("truncates");
    append(&mut log, Keyed::at(0).timestamp(4000).record(1, Some("x")));
    fill(&mut log, 40, 5);
    log.set_config(LogConfig {
        max_compaction_lag_ms: 1,
        ..compacted()
    });
    roll(&mut log);
    log.flush().expect("flushes");
    let first = log.segments[0].first_timestamp(&vfs).expect("reads");
    assert_eq!(first, Some(4000));
}

/// Does something to the log right after the cleaner's plan.
struct AfterPlan {
    held: Held,
    uses: Cell<usize>,
    action: fn(&mut TestLog),
}

impl LogAccess<FaultyVfs> for AfterPlan {
    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> Option<R> {
        let result = self.held.with(step);
        self.uses.set(self.uses.get() + 1);
        if self.uses.get() == 1 {
            self.held.with(self.action);
        }
        result
    }
}

#[test]
fn a_cleaning_gives_way_when_the_indexes_of_its_plan_go() {
    let actions: [fn(&mut TestLog); 3] = [
        |log| drop(log.advance_log_start_offset(Offset(40)).expect("deletes")),
        |log| assert!(log.truncate_to(Offset(50)).expect("truncates") <= Offset(50)),
        |log| {
            let start = log.truncate_fully_and_start_at(Offset(500));
            start.expect("begins anew");
        },
    ];
    for action in actions {
        let (_vfs, log) = with_aborted(101);
        let log = AfterPlan {
            held: Held::new(log),
            uses: Cell::new(0),
            action,
        };
        let mut pace = |_| ControlFlow::Continue(());
        let result = compact(&log, &settings(), 9000, Offset(101), &mut pace);
        assert!(matches!(result, Ok(Compaction::Interrupted)), "{result:?}");
    }
}

#[test]
fn an_abort_that_is_appended_meanwhile_does_not_disturb() {
    let (_vfs, mut log) = with_aborted(101);
    append(&mut log, txn(101, 7, 100));
    let abort = marker(102, 0, 7, TransactionResult::Abort);
    log.append(&abort, 2000).expect("appends");
    log.flush().expect("flushes");
    let log = AfterPlan {
        held: Held::new(log),
        uses: Cell::new(0),
        action: |log| {
            append(log, txn(103, 7, 101));
            let abort = marker(104, 0, 7, TransactionResult::Abort);
            log.append(&abort, 2000).expect("appends");
        },
    };
    let mut pace = |_| ControlFlow::Continue(());
    let result = compact(&log, &settings(), 9000, Offset(101), &mut pace);
    assert!(is_done(&result), "{result:?}");
    let log = log.held.take();
    let left = all_records(&read_all(&log, 0, 500));
    let aborted = left
        .iter()
        .filter(|one| one.value.as_deref() == Some(b"aborted"));
    assert_eq!(aborted.count(), 2, "of the active segment");
}

fn txn(at: i64, producer: i64, sequence: i32) -> Keyed {
    let batch = Keyed::at(at).producer(producer, sequence).transactional();
    batch.record(1, Some("aborted"))
}

fn checkpoint_cleaner(vfs: &FaultyVfs, log: &mut TestLog) {
    let (root, _) = LogDir::open(vfs.clone(), ROOT).expect("log dir opens");
    let (at, dirty) = (partition(), log.first_dirty_offset());
    root.write_checkpoint(OffsetCheckpoint::Cleaner, [(&at, dirty)].into_iter())
        .expect("writes");
    log.on_cleaner_checkpoint(dirty).expect("settles");
}

#[test]
fn what_is_appended_after_a_truncation_does_not_count_as_clean_after_a_crash_either() {
    for told in [false, true] {
        let (vfs, log) = filled(100, 5);
        let held = Held::new(log);
        assert!(is_done(&clean(&held)));
        let mut log = held.take();
        let (root, _) = LogDir::open(vfs.clone(), ROOT).expect("log dir opens");
        write_checkpoints(&root, &mut log).expect("writes");
        let end = log.truncate_to(Offset(98)).expect("truncates");
        fill(&mut log, 200, 3);
        roll(&mut log);
        // Durable again, but the cleaners' checkpoint is older.
        log.flush().expect("flushes");
        if told {
            checkpoint_cleaner(&vfs, &mut log);
        }
        let names = vfs.list(&dir()).expect("lists");
        let marked = names.iter().any(|entry| entry.name == MARKER_FILE);
        assert_eq!(marked, !told, "until then the marker stays");
        drop(log);
        vfs.crash();
        let (log, _) = open(&vfs, compacted());
        assert_eq!(log.log_end_offset(), Offset(200));
        let dirty = log.first_dirty_offset();
        assert!(dirty <= end, "{dirty}, not {end}");
    }
}

#[test]
fn a_marker_goes_only_if_the_checkpoint_says_that_its_transaction_is_settled() {
    for told in [false, true] {
        let (vfs, mut log) = filled(20, 4);
        append(&mut log, txn(20, 7, 0));
        let abort = marker(21, 0, 7, TransactionResult::Abort);
        log.append(&abort, 2000).expect("appends");
        // Only what comes later is remembered of the producer.
        for n in 0..5 {
            let later = Keyed::at(22 + n).producer(7, 1 + n as i32);
            append(&mut log, later.record(9, Some("later")));
        }
        roll(&mut log);
        let held = Held::new(log);
        for now_ms in [10_000, 12_000, 14_000] {
            held.with(|log| fill(log, log.log_end_offset().0 + 1, 1));
            held.with(roll);
            let end = held.with(|log| {
                log.flush().expect("flushes");
                let end = log.log_end_offset();
                log.advance_high_watermark(end);
                end
            });
            let mut pace = |_| ControlFlow::Continue(());
            let result = compact(&held, &settings(), now_ms, end.expect("is held"), &mut pace);
            assert!(is_done(&result), "{result:?}");
            if told {
                held.with(|log| checkpoint_cleaner(&vfs, log));
            }
        }
        let left = offsets(&read_all(&held.take(), 0, 500));
        assert_eq!(left.contains(&21), !told, "{left:?}");
    }
}
