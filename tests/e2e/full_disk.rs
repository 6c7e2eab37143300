//! What does a broker do whose disk is almost full?

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tests::broker_process::prepare;
use tests::cluster::{await_some, await_true, claim_network};
use tests::raw::Raw;
use tests::{skipped, tidemark};
use types::ErrorCode;
use types::builder::BatchBuilder;
use wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::{
    DeleteRecordsRequest, DescribeLogDirsRequest, FetchRequest, FindCoordinatorRequest,
    OffsetCommitRequest,
};

/// Size of the disk, and what is to stay free of it.
const DISK: &str = "192m";
const RESERVE: i64 = 64 << 20;
const TOPIC: &str = "full";
const GROUP: &str = "readers";
const BATCH: usize = 900_000;
/// More batches than the disk holds.
const TOO_MANY: usize = 250;

/// A broker whose data directory is a file system of its own, which goes with it.
struct Broker {
    process: Child,
    address: String,
    _folder: TempDir,
    _claim: std::net::TcpListener,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail when it has already ended, which is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether this machine lets a test mount something for itself.
fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

fn start() -> Broker {
    let folder = tempfile::tempdir().expect("a folder");
    let (third, claim) = claim_network();
    let host = format!("127.0.{third}.1");
    let config = format!(
        "apiVersion: tidemark.dev/broker/v1\nclusterId: ZnVsbGRpc2tmdWxsZGlzaw\nnodes:\n\
         - {{name: node-0, id: 0, roles: [controller, broker], host: {host}}}\ndataDir: /data\n\
         listeners:\n- {{name: internal, port: 9092}}\nconfig:\n  offsets.topic.replication.factor: '1'\n  \
         offsets.topic.num.partitions: '1'\n  log.retention.check.interval.ms: '200'\n  \
         log.dir.reserve.bytes: '{RESERVE}'\n"
    );
    std::fs::write(folder.path().join("broker.yaml"), config).expect("a file");
    let script = format!("mount -t tmpfs -o size={DISK} none \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    let data = folder.path().join("node-0");
    command.args(["-m", "sh", "-c", &script]).arg(data);
    command.arg(tidemark());
    prepare(&mut command, folder.path(), "node-0", &host);
    let process = command.spawn().expect("unshare runs");
    let address = format!("{host}:9092");
    await_true("the broker listens", || {
        std::net::TcpStream::connect(&address).is_ok()
    });
    Broker {
        process,
        address,
        _folder: folder,
        _claim: claim,
    }
}

impl Broker {
    fn raw(&self) -> Raw {
        Raw::connect(&self.address)
    }

    fn produce(&self) -> Option<ErrorCode> {
        let mut builder = BatchBuilder::new();
        let value = vec![b'x'; BATCH];
        builder.push(1_700_000_000_000, None, Some(&value));
        let batch = builder.build().expect("a batch");
        let answer = self.raw().produce((TOPIC, 0), -1, batch);
        ErrorCode::from_code(answer.error_code)
    }

    fn free(&self) -> i64 {
        let answer = self.raw().call(4, &DescribeLogDirsRequest::default());
        answer.results[0].usable_bytes
    }

    /// Bytes of records from the topic's first offset on.
    fn read(&self) -> usize {
        let request = FetchRequest {
            replica_id: -1,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: TOPIC.to_owned(),
                partitions: vec![FetchPartition {
                    current_leader_epoch: -1,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.raw().call(11, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let records = partition.records.iter();
        records
            .flat_map(|records| records.chunks())
            .map(|chunk| chunk.len())
            .sum()
    }

    /// What a group's commit is answered by.
    fn commit(&self) -> Option<ErrorCode> {
        let find = FindCoordinatorRequest {
            key: GROUP.to_owned(),
            ..Default::default()
        };
        if self.raw().call(2, &find).error_code != 0 {
            return None;
        }
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC.to_owned(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: 1,
                    committed_leader_epoch: -1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.raw().call(6, &request);
        ErrorCode::from_code(answer.topics[0].partitions[0].error_code)
    }

    /// Deletes all records of the topic.
    fn delete_records(&self) {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: TOPIC.to_owned(),
                partitions: vec![DeleteRecordsPartition {
                    offset: -1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let answer = self.raw().call(2, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
}

#[test]
fn a_disk_that_is_almost_full_takes_no_produces_but_all_else_until_there_is_room() {
    if !can_mount() {
        return skipped(
            "a disk that is almost full",
            "root, and unshare of util-linux",
        );
    }
    let broker = start();
    let configs = [
        ("segment.bytes", "1048576"),
        ("file.delete.delay.ms", "0"),
        ("retention.ms", "-1"),
    ];
    broker.raw().create_topic(TOPIC, &configs);
    await_true("a commit is taken", || {
        broker.commit() == Some(ErrorCode::None)
    });
    let refused = (0..TOO_MANY).find(|_| broker.produce() != Some(ErrorCode::None));
    assert!(refused.is_some_and(|n| n > 50), "{refused:?}");
    assert_eq!(broker.produce(), Some(ErrorCode::KafkaStorageError));
    let free = broker.free();
    assert!((RESERVE / 2..RESERVE).contains(&free), "{free} free");
    assert!(broker.read() >= BATCH, "reading goes on");
    assert_eq!(broker.commit(), Some(ErrorCode::None), "so do groups");
    broker.delete_records();
    await_some("produces are taken again", || {
        (broker.produce() == Some(ErrorCode::None)).then_some(())
    });
    assert!(broker.free() > RESERVE);
}
