//! Containers that die, hang or lose their parent.

use std::process::Stdio;
use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;

use crate::node::fixture::*;

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

#[tokio::test]
async fn a_killed_container_is_restarted_at_once_and_its_end_is_recorded() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    stack
        .pods()
        .create(&post(), &shell_pod("p", SLEEP, json!({})))
        .await
        .expect("pod");
    let before = ready_pod(&stack.pods(), "p").await;
    kill(pid(&before));
    let after = eventually("the container runs again", || async {
        stack
            .pods()
            .get("p")
            .await
            .ok()
            .filter(|p| is_ready(p) && restarts(p) == 1)
    })
    .await;
    assert_ne!(pid(&after), pid(&before));
    let last = after
        .status
        .and_then(|s| s.container_statuses?[0].last_state.clone()?.terminated)
        .expect("last state");
    assert_eq!((last.exit_code, last.signal), (137, Some(9)));
    stack.stop().await;
}

#[tokio::test]
async fn a_container_that_fails_again_and_again_backs_off() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    stack
        .pods()
        .create(&post(), &shell_pod("p", "exit 3", json!({})))
        .await
        .expect("pod");
    let pod = eventually("the back-off shows", || async {
        stack.pods().get("p").await.ok().filter(|p| {
            let state = p
                .status
                .as_ref()
                .and_then(|s| s.container_statuses.as_ref()?[0].state.clone());
            state
                .and_then(|s| s.waiting)
                .is_some_and(|w| w.reason.as_deref() == Some("CrashLoopBackOff"))
        })
    })
    .await;
    assert!(
        !is_ready(&pod) && restarts(&pod) <= 4,
        "restarts: {}",
        restarts(&pod)
    );
    stack.stop().await;
}

#[tokio::test]
async fn readiness_follows_its_probe_and_a_failing_liveness_probe_restarts() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (ready, live) = (
        directory.path().join("ready"),
        directory.path().join("live"),
    );
    std::fs::write(&live, "").expect("write");
    let stack = Stack::start(directory.path(), block()).await;
    let exists = |path: &std::path::Path| json!({"command": ["/bin/sh", "-c", format!("test -f {}", path.display())]});
    let probes = json!({
        "readinessProbe": {"exec": exists(&ready), "periodSeconds": 1, "failureThreshold": 1},
        "livenessProbe": {"exec": exists(&live), "periodSeconds": 1, "failureThreshold": 1},
    });
    stack
        .pods()
        .create(&post(), &shell_pod("p", SLEEP, probes))
        .await
        .expect("pod");
    eventually("it runs", || async {
        stack
            .pods()
            .get("p")
            .await
            .ok()?
            .status?
            .container_statuses?[0]
            .started?
            .then_some(())
    })
    .await;
    assert!(!is_ready(&stack.pods().get("p").await.expect("get")));
    std::fs::write(&ready, "").expect("write");
    ready_pod(&stack.pods(), "p").await;
    std::fs::remove_file(&ready).expect("remove");
    eventually("it is unready again", || async {
        (!is_ready(&stack.pods().get("p").await.ok()?)).then_some(())
    })
    .await;
    std::fs::remove_file(&live).expect("remove");
    eventually("it is restarted", || async {
        (restarts(&stack.pods().get("p").await.ok()?) > 0).then_some(())
    })
    .await;
    let events = stack.events("p").await;
    assert!(
        events.iter().any(|(reason, _)| reason == "Unhealthy"),
        "{events:?}"
    );
    stack.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_gets_its_grace_and_then_the_kill() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    let stubborn = "trap 'echo asked' TERM; echo up; while true; do sleep 0.05; done";
    let mut pod = shell_pod("p", stubborn, json!({}));
    pod.spec
        .as_mut()
        .expect("spec")
        .termination_grace_period_seconds = Some(1);
    stack.pods().create(&post(), &pod).await.expect("pod");
    let running = ready_pod(&stack.pods(), "p").await;
    eventually("the trap is set", || async {
        stack.log("p").contains("up").then_some(())
    })
    .await;
    stack
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .expect("delete");
    eventually("the object goes", || async {
        stack
            .pods()
            .get_opt("p")
            .await
            .expect("get")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(!alive(pid(&running)));
    assert!(
        stack.log("p").contains("asked"),
        "SIGTERM came first: {}",
        stack.log("p")
    );
    stack.stop().await;
}

const AGENT: &str = "TIDEMARK_TEST_AGENT_DIR";

/// Not a test of its own: the agent process that the next test kills.
#[tokio::test]
async fn agent_process() {
    let Some(directory) = std::env::var_os(AGENT) else {
        return;
    };
    let base = std::env::var("TIDEMARK_TEST_AGENT_BASE")
        .expect("base")
        .parse()
        .expect("an address");
    let stack = Stack::start(directory.as_ref(), base).await;
    stack
        .pods()
        .create(&post(), &shell_pod("p", SLEEP, json!({})))
        .await
        .expect("pod");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn children_of_a_killed_agent_end_by_themselves_and_the_next_agent_recovers() {
    let directory = tempfile::tempdir().expect("tempdir");
    let base = block();
    let mut agent = tokio::process::Command::new(std::env::current_exe().expect("exe"))
        .args(["--exact", "node::restarts::agent_process", "--nocapture"])
        .env(AGENT, directory.path())
        .env("TIDEMARK_TEST_AGENT_BASE", base.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("agent");
    let record = directory.path().join("pods/default_p/main.process");
    let child = eventually("the agent runs its pod", || async {
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&record).ok()?).ok()?;
        u32::try_from(record["pid"].as_u64()?).ok()
    })
    .await;
    assert!(alive(child));
    agent.start_kill().expect("kill");
    agent.wait().await.expect("wait");
    eventually("the child ends with its parent's pipe", || async {
        (!alive(child)).then_some(())
    })
    .await;
    let stack = Stack::start(directory.path(), base).await;
    // The killed agent may not have written the pod's status yet; what counts is that the pod runs anew.
    let pod = eventually("the pod runs under the next agent", || async {
        let pod = stack.pods().get_opt("p").await.expect("get")?;
        (is_ready(&pod) && pid(&pod) != child).then_some(pod)
    })
    .await;
    assert!(alive(pid(&pod)));
    stack.stop().await;
}

#[tokio::test]
async fn a_leftover_child_is_ended_before_its_data_is_used_again() {
    let directory = tempfile::tempdir().expect("tempdir");
    // It ignores the pipe, as a hanging child would; the agent must end it itself.
    let mut leftover = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", leftover.id())).expect("stat");
    let started: u64 = stat
        .rsplit_once(')')
        .expect("stat")
        .1
        .split_whitespace()
        .nth(19)
        .expect("field 22")
        .parse()
        .expect("ticks");
    let folder = directory.path().join("pods/default_p");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(
        folder.join("main.process"),
        json!({"pid": leftover.id(), "started": started}).to_string(),
    )
    .expect("record");
    let stack = Stack::start(directory.path(), block()).await;
    stack
        .pods()
        .create(&post(), &shell_pod("p", SLEEP, json!({})))
        .await
        .expect("pod");
    let ended = tokio::task::spawn_blocking(move || leftover.wait().expect("wait"));
    let status = tokio::time::timeout(Duration::from_secs(15), ended)
        .await
        .expect("it is killed")
        .expect("join");
    assert!(!status.success());
    ready_pod(&stack.pods(), "p").await;
    stack.stop().await;
}
