//! Do Apache Kafka's own tools read what we write?

use tests::client_programs::{Client, java_class};
use tests::cluster::Cluster;
use tests::{disk, skipped};

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
    let log_dir = disk::log_dirs(&cluster.data_dir()).remove(0);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&log_dir).unwrap() {
        let folder = entry.unwrap().path();
        if folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("orders-")
        {
            for file in std::fs::read_dir(&folder).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|extension| {
                    ["log", "index", "timeindex", "snapshot"]
                        .iter()
                        .any(|e| extension == *e)
                }) {
                    files.push(file.to_string_lossy().into_owned());
                }
            }
        }
    }
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
