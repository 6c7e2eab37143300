//! Do three disks hold the same batches, and does gRPC carry each of them once?

use std::collections::BTreeMap;

use tests::client_programs::Client;
use tests::cluster::{Cluster, await_some, await_true};
use tests::disk;
use tests::raw::Raw;
use types::ErrorCode;
use types::builder::BatchBuilder;
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{MetadataRequest, MetadataResponse};

/// Waits until every replica of every partition of `topic` has the same batches; the number of batches.
pub(crate) fn assert_logs_equal(cluster: &Cluster, topic: &str) -> usize {
    let dirs = disk::log_dirs(&cluster.data_dir());
    assert_eq!(
        dirs.len(),
        3,
        "three brokers, three log directories: {dirs:?}"
    );
    let mut batches = 0;
    await_true("the three logs are equal", || {
        let logs: Vec<_> = dirs
            .iter()
            .map(|dir| disk::partitions(dir, topic))
            .collect();
        batches = logs[0].values().map(Vec::len).sum();
        !logs[0].is_empty() && logs.iter().all(|log| *log == logs[0])
    });
    batches
}

/// `(broker, peer, direction) -> bytes` of record batches that went over gRPC, as the three metrics pages say.
fn batch_bytes(cluster: &Cluster) -> BTreeMap<(String, String, String), u64> {
    let mut found = BTreeMap::new();
    for pod in cluster.pods() {
        let page = cluster.metrics(&pod).expect("a metrics page");
        let broker = pod.name.rsplit('-').next().expect("an ordinal").to_owned();
        for line in page.lines() {
            let Some(rest) = line.strip_prefix("tidemark_replication_batch_bytes_total{peer=\"")
            else {
                continue;
            };
            let (peer, rest) = rest.split_once("\",direction=\"").expect("a direction");
            let (direction, value) = rest.split_once("\"} ").expect("a value");
            found.insert(
                (broker.clone(), peer.to_owned(), direction.to_owned()),
                value.parse().expect("a count"),
            );
        }
    }
    found
}

#[test]
fn three_disks_hold_the_same_batches_and_grpc_carried_each_twice() {
    let cluster = Cluster::up("examples/quickstart");
    let output = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "replicated", 0, 20_000)
        .expect("kcat runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(assert_logs_equal(&cluster, "orders") > 0);
    let dirs = disk::log_dirs(&cluster.data_dir());
    let on_disk: Vec<u64> = dirs.iter().map(|dir| disk::log_bytes(dir)).collect();
    assert!(
        on_disk[0] > 20_000 && on_disk.iter().all(|bytes| *bytes == on_disk[0]),
        "{on_disk:?}"
    );
    let sent = batch_bytes(&cluster);
    for ((broker, peer, direction), bytes) in &sent {
        let other = if direction == "in" { "out" } else { "in" };
        assert_eq!(
            sent.get(&(peer.clone(), broker.clone(), other.to_owned())),
            Some(bytes),
            "what {broker} counts {direction} of {peer} is what {peer} counts {other} of {broker}: {sent:?}"
        );
    }
    let received: u64 = sent
        .iter()
        .filter(|((_, _, direction), _)| direction == "in")
        .map(|(_, bytes)| bytes)
        .sum();
    assert_eq!(
        received,
        2 * on_disk[0],
        "each byte of a leader's log went to two followers, once"
    );
    crate::faults::report(&format!(
        "gRPC: {received} bytes of batches received = 2 x {} bytes on each disk",
        on_disk[0]
    ));
}

fn metadata(raw: &mut Raw, topic: &str) -> MetadataResponse {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    raw.call(9, &request)
}

/// `partition -> (leader, leader epoch, ISR)`.
pub(crate) fn leadership(address: &str, topic: &str) -> BTreeMap<i32, (i32, i32, Vec<i32>)> {
    metadata(&mut Raw::connect(address), topic).topics[0]
        .partitions
        .iter()
        .map(|partition| {
            let mut isr = partition.isr_nodes.clone();
            isr.sort_unstable();
            (
                partition.partition_index,
                (partition.leader_id, partition.leader_epoch, isr),
            )
        })
        .collect()
}

/// Produces one record by raw bytes; the error code of the answer.
fn produce_one(address: &str, topic: &str, partition: i32) -> ErrorCode {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"one too many"));
    let batch = builder.build().expect("one small record");
    let answer = Raw::connect(address).produce((topic, partition), -1, batch);
    ErrorCode::from_code(answer.error_code).expect("a code of Kafka's")
}

#[test]
fn two_of_three_brokers_stopped_make_produce_answer_not_enough_replicas() {
    // Its controllers are processes of their own, so that the ISR still shrinks when two brokers are gone.
    let cluster = Cluster::up("examples/split-pools");
    let topic = "warehouse.Events_v1";
    let survivor = cluster.pod("depot-brokers-0");
    let address = format!("{}:9092", survivor.ip);
    let partition = await_some("the survivor leads a partition with a full ISR", || {
        let ours = metadata(&mut Raw::connect(&address), topic)
            .brokers
            .iter()
            .find(|broker| broker.host == survivor.ip)?
            .node_id;
        leadership(&address, topic)
            .into_iter()
            .find_map(|(partition, (leader, _, isr))| {
                (leader == ours && isr.len() == 3).then_some(partition)
            })
    });
    assert_eq!(produce_one(&address, topic, partition), ErrorCode::None);
    // Frozen, not killed: a killed pod would be restarted at once.
    cluster.signal("depot-brokers-1", "STOP");
    cluster.signal("depot-brokers-2", "STOP");
    let (leader, isr) = await_some("one broker alone is in sync", || {
        let (leader, _, isr) = leadership(&address, topic).remove(&partition)?;
        (isr.len() == 1 && leader == isr[0]).then_some((leader, isr))
    });
    let code = produce_one(&address, topic, partition);
    cluster.signal("depot-brokers-1", "CONT");
    cluster.signal("depot-brokers-2", "CONT");
    assert_eq!(
        code,
        ErrorCode::NotEnoughReplicas,
        "leader {leader}, ISR {isr:?}, min.insync.replicas 2"
    );
    await_true("the healed partition takes records again", || {
        produce_one(&address, topic, partition) == ErrorCode::None
    });
    cluster.await_ready();
}

#[test]
fn one_broker_of_three_accepts_no_record_when_two_must_have_it() {
    let cluster = Cluster::up("examples/quickstart");
    // Frozen, not killed: a killed pod would be restarted at once.
    cluster.signal("shop-main-1", "STOP");
    cluster.signal("shop-main-2", "STOP");
    let pod = cluster.pod("shop-main-0");
    let output = std::process::Command::new("kcat")
        .args([
            "-P",
            "-b",
            &format!("{}:9092", pod.ip),
            "-t",
            "orders",
            "-p",
            "0",
            "-X",
            "acks=all",
        ])
        .args([
            "-X",
            "message.timeout.ms=8000",
            "-X",
            "enable.idempotence=false",
            "-X",
            "retries=0",
        ])
        .stdin(std::fs::File::open(tests::root().join("LICENSE")).unwrap())
        .output()
        .expect("kcat runs");
    cluster.signal("shop-main-1", "CONT");
    cluster.signal("shop-main-2", "CONT");
    assert!(
        !output.status.success(),
        "records were accepted by one broker of three"
    );
    cluster.await_ready();
}
