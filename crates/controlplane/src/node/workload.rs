//! What do StatefulSet and Deployment share: a template's revision, a pod made from it, its health?

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

/// Names pods' place in the cluster; there is one node.
pub(crate) const NODE_NAME: &str = "local";

/// A short stable hash of a template: equal templates have equal revisions on every machine.
pub(crate) fn template_hash(template: &PodTemplateSpec) -> String {
    // serde_json maps are written in the order of the struct's fields and sorted maps: canonical enough to hash.
    let text = serde_json::to_string(template).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    // Without vowels, as Kubernetes' own hashes, so that no words appear in names.
    const ALPHABET: &[u8; 16] = b"bcdfghjklmnpqrst";
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(byte & 15)]))
        .collect()
}

/// A pod from a template, owned by `owner`, placed on this node.
pub(crate) fn pod_from(
    template: &PodTemplateSpec,
    name: &str,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.node_name = Some(NODE_NAME.to_owned());
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Whether `pod` belongs to the controller with this uid.
pub(crate) fn owned_by(pod: &Pod, uid: &str) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

pub(crate) fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Pending")
}

pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    phase(pod) == "Running"
        && conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Ready and not going away.
pub(crate) fn healthy(pod: &Pod) -> bool {
    ready(pod) && !terminating(pod)
}

/// Whether labels match a selector (of a workload: never empty).
pub(crate) fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    let Ok(value) = serde_json::to_value(selector) else {
        return false;
    };
    let parsed = crate::selector::Selector::from_label_selector(&value);
    parsed.matches(&serde_json::json!({"metadata": {"labels": pod.labels()}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_depends_on_the_template_alone() {
        let template = |image: &str| -> PodTemplateSpec {
            serde_json::from_value(serde_json::json!({"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}))
            .unwrap()
        };
        assert_eq!(template_hash(&template("x")), template_hash(&template("x")));
        assert_ne!(template_hash(&template("x")), template_hash(&template("y")));
    }
}
