//! What keeps a log from being cleaned, what does that cost, and whom does a cleaning hold up?

use std::ops::ControlFlow;

use types::{Offset, TransactionResult};

use super::history::Keyed;
use super::{Held, append, compacted, fill, filled, roll, settings};
use crate::faulty::FaultyVfs;
use crate::tests::fixture::{
    ROOT, TestLog, dir, offsets, open, partition, read_all, write_checkpoints,
};
use crate::tests::model::marker;
use crate::truncation::MARKER_FILE;
use crate::{Compaction, LogAccess, LogDir, LogError, OffsetCheckpoint, Vfs, compact};

fn clean(log: &impl LogAccess<FaultyVfs>) -> Result<Compaction, LogError> {
    let end = log.with(|log| {
        log.flush().expect("flushes");
        log.log_end_offset()
    });
    let mut pace = |_| ControlFlow::Continue(());
    compact(log, &settings(), 9000, end.expect("is held"), &mut pace)
}

fn is_done(result: &Result<Compaction, LogError>) -> bool {
    matches!(result, Ok(Compaction::Done(_)))
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
