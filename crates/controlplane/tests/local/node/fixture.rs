//! What do the tests share? A control plane with a node agent on addresses of its own, and small shell pods.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use controlplane::{ControlPlane, ControlPlaneConfig, NodeAgent, NodeConfig, Resolver};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Each test's pods have a /24 of their own, so that tests run side by side.
static NEXT_BLOCK: AtomicU8 = AtomicU8::new(1);

/// A running stack.
pub(crate) struct Stack {
    pub(crate) client: Client,
    pub(crate) resolver: Resolver,
    pub(crate) directory: PathBuf,
    pub(crate) base: Ipv4Addr,
    plane: ControlPlane,
    stop: CancellationToken,
    agent: JoinHandle<()>,
}

pub(crate) fn block() -> Ipv4Addr {
    // The process id keeps two test runs on one machine apart.
    let second = 100 + u8::try_from(std::process::id() % 100).expect("below 100");
    Ipv4Addr::new(127, second, NEXT_BLOCK.fetch_add(1, Ordering::Relaxed), 0)
}

impl Stack {
    pub(crate) async fn start(directory: &Path, base: Ipv4Addr) -> Self {
        let data_dir = Some(directory.join("api"));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let plane = loop {
            let config = ControlPlaneConfig {
                data_dir: data_dir.clone(),
                ..ControlPlaneConfig::default()
            };
            match ControlPlane::open(config) {
                Ok(plane) => break plane,
                // The earlier control plane's last task may hold the lock for another moment.
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let client = plane.client();
        let mut config = NodeConfig::new(client.clone(), directory).expect("config");
        config.address_base = base;
        let agent = NodeAgent::new(config).expect("agent");
        let resolver = agent.resolver();
        let stop = CancellationToken::new();
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self {
            client,
            resolver,
            directory: directory.to_owned(),
            base,
            plane,
            stop,
            agent,
        }
    }

    /// Stops the agent, waits for its children and closes the API.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.agent.await.expect("the agent ends well");
        drop(self.client);
        drop(self.plane);
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn sets(&self) -> Api<StatefulSet> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn log(&self, pod: &str) -> String {
        let path = controlplane::node::logs::log_file(&self.directory, "default", pod, "main");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The events' reasons and notes about an object.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let api: Api<k8s_openapi::api::core::v1::Event> =
            Api::default_namespaced(self.client.clone());
        let all = api.list(&Default::default()).await.expect("events");
        let about = all
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(name));
        about
            .map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default()))
            .collect()
    }
}

pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

/// A pod whose one container runs `script` in a shell.
pub(crate) fn shell_pod(name: &str, script: &str, more: Value) -> Pod {
    let mut container =
        json!({"name": "main", "image": "any", "command": ["/bin/sh", "-c", script]});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    typed(
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container]}}),
    )
}

/// Runs until its parent is gone or it gets a signal.
pub(crate) const SLEEP: &str = "exec cat";

pub(crate) fn post() -> PostParams {
    PostParams::default()
}

/// Polls until `check` gives something; fails loudly after ten seconds.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within twenty seconds: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(crate) async fn ready_pod(pods: &Api<Pod>, name: &str) -> Pod {
    let pods = pods.clone();
    eventually(&format!("pod {name} is ready"), || {
        let pods = pods.clone();
        async move { pods.get_opt(name).await.expect("get").filter(is_ready) }
    })
    .await
}

/// The process id a pod's first container shows.
pub(crate) fn pid(pod: &Pod) -> u32 {
    let id = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref()?[0].container_id.clone());
    id.and_then(|id| id.strip_prefix("process://")?.parse().ok())
        .expect("a running process")
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    pod.status
        .as_ref()
        .and_then(|s| Some(s.container_statuses.as_ref()?[0].restart_count))
        .expect("a status")
}

/// Whether the process is there and not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}
