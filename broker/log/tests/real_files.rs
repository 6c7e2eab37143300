//! Do the operating system's files hold what a log was given, in a form that Kafka's own tools read?
//!
//! With `TIDEMARK_LOG_DIR=DIR` the files are left in DIR, for `kafka-dump-log --deep-iteration --files`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is the point of a test"
)]

use std::path::{Path, PathBuf};

use broker_log::{Log, LogConfig, LogDir, OffsetCheckpoint, OpenMode, RealVfs};
use types::builder::end_transaction_batch;
use types::{
    BatchBuilder, BatchIter, Compression, EndTransactionMarker, LeaderEpoch, Offset, ProducerEpoch,
    ProducerId, TopicId, TopicPartition, TransactionResult, batch,
};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 32 * 1024,
        index_interval_bytes: 1024,
        retention_ms: None,
        ..LogConfig::default()
    }
}

fn open(root: &Path) -> (LogDir<RealVfs>, Log<RealVfs>) {
    let (log_dir, contents) = LogDir::open(RealVfs, root).unwrap();
    let partition = TopicPartition::new("payments", 0);
    let mode = contents
        .logs
        .first()
        .map_or(OpenMode::default(), |found| found.mode);
    let dir = log_dir.log_path(&partition);
    let opened = Log::open(
        RealVfs,
        dir,
        partition,
        TopicId([9; 16]),
        config(),
        mode,
        2_000_000,
    );
    (log_dir, opened.unwrap().0)
}

/// Batches of all codecs, from a plain, an idempotent and a transactional producer, with markers.
fn fill(log: &mut Log<RealVfs>) -> Vec<u8> {
    let mut all = Vec::new();
    let mut sequence = 0;
    for n in 0..400_i32 {
        let codec = CODECS[usize::try_from(n).unwrap() % CODECS.len()];
        let mut builder = BatchBuilder::new().compression(codec);
        builder = match n % 4 {
            0 => builder,
            1 => builder.producer(ProducerId(1), ProducerEpoch(0), (n / 4) * 3),
            _ => builder
                .producer(ProducerId(2), ProducerEpoch(0), sequence)
                .transactional(),
        };
        for k in 0..3 {
            let time = 1_700_000_000_000 + i64::from(n) * 10 + k;
            let value = format!("value {n} {}", "x".repeat(usize::try_from(n).unwrap()));
            let header: (&[u8], Option<&[u8]>) = (b"trace", Some(b"abc"));
            builder.push_with_headers(time, Some(b"key"), Some(value.as_bytes()), &[header]);
        }
        if n % 4 > 1 {
            sequence += 3;
        }
        put(log, &mut all, builder.build().unwrap().to_vec(), n / 100);
        if n % 20 == 19 {
            let result = if n % 40 == 19 {
                TransactionResult::Abort
            } else {
                TransactionResult::Commit
            };
            let marker = EndTransactionMarker {
                result,
                coordinator_epoch: 3,
            };
            let producer = (ProducerId(2), ProducerEpoch(0));
            let time = 1_700_000_000_000 + i64::from(n) * 10 + 5;
            let marker = end_transaction_batch(producer, marker, time).unwrap();
            put(log, &mut all, marker.to_vec(), n / 100);
        }
    }
    all
}

fn put(log: &mut Log<RealVfs>, all: &mut Vec<u8>, mut bytes: Vec<u8>, epoch: i32) {
    batch::set_base_offset(&mut bytes, log.log_end_offset());
    batch::set_leader_epoch(&mut bytes, LeaderEpoch(epoch));
    log.append(&bytes, 2_000_000).unwrap();
    all.extend_from_slice(&bytes);
}

fn read_all(log: &Log<RealVfs>) -> Vec<u8> {
    let mut all = Vec::new();
    let mut at = Offset(0);
    while let Some(slice) = log.read(at, 10_000, log.log_end_offset(), true).unwrap() {
        assert!(BatchIter::new(&slice.bytes).all(|step| step.is_ok()));
        all.extend_from_slice(&slice.bytes);
        at = slice.next_offset;
    }
    all
}

#[test]
fn a_log_on_disk_survives_kill_and_clean_stop() {
    let temp = tempfile::tempdir().unwrap();
    let root = std::env::var_os("TIDEMARK_LOG_DIR").map_or(temp.path().to_owned(), PathBuf::from);
    let (_, mut log) = open(&root);
    let all = fill(&mut log);
    assert!(log.segment_count() > 2);
    assert_eq!(read_all(&log), all);
    drop(log);

    let (_, mut log) = open(&root);
    assert_eq!(read_all(&log), all);
    log.flush().unwrap();
    log.close().unwrap();
    let (log_dir, _) = LogDir::open(RealVfs, &root).unwrap();
    let offset = (log.topic_partition(), log.recovery_point());
    log_dir
        .write_checkpoint(OffsetCheckpoint::RecoveryPoint, [offset].into_iter())
        .unwrap();
    log_dir.mark_clean_shutdown(Some(7)).unwrap();
    drop(log);

    let (log_dir, log) = open(&root);
    assert_eq!(read_all(&log), all);
    assert_eq!(log.recovery_point(), log.log_end_offset());
    assert!(log_dir.free_bytes().unwrap() > 0);
}
