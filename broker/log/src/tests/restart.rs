//! Does a log come back as it was, after a clean stop and after a kill?

use types::{LeaderEpoch, Offset, TopicId};

use super::fixture::{
    Batch, ID, ROOT, append, close, dir, fill, open, open_as, partition, read_all, small,
    write_checkpoints,
};
use crate::faulty::FaultyVfs;
use crate::{Log, LogConfig, LogDir, LogError, OpenMode, RecoveryReport, Vfs, VfsFile};

#[test]
fn a_clean_stop_needs_no_recovery() {
    let vfs = FaultyVfs::new(1);
    for end in [0, 1, 5, 30, 31, 90] {
        let (mut log, report) = open(&vfs, small());
        assert_eq!(report, RecoveryReport::default());
        fill(&mut log, end);
        log.assign_leader_epoch(LeaderEpoch(end as i32), Offset(end));
        let want = read_all(&log, 0, 500);
        let epochs = log.leader_epochs().clone();
        close(&vfs, log);
        vfs.crash();
        let (log, report) = open(&vfs, small());
        assert_eq!(report, RecoveryReport::default());
        assert_eq!(read_all(&log, 0, 500), want);
        assert_eq!(log.leader_epochs(), &epochs);
        assert_eq!(log.recovery_point(), log.log_end_offset());
        close(&vfs, log);
    }
}

#[test]
fn an_idle_log_is_opened_and_closed_without_a_write() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 30);
    close(&vfs, log);
    let mode = OpenMode {
        clean_shutdown: true,
        recovery_point: Offset(30),
        ..OpenMode::default()
    };
    let before = vfs.operations();
    let (mut log, _) = open_as(&vfs, small(), mode);
    log.close().unwrap();
    assert_eq!(vfs.operations(), before);
    fill(&mut log, 31);
    log.close().unwrap();
    assert!(vfs.operations() > before);
}

#[test]
fn a_kill_without_power_loss_loses_nothing() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 45);
    let want = read_all(&log, 0, 500);
    drop(log);
    let (log, report) = open(&vfs, small());
    assert_eq!(read_all(&log, 0, 500), want);
    assert_eq!(report.truncated_bytes, 0);
    assert_eq!(report.validated_bytes, log.size_bytes());
}

#[test]
fn only_what_lies_behind_the_recovery_point_is_validated() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 60);
    log.flush().unwrap();
    let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
    write_checkpoints(&root, &mut log).unwrap();
    fill(&mut log, 63);
    drop(log);
    let (log, report) = open(&vfs, small());
    assert_eq!(log.log_end_offset(), Offset(63));
    assert!(report.validated_segments <= 2, "{report:?}");
}

#[test]
fn a_torn_tail_is_cut_off() {
    for cut in [1, 30, 61, 100] {
        let vfs = FaultyVfs::new(1);
        let (mut log, _) = open(&vfs, small());
        fill(&mut log, 13);
        let path = log.active().path.clone();
        let size = log.active().size;
        drop(log);
        vfs.open(&path).unwrap().truncate(size - cut).unwrap();
        let (mut log, report) = open(&vfs, small());
        assert_eq!(log.log_end_offset(), Offset(12));
        assert!(
            report.stopped.is_some() && report.truncated_bytes > 0,
            "{report:?}"
        );
        fill(&mut log, 20);
        assert_eq!(read_all(&log, 0, 1).len(), 20);
    }
}

#[test]
fn a_flipped_bit_behind_the_recovery_point_ends_the_log_there() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 40);
    let (path, base) = (log.segments[1].path.clone(), log.segments[1].base);
    drop(log);
    let size = Batch::at(0).bytes().len() as u64;
    let file = vfs.open(&path).unwrap();
    file.write_at(2 * size + 80, b"?").unwrap();
    let (log, report) = open(&vfs, small());
    assert_eq!(log.log_end_offset(), base.plus(2));
    assert!(report.removed_segments >= 2, "{report:?}");
    assert!(report.stopped.unwrap().contains("CRC"));
}

#[test]
fn the_rest_of_an_older_log_behind_a_newer_epoch_is_cut_off() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    append(&mut log, Batch::at(0).epoch(1));
    append(&mut log, Batch::at(1).epoch(5));
    let path = log.active().path.clone();
    let size = log.active().size;
    drop(log);
    // What a lost truncation leaves: sound, joining, but of an older epoch.
    let stale = Batch::at(2).epoch(1).bytes();
    vfs.open(&path).unwrap().write_at(size, &stale).unwrap();
    let (log, report) = open(&vfs, LogConfig::default());
    assert_eq!(log.log_end_offset(), Offset(2));
    assert!(report.stopped.unwrap().contains("leader epoch 1 after 5"));
}

#[test]
fn missing_and_damaged_indexes_are_made_again() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    fill(&mut log, 40);
    let want = read_all(&log, 0, 100);
    close(&vfs, log);
    vfs.remove_file(&dir().join("00000000000000000000.index"))
        .unwrap();
    let (log, report) = open(&vfs, small());
    assert_eq!(report.rebuilt_indexes, 1);
    assert_eq!(read_all(&log, 0, 100), want);
    let active = log.active().index.path().to_owned();
    close(&vfs, log);
    // The active segment's index points at something else.
    vfs.create(&active)
        .unwrap()
        .write_at(0, &[0, 0, 0, 1, 0, 0, 0, 40])
        .unwrap();
    let (log, report) = open(&vfs, small());
    assert_eq!(report.validated_segments, 1);
    assert_eq!(read_all(&log, 0, 100), want);
}

#[test]
fn damaged_leader_epochs_are_made_from_the_batches() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    for base in 0..40 {
        append(&mut log, Batch::at(base).epoch((base / 15) as i32));
    }
    let epochs = log.leader_epochs().clone();
    close(&vfs, log);
    let path = dir().join("leader-epoch-checkpoint");
    let len = vfs.open(&path).unwrap().len().unwrap();
    vfs.open(&path).unwrap().truncate(len - 1).unwrap();
    let (log, report) = open(&vfs, small());
    assert!(report.rebuilt_epochs);
    assert_eq!(log.leader_epochs(), &epochs);
}

#[test]
fn a_log_start_offset_that_was_not_checkpointed_leaves_the_epochs_whole() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    for base in 0..40 {
        append(&mut log, Batch::at(base).epoch((base / 3) as i32));
    }
    let epochs = log.leader_epochs().clone();
    let segment = log.segments[1].base;
    log.advance_log_start_offset(segment.plus(4)).unwrap();
    log.flush().unwrap();
    let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
    let (at, point) = (partition(), log.recovery_point());
    root.write_checkpoint(
        crate::OffsetCheckpoint::RecoveryPoint,
        [(&at, point)].into_iter(),
    )
    .unwrap();
    drop(log);
    let (log, _) = open(&vfs, small());
    assert_eq!(log.log_start_offset(), segment);
    for offset in segment.0..40 {
        let epoch = log.leader_epochs().epoch_at(Offset(offset));
        assert_eq!(epoch, epochs.epoch_at(Offset(offset)), "{offset}");
    }
}

#[test]
fn a_log_start_offset_within_the_active_segment_survives() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    fill(&mut log, 10);
    log.advance_log_start_offset(Offset(7)).unwrap();
    let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
    write_checkpoints(&root, &mut log).unwrap();
    drop(log);
    let (log, _) = open(&vfs, LogConfig::default());
    assert_eq!(log.log_start_offset(), Offset(7));
    assert_eq!(log.log_end_offset(), Offset(10));
}

#[test]
fn a_log_that_lost_all_that_counted_starts_after_it() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    fill(&mut log, 10);
    drop(log);
    let mode = OpenMode {
        log_start_offset: Offset(50),
        ..OpenMode::default()
    };
    let (mut log, _) = open_as(&vfs, LogConfig::default(), mode);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(50), Offset(50))
    );
    append(&mut log, Batch::at(50));
}

#[test]
fn a_directory_of_another_topic_id_is_refused() {
    let vfs = FaultyVfs::new(1);
    let (log, _) = open(&vfs, LogConfig::default());
    drop(log);
    let other = TopicId([8; 16]);
    let opened = Log::open(
        vfs,
        dir(),
        partition(),
        other,
        LogConfig::default(),
        OpenMode::default(),
        0,
    );
    assert!(matches!(opened, Err(LogError::Format { .. })));
}

#[test]
fn the_log_directory_tells_what_it_holds() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    fill(&mut log, 10);
    close(&vfs, log);
    vfs.create_dir_all(std::path::Path::new("/logs/lost+found"))
        .unwrap();
    let (root, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
    assert!(contents.clean_shutdown);
    assert_eq!(contents.unknown, ["lost+found"]);
    let [found] = &contents.logs[..] else {
        panic!("one log")
    };
    assert_eq!(
        (&found.topic_partition, found.topic_id),
        (&partition(), Some(ID))
    );
    assert_eq!(found.mode.recovery_point, Offset(10));
    assert_eq!(root.log_path(&partition()), found.dir);
    assert_eq!(contents.clean_epoch, None);
    root.mark_clean_shutdown(Some(42)).unwrap();
    let (_, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
    assert_eq!(contents.clean_epoch, Some(42));
    // The mark counts once.
    let (_, contents) = LogDir::open(vfs, ROOT).unwrap();
    assert!(!contents.clean_shutdown);
}

#[test]
fn a_deleted_log_does_not_come_back() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    fill(&mut log, 10);
    let deleted = log.delete().unwrap();
    LogDir::open(vfs.clone(), ROOT).unwrap().0.sync().unwrap();
    vfs.crash();
    let (root, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
    assert_eq!(contents.logs, []);
    assert_eq!(contents.deleted, [deleted.path()]);
    assert_eq!(
        deleted.path().file_name().unwrap(),
        "orders-3.07070707070707070707070707070707-delete"
    );
    root.remove_deleted(contents.deleted[0].clone())
        .remove()
        .unwrap();
    let (_, contents) = LogDir::open(vfs, ROOT).unwrap();
    assert_eq!(contents.deleted.len(), 0);
}

#[test]
fn a_log_that_was_only_being_made_is_removed_and_a_folder_of_others_is_left_alone() {
    let vfs = FaultyVfs::new(1);
    drop(open(&vfs, LogConfig::default()));
    let segment = dir().join("00000000000000000000.log");
    assert!(vfs.open(&segment).unwrap().is_empty().unwrap());
    // Of the topic id nothing has reached the disk.
    let metadata = dir().join("partition.metadata");
    vfs.open(&metadata).unwrap().truncate(0).unwrap();
    let foreign = std::path::Path::new("/logs/backup-1");
    vfs.create_dir_all(foreign).unwrap();
    vfs.create(&foreign.join("notes.txt")).unwrap();
    let (_, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
    assert_eq!(contents.deleted, [dir()]);
    let [found] = &contents.logs[..] else {
        panic!("the folder counts as a log without an id")
    };
    assert_eq!((found.dir.as_path(), found.topic_id), (foreign, None));
    // With a batch it is kept, for somebody who knows whose it is.
    vfs.open(&segment).unwrap().write_at(0, b"x").unwrap();
    let (_, contents) = LogDir::open(vfs, ROOT).unwrap();
    assert_eq!(contents.deleted.len(), 0);
    assert_eq!(contents.logs.len(), 2);
}
