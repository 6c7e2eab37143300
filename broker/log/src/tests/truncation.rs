//! Does a truncated log hold exactly what is left of it?

use types::{LeaderEpoch, Offset, TransactionResult};

use super::fixture::{
    Batch, ROOT, append, close, fill, offsets, open, read_all, small, write_checkpoints,
};
use super::model::marker;
use crate::faulty::FaultyVfs;
use crate::{LogDir, OpenMode};

#[test]
fn every_truncation_leaves_the_batches_before_it() {
    for at in 0..=50 {
        let vfs = FaultyVfs::new(1);
        let (mut log, _) = open(&vfs, small());
        while log.log_end_offset().0 < 48 {
            let base = log.log_end_offset().0;
            append(
                &mut log,
                Batch::at(base)
                    .records(2)
                    .epoch((base / 10) as i32)
                    .producer(1, 0, base as i32),
            );
        }
        let end = log.truncate_to(Offset(at)).unwrap();
        // A batch is cut as a whole.
        assert_eq!(end.0, (at / 2 * 2).min(48));
        assert_eq!(
            offsets(&read_all(&log, 0, 300)),
            (0..end.0).step_by(2).collect::<Vec<_>>()
        );
        let newest = log.leader_epochs().latest_epoch().map(|epoch| epoch.0);
        assert_eq!(newest, (end.0 > 0).then(|| (end.0 as i32 - 1) / 10));
        let next = end.0 as i32;
        let ours = Batch::at(end.0).records(2).epoch(9).producer(1, 0, next);
        assert_eq!(
            log.check_producer(&ours.header()),
            Ok(crate::ProducerCheck::Append),
            "{at}"
        );
        append(&mut log, ours);
        append(&mut log, Batch::at(end.0 + 2).epoch(9));
        let want = read_all(&log, 0, 300);
        let found = log
            .offset_for_timestamp(1000 + end.0, log.log_end_offset())
            .unwrap()
            .unwrap();
        assert_eq!(found.offset, end, "the time index was cut, too");
        close(&vfs, log);
        let (log, _) = open(&vfs, small());
        assert_eq!(read_all(&log, 0, 300), want);
        assert_eq!(log.leader_epochs().latest_epoch(), Some(LeaderEpoch(9)));
    }
}

#[test]
fn a_log_cut_within_a_gap_ends_after_its_last_batch() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 5);
    append(&mut log, Batch::at(10));
    assert_eq!(log.truncate_to(Offset(8)).unwrap(), Offset(5));
    append(&mut log, Batch::at(5).value_len(2000).epoch(1));
    append(&mut log, Batch::at(6).epoch(1));
    drop(log);
    let (log, report) = open(&vfs, small());
    assert_eq!((log.log_end_offset(), report.stopped), (Offset(7), None));
}

#[test]
fn a_log_begins_anew_at_an_offset() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 30);
    for start in [1000, 5] {
        log.truncate_fully_and_start_at(Offset(start)).unwrap();
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (Offset(start), Offset(start))
        );
        assert_eq!(
            (log.size_bytes(), log.leader_epochs().entries().len()),
            (0, 0)
        );
        fill(&mut log, start + 20);
        assert_eq!(read_all(&log, start, 200).len(), 20);
    }
    close(&vfs, log);
    let (log, _) = open(&vfs, small());
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(5), Offset(25))
    );
}

#[test]
fn a_truncation_below_the_checkpointed_recovery_point_is_not_forgotten() {
    for seed in 0..200 {
        let vfs = FaultyVfs::new(seed);
        let (mut log, _) = open(&vfs, small());
        fill(&mut log, 60);
        log.flush().unwrap();
        let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
        write_checkpoints(&root, &mut log).unwrap();
        log.truncate_to(Offset(10)).unwrap();
        // Not synced, several segments, all below the checkpoint's recovery point.
        while log.log_end_offset().0 < 55 {
            let batch = Batch::at(log.log_end_offset().0).epoch(3);
            append(&mut log, batch);
        }
        drop(log);
        vfs.crash();
        let (log, _) = open(&vfs, small());
        assert!(log.log_end_offset().0 >= 10, "seed {seed}");
        for (n, batch) in read_all(&log, 0, 300).iter().enumerate() {
            let epoch = if n < 10 { 0 } else { 3 };
            assert_eq!(
                batch,
                &Batch::at(n as i64).epoch(epoch).bytes(),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_flush_that_a_truncation_overtook_vouches_for_nothing() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 20);
    let handle = log.flush_handle().unwrap();
    log.truncate_to(Offset(5)).unwrap();
    fill(&mut log, 20);
    log.finish_flush(handle.flush()).unwrap();
    assert_eq!(log.recovery_point(), Offset(0));
    log.flush().unwrap();
    assert_eq!(log.recovery_point(), Offset(20));
}

#[test]
fn readers_do_not_follow_a_hint_from_before_a_truncation() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 6);
    let slice = log.read(Offset(4), 1, Offset(6), true).unwrap().unwrap();
    let late = log
        .plan_read(Offset(3), 1, Offset(6), true)
        .unwrap()
        .unwrap();
    log.truncate_to(Offset(1)).unwrap();
    append(&mut log, Batch::at(1).value_len(300));
    late.read().unwrap_err();
    fill(&mut log, 8);
    let again = log
        .read(slice.next_offset, 1, Offset(8), true)
        .unwrap()
        .unwrap();
    assert_eq!(again.first_offset, Offset(5));
}

#[test]
fn the_log_start_offset_never_goes_back_nor_past_the_end() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 30);
    log.advance_log_start_offset(Offset(20)).unwrap();
    log.advance_log_start_offset(Offset(10)).unwrap();
    assert_eq!(log.log_start_offset(), Offset(20));
    log.advance_log_start_offset(Offset(31)).unwrap_err();
    log.advance_log_start_offset(Offset(30)).unwrap();
    assert_eq!(log.log_start_offset(), Offset(30));
    let mode = OpenMode::default();
    assert_eq!(mode.log_start_offset, Offset(0));
}

#[test]
fn a_truncation_reads_back_to_the_nearest_snapshot_only() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    for n in 0..2000 {
        append(&mut log, Batch::at(n).producer(n % 7, 0, n as i32 / 7));
    }
    close(&vfs, log);
    // Nobody tells a high watermark: its checkpoint is missing.
    let (mut log, _) = open(&vfs, small());
    let before = vfs.bytes_read();
    log.truncate_to(Offset(1995)).unwrap();
    let read = vfs.bytes_read() - before;
    assert!(
        read < log.size_bytes() / 50,
        "{read} of {}",
        log.size_bytes()
    );
    for n in 1960..1995 {
        let known = log.check_producer(&Batch::at(n).producer(n % 7, 0, n as i32 / 7).header());
        let duplicate = crate::ProducerCheck::Duplicate {
            base_offset: Offset(n),
            last_offset: Offset(n),
            timestamp: 1000 + n,
        };
        assert_eq!(known, Ok(duplicate), "{n}");
    }
}

#[test]
fn a_truncation_forgets_no_transaction_whose_marker_is_not_replicated_or_not_durable() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 10);
    log.flush().unwrap();
    append(&mut log, Batch::at(10).producer(1, 0, 0).transactional());
    log.append(&marker(11, 0, 1, TransactionResult::Abort), 2000)
        .unwrap();
    append(&mut log, Batch::at(12).producer(2, 0, 0).transactional());
    log.append(&marker(13, 0, 2, TransactionResult::Commit), 2000)
        .unwrap();
    log.advance_high_watermark(Offset(12));
    // Snapshots come after both markers.
    fill(&mut log, 60);
    for end in [50, 40, 14] {
        log.truncate_to(Offset(end)).unwrap();
        assert_eq!(log.first_unstable_offset(), Some(Offset(12)), "{end}");
        let undurable = log.producers.first_undurable_offset(log.recovery_point());
        assert_eq!(undurable, Some(Offset(10)), "{end}");
    }
    // Now it is open again.
    log.truncate_to(Offset(13)).unwrap();
    assert_eq!(log.first_unstable_offset(), Some(Offset(12)));
    log.advance_high_watermark(Offset(13));
    assert_eq!(log.first_unstable_offset(), Some(Offset(12)));
}
