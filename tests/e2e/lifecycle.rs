//! Does `tidemark up` start, report, refuse and stop as its documentation says?

use std::collections::BTreeSet;

use tests::client_programs::Client;
use tests::cluster::{Cluster, await_true};
use tests::disk;

#[test]
fn the_quickstart_runs_three_processes_with_three_data_directories_and_keeps_its_data() {
    let cluster = Cluster::up("examples/quickstart");
    let pods = cluster.pods();
    assert_eq!(pods.len(), 3, "{pods:?}");
    assert_eq!(
        pods.iter()
            .filter_map(|pod| pod.pid)
            .collect::<BTreeSet<_>>()
            .len(),
        3,
        "{pods:?}"
    );
    assert_eq!(
        pods.iter()
            .map(|pod| pod.ip.clone())
            .collect::<BTreeSet<_>>()
            .len(),
        3,
        "{pods:?}"
    );
    assert_eq!(disk::log_dirs(&cluster.data_dir()).len(), 3);
    let client = Client::Kcat;
    let produced = client
        .produce(&cluster.bootstrap(), "orders", "kept", 0, 100)
        .expect("kcat runs");
    assert!(produced.status.success());
    cluster.stop();
    for pod in &pods {
        let pid = pod.pid.expect("it ran");
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}/environ")).exists() || is_zombie(pid),
            "{} still runs",
            pod.name
        );
    }
    cluster.start();
    let consumed = client
        .consume(&cluster.bootstrap(), "orders", "after", 100)
        .expect("kcat runs");
    assert_eq!(
        String::from_utf8_lossy(&consumed.stdout).lines().count(),
        100
    );
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_second_up_on_one_data_directory_is_refused_with_the_pid_of_the_first() {
    let cluster = Cluster::up("examples/single-node");
    let output = cluster.try_start();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let pid = cluster.status().expect("a status")["pid"].to_string();
    assert!(
        text.contains("is held by the running `tidemark up`") && text.contains(&pid),
        "{text}"
    );
}

#[test]
fn brokers_of_a_killed_up_end_by_themselves_and_the_next_up_recovers() {
    let cluster = Cluster::up("examples/quickstart");
    let produced = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "kept", 0, 1_000)
        .expect("kcat runs");
    assert!(produced.status.success());
    let pids: Vec<u32> = cluster.pods().iter().filter_map(|pod| pod.pid).collect();
    let up = cluster.status().expect("a status")["pid"].to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-KILL", &up])
            .status()
            .unwrap()
            .success()
    );
    await_true("no broker is left", || {
        pids.iter()
            .all(|&pid| !std::path::Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid))
    });
    cluster.start();
    let consumed = Client::Kcat
        .consume(&cluster.bootstrap(), "orders", "after-kill", 1_000)
        .expect("kcat runs");
    assert_eq!(
        String::from_utf8_lossy(&consumed.stdout).lines().count(),
        1_000
    );
}
