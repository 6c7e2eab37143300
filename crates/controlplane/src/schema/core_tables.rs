//! What do the core kinds' JSON schemas not say: list-map keys, atomic structs, defaults and zero values?
//!
//! k8s-openapi carries neither `x-kubernetes-list-type` nor defaults. The rows are the `+listType`, `+listMapKey`,
//! `+structType` and `+mapType` markers of `k8s.io/api` 0.34 and the defaults of `pkg/apis/*/v1/defaults.go`, for the
//! definitions our builders use.

use std::sync::Arc;

use serde_json::Value;

use super::{ListKind, Schema};

/// (definition suffix, field, list-map keys); an empty key list is a set.
const LISTS: &[(&str, &str, &[&str])] = &[
    ("meta.v1.ObjectMeta", "ownerReferences", &["uid"]),
    ("meta.v1.ObjectMeta", "finalizers", &[]),
    (
        "core.v1.PersistentVolumeClaimStatus",
        "conditions",
        &["type"],
    ),
    ("core.v1.ResourceRequirements", "claims", &["name"]),
    ("core.v1.Container", "ports", &["containerPort", "protocol"]),
    ("core.v1.Container", "env", &["name"]),
    ("core.v1.Container", "volumeMounts", &["mountPath"]),
    ("core.v1.Container", "volumeDevices", &["devicePath"]),
    ("core.v1.PodSpec", "volumes", &["name"]),
    ("core.v1.PodSpec", "initContainers", &["name"]),
    ("core.v1.PodSpec", "containers", &["name"]),
    ("core.v1.PodSpec", "ephemeralContainers", &["name"]),
    ("core.v1.PodSpec", "imagePullSecrets", &["name"]),
    ("core.v1.PodSpec", "hostAliases", &["ip"]),
    (
        "core.v1.PodSpec",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("core.v1.PodSpec", "schedulingGates", &["name"]),
    ("core.v1.PodSpec", "resourceClaims", &["name"]),
    ("core.v1.PodStatus", "conditions", &["type"]),
    ("core.v1.PodStatus", "podIPs", &["ip"]),
    ("core.v1.ServiceStatus", "conditions", &["type"]),
    ("core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    ("core.v1.ServiceAccount", "secrets", &["name"]),
    ("core.v1.NamespaceStatus", "conditions", &["type"]),
    ("apps.v1.StatefulSetStatus", "conditions", &["type"]),
    ("apps.v1.DeploymentStatus", "conditions", &["type"]),
    (
        "policy.v1.PodDisruptionBudgetStatus",
        "conditions",
        &["type"],
    ),
];

/// Definitions whose value has one owner as a whole.
const ATOMIC: &[&str] = &[
    "core.v1.SecretReference",
    "core.v1.ObjectFieldSelector",
    "core.v1.ResourceFieldSelector",
    "core.v1.ConfigMapKeySelector",
    "core.v1.SecretKeySelector",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.TopologySelectorTerm",
    "core.v1.ObjectReference",
    "core.v1.LocalObjectReference",
    "core.v1.TypedLocalObjectReference",
    "core.v1.ScopeSelector",
    "rbac.v1.Subject",
    "rbac.v1.RoleRef",
    "meta.v1.OwnerReference",
    "meta.v1.LabelSelector",
];

/// (definition suffix, field) of maps with one owner as a whole.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ServiceSpec", "selector"),
];

/// (definition suffix, field, default as JSON).
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("core.v1.ContainerPort", "protocol", r#""TCP""#),
    ("core.v1.ServicePort", "protocol", r#""TCP""#),
    ("core.v1.ServiceSpec", "type", r#""ClusterIP""#),
    ("core.v1.ServiceSpec", "sessionAffinity", r#""None""#),
    (
        "core.v1.ServiceSpec",
        "internalTrafficPolicy",
        r#""Cluster""#,
    ),
    ("core.v1.PodSpec", "restartPolicy", r#""Always""#),
    ("core.v1.PodSpec", "dnsPolicy", r#""ClusterFirst""#),
    ("core.v1.PodSpec", "schedulerName", r#""default-scheduler""#),
    ("core.v1.PodSpec", "terminationGracePeriodSeconds", "30"),
    ("core.v1.PodSpec", "securityContext", "{}"),
    (
        "core.v1.Container",
        "terminationMessagePath",
        r#""/dev/termination-log""#,
    ),
    ("core.v1.Container", "terminationMessagePolicy", r#""File""#),
    ("core.v1.Container", "imagePullPolicy", r#""IfNotPresent""#),
    ("core.v1.Container", "resources", "{}"),
    ("core.v1.Probe", "timeoutSeconds", "1"),
    ("core.v1.Probe", "periodSeconds", "10"),
    ("core.v1.Probe", "successThreshold", "1"),
    ("core.v1.Probe", "failureThreshold", "3"),
    ("core.v1.HTTPGetAction", "scheme", r#""HTTP""#),
    ("core.v1.ObjectFieldSelector", "apiVersion", r#""v1""#),
    ("core.v1.ConfigMapVolumeSource", "defaultMode", "420"),
    ("core.v1.SecretVolumeSource", "defaultMode", "420"),
    ("core.v1.ProjectedVolumeSource", "defaultMode", "420"),
    ("core.v1.DownwardAPIVolumeSource", "defaultMode", "420"),
    (
        "core.v1.PersistentVolumeClaimSpec",
        "volumeMode",
        r#""Filesystem""#,
    ),
    ("core.v1.Secret", "type", r#""Opaque""#),
    ("apps.v1.StatefulSetSpec", "replicas", "1"),
    (
        "apps.v1.StatefulSetSpec",
        "podManagementPolicy",
        r#""OrderedReady""#,
    ),
    ("apps.v1.StatefulSetSpec", "revisionHistoryLimit", "10"),
    (
        "apps.v1.StatefulSetSpec",
        "updateStrategy",
        r#"{"type":"RollingUpdate","rollingUpdate":{"partition":0}}"#,
    ),
    (
        "apps.v1.StatefulSetSpec",
        "persistentVolumeClaimRetentionPolicy",
        r#"{"whenDeleted":"Retain","whenScaled":"Retain"}"#,
    ),
    ("apps.v1.DeploymentSpec", "replicas", "1"),
    ("apps.v1.DeploymentSpec", "revisionHistoryLimit", "10"),
    ("apps.v1.DeploymentSpec", "progressDeadlineSeconds", "600"),
    (
        "apps.v1.DeploymentSpec",
        "strategy",
        r#"{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"}}"#,
    ),
];

/// (definition suffix, field, zero value as JSON): fields that Go's types hold in every object, because they are structs
/// and not pointers, or are written without `omitempty`. Nobody adds such a field, so a plain write does not own it by
/// its own path: `f:spec` of a created Lease has no `"."`, that of a custom kind has.
const ZEROS: &[(&str, &str, &str)] = &[
    ("core.v1.Namespace", "spec", "{}"),
    ("core.v1.Namespace", "status", "{}"),
    ("core.v1.Pod", "spec", "{}"),
    ("core.v1.Pod", "status", "{}"),
    ("core.v1.PodTemplateSpec", "metadata", "{}"),
    ("core.v1.PodTemplateSpec", "spec", "{}"),
    ("core.v1.PodSpec", "containers", "null"),
    ("core.v1.Container", "resources", "{}"),
    ("core.v1.Service", "spec", "{}"),
    ("core.v1.Service", "status", "{}"),
    ("core.v1.ServiceStatus", "loadBalancer", "{}"),
    ("core.v1.PersistentVolumeClaim", "spec", "{}"),
    ("core.v1.PersistentVolumeClaim", "status", "{}"),
    ("core.v1.PersistentVolumeClaimSpec", "resources", "{}"),
    ("core.v1.Event", "involvedObject", "{}"),
    ("core.v1.Event", "source", "{}"),
    ("core.v1.Event", "firstTimestamp", "null"),
    ("core.v1.Event", "lastTimestamp", "null"),
    ("core.v1.Event", "eventTime", "null"),
    ("core.v1.Event", "reportingComponent", "\"\""),
    ("core.v1.Event", "reportingInstance", "\"\""),
    ("apps.v1.StatefulSet", "spec", "{}"),
    ("apps.v1.StatefulSet", "status", "{}"),
    ("apps.v1.StatefulSetSpec", "selector", "null"),
    ("apps.v1.StatefulSetSpec", "template", "{}"),
    ("apps.v1.StatefulSetSpec", "serviceName", r#""""#),
    ("apps.v1.StatefulSetSpec", "updateStrategy", "{}"),
    ("apps.v1.StatefulSetStatus", "replicas", "0"),
    ("apps.v1.StatefulSetStatus", "availableReplicas", "0"),
    ("apps.v1.Deployment", "spec", "{}"),
    ("apps.v1.Deployment", "status", "{}"),
    ("apps.v1.DeploymentSpec", "selector", "null"),
    ("apps.v1.DeploymentSpec", "template", "{}"),
    ("apps.v1.DeploymentSpec", "strategy", "{}"),
    ("policy.v1.PodDisruptionBudget", "spec", "{}"),
    ("policy.v1.PodDisruptionBudget", "status", "{}"),
    (
        "policy.v1.PodDisruptionBudgetStatus",
        "disruptionsAllowed",
        "0",
    ),
    ("policy.v1.PodDisruptionBudgetStatus", "currentHealthy", "0"),
    ("policy.v1.PodDisruptionBudgetStatus", "desiredHealthy", "0"),
    ("policy.v1.PodDisruptionBudgetStatus", "expectedPods", "0"),
    ("networking.v1.NetworkPolicy", "spec", "{}"),
    ("networking.v1.NetworkPolicySpec", "podSelector", "{}"),
    ("rbac.v1.Role", "rules", "null"),
    ("rbac.v1.RoleBinding", "roleRef", "{}"),
    ("coordination.v1.Lease", "spec", "{}"),
];

/// Fields the Go types declare without `omitempty`, so JSON schemas demand them though the API server does not.
const NOT_REQUIRED: &[(&str, &str)] = &[("apps.v1.StatefulSetSpec", "serviceName")];

/// Adds to a freshly read definition what its JSON schema does not say.
pub(crate) fn complete(definition: &str, schema: &mut Schema) {
    let is = |suffix: &str| {
        definition
            .strip_suffix(suffix)
            .is_some_and(|prefix| prefix.ends_with('.'))
    };
    schema.atomic_map |= ATOMIC.iter().any(|suffix| is(suffix));
    for (_, field, keys) in LISTS.iter().filter(|(suffix, ..)| is(suffix)) {
        edit(schema, field, |node| {
            node.list = match keys {
                [] => ListKind::Set,
                keys => ListKind::Map(keys.iter().map(|&k| k.to_owned()).collect()),
            };
        });
    }
    for (_, field) in ATOMIC_MAPS.iter().filter(|(suffix, _)| is(suffix)) {
        edit(schema, field, |node| node.atomic_map = true);
    }
    for (_, field, text) in DEFAULTS.iter().filter(|(suffix, ..)| is(suffix)) {
        let default: Value =
            serde_json::from_str(text).expect("the table holds JSON, as a test shows");
        edit(schema, field, |node| node.default = Some(default));
    }
    for (_, field, text) in ZEROS.iter().filter(|(suffix, ..)| is(suffix)) {
        let zero: Value =
            serde_json::from_str(text).expect("the table holds JSON, as a test shows");
        edit(schema, field, |node| node.zero = Some(zero));
    }
    for (_, field) in NOT_REQUIRED.iter().filter(|(suffix, _)| is(suffix)) {
        schema.required.retain(|name| name != field);
    }
}

fn edit(schema: &mut Schema, field: &str, change: impl FnOnce(&mut Schema)) {
    if let Some(node) = schema.properties.get_mut(field) {
        change(Arc::make_mut(node));
    }
}
