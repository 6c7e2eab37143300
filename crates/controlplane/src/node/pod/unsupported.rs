//! What does a pod ask for that this node does not do? It is said in an event, never ignored in silence.

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

/// One line per thing that is not honoured; empty for a pod that is run exactly as written.
pub(crate) fn not_honoured(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let mut say = |given: bool, what: &str| {
        if given {
            out.push(what.to_owned());
        }
    };
    say(
        spec.affinity.is_some()
            || spec.node_selector.is_some()
            || spec.tolerations.as_ref().is_some_and(|t| !t.is_empty())
            || spec
                .topology_spread_constraints
                .as_ref()
                .is_some_and(|t| !t.is_empty()),
        "placement (affinity, nodeSelector, tolerations, topologySpreadConstraints): there is one node",
    );
    let pod_security = spec
        .security_context
        .as_ref()
        .is_some_and(|s| *s != Default::default());
    let containers: Vec<&Container> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .collect();
    let container_security = containers.iter().any(|c| c.security_context.is_some());
    say(
        pod_security || container_security,
        "securityContext: processes run as the current user",
    );
    let limited = containers
        .iter()
        .any(|c| c.resources.as_ref().is_some_and(|r| r.limits.is_some()));
    say(limited, "resource limits: recorded, not enforced");
    say(
        spec.host_network == Some(true),
        "hostNetwork: every pod has its own loopback address",
    );
    say(
        spec.host_pid == Some(true) || spec.host_ipc == Some(true),
        "hostPID and hostIPC",
    );
    say(
        spec.dns_config.is_some() || spec.host_aliases.is_some(),
        "dnsConfig and hostAliases: names come from the hosts table",
    );
    say(
        spec.share_process_namespace == Some(true),
        "shareProcessNamespace",
    );
    say(
        spec.active_deadline_seconds.is_some(),
        "activeDeadlineSeconds",
    );
    say(spec.runtime_class_name.is_some(), "runtimeClassName");
    say(
        spec.priority_class_name.is_some() || spec.priority.is_some(),
        "priority",
    );
    say(spec.ephemeral_containers.is_some(), "ephemeralContainers");
    for container in containers {
        out.extend(of_container(container));
    }
    out
}

fn of_container(container: &Container) -> Vec<String> {
    let mut out = Vec::new();
    let name = &container.name;
    if container.lifecycle.is_some() {
        out.push(format!("container {name}: lifecycle hooks"));
    }
    if container.working_dir.is_some() {
        out.push(format!("container {name}: workingDir"));
    }
    if container.stdin == Some(true) || container.tty == Some(true) {
        out.push(format!("container {name}: stdin and tty"));
    }
    if container.volume_devices.is_some() {
        out.push(format!("container {name}: volumeDevices"));
    }
    let read_only = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|m| m.read_only == Some(true));
    if read_only {
        out.push(format!("container {name}: readOnly mounts are writable"));
    }
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ];
    for (which, probe) in probes {
        if probe.as_ref().is_some_and(unknown_probe) {
            out.push(format!("container {name}: {which} (only httpGet over HTTP, tcpSocket and exec run here) is taken as passing"));
        }
    }
    out
}

fn unknown_probe(probe: &Probe) -> bool {
    let https = probe
        .http_get
        .as_ref()
        .is_some_and(|g| g.scheme.as_deref() == Some("HTTPS"));
    https || (probe.http_get.is_none() && probe.tcp_socket.is_none() && probe.exec.is_none())
}
