//! What becomes of a broker whose disk fails?

use tests::cluster::{Cluster, await_some, await_true};
use tests::{disk, skipped};

use crate::faults::{assert_exactly_once_in_order, everything, report, steady};

const ORDERS: &str = "apiVersion: tidemark.dev/v1alpha1
kind: KafkaTopic
metadata: {name: orders, namespace: default}
spec:
  clusterRef: {name: shop}
  partitions: 6
  replicationFactor: 3
  config: {segment.ms: \"500\"}
";

#[test]
fn a_broker_whose_log_directory_fails_is_fenced_exits_and_comes_back_complete() {
    let cluster = Cluster::prepare("examples/quickstart");
    std::fs::write(cluster.manifests().join("orders.yaml"), ORDERS).unwrap();
    cluster.start();
    let Some(load) = steady(&cluster, 5_000, 15) else {
        return skipped(
            "a log directory that fails",
            "the Python clients: run tests/platform/setup",
        );
    };
    await_true("the producer is under way", || load.acked_so_far() > 1_000);
    let broken = cluster.pod("shop-main-1");
    let log = disk::log_dirs(&cluster.data_dir())
        .into_iter()
        .find(|dir| dir.to_string_lossy().contains(&broken.name))
        .expect("it has a log directory")
        .join("orders-0");
    // The open file goes on to take appends; the next segment, half a second later, has nowhere to go.
    std::fs::remove_dir_all(&log).unwrap();
    await_some("another process runs in the pod", || {
        let now = cluster.pod(&broken.name);
        (now.ready && now.pid.is_some() && now.pid != broken.pid).then_some(())
    });
    cluster.await_ready();
    let output = cluster.data_dir().join("logs");
    let output = std::fs::read_dir(output)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut output = output.filter(|path| path.to_string_lossy().contains(&broken.name));
    let text = std::fs::read_to_string(output.next().expect("the pod has a log")).unwrap();
    let said = |what: &[&str]| {
        let mut lines = text.lines();
        assert!(
            lines.any(|line| what.iter().all(|word| line.contains(word))),
            "no line with {what:?} in:\n{text}"
        );
    };
    said(&["the log directory failed", "orders-0"]);
    said(&["fenced by the controller"]);
    let (acked, gap) = load.finish();
    assert_exactly_once_in_order(&acked, &everything(&cluster));
    crate::replication::assert_logs_equal(&cluster, "orders");
    report(&format!(
        "a log directory failed under load: {} acked, none lost, longest gap in acks {gap:.3} s",
        acked.len()
    ));
}
