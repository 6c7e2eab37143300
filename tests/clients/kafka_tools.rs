//! Do Apache Kafka's own tools read what we write, and get from us what they ask for?

use std::path::{Path, PathBuf};

use tests::client_programs::{Client, java_class};
use tests::cluster::{Cluster, await_true};
use tests::raw::Raw;
use tests::{disk, skipped};
use wire::messages::CreateTopicsRequest;
use wire::messages::create_topics_request::CreatableTopic;

/// The segments, indexes and producer snapshots of a topic in a log directory.
fn files_of(topic: &str, log_dir: &Path) -> Vec<String> {
    let paths = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path())
    };
    let is_of_topic = |folder: &PathBuf| {
        let name = folder.file_name().unwrap().to_string_lossy();
        name.starts_with(&format!("{topic}-"))
    };
    let is_dumped = |file: &PathBuf| {
        let mut extensions = ["log", "index", "timeindex", "snapshot"].iter();
        file.extension()
            .is_some_and(|extension| extensions.any(|one| extension == *one))
    };
    paths(log_dir)
        .filter(is_of_topic)
        .flat_map(|folder| paths(&folder))
        .filter(is_dumped)
        .map(|file| file.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn kafka_dump_log_reads_our_segments_indexes_and_offsets() {
    let Some(mut dump) = java_class("org.apache.kafka.tools.DumpLogSegments") else {
        return skipped(
            "kafka-dump-log",
            "Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let cluster = Cluster::up("examples/quickstart");
    let client = Client::Kcat;
    let bootstrap = cluster.bootstrap();
    let produced = client
        .produce(&bootstrap, "orders", "dumped", 0, 1_000)
        .expect("kcat runs");
    assert!(
        produced.status.success(),
        "{}",
        String::from_utf8_lossy(&produced.stderr)
    );
    let consumed = client
        .consume(&bootstrap, "orders", "dump-group", 1_000)
        .expect("kcat runs");
    assert!(
        consumed.status.success(),
        "{}",
        String::from_utf8_lossy(&consumed.stderr)
    );
    cluster.stop();
    let files = files_of("orders", &disk::log_dirs(&cluster.data_dir())[0]);
    assert!(files.len() >= 6, "{files:?}");
    let output = dump
        .args([
            "--deep-iteration",
            "--print-data-log",
            "--files",
            &files.join(","),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let payloads = text
        .lines()
        .filter(|line| line.contains("payload: dumped-"))
        .count();
    assert_eq!(payloads, 1_000, "{text:.2000}");
    for bad in [
        "isvalid: false",
        "Found timestamp mismatch",
        "Non-consecutive offset",
        "Index position",
        "Mismatches in",
    ] {
        assert!(!text.contains(bad), "kafka-dump-log says {bad:?}");
    }
}

/// What one of Apache Kafka's tools prints, which must succeed.
fn tool(cluster: &Cluster, class: &str, args: &[&str]) -> String {
    let mut command = java_class(&format!("org.apache.kafka.tools.{class}")).expect("asked before");
    let output = command
        .args(["--bootstrap-server", &cluster.bootstrap()])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{class}: {text}\n{error}");
    text
}

/// kill -9 of all brokers at once, and the wait until others are ready.
fn kill_all(cluster: &Cluster) {
    let before: Vec<u32> = cluster.pods().iter().filter_map(|pod| pod.pid).collect();
    for pod in cluster.pods() {
        cluster.signal(&pod.name, "KILL");
    }
    await_true("every broker is another process", || {
        let now = cluster.pods();
        now.len() == before.len()
            && (now.iter()).all(|pod| pod.pid.is_some_and(|pid| !before.contains(&pid)))
    });
    cluster.await_ready();
}

#[test]
fn records_that_kafka_delete_records_deleted_are_gone_on_all_brokers_and_after_all_were_killed() {
    if java_class("").is_none() {
        return skipped(
            "kafka-delete-records",
            "Apache Kafka's jars: run tests/platform/setup",
        );
    }
    let cluster = Cluster::up("examples/quickstart");
    let new = ["--create", "--topic", "short", "--partitions", "1"];
    let create = [&new[..], &["--replication-factor", "3"]].concat();
    tool(&cluster, "TopicCommand", &create);
    let described = tool(
        &cluster,
        "TopicCommand",
        &["--describe", "--topic", "short"],
    );
    assert!(described.contains("ReplicationFactor: 3"), "{described}");
    let produced = Client::Kcat.produce(&cluster.bootstrap(), "short", "record", 0, 100);
    assert!(produced.expect("kcat runs").status.success());

    let quorum = tool(
        &cluster,
        "MetadataQuorumCommand",
        &["describe", "--replication"],
    );
    assert_eq!(quorum.matches("Leader").count(), 1, "{quorum}");
    assert_eq!(quorum.matches("Follower").count(), 2, "{quorum}");

    let file = cluster.scratch().join("delete.json");
    let wanted = r#"{"version":1,"partitions":[{"topic":"short","partition":0,"offset":60}]}"#;
    std::fs::write(&file, wanted).unwrap();
    let file = file.to_string_lossy().into_owned();
    let deleted = tool(
        &cluster,
        "DeleteRecordsCommand",
        &["--offset-json-file", &file],
    );
    assert!(deleted.contains("low_watermark: 60"), "{deleted}");
    let sizes = tool(
        &cluster,
        "LogDirsCommand",
        &["--describe", "--topic-list", "short"],
    );
    assert_eq!(sizes.matches("\"short-0\"").count(), 3, "{sizes}");

    // Whoever leads afterwards has written it down.
    for dir in disk::log_dirs(&cluster.data_dir()) {
        let file = dir.join("log-start-offset-checkpoint");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        assert!(text.contains("short 0 60"), "{text}");
    }
    kill_all(&cluster);
    let consumed = Client::Kcat.consume(&cluster.bootstrap(), "short", "left", 40);
    let output = consumed.expect("kcat runs");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let want: Vec<String> = (60..100).map(|n| format!("record-{n}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), want);
}

/// What `kafka-features describe` says of a feature: its finalized level.
fn finalized(cluster: &Cluster, feature: &str) -> String {
    let described = tool(cluster, "FeatureCommand", &["describe"]);
    let mut lines = described.lines();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let line = lines.find_map(|line| {
        let words = words(line);
        (words.get(1).map(String::as_str) == Some(feature)).then_some(words)
    });
    let level = line.and_then(|words| {
        let at = words
            .iter()
            .position(|word| word == "FinalizedVersionLevel:")?;
        words.get(at + 1).cloned()
    });
    assert!(level.is_some(), "{feature} in {described}");
    level.unwrap_or_default()
}

#[test]
fn kafka_features_describes_lowers_and_raises_a_feature() {
    if java_class("org.apache.kafka.tools.FeatureCommand").is_none() {
        return skipped("kafka-features", "java, or Apache Kafka's jars");
    }
    let cluster = Cluster::up("examples/quickstart");
    assert_eq!(finalized(&cluster, "group.version"), "1");
    assert_eq!(finalized(&cluster, "transaction.version"), "2");
    let lower = ["downgrade", "--feature", "group.version=0"];
    tool(&cluster, "FeatureCommand", &lower);
    assert_eq!(finalized(&cluster, "group.version"), "0");
    // It stays away when another controller takes over.
    kill_all(&cluster);
    assert_eq!(finalized(&cluster, "transaction.version"), "2");
    assert_eq!(finalized(&cluster, "group.version"), "0");
    let higher = ["upgrade", "--feature", "group.version=1"];
    tool(&cluster, "FeatureCommand", &higher);
    assert_eq!(finalized(&cluster, "group.version"), "1");
}

/// What `kafka-reassign-partitions` says when it is run with the file and `more`; `None` without Apache Kafka's jars.
fn reassign(cluster: &Cluster, file: &Path, more: &[&str]) -> Option<(bool, String)> {
    let mut tool = java_class("org.apache.kafka.tools.reassign.ReassignPartitionsCommand")?;
    let output = tool
        .args(["--bootstrap-server", &cluster.bootstrap()])
        .arg("--reassignment-json-file")
        .arg(file)
        .args(more)
        .output()
        .expect("java runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some((output.status.success(), text))
}

#[test]
fn kafka_reassign_partitions_executes_verifies_and_has_nothing_to_cancel() {
    let cluster = Cluster::prepare("examples/quickstart");
    // The operator keeps the replication factor of the topics it knows.
    std::fs::remove_file(cluster.manifests().join("orders.yaml")).unwrap();
    cluster.start();
    let bootstrap = cluster.bootstrap();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "moved".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let address = bootstrap.split(',').next().unwrap();
    let created = Raw::connect(address).call(7, &request);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    let produced = Client::Kcat
        .produce(&bootstrap, "moved", "moved", 0, 100)
        .expect("kcat runs");
    assert!(produced.status.success(), "{produced:?}");
    let file = cluster.scratch().join("moves.json");
    let moves = r#"{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[2,1]}]}"#;
    std::fs::write(&file, moves).unwrap();
    let Some((done, text)) = reassign(&cluster, &file, &["--execute"]) else {
        return skipped(
            "kafka-reassign-partitions",
            "Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let started = "Successfully started partition reassignment for moved-0";
    assert!(done && text.contains(started), "{text}");
    await_true("the tool finds the move complete", || {
        let verified = reassign(&cluster, &file, &["--verify"]);
        verified.is_some_and(|(done, text)| {
            done && text.contains("Reassignment of partition moved-0 is completed.")
        })
    });
    let (done, text) = reassign(&cluster, &file, &["--cancel"]).unwrap();
    assert!(
        done && text.contains("None of the specified partition reassignments are active."),
        "{text}"
    );
    let consumed = Client::Kcat
        .consume(&bootstrap, "moved", "after-the-move", 100)
        .expect("kcat runs");
    assert!(consumed.status.success(), "{consumed:?}");
}
