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
    let identities = || -> Vec<String> {
        disk::log_dirs(&cluster.data_dir())
            .iter()
            .map(|dir| std::fs::read_to_string(dir.with_file_name("broker.meta")).unwrap())
            .collect()
    };
    let before = identities();
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
    assert_eq!(identities(), before, "cluster id and node ids");
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

#[test]
fn a_port_that_is_taken_is_named_with_its_address_and_the_cluster_comes_up_when_it_is_free() {
    let cluster = Cluster::prepare("examples/single-node");
    let address = format!("{}:9092", cluster.first_address());
    let taken = std::net::TcpListener::bind(&address).expect("a free address");
    let output = cluster.try_start_with(&["--timeout", "5s"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!(
        "solo-main-0 stopped with exit code 1: tidemark: the broker stopped: failed to listen on {address} (listener internal): Address already in use"
    );
    assert!(text.contains(&expected), "{expected:?} is not in:\n{text}");
    drop(taken);
    cluster.await_ready();
}

#[test]
fn three_brokers_on_one_address_serve_a_client_that_knows_only_that_address() {
    let cluster = Cluster::prepare("examples/quickstart").on_one_address(20_000);
    cluster.start();
    assert_eq!(
        cluster.bootstrap(),
        "127.0.0.1:29092,127.0.0.1:30092,127.0.0.1:31092"
    );
    assert!(cluster.pods().iter().all(|pod| pod.ip == "127.0.0.1"));
    let produced = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "one", 0, 1_000)
        .expect("kcat runs");
    assert!(produced.status.success());
    // The brokers must find each other, too: all replicas are in sync, and the records survive the leader's end.
    let topics = cluster.command(&["topics", "orders", "-o", "json"]);
    let topics: serde_json::Value = serde_json::from_slice(&topics.stdout).unwrap();
    for partition in topics[0]["partitions"].as_array().unwrap() {
        assert_eq!(partition["isr"].as_array().unwrap().len(), 3, "{partition}");
    }
    cluster.signal("shop-main-1", "KILL");
    let consumed = Client::Kcat
        .consume("127.0.0.1:31092", "orders", "one-address", 1_000)
        .expect("kcat runs");
    assert_eq!(
        String::from_utf8_lossy(&consumed.stdout).lines().count(),
        1_000
    );
    cluster.await_ready();
    cluster.stop();
    cluster.start();
    let consumed = Client::Kcat
        .consume(&cluster.bootstrap(), "orders", "after-restart", 1_000)
        .expect("kcat runs");
    assert_eq!(
        String::from_utf8_lossy(&consumed.stdout).lines().count(),
        1_000
    );
}

#[test]
fn ctrl_c_stops_all_brokers_in_order_within_five_seconds() {
    let cluster = Cluster::prepare("examples/quickstart");
    let mut up = cluster.foreground(&[]);
    await_true("it says that all is Ready", || {
        up.output().contains("Ctrl-C stops, data stays")
    });
    let pids: Vec<u32> = cluster.pods().iter().filter_map(|pod| pod.pid).collect();
    assert_eq!(pids.len(), 3);
    let asked = std::time::Instant::now();
    up.signal("INT");
    assert!(up.wait().success(), "{}", up.output());
    let took = asked.elapsed();
    crate::faults::report(&format!("stopped within {:.2} s", took.as_secs_f64()));
    assert!(took.as_secs_f64() < 5.0, "{took:?}");
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} still runs"
        );
    }
    assert!(
        !up.output().contains(" INFO "),
        "the table says it already:\n{}",
        up.output()
    );
    // Controlled shutdown: each broker left the mark of a clean log.
    for dir in disk::log_dirs(&cluster.data_dir()) {
        assert!(
            dir.join(".kafka_cleanshutdown").is_file(),
            "no clean shutdown in {}",
            dir.display()
        );
    }
}
