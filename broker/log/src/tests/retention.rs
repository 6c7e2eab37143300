//! Do old segments go when they should, and only then?

use types::Offset;

use super::fixture::{Batch, TestLog, append, dir, fill, open, read_all, small};
use crate::faulty::FaultyVfs;
use crate::{DeleteReason, LogConfig, Vfs};

fn filled(config: LogConfig) -> (FaultyVfs, TestLog) {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, config);
    fill(&mut log, 80);
    (vfs, log)
}

fn reasons(log: &mut TestLog, now_ms: i64, high_watermark: i64) -> Vec<DeleteReason> {
    let deleted = log
        .enforce_retention(now_ms, Offset(high_watermark))
        .unwrap();
    deleted.iter().map(|segment| segment.reason).collect()
}

#[test]
fn size_keeps_at_least_what_it_says() {
    let (_vfs, mut log) = filled(LogConfig {
        retention_bytes: Some(3000),
        ..small()
    });
    let reasons = reasons(&mut log, 3000, 80);
    assert!(reasons.len() > 3 && reasons.iter().all(|&reason| reason == DeleteReason::Size));
    assert!(log.size_bytes() >= 3000 && log.size_bytes() < 4000);
    assert_eq!(log.log_start_offset(), log.segments[0].base);
    assert_eq!(
        read_all(&log, log.log_start_offset().0, 500).len() as i64,
        80 - log.log_start_offset().0
    );
}

#[test]
fn time_goes_by_the_newest_record_of_a_segment() {
    let (_vfs, mut log) = filled(LogConfig {
        retention_ms: Some(500),
        ..small()
    });
    // Record n has timestamp 1000 + n: those below 1040 are too old.
    let deleted = reasons(&mut log, 1540, 80);
    assert!(!deleted.is_empty() && deleted.iter().all(|&reason| reason == DeleteReason::Time));
    let start = log.log_start_offset().0;
    assert!(start <= 40 && start > 25, "{start}");
}

#[test]
fn everything_too_old_goes_even_the_active_segment() {
    let (_vfs, mut log) = filled(LogConfig {
        retention_ms: Some(500),
        ..small()
    });
    reasons(&mut log, 1_000_000, 80);
    assert_eq!(
        (
            log.log_start_offset(),
            log.log_end_offset(),
            log.size_bytes()
        ),
        (Offset(80), Offset(80), 0)
    );
    append(&mut log, Batch::at(80));
    assert_eq!(read_all(&log, 80, 500).len(), 1);
}

#[test]
fn a_timestamp_in_the_future_does_not_keep_a_segment_for_ever() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(
        &vfs,
        LogConfig {
            retention_ms: Some(500),
            ..small()
        },
    );
    append(&mut log, Batch::at(0).timestamp(i64::MAX / 2));
    fill(&mut log, 20);
    // Appended at 2000.
    assert_eq!(reasons(&mut log, 2400, 20), []);
    reasons(&mut log, 2600, 20);
    assert_eq!(log.log_start_offset(), Offset(20));
}

#[test]
fn nothing_above_the_high_watermark_goes() {
    for high_watermark in [0, 1, 20, 41, 79] {
        let (_vfs, mut log) = filled(LogConfig {
            retention_ms: Some(0),
            retention_bytes: Some(0),
            ..small()
        });
        reasons(&mut log, 1_000_000, high_watermark);
        assert!(log.log_start_offset().0 <= high_watermark);
        assert!(log.segment_end(0).0 > high_watermark);
    }
}

#[test]
fn a_compacted_topic_without_delete_keeps_all_but_what_is_below_its_start() {
    let (_vfs, mut log) = filled(LogConfig {
        delete: false,
        compact: true,
        retention_ms: Some(0),
        retention_bytes: Some(0),
        ..small()
    });
    assert_eq!(reasons(&mut log, 1_000_000, 80), []);
    let deleted = log.advance_log_start_offset(Offset(40)).unwrap();
    assert!(
        deleted
            .iter()
            .all(|segment| segment.reason == DeleteReason::LogStart)
    );
    assert!(log.segments[0].base.0 <= 40 && log.segment_end(0).0 > 40);
}

#[test]
fn deleted_files_are_renamed_and_go_after_the_delay() {
    let (vfs, mut log) = filled(LogConfig {
        retention_bytes: Some(3000),
        ..small()
    });
    let plan = log
        .plan_read(Offset(0), 100, Offset(80), true)
        .unwrap()
        .unwrap();
    let deleted = reasons(&mut log, 3000, 80).len();
    let left = || {
        let entries = vfs.list(&dir()).unwrap();
        entries
            .iter()
            .filter(|entry| entry.name.ends_with(".deleted"))
            .count()
    };
    assert_eq!(left(), deleted * 3);
    assert_eq!(
        plan.read().unwrap().unwrap().first_offset,
        Offset(0),
        "a reader goes on"
    );
    assert_eq!(log.purge_deleted(62_999).unwrap(), 0);
    assert_eq!(log.purge_deleted(63_000).unwrap(), deleted);
    assert_eq!(left(), 0);
}

#[test]
fn a_segment_is_rolled_by_time() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(
        &vfs,
        LogConfig {
            segment_ms: 100,
            ..LogConfig::default()
        },
    );
    assert!(
        !log.roll_if_needed(1_000_000).unwrap(),
        "an empty one is not"
    );
    append(&mut log, Batch::at(0));
    assert!(!log.roll_if_needed(2099).unwrap());
    assert!(log.roll_if_needed(2100).unwrap());
    append(&mut log, Batch::at(1));
    assert!(log.append(&Batch::at(2).bytes(), 2100).unwrap().rolled);
    assert_eq!(log.segment_count(), 3);
}

#[test]
fn retention_does_not_make_a_producer_forgotten() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(
        &vfs,
        LogConfig {
            retention_bytes: Some(0),
            ..small()
        },
    );
    append(&mut log, Batch::at(0).producer(5, 0, 0));
    fill(&mut log, 50);
    reasons(&mut log, 3000, 50);
    assert!(log.log_start_offset().0 > 30);
    drop(log);
    let (log, _) = open(&vfs, small());
    assert_eq!(
        log.producer(types::ProducerId(5)).unwrap().last_sequence(),
        0
    );
}
