//! Target: a log's files hold anything when it is opened after a crash.
#![no_main]

use std::path::{Path, PathBuf};

use broker_log::faulty::FaultyVfs;
use broker_log::vfs::{Vfs as _, VfsFile as _};
use broker_log::{Log, LogConfig, LogError, OpenMode};
use fuzz::batches::sealed;
use libfuzzer_sys::fuzz_target;
use types::{Offset, TopicId, TopicPartition};

const FILES: [&str; 8] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000003.log",
    "00000000000000000003.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
];

fn open(vfs: &FaultyVfs) -> Result<Log<FaultyVfs>, LogError> {
    let config = LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let opened = Log::open(
        vfs.clone(),
        PathBuf::from("/logs/a-0"),
        TopicPartition::new("a", 0),
        TopicId([7; 16]),
        config,
        OpenMode::default(),
        5000,
    );
    opened.map(|(log, _)| log)
}

fn write(vfs: &FaultyVfs, name: &str, bytes: &[u8]) {
    let path = Path::new("/logs/a-0").join(name);
    let file = vfs.create(&path).expect("a file system in memory");
    file.write_at(0, bytes).expect("a file system in memory");
}

fn use_it(log: &mut Log<FaultyVfs>) -> Result<(), LogError> {
    let end = log.log_end_offset();
    let mut at = log.log_start_offset();
    while let Some(slice) = log.read(at, 500, end, true)? {
        assert!(slice.next_offset > at, "a read goes forward");
        at = slice.next_offset;
    }
    log.offset_for_timestamp(1000, end)?;
    log.max_timestamp_offset(end)?;
    log.truncate_to(Offset(end.0 / 2))?;
    log.close()
}

fuzz_target!(|input: &[u8]| {
    let vfs = FaultyVfs::new(1);
    if vfs.create_dir_all(Path::new("/logs")).is_err() {
        return;
    }
    drop(open(&vfs).expect("a new log opens"));
    // A piece is `file: u8, length: u16, bytes`.
    let mut rest = input;
    while let [which, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (bytes, later) = tail.split_at(length);
        rest = later;
        let name = FILES[usize::from(*which) % FILES.len()];
        if name.ends_with(".log") && *which >= 128 {
            write(&vfs, name, &sealed(bytes));
        } else {
            write(&vfs, name, bytes);
        }
    }
    // It opens, or says why not; once it opened, it opens again.
    if let Ok(mut log) = open(&vfs)
        && use_it(&mut log).is_ok()
    {
        drop(log);
        open(&vfs).expect("what was closed opens");
    }
});
