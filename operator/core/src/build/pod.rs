//! What is in a pod of a pool?

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Settings;
use crate::api::v1alpha1::{PodTemplate, Resources, Role};
use crate::names;
use crate::validate::{ValidatedCluster, ValidatedPool};

/// Time for a controlled shutdown: leaderships move away, then the log is closed cleanly.
const GRACE_SECONDS: i64 = 60;
/// A user and group that no Linux distribution gives to a person.
const NON_ROOT: i64 = 65_532;

/// The pod template of a pool.
pub(super) fn template(
    cluster: &ValidatedCluster,
    pool: &ValidatedPool,
    settings: &Settings,
    config_hash: &str,
) -> PodTemplateSpec {
    let user = &pool.pod;
    let mut labels = user.labels.clone();
    labels.extend(names::pool_labels(&cluster.name, &pool.name));
    for (role, label) in [
        (Role::Broker, names::BROKER_LABEL),
        (Role::Controller, names::CONTROLLER_LABEL),
    ] {
        if pool.roles.contains(&role) {
            labels.insert(label.into(), "true".into());
        }
    }
    let mut annotations = user.annotations.clone();
    annotations.insert(names::CONFIG_HASH_ANNOTATION.into(), config_hash.into());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(cluster, pool, settings)),
    }
}

fn pod_spec(cluster: &ValidatedCluster, pool: &ValidatedPool, settings: &Settings) -> PodSpec {
    let user = &pool.pod;
    PodSpec {
        service_account_name: Some(cluster.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(
            user.termination_grace_period_seconds
                .unwrap_or(GRACE_SECONDS),
        ),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NON_ROOT),
            run_as_group: Some(NON_ROOT),
            fs_group: Some(NON_ROOT),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(cluster, pool, settings)],
        volumes: Some(vec![Volume {
            name: "config".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&cluster.name, &pool.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        node_selector: non_empty_map(&user.node_selector),
        affinity: user.affinity.clone(),
        tolerations: non_empty(&user.tolerations),
        topology_spread_constraints: Some(spread(cluster, user)),
        priority_class_name: user.priority_class_name.clone(),
        image_pull_secrets: non_empty(
            &user
                .image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect::<Vec<_>>(),
        ),
        ..PodSpec::default()
    }
}

fn container(cluster: &ValidatedCluster, pool: &ValidatedPool, settings: &Settings) -> Container {
    let config_file = format!("{}/{}", names::CONFIG_DIR, names::CONFIG_KEY);
    let args = [
        "broker",
        "--config",
        &config_file,
        "--node-name",
        "$(POD_NAME)",
    ];
    let mut ports: Vec<ContainerPort> = cluster
        .listeners
        .iter()
        .map(|listener| port(&listener.name, listener.port))
        .collect();
    ports.extend([port("rpc", names::RPC_PORT), port("http", names::HTTP_PORT)]);
    let image = cluster.image.as_ref().unwrap_or(&settings.image);
    let container = Container {
        name: names::CONTAINER.into(),
        image: Some(image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        // The operator's conditions show why a broker does not start.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        command: Some(vec!["tidemark".into()]),
        args: Some(args.map(str::to_owned).to_vec()),
        env: Some(vec![field_env("POD_NAME", "metadata.name")]),
        ports: Some(ports),
        resources: resources(&pool.resources),
        security_context: Some(unprivileged()),
        volume_mounts: Some(volume_mounts()),
        ..Container::default()
    };
    with_probes(container)
}

fn with_probes(container: Container) -> Container {
    Container {
        // Recovering a large log after a crash takes minutes; nothing kills the process meanwhile.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(900),
            ..probe("/healthz")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(2),
            ..probe("/readyz")
        }),
        // A stalled disk is no reason to kill a broker: only a minute without any answer is.
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(6),
            ..probe("/healthz")
        }),
        ..container
    }
}

/// What no container of ours needs it does not have (Pod Security Standards, "restricted").
pub(crate) fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn volume_mounts() -> Vec<VolumeMount> {
    vec![
        VolumeMount {
            name: names::DATA_VOLUME.into(),
            mount_path: names::DATA_DIR.into(),
            ..VolumeMount::default()
        },
        VolumeMount {
            name: "config".into(),
            mount_path: names::CONFIG_DIR.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        },
    ]
}

/// Without a wish of the user, pods spread over machines as far as that is possible.
fn spread(cluster: &ValidatedCluster, user: &PodTemplate) -> Vec<TopologySpreadConstraint> {
    if user.affinity.is_some() || !user.topology_spread_constraints.is_empty() {
        return user.topology_spread_constraints.clone();
    }
    let match_labels = [(names::CLUSTER_LABEL.to_owned(), cluster.name.clone())];
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(match_labels.into()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }]
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(names::HTTP_PORT),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn field_env(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn resources(resources: &Resources) -> Option<ResourceRequirements> {
    if *resources == Resources::default() {
        return None;
    }
    Some(ResourceRequirements {
        requests: non_empty_map(&resources.requests),
        limits: non_empty_map(&resources.limits),
        ..ResourceRequirements::default()
    })
}

fn non_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    if list.is_empty() {
        None
    } else {
        Some(list.to_vec())
    }
}

fn non_empty_map<V: Clone>(
    map: &std::collections::BTreeMap<String, V>,
) -> Option<std::collections::BTreeMap<String, V>> {
    if map.is_empty() {
        None
    } else {
        Some(map.clone())
    }
}
