//! Do reads return exactly what was appended?

use types::{BatchHeader, ErrorCode, LeaderEpoch, Offset};

use super::fixture::{Batch, TestLog, append, dir, fill, offsets, open, read_all, small};
use crate::faulty::{Faults, FaultyVfs};
use crate::{LogConfig, LogError, ReadOutcome, Vfs};

fn new_log(config: LogConfig) -> (FaultyVfs, TestLog) {
    let vfs = FaultyVfs::new(1);
    let (log, report) = open(&vfs, config);
    assert_eq!(report, crate::RecoveryReport::default());
    (vfs, log)
}

#[test]
fn what_was_appended_is_read_with_any_limit() {
    let (_vfs, mut log) = new_log(small());
    let mut want = Vec::new();
    for n in 0..60 {
        let batch = Batch::at(log.log_end_offset().0)
            .records(1 + n % 3)
            .value_len(20 * (n % 9));
        want.push(batch.bytes());
        append(&mut log, batch);
    }
    assert!(log.segment_count() > 5);
    for max_bytes in [1, 100, 300, 999, 5000, 1 << 20] {
        assert_eq!(read_all(&log, 0, max_bytes), want, "limit {max_bytes}");
    }
    // From every offset on, also from within a batch.
    for start in 0..log.log_end_offset().0 {
        let got = log
            .read(Offset(start), 1, log.log_end_offset(), true)
            .unwrap()
            .unwrap();
        let header = BatchHeader::parse(&got.bytes).unwrap();
        assert!(header.base_offset.0 <= start && start <= header.last_offset().0);
        assert_eq!(got.next_offset, header.next_offset());
    }
    assert_eq!(
        log.size_bytes(),
        want.iter().map(|batch| batch.len() as u64).sum::<u64>()
    );
}

#[test]
fn a_read_that_its_limit_stops_at_a_segments_end_skips_nothing() {
    let (_vfs, mut log) = new_log(small());
    fill(&mut log, 40);
    let base = log.active_segment_base().0;
    // The limit allows all but the last batch of the segment before.
    let slice = log
        .read(Offset(base - 2), 150, Offset(40), true)
        .unwrap()
        .unwrap();
    assert_eq!(slice.next_offset, Offset(base - 1));
    let slice = log
        .read(slice.next_offset, 150, Offset(40), true)
        .unwrap()
        .unwrap();
    assert_eq!(
        (slice.first_offset, slice.next_offset),
        (Offset(base - 1), Offset(base))
    );
}

#[test]
fn nothing_at_or_above_the_upper_bound_is_read() {
    let (_vfs, mut log) = new_log(small());
    fill(&mut log, 40);
    for upper in 0..=40 {
        let mut at = Offset(0);
        while let Some(slice) = log.read(at, 1 << 20, Offset(upper), true).unwrap() {
            at = slice.next_offset;
        }
        assert_eq!(at, Offset(upper));
    }
    assert_eq!(log.read(Offset(40), 100, Offset(99), true).unwrap(), None);
}

#[test]
fn an_offset_outside_the_log_is_out_of_range() {
    let (_vfs, mut log) = new_log(small());
    fill(&mut log, 40);
    log.advance_log_start_offset(Offset(25)).unwrap();
    for offset in [0, 24, 41] {
        let error = log.read(Offset(offset), 100, Offset(40), true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::OffsetOutOfRange, "{offset}");
    }
    assert_eq!(offsets(&read_all(&log, 25, 100))[0], 25);
}

#[test]
fn a_batch_larger_than_the_limit_comes_only_if_one_must() {
    let (_vfs, mut log) = new_log(small());
    append(&mut log, Batch::at(0).value_len(5000));
    append(&mut log, Batch::at(1));
    assert_eq!(log.read(Offset(0), 1000, Offset(2), false).unwrap(), None);
    let slice = log.read(Offset(0), 1000, Offset(2), true).unwrap().unwrap();
    assert_eq!(slice.next_offset, Offset(1));
    assert!(slice.bytes.len() > 5000);
}

#[test]
fn short_reads_change_nothing() {
    let (vfs, mut log) = new_log(small());
    fill(&mut log, 60);
    let want = read_all(&log, 0, 700);
    vfs.set_faults(Faults {
        short_read_one_in: 2,
        ..Faults::default()
    });
    assert_eq!(read_all(&log, 0, 700), want);
}

#[test]
fn many_batches_in_one_append_are_split_at_segment_ends() {
    let (_vfs, mut log) = new_log(small());
    let mut all = Vec::new();
    for base in 0..30 {
        all.extend_from_slice(&Batch::at(base).bytes());
    }
    let info = log.append(&all, 2000).unwrap();
    assert_eq!(
        (info.first_offset, info.last_offset, info.leo),
        (Offset(0), Offset(29), Offset(30))
    );
    assert_eq!(
        (info.batches, info.max_timestamp, info.rolled),
        (30, 1029, true)
    );
    assert_eq!(read_all(&log, 0, 1 << 20).concat(), all);
    assert!(log.segments.iter().all(|segment| segment.size <= 1000));
}

#[test]
fn a_follower_may_append_gaps_but_never_goes_back() {
    let (_vfs, mut log) = new_log(small());
    append(&mut log, Batch::at(0));
    append(&mut log, Batch::at(10).epoch(2));
    // Too far for the segment's relative offsets.
    append(&mut log, Batch::at(5_000_000_000).epoch(2));
    assert_eq!(log.log_end_offset(), Offset(5_000_000_001));
    let error = log.append(&Batch::at(10).bytes(), 2000).unwrap_err();
    assert!(matches!(error, LogError::OutOfOrder { .. }), "{error}");
    assert_eq!(offsets(&read_all(&log, 0, 1)), [0, 10, 5_000_000_000]);
    assert_eq!(
        log.leader_epochs().entries(),
        [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(2), Offset(10))]
    );
}

#[test]
fn a_cut_batch_is_refused_before_anything_is_written() {
    let (vfs, mut log) = new_log(small());
    let whole = Batch::at(0).bytes();
    let before = vfs.operations();
    for cut in [1, 20, 60, 61, whole.len() - 1] {
        let error = log.append(&whole[..cut], 2000).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CorruptMessage);
    }
    assert_eq!(vfs.operations(), before);
    assert_eq!(log.log_end_offset(), Offset(0));
}

#[test]
fn an_append_within_a_segment_is_one_write() {
    let (vfs, mut log) = new_log(LogConfig::default());
    let before = vfs.operations();
    for base in 0..200 {
        append(
            &mut log,
            Batch::at(base).value_len(1000).producer(9, 0, base as i32),
        );
    }
    assert_eq!(vfs.operations() - before, 200);
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let (vfs, mut log) = new_log(small());
    fill(&mut log, 8);
    for lead in 1..=12 {
        let end = log.log_end_offset();
        vfs.set_faults(Faults {
            full_at: Some(vfs.operations() + lead),
            full_for: 1_000_000,
            ..Faults::default()
        });
        let mut appended = end;
        // Up to here there is room.
        let error = loop {
            match log.append(&Batch::at(appended.0).bytes(), 2000) {
                Ok(info) => appended = info.leo,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
        assert_eq!(log.log_end_offset(), appended);
        assert_eq!(
            read_all(&log, 0, 300).len() as i64,
            appended.0,
            "reads go on"
        );
        vfs.set_faults(Faults::default());
        append(&mut log, Batch::at(appended.0));
        assert_eq!(read_all(&log, 0, 300).len() as i64, appended.0 + 1);
    }
}

#[test]
fn an_io_error_takes_the_log_offline_for_appends() {
    let (vfs, mut log) = new_log(small());
    fill(&mut log, 3);
    vfs.set_faults(Faults {
        error_at: Some(vfs.operations() + 1),
        ..Faults::default()
    });
    log.append(&Batch::at(3).bytes(), 2000).unwrap_err();
    let error = log.append(&Batch::at(3).bytes(), 2000).unwrap_err();
    assert!(matches!(error, LogError::Offline { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    assert_eq!(read_all(&log, 0, 1000).len(), 3);
    assert!(log.offline_reason().is_some());
}

#[test]
fn a_failed_flush_takes_the_log_offline() {
    let (vfs, mut log) = new_log(small());
    fill(&mut log, 3);
    vfs.set_faults(Faults {
        error_at: Some(vfs.operations() + 2),
        ..Faults::default()
    });
    log.flush().unwrap_err();
    assert_eq!(log.recovery_point(), Offset(0));
    log.append(&Batch::at(3).bytes(), 2000).unwrap_err();
}

#[test]
fn times_are_found_where_they_first_occur() {
    let (_vfs, mut log) = new_log(small());
    // Timestamps go up and down; records within a batch go up by one.
    let mut all = Vec::new();
    for n in 0..80_i64 {
        let base = log.log_end_offset().0;
        let timestamp = 1000 + n * 10 - (n % 7) * 35;
        append(
            &mut log,
            Batch::at(base)
                .records(3)
                .timestamp(timestamp)
                .epoch((n / 20) as i32),
        );
        all.extend((0..3).map(|k| (base + k, timestamp + k)));
    }
    for target in (700..2000).step_by(3) {
        for upper in [log.log_end_offset().0, 100, 1] {
            let want = all
                .iter()
                .find(|(offset, timestamp)| *timestamp >= target && *offset < upper);
            let got = log.offset_for_timestamp(target, Offset(upper)).unwrap();
            assert_eq!(
                got.map(|found| (found.offset.0, found.timestamp)),
                want.copied(),
                "{target} below {upper}"
            );
        }
    }
    let largest = all.iter().map(|(_, timestamp)| *timestamp).max().unwrap();
    let first = all
        .iter()
        .find(|(_, timestamp)| *timestamp == largest)
        .unwrap();
    let found = log
        .max_timestamp_offset(log.log_end_offset())
        .unwrap()
        .unwrap();
    assert_eq!((found.offset.0, found.timestamp), *first);
    assert_eq!(
        log.leader_epochs().epoch_at(found.offset),
        Some(found.leader_epoch)
    );
}

/// A batch from before records were read when they are produced: its checksum is right, its records are not.
#[test]
fn records_that_nobody_can_read_are_told_from_a_damaged_log() {
    let (_vfs, mut log) = new_log(LogConfig::default());
    let mut bytes = Batch::at(0).bytes().to_vec();
    let (first, timestamp) = (types::HEADER_LEN, 1000);
    bytes[first] = 0;
    types::batch::set_max_timestamp(&mut bytes, timestamp);
    log.append(&bytes, 2000).expect("it is taken");
    append(&mut log, Batch::at(1).timestamp(timestamp + 1));
    let end = log.log_end_offset();
    let error = log.offset_for_timestamp(timestamp, end).unwrap_err();
    assert!(matches!(error, LogError::Records { .. }), "{error}");
    assert!(log.offline_reason().is_none());
    let found = log
        .offset_for_timestamp(timestamp + 1, end)
        .expect("it reads")
        .expect("there is something");
    assert_eq!(found.offset, Offset(1));
}

#[test]
fn index_files_have_kafkas_layout() {
    let (vfs, mut log) = new_log(small());
    fill(&mut log, 20);
    let names: Vec<_> = vfs
        .list(&dir())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    for name in [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.timeindex",
        "partition.metadata",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} in {names:?}"
        );
    }
    let index = crate::vfs::read_file(&vfs, &dir().join("00000000000000000000.index"))
        .unwrap()
        .unwrap();
    // A batch has 124 bytes: after two of them (248 > 200) the third gets an entry.
    let size = Batch::at(0).bytes().len() as u32;
    assert_eq!(
        index[..8],
        [2_u32.to_be_bytes(), (2 * size).to_be_bytes()].concat()
    );
    let times = crate::vfs::read_file(&vfs, &dir().join("00000000000000000000.timeindex"))
        .unwrap()
        .unwrap();
    assert_eq!(
        times[..12],
        [&1002_i64.to_be_bytes()[..], &2_u32.to_be_bytes()].concat()
    );
    let metadata = crate::vfs::read_file(&vfs, &dir().join("partition.metadata"))
        .unwrap()
        .unwrap();
    assert_eq!(
        String::from_utf8(metadata).unwrap(),
        "version: 0\ntopic_id: BwcHBwcHBwcHBwcHBwcHBw\n"
    );
}

#[test]
fn a_reader_is_told_where_to_go_on_after_a_hole_at_a_segments_end() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 40);
    // As a compaction leaves it that drops the last batches of a segment.
    let (first, second) = (log.segments[0].base, log.segments[1].base);
    let batch = Batch::at(0).bytes().len() as u64;
    log.segments[0].size -= 3 * batch;
    let hole = Offset(second.0 - 2);
    let plan = |start, max_bytes, upper, one| {
        let plan = log.plan_read(start, max_bytes, upper, one).unwrap();
        plan.unwrap().outcome().unwrap()
    };
    assert_eq!(plan(hole, 500, Offset(40), true), ReadOutcome::Hole(second));
    assert_eq!(
        plan(hole, 500, Offset(40), false),
        ReadOutcome::Hole(second)
    );
    // Too little room is no hole: what does not fit now is not to be skipped.
    assert_eq!(plan(second, 10, Offset(40), false), ReadOutcome::TooLarge);
    assert_eq!(plan(first, 10, Offset(40), false), ReadOutcome::TooLarge);
    let ReadOutcome::Found(slice) = plan(second, 10, Offset(40), true) else {
        panic!("a batch is there");
    };
    assert_eq!(slice.first_offset, second);
    let read = log.read(hole, 500, Offset(40), true).unwrap().unwrap();
    assert_eq!(read.first_offset, second);
    assert_eq!(log.read(hole, 500, second, true).unwrap(), None);
}
