//! Does Apache Kafka's `kafka-reassign-partitions --throttle` move partitions at that rate under load, and lose nothing?

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::client_programs::{java_class, python};
use tests::cluster::{Cluster, await_some, await_true};
use tests::raw::Raw;
use tests::{disk, root, skipped};
use wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{CreateTopicsRequest, DescribeConfigsRequest, MetadataRequest};

const TOPIC: &str = "orders";
const BROKERS: i32 = 3;
const PARTITIONS: i32 = 12;
/// Bytes a second, of each broker and in each direction.
const RATE: u32 = 300_000;
/// How long the rate is measured. There is three times as much to copy, for the tool that cancels has to start meanwhile.
const WINDOW: Duration = Duration::from_secs(6);
/// What is there before: 8 MB for each broker to copy.
const FILL: Load = Load {
    prefix: "before",
    rate: 1_500,
    seconds: 4,
    bytes: 4_000,
};
/// What is produced while partitions move: little beside the rate, since what goes to replicas in sync is not throttled.
const UNDER_WAY: Load = Load {
    prefix: "meanwhile",
    rate: 200,
    seconds: 20,
    bytes: 0,
};
/// Kafka's numbers of resources and of where a value comes from.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

/// So many records a second from an idempotent producer.
struct Load {
    prefix: &'static str,
    rate: u32,
    seconds: u32,
    bytes: u32,
}

/// A record: value, partition, offset.
type Record = (String, i32, i64);

/// The first three words of each line.
fn records(text: &str) -> Vec<Record> {
    let record = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words[2].parse().unwrap();
        (words[0].to_owned(), words[1].parse().unwrap(), number)
    };
    text.lines().map(record).collect()
}

/// Standard output of a program that must succeed.
fn printed(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out
}

struct Moving {
    cluster: Cluster,
    /// Where replicas are before and after: `(partition, brokers)`.
    before: Vec<(i32, [i32; 2])>,
    after: Vec<(i32, [i32; 2])>,
}

impl Moving {
    /// Three brokers with a topic of two copies; each leads four partitions, and each is to get a copy of four others.
    fn up() -> Self {
        let cluster = Cluster::prepare("examples/quickstart");
        // The operator keeps the replication factor of the topics it knows.
        std::fs::remove_file(cluster.manifests().join("orders.yaml")).unwrap();
        cluster.start();
        let placed = |first: i32, second: i32| {
            let on = move |p: i32| (p, [(p + first) % BROKERS, (p + second) % BROKERS]);
            (0..PARTITIONS).map(on).collect()
        };
        let moving = Self {
            cluster,
            before: placed(0, 1),
            after: placed(0, 2),
        };
        moving.create();
        moving
    }

    fn ask(&self) -> Raw {
        let bootstrap = self.cluster.bootstrap();
        Raw::connect(bootstrap.split(',').next().unwrap())
    }

    fn create(&self) {
        let assignments = self.before.iter();
        let topic = CreatableTopic {
            name: TOPIC.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments
                .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: brokers.to_vec(),
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
        let answer = self.ask().call(7, &request);
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    }

    /// Replicas by partition, all of them in sync, or nothing.
    fn replicas_in_sync(&self) -> Option<Vec<(i32, [i32; 2])>> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(TOPIC.to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let mut partitions = self.ask().call(9, &request).topics.remove(0).partitions;
        partitions.sort_by_key(|one| one.partition_index);
        let placed = partitions.iter().map(|one| {
            let (replicas, in_sync) = (&one.replica_nodes, &one.isr_nodes);
            let all = replicas.iter().all(|node| in_sync.contains(node));
            let pair: Option<[i32; 2]> = replicas.clone().try_into().ok();
            pair.filter(|_| all).map(|pair| (one.partition_index, pair))
        });
        placed.collect()
    }

    /// Bytes of the copies that each broker is to get.
    fn copied(&self) -> Vec<u64> {
        let dirs = disk::log_dirs(&self.cluster.data_dir());
        let of = |broker: i32| {
            let pod = format!("shop-main-{broker}");
            let is_its = |dir: &&PathBuf| {
                let mut parts = dir.components();
                parts.any(|part| part.as_os_str().to_string_lossy().ends_with(&pod))
            };
            let dir = dirs.iter().find(is_its).unwrap();
            let moved = self.after.iter().filter(|(_, to)| to[1] == broker);
            moved
                .map(|(partition, _)| log_bytes(&dir.join(format!("{TOPIC}-{partition}"))))
                .sum()
        };
        (0..BROKERS).map(of).collect()
    }

    /// What the tool says.
    fn tool(&self, more: &[&str]) -> String {
        let moves = self.after.iter().map(|(partition, to)| {
            format!(r#"{{"topic":"{TOPIC}","partition":{partition},"replicas":{to:?}}}"#)
        });
        let moves: Vec<String> = moves.collect();
        let wanted = format!(r#"{{"version":1,"partitions":[{}]}}"#, moves.join(","));
        let file = self.cluster.scratch().join("moves.json");
        std::fs::write(&file, wanted).unwrap();
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let mut command = java_class(class).expect("asked before");
        command.args(["--bootstrap-server", &self.cluster.bootstrap()]);
        command.arg("--reassignment-json-file").arg(file);
        printed(&command.args(more).output().unwrap())
    }

    /// Where the values of the throttles of a broker and of the topic come from.
    fn sources(&self) -> Vec<(String, i8)> {
        let resource = |resource_type, name: &str| DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![
                resource(BROKER_RESOURCE, "0"),
                resource(TOPIC_RESOURCE, TOPIC),
            ],
            ..Default::default()
        };
        // A broker answers for itself.
        let address = format!("{}:9092", self.cluster.pod("shop-main-0").ip);
        let results = Raw::connect(&address).call(4, &request).results.into_iter();
        let rows = results.flat_map(|result| result.configs);
        let throttles = rows.filter(|row| row.name.contains("replication.throttled"));
        throttles.map(|row| (row.name, row.config_source)).collect()
    }

    fn acks(&self, load: &Load) -> PathBuf {
        self.cluster.scratch().join(load.prefix)
    }

    fn produce(&self, load: &Load) -> Child {
        let numbers = [load.rate, load.seconds].map(|number| number.to_string());
        Command::new(python().expect("asked before"))
            .arg(root().join("tests/clients/python/confluent_client.py"))
            .args(["steady", &self.cluster.bootstrap(), TOPIC, load.prefix])
            .args(numbers)
            .arg(self.acks(load))
            .arg(load.bytes.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Everything that was sent was acknowledged; that is read, each where it was acknowledged, and nothing else.
    fn assert_nothing_lost_or_doubled(&self) {
        let acked = |load| records(&std::fs::read_to_string(self.acks(load)).unwrap());
        let mut acked = [acked(&FILL), acked(&UNDER_WAY)].concat();
        acked.sort();
        let dump = Command::new(python().expect("asked before"))
            .arg(root().join("tests/clients/python/confluent_client.py"))
            .args(["dump", &self.cluster.bootstrap(), TOPIC])
            .output();
        let mut read = records(&printed(&dump.unwrap()));
        read.sort();
        assert!(acked.len() > 5_000, "{}", acked.len());
        let differs = acked.iter().zip(&read).find(|(acked, read)| acked != read);
        assert_eq!(differs, None);
        assert_eq!(acked.len(), read.len());
        report(&format!("{} records acknowledged and read", read.len()));
    }
}

#[expect(
    clippy::print_stderr,
    reason = "measured figures belong into the test's output"
)]
fn report(text: &str) {
    eprintln!("REPORT {text}");
}

fn log_bytes(partition: &std::path::Path) -> u64 {
    let Ok(files) = std::fs::read_dir(partition) else {
        return 0;
    };
    let paths = files.map(|file| file.unwrap().path());
    let segments = paths.filter(|path| path.extension().is_some_and(|one| one == "log"));
    segments
        .map(|path| path.metadata().map_or(0, |of| of.len()))
        .sum()
}

#[test]
fn twelve_partitions_move_at_the_rate_of_kafkas_tool_are_cancelled_and_arrive() {
    if java_class("").is_none() || python().is_none() {
        return skipped(
            "kafka-reassign-partitions --throttle",
            "Apache Kafka's jars or Python clients: run tests/platform/setup",
        );
    }
    let moving = Moving::up();
    printed(&moving.produce(&FILL).wait_with_output().unwrap());
    let load = moving.produce(&UNDER_WAY);

    let rate = RATE.to_string();
    let started = moving.tool(&["--execute", "--throttle", &rate]);
    assert!(
        started.contains("The inter-broker throttle limit was set to"),
        "{started}"
    );
    await_true("every broker has got something", || {
        moving.copied().iter().all(|bytes| *bytes > u64::from(RATE))
    });
    let (first, began) = (moving.copied(), Instant::now());
    await_some("the window is over", || {
        (began.elapsed() >= WINDOW).then_some(())
    });
    let (last, took) = (moving.copied(), began.elapsed().as_secs_f64());
    for (broker, (first, last)) in first.iter().zip(&last).enumerate() {
        let share = (last - first) as f64 / took / f64::from(RATE);
        report(&format!(
            "broker {broker}: {:.1} % of the rate over {took:.1} s",
            share * 100.0
        ));
        assert!(
            (0.85..1.15).contains(&share),
            "broker {broker}: {share} of the rate"
        );
    }

    let cancelled = moving.tool(&["--cancel"]);
    assert_eq!(
        cancelled.matches(&format!("{TOPIC}-")).count(),
        12,
        "{cancelled}"
    );
    await_true("all is where it was", || {
        moving.replicas_in_sync().as_ref() == Some(&moving.before)
    });
    await_true("the copies are gone", || {
        moving.copied().iter().sum::<u64>() == 0
    });

    moving.tool(&["--execute", "--throttle", "100000000"]);
    await_true("all is where it should be", || {
        moving.replicas_in_sync().as_ref() == Some(&moving.after)
    });
    assert!(
        moving
            .sources()
            .iter()
            .any(|(_, source)| *source != DEFAULT_CONFIG)
    );
    let verified = moving.tool(&["--verify"]);
    assert_eq!(verified.matches("is completed.").count(), 12, "{verified}");
    await_true("the throttles are gone", || {
        let sources = moving.sources();
        sources.len() == 4 && sources.iter().all(|(_, source)| *source == DEFAULT_CONFIG)
    });

    printed(&load.wait_with_output().unwrap());
    moving.assert_nothing_lost_or_doubled();
}
