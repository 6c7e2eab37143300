//! Is a compacted topic, cleaned while a cluster works and restarts, what its clients and Apache Kafka's tools expect?

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::client_programs::{java_class, python};
use tests::cluster::{Cluster, await_true};
use tests::{disk, skipped};

const KEYS: u32 = 150;
const ROUNDS: u32 = 4;

const TOPIC: &str = "\
apiVersion: tidemark.dev/v1alpha1
kind: KafkaTopic
metadata:
  name: profiles
  namespace: default
spec:
  clusterRef:
    name: shop
  partitions: 1
  replicationFactor: 3
  config:
    cleanup.policy: compact
    segment.bytes: \"1048576\"
    min.cleanable.dirty.ratio: \"0.01\"
";

/// A cluster whose cleaners look often and whose offsets topic is small, with the compacted topic.
fn cluster() -> Cluster {
    let cluster = Cluster::prepare("examples/quickstart");
    cluster.configure(&[
        ("log.cleaner.backoff.ms", "300"),
        ("offsets.topic.segment.bytes", "1048576"),
        ("offsets.topic.num.partitions", "1"),
    ]);
    std::fs::write(cluster.manifests().join("profiles.yaml"), TOPIC).unwrap();
    cluster.start();
    cluster
}

/// Writes every key several times, then deletes some; about 3 MiB.
fn produce(cluster: &Cluster, round: u32, model: &mut BTreeMap<String, String>) {
    let mut lines = String::new();
    let padding = "x".repeat(1000);
    for n in 0..20 {
        for key in 0..KEYS {
            let (key, value) = (format!("k{key}"), format!("{round}-{n}-{padding}"));
            lines.push_str(&format!("{key}:{value}\n"));
            model.insert(key, value);
        }
    }
    for key in (round..KEYS).step_by(7) {
        let key = format!("k{key}");
        lines.push_str(&format!("{key}:\n"));
        model.remove(&key);
    }
    // Never written again: the tombstone is cleaned with what comes after it.
    lines.push_str(&format!("gone{round}:{padding}\ngone{round}:\n"));
    let mut child = Command::new("kcat")
        .args(["-P", "-K:", "-Z", "-t", "profiles", "-X", "acks=all"])
        .args(["-X", "linger.ms=1", "-X", "batch.num.messages=10"])
        .args(["-b", &cluster.bootstrap()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat runs");
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// What a new consumer makes of the topic, and how many records it was given.
fn consume(cluster: &Cluster) -> (BTreeMap<String, String>, usize) {
    let output = Command::new("kcat")
        .args(["-C", "-e", "-q", "-t", "profiles", "-o", "beginning"])
        .args(["-f", "%k\t%S\t%s\n", "-b", &cluster.bootstrap()])
        .output()
        .expect("kcat runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut map = BTreeMap::new();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let mut fields = line.split('\t').map(str::to_owned);
        let (key, length) = (fields.next().unwrap(), fields.next().unwrap());
        if length == "-1" {
            map.remove(&key);
        } else {
            map.insert(key, fields.next().unwrap());
        }
    }
    (map, text.lines().count())
}

/// The folder of a topic's only partition on each of the brokers.
fn folders(cluster: &Cluster, topic: &str) -> Vec<PathBuf> {
    let dirs = disk::log_dirs(&cluster.data_dir());
    dirs.iter()
        .map(|dir| dir.join(format!("{topic}-0")))
        .collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    found
}

fn await_compacted(cluster: &Cluster, topic: &str) {
    for folder in folders(cluster, topic) {
        await_true("each broker has compacted its log", || {
            let bytes = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
            // The last values, some that came after a cleaning began, and the active segment.
            segments(&folder).into_iter().map(bytes).sum::<u64>() < 2_500_000
        });
    }
}

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key_across_restarts() {
    let cluster = cluster();
    let mut model = BTreeMap::new();
    for round in 0..ROUNDS {
        produce(&cluster, round, &mut model);
        if round == 1 {
            // Most likely in the middle of a cleaning.
            cluster.stop();
            cluster.start();
        }
    }
    await_compacted(&cluster, "profiles");
    let (map, records) = consume(&cluster);
    assert_eq!(map.len(), model.len());
    assert!(map == model, "the last values differ");
    let written = ROUNDS * 20 * KEYS;
    assert!(
        records < written as usize / 3,
        "{records} of {written} are left"
    );
    for pod in cluster.pods() {
        let page = cluster.metrics(&pod).unwrap_or_default();
        let says = |line: &str| page.lines().any(|other| other == line);
        assert!(
            says("kafka_log_logcleanermanager_uncleanable_partitions_count 0"),
            "{page}"
        );
        assert!(says("kafka_log_logcleaner_deadthreadcount 0"), "{page}");
    }
    cluster.stop();
    for folder in folders(&cluster, "profiles") {
        let checkpoint = folder.with_file_name("cleaner-offset-checkpoint");
        let text = std::fs::read_to_string(checkpoint).unwrap();
        assert!(
            text.lines().any(|line| line.starts_with("profiles 0 ")),
            "{text}"
        );
    }
    dump(&folders(&cluster, "profiles")[0], model.len());
    cluster.start();
    assert!(consume(&cluster).0 == model, "after another restart");
}

/// Apache Kafka's own tool reads what compaction wrote.
fn dump(folder: &Path, keys: usize) {
    let Some(mut dump) = java_class("org.apache.kafka.tools.DumpLogSegments") else {
        return skipped(
            "kafka-dump-log of a compacted topic",
            "Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let files: Vec<_> = segments(folder)
        .iter()
        .flat_map(|log| ["log", "index", "timeindex"].map(|other| log.with_extension(other)))
        .filter(|path| path.is_file())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let output = dump
        .args(["--deep-iteration", "--print-data-log", "--files"])
        .arg(files.join(","))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    assert!(text.matches(" payload: ").count() >= keys, "{text:.2000}");
    let dated = ["deleteHorizonMs: 1", "deleteHorizonMs: OptionalLong[1"];
    assert!(
        dated.iter().any(|with| text.contains(with)),
        "a tombstone that was cleaned has its horizon"
    );
    for bad in [
        "isvalid: false",
        "Found timestamp mismatch",
        "Index position",
        "Mismatches in",
    ] {
        assert!(!text.contains(bad), "kafka-dump-log says {bad:?}");
    }
}

#[test]
fn groups_come_back_after_the_offsets_topic_was_compacted() {
    let Some(python) = python() else {
        return skipped(
            "groups after compaction",
            "the Python clients: run tests/platform/setup",
        );
    };
    let run = |args: &[&str]| {
        let script = tests::root().join("tests/clients/python/confluent_client.py");
        let output = Command::new(&python).arg(script).args(args).output();
        let output = output.expect("python runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let cluster = cluster();
    let bootstrap = cluster.bootstrap();
    // Another group, whose only commit is older than all that is outdated.
    run(&["commit_often", &bootstrap, "orders", "quiet", "1", "10"]);
    run(&["commit_often", &bootstrap, "orders", "busy", "200", "4000"]);
    await_compacted(&cluster, "__consumer_offsets");
    cluster.stop();
    cluster.start();
    let bootstrap = cluster.bootstrap();
    for (group, offset) in [("quiet", "1"), ("busy", "200")] {
        let committed = run(&["committed", &bootstrap, "orders", group]);
        assert_eq!(
            committed.lines().collect::<Vec<_>>(),
            [offset; 6],
            "{group}"
        );
    }
}
