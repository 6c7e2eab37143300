//! Does every client of the README's table produce idempotently, consume in a group, hand partitions over when a member
//! comes or goes, and make transactions that count once or not at all?

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tests::client_programs::Client;
use tests::cluster::{Cluster, PATIENCE, await_some, await_true};
use tests::raw::Raw;
use tests::{disk, skipped};
use types::BatchHeader;
use wire::messages::OffsetFetchRequest;

use crate::members::{Load, Members};

const TOPIC: &str = "orders";
const PARTITIONS: usize = 6;
const RECORDS: u32 = 10_000;
const MORE: u32 = 500;
/// Of ten records each; all but every third are committed.
const TRANSACTIONS: u32 = 30;
const SOURCE: &str = "source";
/// It tells of a rebalance and does not wait for what is done then: what was not committed yet is processed again.
const NOT_ASKED_BEFORE_REVOKING: Client = Client::Platformatic;

/// One line a client: the module of its tests, and its name in the README.
macro_rules! matrix {
    ($($module:ident: $client:ident, $title:literal;)*) => {
        const ROWS: &[(&str, &str)] = &[$((stringify!($module), $title)),*];
        $(mod $module {
            use super::{Client, unless_missing};

            #[test]
            fn produces_idempotently() {
                unless_missing(Client::$client, super::produces_idempotently);
            }

            #[test]
            fn consumes_in_a_group() {
                unless_missing(Client::$client, super::consumes_in_a_group);
            }

            #[test]
            fn rebalances_on_join_and_leave() {
                unless_missing(Client::$client, super::rebalances_on_join_and_leave);
            }

            #[test]
            fn makes_transactions() {
                unless_missing(Client::$client, super::makes_transactions);
            }
        })*
    };
}

matrix! {
    java: Java, "Java kafka-clients 4.3.1";
    librdkafka_2_0: Librdkafka20, "librdkafka 2.0.2";
    librdkafka_2_16: Confluent, "librdkafka 2.16";
    kafka_python: KafkaPython, "kafka-python 3.0";
    aiokafka: Aiokafka, "aiokafka 0.14";
    franz_go: FranzGo, "franz-go 1.22";
    sarama: Sarama, "sarama 1.61";
    kafkajs: KafkaJs, "KafkaJS 2.2.4";
    platformatic: Platformatic, "@platformatic/kafka 2.12";
}

const COLUMNS: &[&str] = &[
    "produces_idempotently",
    "consumes_in_a_group",
    "rebalances_on_join_and_leave",
    "makes_transactions",
];

#[test]
fn the_readme_has_a_row_for_each_client_and_a_column_for_each_test() {
    let readme = std::fs::read_to_string(tests::root().join("README.md")).unwrap();
    let head: Vec<_> = COLUMNS.iter().map(|name| format!("`{name}`")).collect();
    let head = format!("| client | `matrix::` | {} |", head.join(" | "));
    assert!(readme.contains(&head), "README.md has no line {head}");
    for (module, title) in ROWS {
        let start = format!("| {title} | `{module}` |");
        assert!(readme.contains(&start), "README.md has no line {start}");
    }
}

fn unless_missing(client: Client, test: fn(Client) -> Result<(), String>) {
    if let Err(missing) = test(client) {
        skipped(&format!("{client:?} in the matrix"), &missing);
    }
}

/// The quickstart with groups that form at once, and few partitions of the topics that coordinators keep.
fn cluster() -> Cluster {
    let cluster = Cluster::prepare("examples/quickstart");
    cluster.configure(&[
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
    ]);
    let source = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {SOURCE}\nspec:\n  \
         clusterRef:\n    name: shop\n  partitions: 1\n  replicationFactor: 3\n"
    );
    std::fs::write(cluster.manifests().join("source.yaml"), source).unwrap();
    cluster.start();
    cluster
}

/// A client's program; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has already ended, which is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a client's program to its end, which must be a good one; the lines that it printed.
fn run(cluster: &Cluster, mut command: Command, args: &[&str]) -> Vec<String> {
    let file = |name: &str| cluster.scratch().join(name);
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let child = command
        .arg(cluster.bootstrap())
        .args(args)
        .stdout(File::create(file("out")).unwrap())
        .stderr(File::create(file("err")).unwrap())
        .spawn()
        .expect("the client runs");
    let mut running = Running(child);
    let deadline = Instant::now() + PATIENCE - Duration::from_secs(1);
    let status = await_some("the client has ended", || {
        let late = Instant::now() > deadline;
        assert!(!late, "{args:?} does not end: {}", read("err"));
        running.0.try_wait().unwrap()
    });
    assert!(status.success(), "{args:?}: {status}: {}", read("err"));
    read("out").lines().map(str::to_owned).collect()
}

fn produce(cluster: &Cluster, client: Client, first: u32, count: u32) -> Result<(), String> {
    let range = [first.to_string(), count.to_string()];
    let command = client.command("produce")?;
    run(cluster, command, &[TOPIC, "value", &range[0], &range[1]]);
    Ok(())
}

fn values(first: u32, count: u32) -> Vec<String> {
    (first..first + count)
        .map(|n| format!("value-{n}"))
        .collect()
}

/// Consumes as a member of a group; what it got must be `want`, in any order.
fn consume(
    cluster: &Cluster,
    client: Client,
    group: &str,
    mut want: Vec<String>,
) -> Result<(), String> {
    let count = want.len().to_string();
    let mut got = run(cluster, client.command("consume")?, &[TOPIC, group, &count]);
    got.sort();
    want.sort();
    let first = got.iter().zip(&want).find(|(got, want)| got != want);
    assert!(
        got == want,
        "{client:?}: {} of {count}, {first:?}",
        got.len()
    );
    Ok(())
}

/// The offset that a group committed for each partition of a topic, once no transaction is about to change it.
fn committed(cluster: &Cluster, group: &str, topic: &str) -> Option<BTreeMap<i32, i64>> {
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: None,
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let bootstrap = cluster.bootstrap();
    let answers = bootstrap
        .split(',')
        .map(|broker| Raw::connect(broker).call(7, &request));
    let answer = answers.into_iter().find(|answer| answer.error_code == 0)?;
    let partitions = answer
        .topics
        .into_iter()
        .find(|one| one.name == topic)?
        .partitions;
    partitions
        .into_iter()
        .map(|one| (one.error_code == 0).then_some((one.partition_index, one.committed_offset)))
        .collect()
}

/// The batches of a topic on each broker's disk, by partition.
fn batches(cluster: &Cluster, topic: &str) -> Vec<Vec<Vec<BatchHeader>>> {
    let dirs = disk::log_dirs(&cluster.data_dir());
    dirs.iter()
        .map(|dir| disk::batch_headers(dir, topic).into_values().collect())
        .collect()
}

fn produces_idempotently(client: Client) -> Result<(), String> {
    let cluster = cluster();
    produce(&cluster, client, 0, RECORDS)?;
    cluster.stop();
    for broker in batches(&cluster, TOPIC) {
        assert_eq!(broker.len(), PARTITIONS);
        let mut records = 0;
        for partition in broker {
            let mut next = BTreeMap::new();
            for batch in partition {
                assert!(batch.producer_id >= 0, "not idempotent: {batch:?}");
                let next = next
                    .entry((batch.producer_id, batch.producer_epoch))
                    .or_insert(0);
                assert_eq!(batch.base_sequence, *next, "{batch:?}");
                *next += batch.record_count;
                records += batch.record_count;
            }
        }
        assert_eq!(records, RECORDS.cast_signed());
    }
    Ok(())
}

fn consumes_in_a_group(client: Client) -> Result<(), String> {
    let cluster = cluster();
    produce(&cluster, client, 0, RECORDS)?;
    consume(&cluster, client, "readers", values(0, RECORDS))?;
    let sum = || committed(&cluster, "readers", TOPIC).map(|offsets| offsets.values().sum::<i64>());
    assert_eq!(sum(), Some(i64::from(RECORDS)), "{client:?} committed");
    // Another member goes on where that one committed.
    produce(&cluster, client, RECORDS, MORE)?;
    consume(&cluster, client, "readers", values(RECORDS, MORE))?;
    assert_eq!(
        sum(),
        Some(i64::from(RECORDS + MORE)),
        "{client:?} committed"
    );
    Ok(())
}

fn rebalances_on_join_and_leave(client: Client) -> Result<(), String> {
    let cluster = cluster();
    let load = Load::start(&cluster.bootstrap(), TOPIC)?;
    let mut members = Members::new(&cluster, client, TOPIC);
    members.join("first")?;
    members.until("one member has all partitions", |view| {
        view.owned("first") == PARTITIONS && view.records("first").len() == PARTITIONS
    });
    members.join("second")?;
    members.until("two members share", |view| {
        let owned = [view.owned("first"), view.owned("second")];
        owned.iter().all(|count| *count > 0) && owned.iter().sum::<usize>() == PARTITIONS
    });
    goes_on(&mut members, "first", 1);
    goes_on(&mut members, "second", 1);
    members.leave("second");
    members.until("one member has all partitions again", |view| {
        view.owned("first") == PARTITIONS
    });
    goes_on(&mut members, "first", PARTITIONS);
    let produced = load.stop();
    members.until("every record is processed", |view| {
        view.processed().len() == produced
    });
    members.leave("first");
    let view = members.view();
    assert_eq!(view.faults(), [""; 0], "{client:?}");
    let twice = view
        .processed()
        .values()
        .filter(|count| **count > 1)
        .count();
    if client != NOT_ASKED_BEFORE_REVOKING {
        assert_eq!(twice, 0, "{client:?} processed records twice");
    }
    Ok(())
}

/// Waits until a member has processed more records of so many partitions.
fn goes_on(members: &mut Members<'_>, name: &str, partitions: usize) {
    let before = members.view().records(name);
    members.until("it goes on", |view| {
        let now = view.records(name);
        let more = now
            .iter()
            .filter(|(partition, count)| before.get(partition) < Some(count));
        more.count() >= partitions
    });
}

fn makes_transactions(client: Client) -> Result<(), String> {
    let cluster = cluster();
    let count = 10 * TRANSACTIONS;
    let filled = Client::Kcat.produce(&cluster.bootstrap(), SOURCE, "in", 0, count)?;
    assert!(filled.status.success(), "{filled:?}");
    let transactions = TRANSACTIONS.to_string();
    let command = client.command("transact")?;
    run(
        &cluster,
        command,
        &[SOURCE, TOPIC, "transactions", &transactions],
    );
    let want: Vec<String> = (0..TRANSACTIONS)
        .filter(|number| number % 3 != 1)
        .flat_map(|number| (0..10).map(move |n| format!("committed-{number}-{n}")))
        .collect();
    let offset = i64::from(10 * (TRANSACTIONS - TRANSACTIONS / 3));
    await_true(
        "the offsets of committed transactions are committed",
        || committed(&cluster, "transactions", SOURCE) == Some(BTreeMap::from([(0, offset)])),
    );
    // Of several aborted transactions of a producer in one fetch, @platformatic/kafka 2.12 leaves out the last only.
    let reader = match client {
        Client::Platformatic => Client::Confluent,
        other => other,
    };
    consume(&cluster, reader, "readers", want)?;
    cluster.stop();
    for broker in batches(&cluster, TOPIC) {
        let all: Vec<_> = broker.concat();
        assert!(all.iter().all(BatchHeader::is_transactional));
        let records = all.iter().filter(|batch| !batch.is_control());
        // Those of aborted transactions were there to be read.
        assert_eq!(
            records.map(|batch| batch.record_count).sum::<i32>(),
            count.cast_signed()
        );
    }
    Ok(())
}
