//! Does Java MirrorMaker 2 mirror both ways between us and Apache Kafka while our brokers die?

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::client_programs::{Client, kafka_jars};
use tests::cluster::{Cluster, await_some_within};
use tests::coordination::Role;
use tests::{root, skipped};

use crate::load::{
    Feed, Found, PATIENCE, await_some, await_stable, await_true, dump, flow, rate, report,
    run_with_kills, seconds, summary,
};
use crate::programs::{MISSING, Program, installed, java, properties};

/// Records a second, each way.
const RATE: u64 = 300;
/// How many records a group reads at once: more than come meanwhile.
const READ: u32 = 1_000;

/// One broker of Apache Kafka.
struct Peer {
    folder: PathBuf,
    bootstrap: String,
}

fn kafka(program: &str) -> Command {
    let mut command = Command::new(root().join("tests/platform/kafka/bin").join(program));
    command
        .env("KP_LIB", kafka_jars().expect("asked before"))
        .env("KP_PATIENCE", PATIENCE.as_secs().to_string());
    command
}

impl Peer {
    fn start(cluster: &Cluster) -> Self {
        // Below the ports that the kernel hands out; the controller's is a hundred higher.
        let free = |port: &u16| {
            let bound = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
            bound(*port) && bound(*port + 100)
        };
        let port = (24_000..25_000).step_by(10).find(free).expect("a port");
        let folder = cluster.scratch().join("kafka");
        let peer = Self {
            bootstrap: format!("127.0.0.1:{port}"),
            folder,
        };
        let output = kafka("kafka-up")
            .args(["-n", "1", "-p", &port.to_string(), "-H", "512m", "-d"])
            .arg(&peer.folder)
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Apache Kafka: {error}");
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Best effort: it ends by the process ids in its folder.
        drop(
            kafka("kafka-down")
                .args(["-9", "-d"])
                .arg(&self.folder)
                .output(),
        );
    }
}

/// One way of mirroring.
struct Way<'a> {
    name: &'static str,
    /// Where from.
    source: &'a str,
    /// Where to.
    target: &'a str,
    topic: &'static str,
    mirrored: &'static str,
    group: &'static str,
}

/// Offsets by partition.
type Offsets = BTreeMap<i32, i64>;

fn offsets(bootstrap: &str, topic: &str, group: &str) -> Offsets {
    flow("committed", bootstrap, topic, &[group])
        .iter()
        .map(|line| {
            let (partition, offset) = line.split_once(' ').unwrap();
            (partition.parse().unwrap(), offset.parse().unwrap())
        })
        .collect()
}

fn by_partition(records: Vec<Found>) -> BTreeMap<i32, Vec<Found>> {
    let mut partitions: BTreeMap<i32, Vec<Found>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.partition).or_default().push(record);
    }
    partitions
}

impl Way<'_> {
    /// A member of the group reads and commits so many more records.
    #[track_caller]
    fn read_more(&self, count: u32) {
        let output = Client::Confluent
            .consume(self.source, self.topic, self.group, count)
            .expect("asked before");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error}", self.name);
    }

    /// What the group has on the other side, when it is something wherever it has read here, and more than `before`.
    fn translated(&self, before: &Offsets) -> Option<Offsets> {
        let read = offsets(self.source, self.topic, self.group);
        let now = offsets(self.target, self.mirrored, self.group);
        let moved = now.values().sum::<i64>() > before.values().sum::<i64>();
        let all = read.iter().all(|(partition, offset)| {
            *offset <= 0 || now.get(partition).is_some_and(|offset| *offset > 0)
        });
        (moved && all).then_some(now)
    }

    /// Reads on until offsets are translated: MirrorMaker 2 knows no place for offsets from before its task began. What they
    /// are, and how many records were read.
    #[track_caller]
    fn read_until_translated(&self) -> (Offsets, u32) {
        let mut read = 0;
        let what = format!(
            "{}: the offsets of {} are translated",
            self.name, self.group
        );
        let offsets = await_some(&what, || {
            self.read_more(READ);
            read += READ;
            self.translated(&Offsets::new())
        });
        (offsets, read)
    }

    /// All records that are there in the end, and what the group's offsets have become.
    #[track_caller]
    fn await_mirrored(
        &self,
        count: u64,
        before: &Offsets,
        mut alive: impl FnMut(),
    ) -> (Vec<Found>, Offsets) {
        let patience = PATIENCE + Duration::from_secs(seconds());
        await_some_within(patience, &format!("{}: all is mirrored", self.name), || {
            alive();
            (dump(self.target, self.mirrored).len() as u64 >= count).then_some(())
        });
        let what = format!("{}: the offsets of {} move on", self.name, self.group);
        let translated = await_some(&what, || self.translated(before));
        await_stable(self.target, self.mirrored);
        (dump(self.target, self.mirrored), translated)
    }

    /// Key for key and value for value, each partition in its order.
    #[track_caller]
    fn assert_equal(&self, source: &[Found], target: &[Found]) {
        let content = |found: &[Found]| -> Vec<(i32, String, String)> {
            let of = |r: &Found| (r.partition, r.key.clone(), r.value.clone());
            found.iter().map(of).collect()
        };
        let (source, target) = (content(source), content(target));
        let first = source.iter().zip(&target).find(|(a, b)| a != b);
        assert_eq!(first, None, "{}: the first that differs", self.name);
        assert_eq!(source.len(), target.len(), "{}: the number", self.name);
    }

    /// A group that goes on at its translated offsets misses nothing; how many records it reads again.
    #[track_caller]
    fn assert_nothing_skipped(
        &self,
        source: &[Found],
        target: &[Found],
        translated: &Offsets,
    ) -> usize {
        let committed = offsets(self.source, self.topic, self.group);
        let (source, target) = (by_partition(source.to_vec()), by_partition(target.to_vec()));
        let mut again = 0;
        for (partition, offset) in translated {
            let read = source[partition]
                .iter()
                .filter(|r| r.offset < committed[partition])
                .count();
            let passed = target[partition]
                .iter()
                .filter(|r| r.offset < *offset)
                .count();
            assert!(
                passed <= read,
                "{}-{partition}: {} has read {read} records, but {offset} passes {passed}",
                self.mirrored,
                self.group
            );
            again += read - passed;
        }
        again
    }
}

fn mirror_maker(cluster: &Cluster, ours: &str, theirs: &str) -> Program {
    let network = cluster.first_address().rsplit_once('.').unwrap().0;
    let rest = format!("http://{network}.200:8083");
    let file = cluster.scratch().join("mm2.properties");
    properties(
        &file,
        &[
            ("clusters", "tide,kafka"),
            ("tide.bootstrap.servers", ours),
            ("kafka.bootstrap.servers", theirs),
            ("tide->kafka.enabled", "true"),
            ("tide->kafka.topics", "orders"),
            ("tide->kafka.groups", "readers-of-orders"),
            ("kafka->tide.enabled", "true"),
            ("kafka->tide.topics", "parcels"),
            ("kafka->tide.groups", "readers-of-parcels"),
            ("tide.exactly.once.source.support", "enabled"),
            ("kafka.exactly.once.source.support", "enabled"),
            ("dedicated.mode.enable.internal.rest", "true"),
            ("listeners", &rest),
            ("replication.factor", "1"),
            ("kafka->tide.replication.factor", "3"),
            ("checkpoints.topic.replication.factor", "1"),
            ("kafka->tide.checkpoints.topic.replication.factor", "3"),
            ("heartbeats.topic.replication.factor", "1"),
            ("kafka->tide.heartbeats.topic.replication.factor", "3"),
            ("offset-syncs.topic.replication.factor", "1"),
            ("tide->kafka.offset-syncs.topic.replication.factor", "3"),
            ("kafka.config.storage.replication.factor", "1"),
            ("kafka.offset.storage.replication.factor", "1"),
            ("kafka.status.storage.replication.factor", "1"),
            ("tide.config.storage.replication.factor", "3"),
            ("tide.offset.storage.replication.factor", "3"),
            ("tide.status.storage.replication.factor", "3"),
            ("refresh.topics.interval.seconds", "5"),
            ("refresh.groups.interval.seconds", "2"),
            ("sync.topic.acls.enabled", "false"),
            ("emit.checkpoints.interval.seconds", "1"),
            ("sync.group.offsets.enabled", "true"),
            ("sync.group.offsets.interval.seconds", "1"),
            ("scheduled.rebalance.max.delay.ms", "2000"),
        ],
    );
    let class = "org.apache.kafka.connect.mirror.MirrorMaker";
    let mut command = java(cluster, "mm2", class).expect("asked before");
    command.arg(&file);
    Program::start(cluster, "mm2", command)
}

#[test]
fn mirror_maker_mirrors_both_ways_and_translates_offsets_under_kill_9() {
    if !installed() {
        return skipped("MirrorMaker 2", MISSING);
    }
    let cluster = Cluster::up("examples/quickstart");
    let peer = Peer::start(&cluster);
    let (ours, theirs) = (cluster.bootstrap(), peer.bootstrap.clone());
    flow("create", &theirs, "parcels", &["3", "1"]);
    let ways = [
        Way {
            name: "to Apache Kafka",
            source: &ours,
            target: &theirs,
            topic: "orders",
            mirrored: "tide.orders",
            group: "readers-of-orders",
        },
        Way {
            name: "from Apache Kafka",
            source: &theirs,
            target: &ours,
            topic: "parcels",
            mirrored: "kafka.parcels",
            group: "readers-of-parcels",
        },
    ];
    let feeds = ways
        .each_ref()
        .map(|way| Feed::start(&cluster, way.source, way.topic, way.topic, rate(RATE)));
    let mut mm2 = mirror_maker(&cluster, &ours, &theirs);
    let first = ways.each_ref().map(Way::read_until_translated);
    let roles = [
        Role::Leader("kafka.parcels".to_owned(), 0),
        Role::Leader("orders".to_owned(), 0),
        Role::Group("kafka-mm2".to_owned()),
        Role::Leader("mm2-offsets.kafka.internal".to_owned(), 0),
    ];
    let died = run_with_kills(&cluster, &roles, || mm2.assert_runs());
    let counts = feeds.map(Feed::finish);
    for ((way, count), (first, read)) in ways.iter().zip(counts).zip(first) {
        way.read_more(u32::try_from(count).unwrap() - read);
        let (target, translated) = way.await_mirrored(count, &first, || mm2.assert_runs());
        let source = dump(way.source, way.topic);
        assert_eq!(source.len() as u64, count, "{}: what was fed", way.name);
        way.assert_equal(&source, &target);
        let again = way.assert_nothing_skipped(&source, &target, &translated);
        report(&format!(
            "MirrorMaker 2 {}: {count} records equal over {}; a group that goes on there reads {again} again",
            way.name,
            summary(&died)
        ));
    }
    mm2.terminate();
    await_true("Apache Kafka still runs", || {
        !dump(&theirs, "parcels").is_empty()
    });
}
