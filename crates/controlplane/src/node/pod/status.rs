//! What status does a pod show, computed from its containers as a kubelet would?

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::managed_fields::stamp;

/// Where one container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Not started; why, and with which words (`ContainerCreating`, `CrashLoopBackOff`, ...).
    #[default]
    Created,
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        pid: u32,
        since: jiff::Timestamp,
    },
    Terminated(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) started: jiff::Timestamp,
    pub(crate) finished: jiff::Timestamp,
    pub(crate) pid: u32,
    pub(crate) message: String,
}

impl Exit {
    fn wire(&self) -> Value {
        // A signal shows as 128 + signal, as container runtimes report it.
        let mut value = json!({
            "exitCode": self.code, "reason": if self.code == 0 { "Completed" } else { "Error" },
            "startedAt": stamp(self.started), "finishedAt": stamp(self.finished),
            "containerID": format!("process://{}", self.pid),
        });
        if let Some(signal) = self.signal {
            value["signal"] = json!(signal);
        }
        if !self.message.is_empty() {
            value["message"] = json!(self.message);
        }
        value
    }
}

/// One container as its worker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ContainerState {
    pub(crate) phase: Phase,
    pub(crate) last: Option<Exit>,
    pub(crate) restarts: u32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

impl ContainerState {
    fn wire(&self, container: &Container) -> Value {
        let state = match &self.phase {
            Phase::Created => json!({"waiting": {"reason": "ContainerCreating"}}),
            Phase::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            Phase::Running { since, .. } => json!({"running": {"startedAt": stamp(*since)}}),
            Phase::Terminated(exit) => json!({"terminated": exit.wire()}),
        };
        let image = container.image.clone().unwrap_or_default();
        let mut value = json!({
            "name": container.name, "state": state, "ready": self.ready, "started": self.started,
            "restartCount": self.restarts, "image": image, "imageID": format!("binary://{image}"),
            "lastState": {},
        });
        if let Some(last) = &self.last {
            value["lastState"] = json!({"terminated": last.wire()});
        }
        if let Phase::Running { pid, .. } = self.phase {
            value["containerID"] = json!(format!("process://{pid}"));
        }
        value
    }
}

/// Everything the status is made of.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) address: Ipv4Addr,
    pub(crate) started: jiff::Timestamp,
    /// Init containers first, then the others, as in the spec.
    pub(crate) init: &'a [ContainerState],
    pub(crate) main: &'a [ContainerState],
    pub(crate) terminating: bool,
}

impl Snapshot<'_> {
    /// The pod's phase.
    pub(crate) fn phase(&self) -> &'static str {
        let over = |state: &ContainerState| matches!(state.phase, Phase::Terminated(_));
        let failed = |state: &ContainerState| matches!(&state.phase, Phase::Terminated(exit) if exit.code != 0);
        let restarts = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref())
            .unwrap_or("Always");
        if restarts != "Always" && self.main.iter().all(over) && !self.main.is_empty() {
            return if self.main.iter().any(failed) {
                "Failed"
            } else {
                "Succeeded"
            };
        }
        let begun = |state: &ContainerState| {
            matches!(state.phase, Phase::Running { .. } | Phase::Terminated(_))
                || state.last.is_some()
        };
        if self.main.iter().any(begun) {
            "Running"
        } else {
            "Pending"
        }
    }

    /// The whole status; `previous` keeps the transition times of conditions that did not change.
    pub(crate) fn wire(&self, previous: Option<&Value>, now: jiff::Timestamp) -> Value {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let initialised = self
            .init
            .iter()
            .all(|s| matches!(&s.phase, Phase::Terminated(exit) if exit.code == 0))
            || self.main.iter().any(|s| !matches!(s.phase, Phase::Created));
        let unready: Vec<&str> = spec
            .containers
            .iter()
            .zip(self.main)
            .filter(|(_, state)| !state.ready)
            .map(|(container, _)| container.name.as_str())
            .collect();
        let ready = unready.is_empty() && !self.main.is_empty();
        let why_not = format!("containers with unready status: [{}]", unready.join(" "));
        let not_ready = (!ready).then_some(("ContainersNotReady", why_not.as_str()));
        let not_initialised = (!initialised).then_some((
            "ContainersNotInitialized",
            "init containers have not completed",
        ));
        let conditions: Vec<Value> = [
            condition("PodReadyToStartContainers", None),
            condition("Initialized", not_initialised),
            condition("Ready", not_ready),
            condition("ContainersReady", not_ready),
            condition("PodScheduled", None),
        ]
        .into_iter()
        .map(|c| with_transition(c, previous, now))
        .collect();
        let wire = |containers: &[Container], states: &[ContainerState]| -> Vec<Value> {
            containers
                .iter()
                .zip(states)
                .map(|(container, state)| state.wire(container))
                .collect()
        };
        let mut status = json!({
            "phase": self.phase(),
            "conditions": conditions,
            "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.address.to_string(), "podIPs": [{"ip": self.address.to_string()}],
            "startTime": stamp(self.started),
            "containerStatuses": wire(&spec.containers, self.main),
            "qosClass": qos(&spec.containers),
            "observedGeneration": self.pod.metadata.generation.unwrap_or(0),
        });
        if let Some(init) = spec.init_containers.filter(|init| !init.is_empty()) {
            status["initContainerStatuses"] = json!(wire(&init, self.init));
        }
        if self.terminating {
            status["message"] = json!(format!("{} is shutting down", self.pod.name_any()));
        }
        status
    }
}

fn condition(kind: &str, broken: Option<(&str, &str)>) -> Value {
    match broken {
        None => json!({"type": kind, "status": "True", "lastProbeTime": null}),
        Some((reason, message)) => {
            json!({"type": kind, "status": "False", "lastProbeTime": null, "reason": reason, "message": message})
        }
    }
}

fn with_transition(mut condition: Value, previous: Option<&Value>, now: jiff::Timestamp) -> Value {
    let conditions = previous
        .and_then(|p| p["conditions"].as_array())
        .into_iter()
        .flatten();
    let before = conditions
        .into_iter()
        .find(|c| c["type"] == condition["type"] && c["status"] == condition["status"]);
    let since = before
        .map(|c| c["lastTransitionTime"].clone())
        .filter(|t| t.is_string());
    condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(stamp(now)));
    condition
}

fn qos(containers: &[Container]) -> &'static str {
    let resources: Vec<_> = containers
        .iter()
        .map(|c| c.resources.clone().unwrap_or_default())
        .collect();
    let none = resources
        .iter()
        .all(|r| r.requests.is_none() && r.limits.is_none());
    let guaranteed = resources.iter().all(|r| {
        let limits = r.limits.clone().unwrap_or_default();
        ["cpu", "memory"]
            .iter()
            .all(|name| limits.contains_key(*name))
            && r.requests
                .as_ref()
                .is_none_or(|requests| requests.iter().all(|(k, v)| limits.get(k) == Some(v)))
    });
    match (none, guaranteed) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}
