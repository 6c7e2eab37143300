//! Which built-in kinds are served, and from which k8s-openapi type does each take its schema?

use std::sync::{Arc, OnceLock};

use k8s_openapi::api::{apps, coordination, core, networking, policy, rbac};
use k8s_openapi::schemars;

use super::{Kind, KindId, ScalePaths};
use crate::schema::Schema;
use crate::schema::parse::Reader;

/// In which shape a path serves a stored kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServedAs {
    Itself,
    /// `events.k8s.io/v1` over stored core events.
    NewEvents,
}

struct Row {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    status: bool,
    scale: bool,
    selectable: &'static [&'static str],
    schema: fn() -> schemars::Schema,
}

fn schema_of<T: schemars::JsonSchema>() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
}

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
];
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "reason",
    "reportingComponent",
    "type",
];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { group: "", kind: "Namespace", plural: "namespaces", namespaced: false, status: true, scale: false, selectable: &["status.phase"], schema: schema_of::<core::v1::Namespace> },
    Row { group: "", kind: "Pod", plural: "pods", namespaced: true, status: true, scale: false, selectable: POD_FIELDS, schema: schema_of::<core::v1::Pod> },
    Row { group: "", kind: "Service", plural: "services", namespaced: true, status: true, scale: false, selectable: &["spec.type"], schema: schema_of::<core::v1::Service> },
    Row { group: "", kind: "ConfigMap", plural: "configmaps", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<core::v1::ConfigMap> },
    Row { group: "", kind: "Secret", plural: "secrets", namespaced: true, status: false, scale: false, selectable: &["type"], schema: schema_of::<core::v1::Secret> },
    Row { group: "", kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims", namespaced: true, status: true, scale: false, selectable: &[], schema: schema_of::<core::v1::PersistentVolumeClaim> },
    Row { group: "", kind: "ServiceAccount", plural: "serviceaccounts", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<core::v1::ServiceAccount> },
    Row { group: "", kind: "Event", plural: "events", namespaced: true, status: false, scale: false, selectable: EVENT_FIELDS, schema: schema_of::<core::v1::Event> },
    Row { group: "apps", kind: "StatefulSet", plural: "statefulsets", namespaced: true, status: true, scale: true, selectable: &[], schema: schema_of::<apps::v1::StatefulSet> },
    Row { group: "apps", kind: "Deployment", plural: "deployments", namespaced: true, status: true, scale: true, selectable: &[], schema: schema_of::<apps::v1::Deployment> },
    Row { group: "policy", kind: "PodDisruptionBudget", plural: "poddisruptionbudgets", namespaced: true, status: true, scale: false, selectable: &[], schema: schema_of::<policy::v1::PodDisruptionBudget> },
    Row { group: "networking.k8s.io", kind: "NetworkPolicy", plural: "networkpolicies", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<networking::v1::NetworkPolicy> },
    Row { group: "rbac.authorization.k8s.io", kind: "Role", plural: "roles", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<rbac::v1::Role> },
    Row { group: "rbac.authorization.k8s.io", kind: "RoleBinding", plural: "rolebindings", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<rbac::v1::RoleBinding> },
    Row { group: "coordination.k8s.io", kind: "Lease", plural: "leases", namespaced: true, status: false, scale: false, selectable: &[], schema: schema_of::<coordination::v1::Lease> },
];

/// Built-in kinds whose strategy counts generations of their spec.
const GENERATIONS: &[&str] = &[
    "Pod",
    "StatefulSet",
    "Deployment",
    "PodDisruptionBudget",
    "NetworkPolicy",
];

pub(super) fn all() -> impl Iterator<Item = Kind> {
    ROWS.iter().map(|row| Kind {
        id: KindId(0),
        group: row.group.to_owned(),
        version: "v1".to_owned(),
        kind: row.kind.to_owned(),
        plural: row.plural.to_owned(),
        namespaced: row.namespaced,
        status: row.status,
        scale: row.scale.then(|| ScalePaths {
            spec_replicas: "/spec/replicas".to_owned(),
            status_replicas: "/status/replicas".to_owned(),
            selector: Some("/spec/selector".to_owned()),
        }),
        custom: false,
        generation: GENERATIONS.contains(&row.kind),
        selectable: row.selectable.iter().map(|&s| s.to_owned()).collect(),
        schema: OnceLock::new(),
        core_schema: Some(row.schema),
    })
}

/// The structural schema of a generated JSON schema document.
pub(super) fn structural(generate: fn() -> schemars::Schema) -> Arc<Schema> {
    let document = generate().to_value();
    let name = document
        .get("title")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let definitions = document.get("$defs").and_then(serde_json::Value::as_object);
    let read = Reader::new(definitions).read(&document, "", 0);
    let mut schema =
        Arc::unwrap_or_clone(read.expect("k8s-openapi's schemas resolve, as a test shows"));
    crate::schema::core_tables::complete(&name, &mut schema);
    schema.required.retain(|field| field != "metadata");
    Arc::new(schema)
}

/// The schema of `metadata`, shared by all custom kinds.
pub(super) fn object_meta() -> Arc<Schema> {
    static META: OnceLock<Arc<Schema>> = OnceLock::new();
    Arc::clone(META.get_or_init(|| {
        structural(schema_of::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>)
    }))
}
