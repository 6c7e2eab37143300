//! What do the objects and pods of the running control plane look like right now?

use std::net::SocketAddr;
use std::path::Path;

use controlplane::node::Resolver;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use crate::state::{ObjectStatus, PodStatus, Status};

const GROUP: &str = "tidemark.dev";
const VERSION: &str = "v1alpha1";
/// The label that the operator puts on every pod of a cluster.
const CLUSTER_LABEL: &str = "tidemark.dev/cluster";

/// Lists everything and puts it into the form of `status.json`.
///
/// # Errors
/// The control plane did not answer.
pub(crate) async fn gather(client: &Client, names: &Resolver) -> anyhow::Result<Status> {
    let pods = Api::<Pod>::all(client.clone())
        .list(&ListParams::default())
        .await?
        .items;
    let mut objects = Vec::new();
    for kind in ["KafkaCluster", "KafkaTopic"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
        let list = Api::<DynamicObject>::all_with(client.clone(), &resource)
            .list(&ListParams::default())
            .await?;
        objects.extend(
            list.items
                .iter()
                .map(|object| object_status(kind, object, &pods, names)),
        );
    }
    let pods = pods.iter().map(|pod| pod_status(pod, names)).collect();
    let ready = !objects.is_empty() && objects.iter().all(|object| object.ready);
    Ok(Status {
        pid: std::process::id(),
        ready,
        objects,
        pods,
        problems: Vec::new(),
    })
}

fn object_status(
    kind: &str,
    object: &DynamicObject,
    pods: &[Pod],
    names: &Resolver,
) -> ObjectStatus {
    let status = &object.data["status"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ready = is_ready(status, object.metadata.generation);
    let phase = text(&status["phase"]).unwrap_or_else(|| "Pending".to_owned());
    let message = text(&status["message"]).unwrap_or_else(|| "waiting for the operator".to_owned());
    let bootstrap = (kind == "KafkaCluster")
        .then(|| bootstrap(object, pods, names))
        .flatten();
    ObjectStatus {
        kind: kind.to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        ready,
        phase,
        message,
        bootstrap,
    }
}

/// Ready is true, and was observed at the object's current generation.
fn is_ready(status: &Value, generation: Option<i64>) -> bool {
    status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| {
            condition["type"] == "Ready"
                && condition["status"] == "True"
                && condition["observedGeneration"].as_i64() == generation
        })
}

/// The addresses of the cluster's pods with the port of its first listener.
fn bootstrap(cluster: &DynamicObject, pods: &[Pod], names: &Resolver) -> Option<String> {
    let port = cluster.data["spec"]["listeners"]
        .as_array()
        .and_then(|list| list.first())
        .and_then(|first| u16::try_from(first["port"].as_u64()?).ok())
        .unwrap_or(9092);
    let mut addresses: Vec<(String, String)> = pods
        .iter()
        .filter(|pod| pod.namespace() == cluster.namespace())
        .filter(|pod| pod.labels().get(CLUSTER_LABEL) == Some(&cluster.name_any()))
        .filter_map(|pod| Some((pod.name_any(), place(pod, names, port)?.to_string())))
        .collect();
    addresses.sort();
    let joined: Vec<String> = addresses.into_iter().map(|(_, place)| place).collect();
    (!joined.is_empty()).then(|| joined.join(","))
}

/// Where a port of a pod is reached, which the node knows by the pod's own name.
fn place(pod: &Pod, names: &Resolver, port: u16) -> Option<SocketAddr> {
    let spec = pod.spec.as_ref()?;
    let (host, domain) = (spec.hostname.as_ref()?, spec.subdomain.as_ref()?);
    let name = format!("{host}.{domain}.{}.svc", pod.namespace()?);
    names.lookup(&name, port).first().copied()
}

fn pod_status(pod: &Pod, names: &Resolver) -> PodStatus {
    let status = pod.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let containers = status.container_statuses.unwrap_or_default();
    PodStatus {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        ip: status.pod_ip.unwrap_or_default(),
        port_offset: place(pod, names, 0).map_or(0, |place| place.port()),
        ready,
        restarts: containers
            .iter()
            .map(|container| container.restart_count)
            .sum(),
        phase: status.phase.unwrap_or_default(),
        pid: containers.iter().find_map(process_of),
    }
}

/// The node agent reports a running container's process as `process://PID`.
fn process_of(container: &ContainerStatus) -> Option<u32> {
    container.state.as_ref()?.running.as_ref()?;
    container
        .container_id
        .as_ref()?
        .strip_prefix("process://")?
        .parse()
        .ok()
}

/// One line a change of an object, for output that is not a terminal.
pub(crate) fn changes(before: &Status, after: &Status, seconds: f64) -> Vec<String> {
    let mut lines = Vec::new();
    for object in &after.objects {
        let old = before.objects.iter().find(|old| {
            old.kind == object.kind && old.namespace == object.namespace && old.name == object.name
        });
        if old != Some(object) {
            lines.push(line(object, seconds));
        }
    }
    for old in &before.objects {
        if !after.objects.iter().any(|new| {
            new.kind == old.kind && new.namespace == old.namespace && new.name == old.name
        }) {
            lines.push(format!("{:<16} {:<14} deleted", old.name, old.kind));
        }
    }
    for problem in after
        .problems
        .iter()
        .filter(|problem| !before.problems.contains(problem))
    {
        lines.push(format!("! {problem}"));
    }
    lines
}

/// One object as one line.
pub(crate) fn line(object: &ObjectStatus, seconds: f64) -> String {
    let state = if object.ready {
        String::new()
    } else {
        format!("[{}] ", object.phase)
    };
    let bootstrap = object
        .bootstrap
        .as_ref()
        .filter(|_| object.ready)
        .map(|text| format!("   bootstrap {text}"))
        .unwrap_or_default();
    format!(
        "{:<16} {:<14} {state}{}{bootstrap}   {seconds:.1}s",
        object.name, object.kind, object.message
    )
}

/// The closing line once everything is Ready.
pub(crate) fn ready_line(seconds: f64, data_dir: &Path, detached: bool) -> String {
    let stop = if detached {
        "`tidemark down` stops it, data stays"
    } else {
        "Ctrl-C stops, data stays"
    };
    format!(
        "ready in {seconds:.1}s · data in {} · {stop}",
        data_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_of_an_older_generation_is_not_ready() {
        let status = serde_json::json!({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]});
        assert!(is_ready(&status, Some(1)));
        assert!(!is_ready(&status, Some(2)));
        assert!(!is_ready(&Value::Null, Some(1)));
    }

    #[test]
    fn only_changes_are_printed() {
        let object = ObjectStatus {
            kind: "KafkaTopic".into(),
            namespace: "default".into(),
            name: "orders".into(),
            ready: false,
            phase: "Pending".into(),
            message: "no brokers yet".into(),
            bootstrap: None,
        };
        let before = Status {
            objects: vec![object.clone()],
            ..Status::default()
        };
        assert_eq!(changes(&before, &before, 0.5), Vec::<String>::new());
        let after = Status {
            objects: vec![ObjectStatus {
                ready: true,
                message: "6 partitions".into(),
                ..object
            }],
            ..Status::default()
        };
        assert_eq!(changes(&before, &after, 0.5).len(), 1);
        assert_eq!(changes(&after, &Status::default(), 0.5).len(), 1);
    }
}
