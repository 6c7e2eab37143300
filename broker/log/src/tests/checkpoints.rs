//! Do checkpoints speak of the logs that are there, and of no others?

use std::collections::BTreeMap;

use types::{Offset, TopicId, TopicPartition};

use super::fixture::{ROOT, dir, fill, partition, small};
use crate::faulty::{Faults, FaultyVfs};
use crate::{Log, LogDir, OffsetCheckpoint, OffsetCheckpoints, OpenMode, Vfs};

fn other() -> TopicPartition {
    TopicPartition::new("profiles", 0)
}

fn all_at(vfs: &FaultyVfs, offset: i64) -> OffsetCheckpoints<FaultyVfs> {
    let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
    let mut checkpoints = OffsetCheckpoints::read(root).unwrap();
    for which in OffsetCheckpoint::ALL {
        let both = [(partition(), Offset(offset)), (other(), Offset(7))];
        checkpoints.write(which, BTreeMap::from(both)).unwrap();
    }
    checkpoints
}

#[test]
fn a_topic_that_is_made_anew_inherits_nothing_of_the_one_that_had_its_name() {
    for restarted in [false, true] {
        let vfs = FaultyVfs::new(1);
        let mut checkpoints = all_at(&vfs, 100);
        if restarted {
            let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
            checkpoints = OffsetCheckpoints::read(root).unwrap();
        }
        checkpoints.forget(&partition()).unwrap();
        let id = TopicId([9; 16]);
        let (mut log, _) = Log::open(
            vfs.clone(),
            dir(),
            partition(),
            id,
            small(),
            OpenMode::default(),
            5000,
        )
        .unwrap();
        fill(&mut log, 150);
        log.flush().unwrap();
        drop(log);
        vfs.crash();
        let (root, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
        let found = &contents.logs[0];
        assert_eq!(
            (found.topic_id, found.mode, found.high_watermark),
            (Some(id), OpenMode::default(), None)
        );
        for which in OffsetCheckpoint::ALL {
            let left = root.read_checkpoint(which).unwrap();
            assert_eq!(left.get(&other()), Some(&Offset(7)), "{which:?}");
        }
    }
}

#[test]
fn a_checkpoint_is_written_when_it_changes_and_only_then() {
    let vfs = FaultyVfs::new(1);
    drop(all_at(&vfs, 100));
    let before = vfs.operations();
    drop(all_at(&vfs, 100));
    // Opening the directory makes its names durable.
    assert_eq!(vfs.operations() - before, 2, "what is there already");
    let mut checkpoints = all_at(&vfs, 101);
    assert!(vfs.operations() - before > 8);
    let before = vfs.operations();
    checkpoints
        .forget(&TopicPartition::new("unknown", 0))
        .unwrap();
    assert_eq!(vfs.operations(), before);
}

#[test]
fn a_checkpoint_whose_last_write_failed_forgets_what_its_file_says() {
    let vfs = FaultyVfs::new(1);
    let mut checkpoints = all_at(&vfs, 100);
    let which = OffsetCheckpoint::LogStart;
    vfs.set_faults(Faults {
        error_at: Some(vfs.operations() + 1),
        ..Faults::default()
    });
    let offsets = BTreeMap::from([(partition(), Offset(120))]);
    checkpoints.write(which, offsets).unwrap_err();
    vfs.set_faults(Faults::default());
    checkpoints.forget(&partition()).unwrap();
    let (root, _) = LogDir::open(vfs.clone(), ROOT).unwrap();
    let left = root.read_checkpoint(which).unwrap();
    assert_eq!(left.get(&partition()), None);
    assert_eq!(left.get(&other()), Some(&Offset(7)));
}

#[test]
fn a_damaged_checkpoint_is_replaced() {
    let vfs = FaultyVfs::new(1);
    drop(all_at(&vfs, 100));
    let file = OffsetCheckpoint::Cleaner.file_name();
    vfs.create(&std::path::Path::new(ROOT).join(file)).unwrap();
    drop(all_at(&vfs, 100));
    let (root, contents) = LogDir::open(vfs.clone(), ROOT).unwrap();
    assert_eq!(contents.damaged, []);
    let cleaner = root.read_checkpoint(OffsetCheckpoint::Cleaner).unwrap();
    assert_eq!(cleaner[&partition()], Offset(100));
}
