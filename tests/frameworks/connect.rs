//! Does a Java Connect worker bring the lines of a file through a topic into another file while brokers die?

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Cluster, await_some_within};
use tests::coordination::Role;
use tests::skipped;

use crate::load::{
    PATIENCE, await_stable, await_true, dump, number_of, rate, report, run_with_kills, seconds,
    summary, text, topic,
};
use crate::programs::{MISSING, Program, installed, java, properties, script};

const TOPIC: &str = "lines";
const GROUP: &str = "workers";
const CONNECTORS: [&str; 2] = ["source", "sink"];
/// Lines a second.
const RATE: u64 = 500;

struct Worker {
    program: Program,
    rest: String,
}

impl Worker {
    fn start(cluster: &Cluster) -> Self {
        // Nobody else has this network; the brokers have its first addresses.
        let network = cluster.first_address().rsplit_once('.').unwrap().0;
        let rest = format!("http://{network}.200:8083");
        let file = cluster.scratch().join("worker.properties");
        properties(
            &file,
            &[
                ("bootstrap.servers", &cluster.bootstrap()),
                ("group.id", GROUP),
                ("listeners", &rest),
                ("plugin.discovery", "service_load"),
                (
                    "key.converter",
                    "org.apache.kafka.connect.storage.StringConverter",
                ),
                (
                    "value.converter",
                    "org.apache.kafka.connect.storage.StringConverter",
                ),
                ("config.storage.topic", "connect-config"),
                ("offset.storage.topic", "connect-offsets"),
                ("status.storage.topic", "connect-status"),
                ("exactly.once.source.support", "enabled"),
                ("offset.flush.interval.ms", "1000"),
                ("scheduled.rebalance.max.delay.ms", "2000"),
            ],
        );
        let class = "org.apache.kafka.connect.cli.ConnectDistributed";
        let mut command = java(cluster, "connect", class).expect("asked before");
        command.arg(&file);
        Self {
            program: Program::start(cluster, "connect", command),
            rest,
        }
    }

    /// The answer of the worker's REST interface, when it gives one.
    fn ask(&self, path: &str, more: &[&str]) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-f",
            "-m",
            "10",
            "-H",
            "Content-Type: application/json",
        ])
        .args(more)
        .arg(format!("{}{path}", self.rest));
        let output = curl.output().expect("curl runs");
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    fn configure(&mut self, name: &str, config: &Value) {
        await_true(&format!("the worker takes connector {name}"), || {
            self.program.assert_runs();
            let body = config.to_string();
            let path = format!("/connectors/{name}/config");
            self.ask(&path, &["-X", "PUT", "--data", &body]).is_some()
        });
    }

    /// `None` while a connector or its task does not run, with what the worker says.
    fn all_run(&self) -> Result<(), String> {
        for name in CONNECTORS {
            let status = self.ask(&format!("/connectors/{name}/status"), &[]);
            let status = status.ok_or(format!("{name}: no status"))?;
            let runs = status["connector"]["state"] == "RUNNING"
                && status["tasks"][0]["state"] == "RUNNING";
            if !runs {
                return Err(status.to_string());
            }
        }
        Ok(())
    }
}

fn lines_of(file: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Each line once in the topic, each partition in the file's order; the partition of each line.
#[track_caller]
fn assert_exactly_once_in_topic(bootstrap: &str, lines: u64) -> BTreeMap<u64, i32> {
    let (mut at, mut last) = (BTreeMap::new(), BTreeMap::new());
    for record in dump(bootstrap, TOPIC) {
        let n = number_of(&record.value);
        assert_eq!(record.value, text("line", n));
        assert_eq!(at.insert(n, record.partition), None, "twice: {record:?}");
        let before = last.insert(record.partition, n);
        assert!(before < Some(n), "{record:?} comes after line {before:?}");
    }
    let missing: Vec<u64> = (0..lines).filter(|n| !at.contains_key(n)).take(5).collect();
    assert!(missing.is_empty(), "not in the topic: {missing:?}");
    assert_eq!(at.len() as u64, lines, "lines nobody wrote");
    at
}

/// Every line is there, and each partition's lines come for the first time in their order; how many came again.
#[track_caller]
fn assert_at_least_once_in_order(sink: &[String], at: &BTreeMap<u64, i32>) -> usize {
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for line in sink {
        let n = number_of(line);
        assert_eq!(*line, text("line", n));
        if seen.insert(n) {
            let before = last.insert(at[&n], n);
            assert!(before < Some(n), "line {n} comes after {before:?}");
        }
    }
    let lost: Vec<_> = at.keys().filter(|n| !seen.contains(n)).take(5).collect();
    assert!(lost.is_empty(), "not in the sink's file: {lost:?}");
    sink.len() - seen.len()
}

#[test]
fn a_connect_worker_loses_no_line_from_file_to_file_under_kill_9() {
    if !installed() {
        return skipped("Kafka Connect", MISSING);
    }
    let cluster = Cluster::prepare("examples/quickstart");
    topic(&cluster, TOPIC, 3);
    cluster.start();
    let bootstrap = cluster.bootstrap();
    let (from, to) = (
        cluster.scratch().join("from.txt"),
        cluster.scratch().join("to.txt"),
    );
    std::fs::write(&from, "").unwrap();
    let mut worker = Worker::start(&cluster);
    worker.configure(
        "source",
        &json!({"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1",
            "file": from, "topic": TOPIC, "exactly.once.support": "required"}),
    );
    worker.configure(
        "sink",
        &json!({"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1",
            "file": to, "topics": TOPIC, "consumer.override.isolation.level": "read_committed",
            "consumer.override.auto.offset.reset": "earliest"}),
    );
    let mut command = script("frameworks/python/flow.py").unwrap();
    command
        .arg("write")
        .arg(&from)
        .args(["line", &rate(RATE).to_string()]);
    let writer = Program::start(&cluster, "writer", command);
    await_true("lines arrive in the sink's file", || {
        worker.program.assert_runs();
        std::fs::metadata(&to).is_ok_and(|file| file.len() > 0)
    });
    let roles = [
        Role::Leader(TOPIC.to_owned(), 0),
        Role::Group(GROUP.to_owned()),
        Role::Leader("connect-offsets".to_owned(), 0),
        Role::Group("connect-sink".to_owned()),
    ];
    let died = run_with_kills(&cluster, &roles, || worker.program.assert_runs());
    let lines: u64 = writer.finish().trim().parse().unwrap();
    let patience = PATIENCE + Duration::from_secs(seconds());
    await_some_within(patience, "every line is in the sink's file", || {
        worker.program.assert_runs();
        let [read, written] =
            [&from, &to].map(|file| std::fs::metadata(file).map_or(0, |m| m.len()));
        (written >= read).then_some(())?;
        let distinct: BTreeSet<String> = lines_of(&to).into_iter().collect();
        (distinct.len() as u64 >= lines).then_some(())
    });
    assert_eq!(worker.all_run(), Ok(()));
    worker.program.terminate();
    await_stable(&bootstrap, TOPIC);
    let at = assert_exactly_once_in_topic(&bootstrap, lines);
    let again = assert_at_least_once_in_order(&lines_of(&to), &at);
    report(&format!(
        "Kafka Connect: {lines} lines from file to file, each once in the topic, {again} again in the sink, over {}",
        summary(&died)
    ));
}
