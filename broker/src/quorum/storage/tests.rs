//! Does the log survive a crash at any byte, and does it refuse what it must not forget?

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{LogFiles, LogFilesError};

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
