//! Does compaction keep the last record of each key, and everything else that anybody relies on?
//!
//! Histories are drawn from a seed as in `crash.rs`, with cleanings among the operations; others than the cleaner use the
//! log meanwhile. `TIDEMARK_SEEDS` says how many histories run, `TIDEMARK_SEED` runs only that one.

mod history;
mod trouble;
mod world;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;

use types::{Compression, Offset, TransactionResult};

use super::crash::{seeds, somewhere};
use super::fixture::{
    ROOT, TestLog, close, dir, offsets, open, read_all, small, write_checkpoints,
};
use super::model::marker;
use crate::faulty::FaultyVfs;
use crate::{
    Compaction, CompactionSettings, CompactionStats, LogAccess, LogConfig, LogDir, LogError, Room,
    Vfs, compact,
};
use history::{Keyed, all_records};
use world::World;

/// The log as the broker's replica holds it; `None` once it is deleted.
#[derive(Debug, Clone, Default)]
struct Held(Rc<RefCell<Option<TestLog>>>);

impl Held {
    fn new(log: TestLog) -> Self {
        Self(Rc::new(RefCell::new(Some(log))))
    }

    fn take(self) -> TestLog {
        self.0.borrow_mut().take().expect("is held")
    }
}

impl LogAccess<FaultyVfs> for Held {
    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> Option<R> {
        self.0.borrow_mut().as_mut().map(step)
    }
}

fn settings() -> CompactionSettings {
    CompactionSettings {
        map_bytes: 1 << 20,
        load_factor: 0.9,
        buffer_bytes: 300,
        hash_seed: 5,
        left_free: 0,
        room: Room::default(),
    }
}

fn compacted() -> LogConfig {
    LogConfig {
        delete: false,
        compact: true,
        delete_retention_ms: 1000,
        ..small()
    }
}

/// Flushes and cleans as far as the log goes.
fn clean_at(held: &Held, now_ms: i64) -> CompactionStats {
    let end = held.with(|log| {
        log.flush().expect("flushes");
        log.log_end_offset()
    });
    let mut pace = |_| ControlFlow::Continue(());
    let done = compact(held, &settings(), now_ms, end.expect("is held"), &mut pace);
    match done.expect("cleans") {
        Compaction::Done(stats) => {
            held.with(|log| log.on_cleaner_checkpoint(stats.to));
            stats
        }
        other => panic!("{other:?}"),
    }
}

fn append(log: &mut TestLog, batch: Keyed) {
    log.append(&batch.bytes(), 2000).expect("appends");
}

/// Fills the log up to `end` with one record a batch; the key is the offset modulo `keys`.
fn fill(log: &mut TestLog, end: i64, keys: i64) {
    while log.log_end_offset().0 < end {
        let at = log.log_end_offset().0;
        append(log, Keyed::at(at).record(at % keys, Some(&at.to_string())));
    }
}

fn roll(log: &mut TestLog) {
    log.roll(None, 2000).expect("rolls");
}

fn filled(end: i64, keys: i64) -> (FaultyVfs, TestLog) {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, compacted());
    fill(&mut log, end, keys);
    roll(&mut log);
    (vfs, log)
}

#[test]
fn the_last_record_of_each_key_stays_where_it_was() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let vfs = FaultyVfs::new(1);
        let (mut log, _) = open(&vfs, compacted());
        for round in 0..20 {
            let mut batch = Keyed::at(round * 5).codec(codec);
            for key in 0..5 {
                batch = batch.record(key, Some(&format!("{round}")));
            }
            append(&mut log, batch);
        }
        roll(&mut log);
        let held = Held::new(log);
        let before = held.with(|log| log.size_bytes()).expect("is held");
        let stats = clean_at(&held, 5000);
        assert_eq!((stats.from, stats.to), (Offset(0), Offset(100)));
        assert_eq!((stats.records_read, stats.records_kept), (100, 5));
        let log = held.take();
        let size: u64 = log.segments.iter().map(|segment| segment.size).sum();
        assert_eq!(log.size_bytes(), size);
        assert!(size < before / 4, "{size} of {before}");
        let left = all_records(&read_all(&log, 0, 500));
        let values: Vec<_> = left
            .iter()
            .map(|record| (record.offset.0, record.value.as_deref()))
            .collect();
        let want: Vec<_> = (95..100).map(|at| (at, Some(&b"19"[..]))).collect();
        assert_eq!(values, want, "{codec:?}");
        assert_eq!(log.first_dirty_offset(), Offset(100));
        // The next start finds the same.
        close(&vfs, log);
        let (log, _) = open(&vfs, compacted());
        assert_eq!(all_records(&read_all(&log, 0, 500)), left);
        assert_eq!(log.first_dirty_offset(), Offset(100));
    }
}

#[test]
fn small_segments_are_merged_up_to_the_size_of_one() {
    let (_vfs, log) = filled(400, 40);
    let before = log.segment_count();
    let held = Held::new(log);
    clean_at(&held, 5000);
    held.with(|log| fill(log, 410, 1));
    held.with(roll);
    // What the first cleaning left small is merged by the second.
    clean_at(&held, 5000);
    let log = held.take();
    assert!(
        before > 20 && log.segment_count() < 12,
        "{before} and {}",
        log.segment_count()
    );
    let sealed = &log.segments[..log.segment_count() - 1];
    assert!(sealed.iter().all(|segment| segment.size <= 1000));
    for pair in log.segments.windows(2) {
        let last = offsets(&read_all(&log, pair[1].base.0 - 1, 1))[0];
        assert_eq!(last + 1, pair[1].base.0, "segments join");
    }
}

#[test]
fn a_tombstone_goes_only_after_its_time() {
    let (_vfs, mut log) = filled(60, 6);
    append(&mut log, Keyed::at(60).record(3, None));
    roll(&mut log);
    let held = Held::new(log);
    let mut end = 61;
    let mut clean = |now_ms| {
        // Something new makes the log dirty.
        held.with(|log| fill(log, end + 1, 1));
        held.with(roll);
        end += 1;
        clean_at(&held, now_ms);
        let log = held.0.borrow();
        let records = all_records(&read_all(log.as_ref().expect("is held"), 0, 500));
        let of_three: Vec<_> = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(&3_i64.to_be_bytes()[..]))
            .map(|record| record.offset.0)
            .collect();
        of_three
    };
    assert_eq!(clean(10_000), [60], "cleaned for the first time");
    assert_eq!(clean(10_999), [60]);
    assert_eq!(clean(11_000), [0_i64; 0], "delete.retention.ms is over");
}

#[test]
fn markers_go_after_their_data_and_aborted_records_never_win() {
    let (_vfs, mut log) = filled(20, 4);
    let txn = |at: i64, sequence| Keyed::at(at).producer(7, sequence).transactional();
    append(
        &mut log,
        txn(20, 0)
            .record(1, Some("aborted"))
            .record(2, Some("aborted")),
    );
    log.append(&marker(22, 0, 7, TransactionResult::Abort), 2000)
        .expect("appends");
    append(&mut log, txn(23, 2).record(3, Some("committed")));
    log.append(&marker(24, 0, 7, TransactionResult::Commit), 2000)
        .expect("appends");
    // Only what comes later is remembered of the producer.
    for n in 0..5 {
        append(
            &mut log,
            Keyed::at(25 + n)
                .producer(7, 3 + n as i32)
                .record(9, Some("later")),
        );
    }
    roll(&mut log);
    log.advance_high_watermark(Offset(30));
    let held = Held::new(log);
    let committed = |held: &Held| {
        let log = held.0.borrow();
        let log = log.as_ref().expect("is held");
        let batches = read_all(log, 0, 500);
        let aborted = log
            .aborted_transactions(Offset(0), log.log_end_offset())
            .expect("reads");
        (
            history::committed_map(&batches, &aborted, Offset(0)),
            offsets(&batches),
            aborted.len(),
        )
    };
    clean_at(&held, 10_000);
    let (map, batches, aborted) = committed(&held);
    assert_eq!(map[&1_i64.to_be_bytes()[..]], b"17"[..]);
    assert_eq!(map[&2_i64.to_be_bytes()[..]], b"18"[..]);
    assert_eq!(map[&3_i64.to_be_bytes()[..]], b"committed"[..]);
    // The data went, so the marker is due in a delete.retention.ms.
    assert!(
        batches.contains(&22) && !batches.contains(&20),
        "{batches:?}"
    );
    assert_eq!(
        aborted, 1,
        "until the marker's cleaning has seen that the data are gone"
    );
    for (now_ms, left) in [(10_500, true), (11_600, false)] {
        held.with(|log| fill(log, log.log_end_offset().0 + 1, 1));
        held.with(roll);
        held.with(|log| log.advance_high_watermark(log.log_end_offset()));
        clean_at(&held, now_ms);
        let (again, batches, aborted) = committed(&held);
        assert_eq!(again[&3_i64.to_be_bytes()[..]], b"committed"[..]);
        assert_eq!(batches.contains(&22), left, "abort marker at {now_ms}");
        assert!(batches.contains(&24), "the commit marker has its record");
        assert_eq!(aborted, 0);
    }
}

#[test]
fn nothing_is_cleaned_past_what_is_stable_durable_sealed_or_young() {
    let bound = |held: &Held, now_ms, high_watermark| {
        let backlog = held.with(|log| log.compaction_backlog(now_ms, Offset(high_watermark)));
        backlog
            .expect("is held")
            .expect("reads")
            .first_uncleanable
            .0
    };
    let (_vfs, log) = filled(100, 5);
    let bases: Vec<_> = log.segments.iter().map(|segment| segment.base.0).collect();
    let floor = |offset| {
        *bases
            .iter()
            .rev()
            .find(|base| **base <= offset)
            .expect("one")
    };
    let held = Held::new(log);
    assert_eq!(bound(&held, 5000, 100), 0, "nothing is durable");
    held.with(|log| log.flush().expect("flushes"));
    assert_eq!(bound(&held, 5000, 100), 100);
    assert_eq!(bound(&held, 5000, 57), floor(57), "high watermark");
    held.with(|log| {
        let config = LogConfig {
            min_compaction_lag_ms: 1000,
            ..compacted()
        };
        log.set_config(config);
    });
    // Record n has timestamp 1000 + n.
    assert_eq!(bound(&held, 2050, 100), floor(51), "min.compaction.lag.ms");
    held.with(|log| log.set_config(compacted()));
    held.with(|log| {
        append(
            log,
            Keyed::at(100)
                .producer(1, 0)
                .transactional()
                .record(1, Some("open")),
        );
        fill(log, 200, 5);
        roll(log);
        log.flush().expect("flushes");
        log.advance_high_watermark(Offset(200));
    });
    assert_eq!(bound(&held, 5000, 200), 100, "an open transaction");
}

#[test]
fn the_dirty_ratio_and_the_longest_lag_decide_when() {
    let (_vfs, log) = filled(100, 5);
    let held = Held::new(log);
    clean_at(&held, 5000);
    held.with(|log| fill(log, 120, 5));
    held.with(roll);
    held.with(|log| log.flush().expect("flushes"));
    let backlog = |now_ms| {
        let found = held.with(|log| log.compaction_backlog(now_ms, Offset(120)));
        found.expect("is held").expect("reads")
    };
    let ratio = backlog(5000).dirty_ratio();
    assert!(ratio > 0.5 && ratio < 1.0, "{ratio}");
    assert!(backlog(5000).is_due(0.5) && !backlog(5000).is_due(ratio));
    held.with(|log| {
        let config = LogConfig {
            max_compaction_lag_ms: 2000,
            ..compacted()
        };
        log.set_config(config);
    });
    // Record 100 is the oldest dirty one.
    assert!(!backlog(3100).is_due(1.0));
    assert_eq!(backlog(3101).overdue_ms, 1);
    assert!(backlog(3101).is_due(1.0));
    let long = held
        .with(|log| log.roll_if_needed(1_000_000))
        .expect("is held");
    assert!(!long.expect("rolls"), "an empty segment stays");
    held.with(|log| fill(log, 121, 5));
    let rolled = held.with(|log| log.roll_if_needed(4001)).expect("is held");
    assert!(
        rolled.expect("rolls"),
        "the longest lag bounds a segment's age"
    );
}

#[test]
fn with_both_policies_cleaned_segments_still_go_by_time() {
    let (vfs, log) = filled(100, 5);
    let held = Held::new(log);
    clean_at(&held, 5000);
    close(&vfs, held.take());
    let both = LogConfig {
        delete: true,
        retention_ms: Some(1000),
        ..compacted()
    };
    let (mut log, _) = open(&vfs, both);
    // Record n has timestamp 1000 + n and was appended at 2000; only the last ones are left.
    assert_eq!(log.enforce_retention(2000, Offset(100)).expect("looks"), []);
    let deleted = log.enforce_retention(3000, Offset(100)).expect("deletes");
    assert!(!deleted.is_empty());
    assert_eq!(log.log_start_offset(), Offset(100));
}

#[test]
fn a_reader_goes_on_in_the_files_it_has() {
    let (_vfs, log) = filled(100, 5);
    let plan = log.plan_read(Offset(3), 10_000, Offset(100), true);
    let plan = plan.expect("plans").expect("something to read");
    let held = Held::new(log);
    clean_at(&held, 5000);
    let slice = plan.read().expect("reads").expect("finds");
    assert_eq!(slice.first_offset, Offset(3), "from before the cleaning");
    let log = held.take();
    let slice = log.read(Offset(3), 1, Offset(100), true).expect("reads");
    assert!(slice.expect("finds").first_offset > Offset(3));
}

#[test]
fn damage_is_an_error_that_leaves_the_log_alone() {
    let (vfs, mut log) = filled(100, 5);
    log.flush().expect("flushes");
    let path = log.segments[2].path.clone();
    let file = vfs.open(&path).expect("opens");
    crate::VfsFile::write_at(&file, 70, b"xxxx").expect("writes");
    let before = log.segment_count();
    let held = Held::new(log);
    let mut pace = |_| ControlFlow::Continue(());
    let result = compact(&held, &settings(), 5000, Offset(100), &mut pace);
    assert!(
        matches!(result, Err(LogError::Corrupt { .. })),
        "{result:?}"
    );
    let log = held.take();
    assert_eq!(log.offline_reason(), None);
    assert_eq!(log.segment_count(), before);
    assert!(result.is_err_and(|error| error.is_damage()));
    let names = vfs.list(&dir()).expect("lists");
    assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
}

#[test]
fn a_log_that_goes_away_ends_its_cleaning() {
    let (_vfs, mut log) = filled(100, 5);
    log.flush().expect("flushes");
    let held = Held::new(log);
    let gone = held.clone();
    let mut calls = 0;
    let mut pace = |_| {
        calls += 1;
        if calls == 120 {
            let log = gone.0.borrow_mut().take().expect("is held");
            log.delete().expect("deletes").remove().expect("removes");
        }
        ControlFlow::Continue(())
    };
    let result = compact(&held, &settings(), 5000, Offset(100), &mut pace);
    assert_eq!(result.expect("is no error"), Compaction::Interrupted);
    assert!(calls >= 120);
}

#[test]
fn what_is_appended_after_a_loss_does_not_count_as_clean() {
    let (vfs, log) = filled(100, 5);
    let held = Held::new(log);
    clean_at(&held, 5000);
    let mut log = held.take();
    let (root, _) = LogDir::open(vfs.clone(), ROOT).expect("log dir opens");
    write_checkpoints(&root, &mut log).expect("writes");
    let (lost, kept) = (log.segments[1].base, log.segments[0].base);
    drop(log);
    // The disk forgot the later files.
    for entry in vfs.list(&dir()).expect("lists") {
        let base = entry
            .name
            .split('.')
            .next()
            .and_then(|base| base.parse().ok());
        if base.is_some_and(|base: i64| base > kept.0) {
            vfs.remove_file(&dir().join(&entry.name)).expect("removes");
        }
    }
    let (mut log, _) = open(&vfs, compacted());
    assert_eq!(log.log_end_offset(), lost);
    fill(&mut log, 200, 3);
    roll(&mut log);
    let held = Held::new(log);
    let stats = clean_at(&held, 5000);
    assert!(stats.from <= lost, "{stats:?}");
    let records = all_records(&read_all(&held.take(), lost.0, 500));
    let keys: std::collections::BTreeSet<_> = records.iter().map(|r| r.key.clone()).collect();
    assert_eq!(keys.len(), records.len(), "one record a key: {records:?}");
}

/// Does something to the log before the cleaner's `at`th use of it: planning is the first, each group takes two.
struct Interfering {
    held: Held,
    at: usize,
    uses: Cell<usize>,
    action: fn(&mut TestLog),
}

impl LogAccess<FaultyVfs> for Interfering {
    fn with<R>(&self, step: impl FnOnce(&mut TestLog) -> R) -> Option<R> {
        self.uses.set(self.uses.get() + 1);
        if self.uses.get() == self.at {
            self.held.with(self.action);
        }
        self.held.with(step)
    }
}

#[test]
fn a_swap_gives_way_to_whatever_takes_its_segments() {
    /// What happens meanwhile, and where the log ends then.
    type Action = (fn(&mut TestLog), i64);
    let actions: [Action; 3] = [
        (
            |log| assert!(log.truncate_to(Offset(3)).expect("truncates") <= Offset(3)),
            3,
        ),
        (
            |log| drop(log.advance_log_start_offset(Offset(60)).expect("deletes")),
            100,
        ),
        (
            |log| {
                log.truncate_fully_and_start_at(Offset(500))
                    .expect("begins anew");
            },
            500,
        ),
    ];
    for (action, end) in actions {
        // Before the decision, between it and the swap, and after the first swap.
        for at in [2, 3, 4, 5] {
            let (vfs, mut log) = filled(100, 5);
            log.flush().expect("flushes");
            let log = Interfering {
                held: Held::new(log),
                at,
                uses: Cell::new(0),
                action,
            };
            let mut pace = |_| ControlFlow::Continue(());
            let result = compact(&log, &settings(), 5000, Offset(100), &mut pace);
            assert_eq!(
                result.expect("is no error"),
                Compaction::Interrupted,
                "{end} {at}"
            );
            let names = vfs.list(&dir()).expect("lists");
            let left = names.iter().find(|entry| entry.name.ends_with(".swap"));
            assert_eq!(left, None, "{end} {at}");
            drop(log.held.take());
            vfs.crash();
            let (log, _) = open(&vfs, compacted());
            // The records before the cut may have been compacted: then it ends where the last one left does. A log that
            // begins anew is durable with its first flush.
            let got = log.log_end_offset().0;
            let less = (end == 3 && got < 3 && at > 3) || (end == 500 && got == 0);
            assert!(got == end || less, "{got}, not {end}, at {at}");
            read_all(&log, log.log_start_offset().0, 500);
        }
    }
}

/// How many operations the file system sees without a crash.
fn length(seed: u64) -> u64 {
    let mut world = World::new(seed, None);
    world.run();
    world.operations()
}

#[test]
fn a_crash_at_every_operation_keeps_the_last_value_of_each_key() {
    for seed in 0..2 {
        for at in 1..=length(seed) {
            World::new(seed, Some(at)).run();
        }
    }
}

#[test]
fn a_crash_in_any_history_keeps_the_last_value_of_each_key() {
    let mut cleanings = 0;
    for seed in seeds() {
        let at = somewhere(seed, length(seed));
        let mut world = World::new(seed, Some(at));
        world.run();
        cleanings += world.cleanings();
    }
    assert!(cleanings > 0, "no history had a cleaning that was done");
}
