//! How do the tests make batches and logs?

use std::path::{Path, PathBuf};

use bytes::Bytes;
use types::{
    BatchBuilder, BatchHeader, BatchIter, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId,
    TopicPartition,
};

use crate::faulty::FaultyVfs;
use crate::{Log, LogConfig, LogDir, OffsetCheckpoint, OpenMode, RecoveryReport};

pub(super) const ID: TopicId = TopicId([7; 16]);
pub(super) const ROOT: &str = "/logs";

pub(super) fn partition() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

pub(super) fn dir() -> PathBuf {
    Path::new(ROOT).join("orders-3")
}

/// What a test batch is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) records: usize,
    pub(super) epoch: i32,
    pub(super) timestamp: i64,
    pub(super) value_len: usize,
    pub(super) producer: Option<(i64, i16, i32)>,
    pub(super) transactional: bool,
}

impl Batch {
    pub(super) fn at(base: i64) -> Self {
        Self {
            base,
            records: 1,
            epoch: 0,
            timestamp: 1000 + base,
            value_len: 50,
            producer: None,
            transactional: false,
        }
    }

    pub(super) fn records(self, records: usize) -> Self {
        Self { records, ..self }
    }

    pub(super) fn epoch(self, epoch: i32) -> Self {
        Self { epoch, ..self }
    }

    pub(super) fn timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    pub(super) fn value_len(self, value_len: usize) -> Self {
        Self { value_len, ..self }
    }

    pub(super) fn producer(self, id: i64, epoch: i16, sequence: i32) -> Self {
        let producer = Some((id, epoch, sequence));
        Self { producer, ..self }
    }

    pub(super) fn transactional(self) -> Self {
        Self {
            transactional: true,
            ..self
        }
    }

    /// Record `n` has timestamp `timestamp + n` and a value that depends on the offset.
    pub(super) fn bytes(self) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(self.base))
            .leader_epoch(LeaderEpoch(self.epoch));
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        }
        if self.transactional {
            builder = builder.transactional();
        }
        for n in 0..self.records as i64 {
            let mut value = format!("{}/{}", self.base + n, self.epoch).into_bytes();
            value.resize(self.value_len.max(value.len()), b'.');
            builder.push(self.timestamp + n, None, Some(&value));
        }
        builder.build().expect("builds")
    }

    pub(super) fn header(self) -> BatchHeader {
        BatchHeader::parse(&self.bytes()).expect("parses")
    }
}

/// Small segments and indexes with many entries.
pub(super) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 200,
        retention_ms: None,
        ..LogConfig::default()
    }
}

pub(super) type TestLog = Log<FaultyVfs>;

pub(super) fn open_as(
    vfs: &FaultyVfs,
    config: LogConfig,
    mode: OpenMode,
) -> (TestLog, RecoveryReport) {
    let opened = Log::open(vfs.clone(), dir(), partition(), ID, config, mode, 5000);
    opened.expect("opens")
}

/// A new log, or the one that is there, as the log directory's files tell.
pub(super) fn open(vfs: &FaultyVfs, config: LogConfig) -> (TestLog, RecoveryReport) {
    let (_, contents) = LogDir::open(vfs.clone(), ROOT).expect("log dir opens");
    let found = contents.logs.first();
    open_as(
        vfs,
        config,
        found.map_or_else(OpenMode::default, |found| found.mode),
    )
}

/// As a broker does after a crash: what was being made is removed, what has lost its topic id is set aside. Gives what the
/// log directory's files told of the log, if there was one.
pub(super) fn open_as_found(
    vfs: &FaultyVfs,
    config: LogConfig,
    now_ms: i64,
) -> Result<(Option<OpenMode>, (TestLog, RecoveryReport)), crate::LogError> {
    let (root, contents) = LogDir::open(vfs.clone(), ROOT)?;
    for unfinished in contents.deleted {
        root.remove_deleted(unfinished).remove()?;
    }
    let mut mode = contents.logs.first().map(|found| found.mode);
    if let Some(found) = contents.logs.first()
        && found.topic_id.is_none()
    {
        // Nobody knows whose batches these are.
        root.give_up(found)?.remove()?;
        mode = None;
    }
    let told = mode.unwrap_or_default();
    let opened = Log::open(vfs.clone(), dir(), partition(), ID, config, told, now_ms)?;
    Ok((mode, opened))
}

/// A clean stop.
pub(super) fn close(vfs: &FaultyVfs, mut log: TestLog) {
    log.close().expect("closes");
    let (root, _) = LogDir::open(vfs.clone(), ROOT).expect("log dir opens");
    write_checkpoints(&root, &mut log).expect("writes");
    root.mark_clean_shutdown(None).expect("marks");
}

pub(super) fn write_checkpoints(
    root: &LogDir<FaultyVfs>,
    log: &mut TestLog,
) -> Result<(), crate::LogError> {
    let at = partition();
    let (point, start) = (log.recovery_point(), log.log_start_offset());
    let dirty = log.first_dirty_offset();
    root.write_checkpoint(OffsetCheckpoint::Cleaner, [(&at, dirty)].into_iter())?;
    log.on_cleaner_checkpoint(dirty)?;
    root.write_checkpoint(OffsetCheckpoint::RecoveryPoint, [(&at, point)].into_iter())?;
    root.write_checkpoint(OffsetCheckpoint::LogStart, [(&at, start)].into_iter())
}

pub(super) fn append(log: &mut TestLog, batch: Batch) {
    log.append(&batch.bytes(), 2000).expect("appends");
}

/// Appends one-record batches until the log ends at `end`.
pub(super) fn fill(log: &mut TestLog, end: i64) {
    while log.log_end_offset().0 < end {
        append(log, Batch::at(log.log_end_offset().0));
    }
}

/// All batches from `start` on, read in steps of `max_bytes`.
pub(super) fn read_all(log: &TestLog, start: i64, max_bytes: usize) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut at = Offset(start);
    while let Some(slice) = log
        .read(at, max_bytes, log.log_end_offset(), true)
        .expect("reads")
    {
        assert!(slice.next_offset > at, "a read goes forward");
        for step in BatchIter::new(&slice.bytes) {
            let (_, bytes) = step.expect("whole batches");
            batches.push(slice.bytes.slice_ref(bytes));
        }
        at = slice.next_offset;
    }
    assert_eq!(at, log.log_end_offset(), "nothing is skipped");
    batches
}

pub(super) fn offsets(batches: &[Bytes]) -> Vec<i64> {
    let offset = |batch: &Bytes| BatchHeader::parse(batch).expect("parses").base_offset.0;
    batches.iter().map(offset).collect()
}
