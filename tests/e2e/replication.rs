//! Do three disks hold the same batches?

use tests::client_programs::Client;
use tests::cluster::{Cluster, await_true};
use tests::disk;

/// Waits until every replica of every partition of `topic` has the same batches; the number of batches.
pub(crate) fn assert_logs_equal(cluster: &Cluster, topic: &str) -> usize {
    let dirs = disk::log_dirs(&cluster.data_dir());
    assert_eq!(
        dirs.len(),
        3,
        "three brokers, three log directories: {dirs:?}"
    );
    let mut batches = 0;
    await_true("the three logs are equal", || {
        let logs: Vec<_> = dirs
            .iter()
            .map(|dir| disk::partitions(dir, topic))
            .collect();
        batches = logs[0].values().map(Vec::len).sum();
        !logs[0].is_empty() && logs.iter().all(|log| *log == logs[0])
    });
    batches
}

#[test]
fn three_disks_hold_the_same_batches() {
    let cluster = Cluster::up("examples/quickstart");
    let output = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "replicated", 0, 20_000)
        .expect("kcat runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(assert_logs_equal(&cluster, "orders") > 0);
}

#[test]
fn one_broker_of_three_accepts_no_record_when_two_must_have_it() {
    let cluster = Cluster::up("examples/quickstart");
    // Frozen, not killed: a killed pod would be restarted at once.
    cluster.signal("shop-main-1", "STOP");
    cluster.signal("shop-main-2", "STOP");
    let pod = cluster.pod("shop-main-0");
    let output = std::process::Command::new("kcat")
        .args([
            "-P",
            "-b",
            &format!("{}:9092", pod.ip),
            "-t",
            "orders",
            "-p",
            "0",
            "-X",
            "acks=all",
        ])
        .args([
            "-X",
            "message.timeout.ms=8000",
            "-X",
            "enable.idempotence=false",
            "-X",
            "retries=0",
        ])
        .stdin(std::fs::File::open(tests::root().join("LICENSE")).unwrap())
        .output()
        .expect("kcat runs");
    cluster.signal("shop-main-1", "CONT");
    cluster.signal("shop-main-2", "CONT");
    assert!(
        !output.status.success(),
        "records were accepted by one broker of three"
    );
    cluster.await_ready();
}
