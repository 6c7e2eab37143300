//! What does `kubectl apply` need before the operator can run?

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Namespace, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use crate::api::GROUP;
use crate::build::unprivileged;
use crate::{crd_yaml, crds};

const NAME: &str = "tidemark-operator";
/// Where the operator serves `/metrics`, `/healthz` and `/readyz`.
const HTTP_PORT: i32 = 8080;

/// The YAML stream of CRDs, Namespace, ServiceAccount, rights and Deployment.
///
/// # Errors
/// Only when an object has no YAML form, which would be a bug.
pub fn manifests(namespace: &str, image: &str) -> Result<String, serde_yaml::Error> {
    let mut documents: Vec<String> = crds().iter().map(crd_yaml).collect();
    documents.push(yaml(&self::namespace(namespace))?);
    documents.push(yaml(&service_account(namespace))?);
    documents.push(yaml(&cluster_role())?);
    documents.push(yaml(&cluster_role_binding(namespace))?);
    documents.push(yaml(&deployment(namespace, image))?);
    Ok(documents.join("---\n"))
}

fn yaml<T: Serialize>(object: &T) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(object)
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), NAME.into()),
        ("app.kubernetes.io/component".into(), "operator".into()),
    ])
}

fn meta(namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.into()),
        namespace: namespace.map(Into::into),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}

fn namespace(name: &str) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn service_account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: meta(Some(namespace)),
        ..ServiceAccount::default()
    }
}

/// Exactly the verbs the controllers use, which their tests check in both directions; no wildcard, no secrets. Server-side apply is
/// `patch`, and `create` where it makes the object.
fn cluster_role() -> ClusterRole {
    let own = ["get", "list", "watch", "create", "patch", "delete"];
    ClusterRole {
        metadata: meta(None),
        rules: Some(vec![
            rule(&[GROUP], &["kafkaclusters"], &["get", "list", "watch"]),
            rule(&[GROUP], &["kafkatopics"], &["list", "watch", "patch"]),
            rule(
                &[GROUP],
                &["kafkaclusters/status", "kafkatopics/status"],
                &["patch"],
            ),
            // The children's owner references block the owner's deletion, which a strict API server grants through this.
            rule(&[GROUP], &["kafkaclusters/finalizers"], &["update"]),
            rule(&[""], &["configmaps", "services", "serviceaccounts"], &own),
            rule(&[""], &["pods"], &["list", "watch", "delete"]),
            rule(
                &[""],
                &["persistentvolumeclaims"],
                &["list", "watch", "patch"],
            ),
            rule(&["events.k8s.io"], &["events"], &["create", "patch"]),
            rule(&["apps"], &["statefulsets"], &own),
            rule(&["policy"], &["poddisruptionbudgets"], &own),
            rule(
                &["coordination.k8s.io"],
                &["leases"],
                &["get", "create", "update"],
            ),
        ]),
        ..ClusterRole::default()
    }
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let list = |items: &[&str]| {
        items
            .iter()
            .map(|item| (*item).to_owned())
            .collect::<Vec<_>>()
    };
    PolicyRule {
        api_groups: Some(list(groups)),
        resources: Some(list(resources)),
        verbs: list(verbs),
        ..PolicyRule::default()
    }
}

fn cluster_role_binding(namespace: &str) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: meta(None),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: NAME.into(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: NAME.into(),
            namespace: Some(namespace.into()),
            ..Subject::default()
        }]),
    }
}

fn deployment(namespace: &str, image: &str) -> Deployment {
    Deployment {
        metadata: meta(Some(namespace)),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector {
                match_labels: Some(labels()),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    service_account_name: Some(NAME.into()),
                    security_context: Some(PodSecurityContext {
                        run_as_non_root: Some(true),
                        run_as_user: Some(65_532),
                        run_as_group: Some(65_532),
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".into(),
                            localhost_profile: None,
                        }),
                        ..PodSecurityContext::default()
                    }),
                    containers: vec![container(image)],
                    ..PodSpec::default()
                }),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn container(image: &str) -> Container {
    let env = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let quantities = |cpu: &str, memory: &str| {
        BTreeMap::from([
            ("cpu".into(), Quantity(cpu.into())),
            ("memory".into(), Quantity(memory.into())),
        ])
    };
    Container {
        name: "operator".into(),
        image: Some(image.into()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec!["tidemark".into()]),
        args: Some(vec!["operator".into()]),
        env: Some(vec![
            env("POD_NAME", "metadata.name"),
            env("POD_NAMESPACE", "metadata.namespace"),
            EnvVar {
                name: "TIDEMARK_IMAGE".into(),
                value: Some(image.into()),
                value_from: None,
            },
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: HTTP_PORT,
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(probe("/readyz")),
        liveness_probe: Some(Probe {
            period_seconds: Some(20),
            ..probe("/healthz")
        }),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("50m", "64Mi")),
            limits: Some(BTreeMap::from([(
                "memory".into(),
                Quantity("256Mi".into()),
            )])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(unprivileged()),
        ..Container::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(HTTP_PORT),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}
