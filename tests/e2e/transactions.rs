//! Does a transaction count once or not at all, whatever dies meanwhile?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tests::client_programs::{kafka_jars, python};
use tests::cluster::{Cluster, await_true};
use tests::counts::differences;
use tests::{root, skipped};

use crate::faults::{PODS, report};

const MISSING: &str = "a client: run tests/platform/setup";

/// Which client library makes the transactions.
#[derive(Debug, Clone, Copy)]
enum Library {
    /// librdkafka, with the transactions of before KIP-890.
    Librdkafka,
    /// Java kafka-clients 4, with those of KIP-890.
    Java,
}

impl Library {
    fn command(self) -> Option<Command> {
        let folder = root().join("tests/clients");
        match self {
            Self::Librdkafka => {
                let mut command = Command::new(python()?);
                command.arg(folder.join("python/transactions.py"));
                Some(command)
            }
            Self::Java => {
                let jars = kafka_jars()?;
                let mut command = Command::new("java");
                command.arg("-cp").arg(format!("{}/*", jars.display()));
                command.arg(folder.join("java/Transactions.java"));
                Some(command)
            }
        }
    }
}

fn lines(output: &Output) -> Vec<String> {
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(err)
    );
    String::from_utf8_lossy(out)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn look(cluster: &Cluster, what: &str, topic: &str) -> Vec<String> {
    let mut command = Library::Librdkafka.command().expect("it was there before");
    let output = command.args([what, &cluster.bootstrap(), topic]).output();
    lines(&output.expect("python runs"))
}

/// How often each value is read by a reader of committed records.
fn committed(cluster: &Cluster, topic: &str) -> BTreeMap<String, usize> {
    let mut values = BTreeMap::new();
    for value in look(cluster, "committed", topic) {
        *values.entry(value).or_insert(0) += 1;
    }
    values
}

/// Every last stable offset reaches the high watermark, once open transactions have ended.
fn await_stable(cluster: &Cluster, topic: &str) {
    await_true("no last stable offset is stuck", || {
        look(cluster, "ends", topic).iter().all(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            words[1] == words[2]
        })
    });
}

fn manifest(topic: &str) -> String {
    format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {topic}\nspec:\n  \
         clusterRef:\n    name: shop\n  partitions: 3\n  replicationFactor: 3\n"
    )
}

fn cluster_with(topics: &[&str]) -> Cluster {
    let cluster = Cluster::prepare("examples/quickstart");
    for topic in topics {
        std::fs::write(
            cluster.manifests().join(format!("{topic}.yaml")),
            manifest(topic),
        )
        .unwrap();
    }
    cluster.start();
    cluster
}

#[test]
fn readers_of_committed_records_get_committed_transactions_and_nothing_else() {
    let cluster = cluster_with(&["librdkafka", "java"]);
    for (library, topic) in [(Library::Librdkafka, "librdkafka"), (Library::Java, "java")] {
        let Some(mut command) = library.command() else {
            skipped(&format!("{library:?} transactions"), MISSING);
            continue;
        };
        let output = command
            .args(["produce", &cluster.bootstrap(), topic, topic, "30"])
            .output();
        lines(&output.expect("the client runs"));
        let read = committed(&cluster, topic);
        let want: BTreeMap<String, usize> = (0..30)
            .filter(|number| number % 3 != 2)
            .flat_map(|number| (0..10).map(move |n| (format!("committed-{number}-{n}"), 1)))
            .collect();
        assert_eq!(read, want, "{library:?}");
        await_stable(&cluster, topic);
    }
}

struct Copying {
    child: Child,
    progress: PathBuf,
}

impl Copying {
    fn start(cluster: &Cluster, library: Library, target: &str, count: u32) -> Option<Self> {
        let progress = cluster.scratch().join(format!("progress-{target}"));
        let child = library
            .command()?
            .args([
                "copy",
                &cluster.bootstrap(),
                "orders",
                target,
                target,
                &count.to_string(),
            ])
            .arg(&progress)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client runs");
        Some(Self { child, progress })
    }

    fn done(&self) -> u32 {
        let text = std::fs::read_to_string(&self.progress).unwrap_or_default();
        text.lines()
            .last()
            .and_then(|line| line.parse().ok())
            .unwrap_or(0)
    }
}

/// Copies `orders` to `target` while each broker in turn is killed.
fn copy_under_kills(cluster: &Cluster, library: Library, target: &str, count: u32) {
    let Some(mut copying) = Copying::start(cluster, library, target, count) else {
        return skipped(&format!("{library:?} copies under kill -9"), MISSING);
    };
    await_true("the copier is under way", || copying.done() > 0);
    let mut kills = 0;
    for pod in PODS {
        if copying.done() >= count {
            break;
        }
        cluster.kill(&cluster.pod(pod));
        kills += 1;
        let done = copying.done();
        await_true("transactions are committed again", || {
            copying.done() > done
                || copying.done() >= count
                || copying.child.try_wait().is_ok_and(|end| end.is_some())
        });
    }
    assert!(
        kills > 0,
        "{library:?}: the copier was done before any broker was killed: give it more than {count} records"
    );
    let output = copying.child.wait_with_output().expect("the copier ends");
    let aborted = String::from_utf8_lossy(&output.stderr)
        .matches("aborting")
        .count();
    lines(&output);
    let read = committed(cluster, target);
    let want: BTreeMap<String, usize> = (0..count).map(|n| (format!("in-{n}"), 1)).collect();
    let wrong = differences(&want, &read);
    assert!(wrong.is_empty(), "{library:?}: not exactly once: {wrong:?}");
    await_stable(cluster, target);
    report(&format!(
        "{library:?}: {count} records copied exactly once over {kills} kills, {aborted} transactions aborted by the copier"
    ));
}

#[test]
fn a_copier_under_kill_9_copies_every_record_exactly_once() {
    let cluster = cluster_with(&["copied-by-librdkafka", "copied-by-java"]);
    let client = tests::client_programs::Client::Confluent;
    let count = 60_000;
    match client.produce(&cluster.bootstrap(), "orders", "in", 0, count) {
        Ok(output) => lines(&output),
        Err(missing) => return skipped("copies under kill -9", &missing),
    };
    copy_under_kills(&cluster, Library::Librdkafka, "copied-by-librdkafka", count);
    copy_under_kills(&cluster, Library::Java, "copied-by-java", count);
}
