//! Do clients that name their rack read from the replica there, and from the leader when it dies (KIP-392)?

use std::net::TcpListener;
use std::process::{Child, Command};

use tempfile::TempDir;
use tests::broker_process::{self, prepare};
use tests::client_programs::Client;
use tests::cluster::{await_some, await_true, claim_network};
use tests::raw::Raw;
use tests::{skipped, tidemark};
use wire::messages::MetadataRequest;
use wire::messages::metadata_request::MetadataRequestTopic;

const BROKERS: usize = 3;
const RECORDS: u32 = 5_000;
const MORE: u32 = 500;
/// What the value, the key and the framing of a record take at least.
const RECORD_BYTES: u64 = 15;
/// The metadata's version in which topics have names and ids.
const METADATA: i16 = 12;

/// Three brokers in racks of their own.
struct Racks {
    folder: TempDir,
    addresses: Vec<String>,
    processes: Vec<Child>,
    /// Held as long as the addresses are used.
    _claim: TcpListener,
}

fn rack(broker: usize) -> String {
    format!("rack-{broker}")
}

impl Racks {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (third, claim) = claim_network();
        let addresses: Vec<String> = (1..=BROKERS)
            .map(|host| format!("127.0.{third}.{host}"))
            .collect();
        let node = |(id, host): (usize, &String)| {
            format!(
                "- {{name: node-{id}, id: {id}, roles: [controller, broker], host: {host}, rack: {}}}\n",
                rack(id)
            )
        };
        let nodes: String = addresses.iter().enumerate().map(node).collect();
        let config = format!(
            "apiVersion: tidemark.dev/broker/v1\nclusterId: Zm9sbG93ZXJyZWFkcyEhIQ\nnodes:\n{nodes}dataDir: /data\n\
             listeners:\n- {{name: internal, port: 9092}}\nconfig:\n  default.replication.factor: '3'\n  \
             num.partitions: '1'\n  group.initial.rebalance.delay.ms: '0'\n  \
             replica.selector.class: org.apache.kafka.common.replica.RackAwareReplicaSelector\n"
        );
        std::fs::write(folder.path().join("broker.yaml"), config).expect("a file");
        let mut racks = Self {
            folder,
            addresses,
            processes: Vec::new(),
            _claim: claim,
        };
        for broker in 0..BROKERS {
            let process = racks.spawn(broker);
            racks.processes.push(process);
        }
        await_true("the brokers are ready", || {
            (0..BROKERS).all(|broker| racks.page(broker, "readyz").is_some())
        });
        racks
    }

    fn spawn(&self, broker: usize) -> Child {
        let mut command = Command::new(tidemark());
        let (name, host) = (format!("node-{broker}"), &self.addresses[broker]);
        prepare(&mut command, self.folder.path(), &name, host);
        command.spawn().expect("the binary runs")
    }

    fn page(&self, broker: usize, page: &str) -> Option<String> {
        broker_process::page(&self.addresses[broker], page)
    }

    /// Bytes of records that the broker gave to clients.
    fn given(&self, broker: usize) -> u64 {
        let page = self.page(broker, "metrics").expect("it is ready");
        let mut lines = page.lines();
        let line = lines
            .find(|line| line.starts_with("kafka_server_brokertopicmetrics_bytesout"))
            .expect("the counter");
        let value = line.rsplit(' ').next();
        value
            .and_then(|value| value.parse().ok())
            .expect("a number")
    }

    fn bootstrap(&self) -> String {
        let all: Vec<String> = self
            .addresses
            .iter()
            .map(|host| format!("{host}:9092"))
            .collect();
        all.join(",")
    }

    /// The leader of the topic's partition, once all its replicas are in sync.
    fn leader(&self, topic: &str) -> usize {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.to_owned()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        await_some("a leader with its followers in sync", || {
            let answer =
                Raw::connect(&format!("{}:9092", self.addresses[0])).call(METADATA, &request);
            let partition = answer.topics.first()?.partitions.first()?;
            let is_whole = partition.isr_nodes.len() == BROKERS;
            is_whole
                .then(|| usize::try_from(partition.leader_id).ok())
                .flatten()
        })
    }
}

impl Drop for Racks {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Both fail when it has already ended, which is what is wanted.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// What a client of this rack reads in the group of its name.
fn read(racks: &Racks, client: Client, topic: &str, rack: &str, count: u32) -> Vec<String> {
    let count = count.to_string();
    let mut command = client.command("consume").expect("the client is there");
    command.args([&racks.bootstrap(), topic, &format!("{client:?}"), &count]);
    let output = command
        .env("CLIENT_RACK", rack)
        .output()
        .expect("the client runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{client:?}: {}",
        text(&output.stderr)
    );
    let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn written(client: Client, first: u32, count: u32) -> Vec<String> {
    let mut all: Vec<String> = (first..first + count)
        .map(|n| format!("{client:?}-{n}"))
        .collect();
    all.sort();
    all
}

fn reads_near_and_goes_on_when_that_replica_dies(client: Client) {
    if let Err(missing) = client.command("consume") {
        skipped(&format!("{client:?} reads from followers"), &missing);
        return;
    }
    let mut racks = Racks::start();
    let (bootstrap, topic, name) = (racks.bootstrap(), "orders", format!("{client:?}"));
    let produce = |first, count| {
        let output = client
            .produce(&bootstrap, topic, &name, first, count)
            .expect("the client runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    produce(0, RECORDS);
    let leader = racks.leader(topic);
    let follower = (leader + 1) % BROKERS;
    let all: Vec<u64> = (0..BROKERS).map(|broker| racks.given(broker)).collect();
    assert_eq!(all, [0; BROKERS], "nobody has read yet");
    let got = read(&racks, client, topic, &rack(follower), RECORDS);
    assert!(
        got == written(client, 0, RECORDS),
        "{client:?} read {} records",
        got.len()
    );
    assert!(racks.given(follower) >= u64::from(RECORDS) * RECORD_BYTES);
    assert_eq!(
        racks.given(leader),
        0,
        "the leader gave nothing to a client elsewhere"
    );

    racks.processes[follower]
        .kill()
        .expect("a child can be killed");
    produce(RECORDS, MORE);
    let got = read(&racks, client, topic, &rack(follower), MORE);
    assert!(
        got == written(client, RECORDS, MORE),
        "{client:?} read {} records",
        got.len()
    );
    let others = (0..BROKERS).filter(|broker| *broker != follower);
    let given: u64 = others.map(|broker| racks.given(broker)).sum();
    assert!(given >= u64::from(MORE) * RECORD_BYTES);
}

#[test]
fn librdkafka_reads_from_the_replica_in_its_rack() {
    reads_near_and_goes_on_when_that_replica_dies(Client::Confluent);
}

#[test]
fn java_reads_from_the_replica_in_its_rack() {
    reads_near_and_goes_on_when_that_replica_dies(Client::Java);
}
