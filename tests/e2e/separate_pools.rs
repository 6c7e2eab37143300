//! Do brokers apart from their controllers keep their replicas in sync, and may they open enough files?

use tests::cluster::{Cluster, Pod, await_true};
use tests::quorum::view;

/// Pods of the pool `brokers`.
fn brokers(cluster: &Cluster) -> Vec<Pod> {
    let pods = cluster.pods();
    let brokers: Vec<Pod> = pods
        .into_iter()
        .filter(|pod| pod.name.contains("brokers"))
        .collect();
    assert_eq!(brokers.len(), 3);
    brokers
}

/// The soft and the hard limit of open files of a process.
fn open_files(pid: u32) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut words = line.split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn controllers_that_lead_nothing_take_replicas_out_of_the_isr_and_back_in() {
    let cluster = Cluster::up("examples/split-pools");
    let all = brokers(&cluster);
    for pod in &all {
        let (soft, hard) = open_files(pod.pid.unwrap());
        assert_eq!(
            soft, hard,
            "{}: the soft limit was raised to the hard one",
            pod.name
        );
    }
    let under_replicated = |asked: &Pod| view(&cluster, asked).map(|view| view.under_replicated);
    let (frozen, others) = all.split_first().unwrap();
    cluster.signal(&frozen.name, "STOP");
    await_true("the frozen broker is out of the ISR", || {
        others
            .iter()
            .all(|pod| under_replicated(pod).is_some_and(|count| count > 0))
    });
    cluster.signal(&frozen.name, "CONT");
    await_true("the ISR has grown to all replicas again", || {
        all.iter().all(|pod| under_replicated(pod) == Some(0))
    });
}
