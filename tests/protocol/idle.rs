//! Do idle fetches of real clients end without a protocol error?

use std::process::Command;

use tests::client_programs::Client;
use tests::cluster::Cluster;

#[test]
fn kcat_reads_to_the_end_of_a_partly_empty_topic_and_exits_without_a_protocol_error() {
    let cluster = Cluster::up("examples/quickstart");
    let produced = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "idle", 0, 3)
        .unwrap();
    assert!(
        produced.status.success(),
        "{}",
        String::from_utf8_lossy(&produced.stderr)
    );
    // Three records leave most of the six partitions empty; `-e` ends only when each one reported its end.
    let output = Command::new("timeout")
        .args([
            "30",
            "kcat",
            "-C",
            "-e",
            "-b",
            &cluster.bootstrap(),
            "-t",
            "orders",
            "-o",
            "beginning",
            "-d",
            "protocol",
        ])
        .output()
        .expect("kcat runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
    for bad in ["PROTOERR", "PROTOUFLOW", "Bad message", "Local: Bad"] {
        assert!(!log.contains(bad), "kcat says {bad}: {log}");
    }
}
