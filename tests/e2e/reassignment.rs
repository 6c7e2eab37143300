//! Does a partition move between brokers while it is written, with nothing lost and nothing left behind (KIP-455)?

use std::path::PathBuf;

use tests::cluster::{Cluster, await_some, await_true};
use tests::raw::Raw;
use tests::{disk, skipped};
use types::ErrorCode;
use wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, ListPartitionReassignmentsRequest,
    MetadataRequest,
};

use crate::faults::{PODS, assert_exactly_once_in_order, everything, report, steady};

const TOPIC: &str = "orders";

/// A running move: partition, replicas, those that are added, those that go.
type Move = (i32, Vec<i32>, Vec<i32>, Vec<i32>);

/// The brokers, and whom to ask.
struct Brokers<'a> {
    cluster: &'a Cluster,
    address: String,
}

impl<'a> Brokers<'a> {
    /// The quickstart's three brokers with a topic that is assigned by hand: partition 0, 1, ... on these.
    fn with_topic(cluster: &'a Cluster, assignment: &[&[i32]]) -> Self {
        let address = format!("{}:9092", cluster.pod(PODS[0]).ip);
        let assignments = (0..).zip(assignment);
        let topic = CreatableTopic {
            name: TOPIC.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments
                .map(|(partition_index, nodes)| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: nodes.to_vec(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let response = Raw::connect(&address).call(7, &request);
        let created = &response.topics[0];
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        Self { cluster, address }
    }

    /// Moves a partition to `target`, or gives up its move.
    fn reassign(&self, partition: i32, target: Option<&[i32]>) -> ErrorCode {
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: 30_000,
            topics: vec![ReassignableTopic {
                name: TOPIC.to_owned(),
                partitions: vec![ReassignablePartition {
                    partition_index: partition,
                    replicas: target.map(<[i32]>::to_vec),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = Raw::connect(&self.address).call(1, &request);
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        let code = response.responses[0].partitions[0].error_code;
        ErrorCode::from_code(code).expect("a code of Kafka's")
    }

    /// The moves that run.
    fn moves(&self) -> Vec<Move> {
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: 30_000,
            ..Default::default()
        };
        let response = Raw::connect(&self.address).call(0, &request);
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        let topics = response.topics.into_iter();
        topics
            .flat_map(|topic| topic.partitions)
            .map(|p| {
                (
                    p.partition_index,
                    p.replicas,
                    p.adding_replicas,
                    p.removing_replicas,
                )
            })
            .collect()
    }

    /// Replicas and in-sync replicas as metadata says, the latter in order.
    fn replicas(&self, partition: i32) -> (Vec<i32>, Vec<i32>) {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(TOPIC.to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let response = Raw::connect(&self.address).call(9, &request);
        let partitions = response.topics[0].partitions.iter();
        let mut found = partitions.filter(|p| p.partition_index == partition);
        let found = found.next().expect("the partition");
        let mut isr = found.isr_nodes.clone();
        isr.sort_unstable();
        (found.replica_nodes.clone(), isr)
    }

    /// Everything of the partition on a broker's disk, of a deleted log as well.
    fn directories(&self, broker: i32, partition: i32) -> Vec<PathBuf> {
        let pod = PODS[usize::try_from(broker).expect("an ordinal")];
        let dirs = disk::log_dirs(&self.cluster.data_dir());
        let mut of_broker = dirs.iter().filter(|dir| {
            let mut parts = dir.components();
            parts.any(|part| part.as_os_str().to_string_lossy().ends_with(pod))
        });
        let dir = of_broker.next().expect("the broker's log directory");
        let name = format!("{TOPIC}-{partition}");
        std::fs::read_dir(dir)
            .expect("a readable log directory")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let found = path.file_name().expect("a name").to_string_lossy();
                found == name || found.starts_with(&format!("{name}."))
            })
            .collect()
    }

    /// Waits until the partition is on `replicas` and on no other disk.
    fn await_on(&self, partition: i32, replicas: &[i32]) {
        let mut in_sync = replicas.to_vec();
        in_sync.sort_unstable();
        await_true(&format!("partition {partition} is on {replicas:?}"), || {
            self.replicas(partition) == (replicas.to_vec(), in_sync.clone())
        });
        await_true(
            &format!("partition {partition} is on no other disk than those of {replicas:?}"),
            || {
                (0..3).all(|broker| {
                    self.directories(broker, partition).is_empty() != replicas.contains(&broker)
                })
            },
        );
    }

    /// Moves a partition and waits until it has arrived.
    fn move_to(&self, partition: i32, target: &[i32]) {
        assert_eq!(self.reassign(partition, Some(target)), ErrorCode::None);
        self.await_on(partition, target);
    }
}

#[test]
fn partitions_move_under_load_and_nothing_is_lost_or_left_behind() {
    let cluster = Cluster::prepare("examples/quickstart");
    // The topic is assigned by hand instead.
    std::fs::remove_file(cluster.manifests().join("orders.yaml")).expect("it was copied");
    cluster.start();
    let brokers = Brokers::with_topic(&cluster, &[&[0, 1], &[1, 2], &[2, 0]]);
    let Some(load) = steady(&cluster, 2_000, 25) else {
        return skipped(
            "moves of partitions under load",
            "the Python clients: run tests/platform/setup",
        );
    };
    let go_on = |what: &str| {
        let before = load.acked_so_far();
        await_true(what, || load.acked_so_far() > before + 500);
    };
    go_on("the producer is under way");
    // The follower changes, everything changes, and back; one copy or two.
    brokers.move_to(0, &[0, 2]);
    go_on("records are acknowledged after a follower moved");
    brokers.move_to(1, &[0]);
    go_on("records are acknowledged after all replicas moved");
    brokers.move_to(1, &[2, 1]);
    brokers.move_to(0, &[1]);
    brokers.move_to(0, &[2, 0]);
    go_on("records are acknowledged after moves there and back");
    assert_eq!(brokers.moves(), []);
    let (acked, gap) = load.finish();
    assert_exactly_once_in_order(&acked, &everything(&cluster));
    report(&format!(
        "5 moves of partitions under load: {} acked, longest gap in acks {gap:.3} s",
        acked.len()
    ));
}

#[test]
fn a_move_that_cannot_end_is_given_up_or_ends_when_its_broker_is_back() {
    let cluster = Cluster::prepare("examples/quickstart");
    std::fs::remove_file(cluster.manifests().join("orders.yaml")).expect("it was copied");
    cluster.start();
    let brokers = Brokers::with_topic(&cluster, &[&[0, 1]]);
    assert_eq!(
        brokers.reassign(0, None),
        ErrorCode::NoReassignmentInProgress
    );
    // Frozen, not killed: a killed pod would be restarted at once.
    cluster.signal(PODS[2], "STOP");
    assert_eq!(brokers.reassign(0, Some(&[2, 1])), ErrorCode::None);
    let moving = (0, vec![2, 1, 0], vec![2], vec![0]);
    assert_eq!(brokers.moves(), [moving]);
    await_some("metadata shows all replicas while it moves", || {
        (brokers.replicas(0).0 == [2, 1, 0]).then_some(())
    });
    // The copy that is still being made is not missed.
    let topics = |more: &[&str]| {
        let command = [&["topics", "-b", &brokers.address][..], more].concat();
        let output = cluster.command(&command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(topics(&[])[5..], [TOPIC, "1", "2", "2/2"]);
    let shown = topics(&[TOPIC]);
    assert_eq!(shown[6..8], ["ADDING", "REMOVING"]);
    assert_eq!(
        (&*shown[11], &shown[13..]),
        ("2,1,0", &["2", "0"].map(str::to_owned)[..])
    );
    assert_eq!(brokers.reassign(0, None), ErrorCode::None);
    assert_eq!(brokers.moves(), []);
    assert_eq!(
        brokers.reassign(0, None),
        ErrorCode::NoReassignmentInProgress
    );
    await_true("it is where it was", || {
        brokers.replicas(0) == (vec![1, 0], vec![0, 1])
    });
    assert_eq!(brokers.reassign(0, Some(&[2, 0])), ErrorCode::None);
    cluster.signal(PODS[2], "CONT");
    brokers.await_on(0, &[2, 0]);
    cluster.await_ready();
}
