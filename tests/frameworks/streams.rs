//! Does Kafka Streams count exactly once while brokers die?

use std::collections::BTreeMap;
use std::time::Duration;

use tests::cluster::{Cluster, await_some_within};
use tests::coordination::{Role, committed};
use tests::counts::differences;
use tests::skipped;

use crate::load::{
    Feed, PATIENCE, await_stable, await_true, dump, rate, report, run_with_kills, seconds, summary,
    text, topic,
};
use crate::programs::{MISSING, Program, installed, java_source};

const INPUT: &str = "orders";
const INPUT_PARTITIONS: i32 = 6;
const OUTPUT: &str = "counts";
const APPLICATION: &str = "word-count";
/// Records a second, three words each.
const RATE: u64 = 500;

/// The counts that stand at the end, each word's never going back or being repeated on the way.
#[track_caller]
fn last_counts(bootstrap: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in dump(bootstrap, OUTPUT) {
        let count: u64 = record.value.parse().unwrap();
        let before = counts.insert(record.key.clone(), count).unwrap_or(0);
        assert!(
            before < count,
            "{}: {count} after {before} at {}-{}",
            record.key,
            record.partition,
            record.offset
        );
    }
    counts
}

fn counts_of(lines: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for n in 0..lines {
        for word in text("line", n).split(' ') {
            *counts.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn a_streams_word_count_with_exactly_once_v2_counts_every_word_once_under_kill_9() {
    if !installed() {
        return skipped("Kafka Streams", MISSING);
    }
    let cluster = Cluster::prepare("examples/quickstart");
    topic(&cluster, OUTPUT, 3);
    cluster.start();
    let bootstrap = cluster.bootstrap();
    let mut command = java_source(&cluster, "streams", "WordCount.java").unwrap();
    command
        .args([&bootstrap, APPLICATION])
        .arg(cluster.scratch().join("state"))
        .args([INPUT, OUTPUT]);
    let mut app = Program::start(&cluster, "streams", command);
    await_true("the application runs", || {
        app.assert_runs();
        app.output().contains("state RUNNING")
    });
    let feed = Feed::start(&cluster, &bootstrap, INPUT, "line", rate(RATE));
    await_true("the application commits", || {
        committed(&cluster, APPLICATION, INPUT, INPUT_PARTITIONS).is_some_and(|sum| sum > 0)
    });
    let roles = [
        Role::Leader(format!("{APPLICATION}-counts-repartition"), 0),
        Role::Group(APPLICATION.to_owned()),
        Role::Leader(OUTPUT.to_owned(), 0),
        Role::Leader(format!("{APPLICATION}-counts-changelog"), 0),
    ];
    let died = run_with_kills(&cluster, &roles, || app.assert_runs());
    let lines = feed.finish();
    let patience = PATIENCE + Duration::from_secs(seconds());
    await_some_within(patience, "all input is counted", || {
        app.assert_runs();
        let sum = committed(&cluster, APPLICATION, INPUT, INPUT_PARTITIONS)?;
        (sum == i64::try_from(lines).unwrap()).then_some(())
    });
    let want = counts_of(lines);
    // What was committed last is still on its way through the repartition topic.
    await_true("every word's count has arrived", || {
        last_counts(&bootstrap).len() >= want.len()
    });
    app.finish();
    await_stable(&bootstrap, OUTPUT);
    let got = last_counts(&bootstrap);
    let wrong = differences(&want, &got);
    assert!(wrong.is_empty(), "(word, in the input, counted): {wrong:?}");
    report(&format!(
        "Kafka Streams: {lines} lines, {} words counted exactly once over {}",
        got.values().sum::<u64>(),
        summary(&died)
    ));
}
