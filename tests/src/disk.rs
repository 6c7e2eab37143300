//! What lies on the disks of a cluster's brokers?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use types::{BatchHeader, BatchIter};

/// A partition's log as one broker has it: `(base offset, last offset, CRC, leader epoch)` of each batch.
pub type PartitionLog = Vec<(i64, i64, u32, i32)>;

/// The log directories (Kafka's layout) of all brokers below `data_dir`.
#[must_use]
pub fn log_dirs(data_dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(data_dir, 0, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    const DEEPEST: usize = 8;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
    {
        if path.join("broker.meta").is_file() {
            found.push(path.join("logs"));
        } else if depth < DEEPEST {
            collect(&path, depth + 1, found);
        }
    }
}

/// The data directories of all brokers below `data_dir`.
#[must_use]
pub fn data_dirs(data_dir: &Path) -> Vec<PathBuf> {
    let logs = log_dirs(data_dir);
    logs.iter()
        .filter_map(|logs| logs.parent())
        .map(Path::to_owned)
        .collect()
}

/// The cluster's id, as some broker's disk has it.
#[must_use]
pub fn cluster_id(data_dir: &Path) -> Option<String> {
    data_dirs(data_dir).iter().find_map(|dir| {
        let text = std::fs::read_to_string(dir.join("broker.meta")).ok()?;
        let mut ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("cluster.id="));
        ids.next().map(str::to_owned)
    })
}

/// The batches of every partition of `topic` in a log directory.
///
/// # Panics
/// When a segment holds anything but whole batches.
#[must_use]
pub fn partitions(log_dir: &Path, topic: &str) -> BTreeMap<String, PartitionLog> {
    let identity = |header: BatchHeader| {
        (
            header.base_offset.0,
            header.last_offset().0,
            header.crc,
            header.partition_leader_epoch.0,
        )
    };
    batch_headers(log_dir, topic)
        .into_iter()
        .map(|(name, headers)| (name, headers.into_iter().map(identity).collect()))
        .collect()
}

/// The headers of all batches of every partition of `topic` in a log directory, in order.
///
/// # Panics
/// When a segment holds anything but whole batches.
#[must_use]
pub fn batch_headers(log_dir: &Path, topic: &str) -> BTreeMap<String, Vec<BatchHeader>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(log_dir).expect("a readable log directory") {
        let path = entry.expect("a readable log directory").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if name
            .rsplit_once('-')
            .is_some_and(|(of, number)| of == topic && number.parse::<i32>().is_ok())
        {
            all.insert(name, partition(&path));
        }
    }
    all
}

fn partition(folder: &Path) -> Vec<BatchHeader> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a readable partition folder")
        .map(|entry| entry.expect("a readable partition folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let mut batches = Vec::new();
    for segment in segments {
        let bytes = std::fs::read(&segment).expect("a readable segment");
        for item in BatchIter::new(&bytes) {
            let (header, batch) =
                item.unwrap_or_else(|error| panic!("{}: {error}", segment.display()));
            types::batch::verify(batch)
                .unwrap_or_else(|error| panic!("{}: {error}", segment.display()));
            batches.push(header);
        }
    }
    batches
}

/// Bytes of all segments of all partitions in a log directory.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn log_bytes(log_dir: &Path) -> u64 {
    let mut bytes = 0;
    for partition in std::fs::read_dir(log_dir).expect("a readable log directory") {
        let partition = partition.expect("a readable log directory").path();
        if !partition.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(partition).expect("a readable partition folder") {
            let path = file.expect("a readable partition folder").path();
            if path.extension().is_some_and(|extension| extension == "log") {
                bytes += path.metadata().expect("a segment has a size").len();
            }
        }
    }
    bytes
}
