//! Does the log survive a crash at any byte, and does it refuse what it must not forget?

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload};

use super::super::state_machine::{Freeze, Machine, MachineError, StateMachine};
use super::super::types::{Entry, LogId, StorageError, TypeConfig};
use super::files::{LogFiles, LogFilesError};
use super::log::DiskLog;

/// Small enough for several segments in a few entries.
const SEGMENT_BYTES: u64 = 100;

fn payload(index: u64) -> Vec<u8> {
    format!("entry {index} {}", "x".repeat((index % 7) as usize)).into_bytes()
}

fn open(folder: &Path) -> (LogFiles, Vec<u64>) {
    let (files, entries) = LogFiles::open_with(folder, SEGMENT_BYTES).unwrap();
    for (index, bytes) in &entries {
        assert_eq!(*bytes, payload(*index), "entry {index}");
    }
    (files, entries.into_iter().map(|(index, _)| index).collect())
}

fn append(files: &mut LogFiles, first: u64, count: u64) {
    let payloads: Vec<_> = (first..first + count).map(payload).collect();
    files.append(first, &payloads).unwrap();
}

fn last_segment(folder: &Path) -> PathBuf {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names.pop().unwrap()
}

#[test]
fn entries_are_there_again_after_reopening_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = open(folder.path());
    for first in [1, 4, 7, 10] {
        append(&mut files, first, 3);
    }
    drop(files);
    assert!(fs::read_dir(folder.path()).unwrap().count() > 1);
    let (mut files, indexes) = open(folder.path());
    assert_eq!(indexes, (1..=12).collect::<Vec<_>>());
    append(&mut files, 13, 1);
    drop(files);
    assert_eq!(open(folder.path()).1.len(), 13);
}

#[test]
fn a_write_cut_at_any_byte_loses_only_itself() {
    let whole = tempfile::tempdir().unwrap();
    let (mut files, _) = LogFiles::open(whole.path()).unwrap();
    append(&mut files, 1, 3);
    let path = last_segment(whole.path());
    let synced = fs::metadata(&path).unwrap().len();
    append(&mut files, 4, 3);
    let bytes = fs::read(&path).unwrap();
    for length in synced..=bytes.len() as u64 {
        let crashed = tempfile::tempdir().unwrap();
        let copy = crashed.path().join(path.file_name().unwrap());
        fs::write(&copy, &bytes[..length as usize]).unwrap();
        let (mut files, indexes) = open(crashed.path());
        let kept = *indexes.last().unwrap();
        assert!((3..=6).contains(&kept), "{indexes:?} after {length} bytes");
        append(&mut files, kept + 1, 2);
        drop(files);
        assert_eq!(*open(crashed.path()).1.last().unwrap(), kept + 2);
    }
}

#[test]
fn a_write_whose_pages_arrived_out_of_order_loses_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = LogFiles::open(folder.path()).unwrap();
    append(&mut files, 1, 2);
    let path = last_segment(folder.path());
    let synced = fs::metadata(&path).unwrap().len() as usize;
    append(&mut files, 3, 3);
    let mut bytes = fs::read(&path).unwrap();
    // The first frame of the unfinished write is missing, its later frames are on the disk.
    bytes[synced..synced + 10].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(folder.path()).1, [1, 2]);
}

#[test]
fn damage_before_an_acknowledged_entry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = LogFiles::open(folder.path()).unwrap();
    append(&mut files, 1, 2);
    let path = last_segment(folder.path());
    let synced = fs::metadata(&path).unwrap().len() as usize;
    append(&mut files, 3, 1);
    let bytes = fs::read(&path).unwrap();
    for position in 0..synced {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let error = LogFiles::open(folder.path()).expect_err("damage in what was acknowledged");
        assert!(
            matches!(error, LogFilesError::Damaged { .. }),
            "byte {position}: {error}"
        );
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = open(folder.path());
    for first in [1, 5, 9, 13] {
        append(&mut files, first, 4);
    }
    drop(files);
    fs::remove_file(folder.path().join(format!("{:020}.log", 5))).unwrap();
    let error = LogFiles::open(folder.path()).expect_err("a gap");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_segment_cut_while_it_was_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, _) = open(folder.path());
    append(&mut files, 1, 4);
    drop(files);
    for length in 0..16 {
        fs::write(
            folder.path().join(format!("{:020}.log", 5)),
            vec![0; length],
        )
        .unwrap();
        let (_, indexes) = open(folder.path());
        assert_eq!(indexes, [1, 2, 3, 4]);
    }
}

#[test]
fn truncated_entries_stay_away_and_others_take_their_place() {
    for keep in 0..=12 {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        for first in [1, 4, 7, 10] {
            append(&mut files, first, 3);
        }
        files.truncate(keep + 1).unwrap();
        drop(files);
        let (mut files, indexes) = open(folder.path());
        assert_eq!(indexes, (1..=keep).collect::<Vec<_>>());
        append(&mut files, keep + 1, 1);
        drop(files);
        assert_eq!(*open(folder.path()).1.last().unwrap(), keep + 1);
    }
}

#[test]
fn a_purge_frees_whole_segments_and_keeps_later_entries() {
    for upto in 1..=20 {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        for first in [1, 4, 7, 10] {
            append(&mut files, first, 3);
        }
        files.purge(upto).unwrap();
        drop(files);
        let (mut files, indexes) = open(folder.path());
        assert!((upto + 1..=12).all(|index| indexes.contains(&index)));
        // After a snapshot from another node the log goes on behind it.
        let next = indexes.last().map_or(upto, |last| (*last).max(upto)) + 1;
        append(&mut files, next, 1);
        drop(files);
        assert_eq!(*open(folder.path()).1.last().unwrap(), next);
    }
}

/// A machine without state: the suite only looks at positions.
struct Nothing;

impl Machine for Nothing {
    fn apply(&mut self, _offset: u64, _records: &Bytes) -> Result<(), MachineError> {
        Ok(())
    }

    fn freeze(&self) -> Freeze {
        Box::new(Bytes::new)
    }

    fn restore(&mut self, _offset: u64, _image: &Bytes) -> Result<(), MachineError> {
        Ok(())
    }
}

struct Disks;

fn empty_disk() -> (tempfile::TempDir, DiskLog, StateMachine) {
    let folder = tempfile::tempdir().unwrap();
    let log = DiskLog::open(folder.path()).unwrap();
    let machine = StateMachine::open(folder.path(), Box::new(Nothing)).unwrap();
    (folder, log, machine)
}

impl StoreBuilder<TypeConfig, DiskLog, StateMachine, tempfile::TempDir> for Disks {
    async fn build(&self) -> Result<(tempfile::TempDir, DiskLog, StateMachine), StorageError> {
        Ok(empty_disk())
    }
}

/// The suite never leaves a gap. What it does, and Raft may do: append to a log that begins anywhere, behind a snapshot that
/// reaches beyond the log's end, and entries that the snapshot has already.
#[test]
fn the_store_keeps_rafts_contract() {
    Suite::test_all(Disks).unwrap();
}

fn entry(index: u64) -> Entry {
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Blank,
    }
}

async fn indexes(log: &mut DiskLog) -> Vec<u64> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn the_log_goes_on_behind_a_snapshot_that_reaches_beyond_its_end() {
    let (folder, mut log, _) = empty_disk();
    log.blocking_append([entry(1), entry(2)]).await.unwrap();
    log.purge(entry(9).log_id).await.unwrap();
    log.blocking_append([entry(10), entry(11)]).await.unwrap();
    assert_eq!(indexes(&mut log).await, [10, 11]);
    log.purge(entry(11).log_id).await.unwrap();
    log.blocking_append([entry(11), entry(12)]).await.unwrap();
    assert_eq!(indexes(&mut log).await, [12], "the snapshot has 11");
    drop(log);
    let mut log = DiskLog::open(folder.path()).unwrap();
    assert_eq!(indexes(&mut log).await, [12]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(entry(11).log_id));
}

#[tokio::test]
#[should_panic(expected = "entry 4 does not follow")]
async fn a_gap_is_refused() {
    let (_folder, mut log, _) = empty_disk();
    log.blocking_append([entry(1), entry(2)]).await.unwrap();
    // The assertion is what is tested.
    drop(log.blocking_append([entry(4)]).await);
}

#[tokio::test]
#[should_panic(expected = "entry 11 does not follow")]
async fn a_gap_behind_a_snapshot_is_refused() {
    let (_folder, mut log, _) = empty_disk();
    log.purge(entry(9).log_id).await.unwrap();
    // The assertion is what is tested.
    drop(log.blocking_append([entry(11)]).await);
}
