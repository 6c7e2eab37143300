//! Which pods must a Deployment have now, and what is its status?
//!
//! Deviation: there is no ReplicaSet between; pods carry `pod-template-hash` and are owned by the Deployment itself. At
//! most `maxSurge` pods above `replicas` exist and at most `maxUnavailable` are missing while a template changes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use rand::Rng as _;
use serde_json::{Value, json};

use super::statefulset::{differs, unless_exists, unless_gone};
use super::workload::{healthy, owned_by, phase, pod_from, template_hash, terminating};

const HASH: &str = "pod-template-hash";

/// What to do next.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) status: Value,
    hash: String,
}

/// Decides from what exists.
pub(crate) fn plan(deployment: &Deployment, pods: &[Arc<Pod>]) -> Plan {
    let Some(spec) = &deployment.spec else {
        return Plan::default();
    };
    let uid = deployment.uid().unwrap_or_default();
    let hash = template_hash(&spec.template);
    let replicas = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mine: Vec<&Arc<Pod>> = pods.iter().filter(|pod| owned_by(pod, &uid)).collect();
    let (dead, alive): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = mine
        .into_iter()
        .filter(|pod| !terminating(pod))
        .partition(|pod| matches!(phase(pod), "Failed" | "Succeeded"));
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = alive
        .iter()
        .partition(|pod| pod.labels().get(HASH) == Some(&hash));
    let available = alive.iter().filter(|pod| healthy(pod)).count();
    let status = status_of(deployment, replicas, alive.len(), new.len(), available);
    let mut plan = Plan {
        status,
        hash,
        delete: dead.into_iter().cloned().collect(),
        create: 0,
    };
    if deployment.metadata.deletion_timestamp.is_some() || spec.paused == Some(true) {
        return plan;
    }
    let strategy = spec.strategy.clone().unwrap_or_default();
    let (surge, unavailable) = match strategy.type_.as_deref() {
        Some("Recreate") => (0, replicas),
        _ => {
            let rolling = strategy.rolling_update.unwrap_or_default();
            let surge = amount(rolling.max_surge.as_ref(), replicas, true);
            let unavailable = amount(rolling.max_unavailable.as_ref(), replicas, false);
            // Both zero would never move.
            (
                surge,
                if surge == 0 {
                    unavailable.max(1)
                } else {
                    unavailable
                },
            )
        }
    };
    let recreate = strategy.type_.as_deref() == Some("Recreate") && !old.is_empty();
    if !recreate {
        let room = (replicas + surge).saturating_sub(alive.len());
        plan.create = replicas.saturating_sub(new.len()).min(room);
    }
    // Unhealthy old pods cost no availability; healthy ones go as far as the budget allows.
    let (sick, fit): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        old.into_iter().partition(|pod| !healthy(pod));
    let spare = available.saturating_sub(replicas.saturating_sub(unavailable));
    plan.delete.extend(sick.into_iter().cloned());
    plan.delete.extend(fit.into_iter().take(spare).cloned());
    let mut excess: Vec<&Arc<Pod>> = new;
    excess.sort_by_key(|pod| healthy(pod));
    let too_many = excess.len().saturating_sub(replicas);
    plan.delete
        .extend(excess.into_iter().take(too_many).cloned());
    plan
}

fn amount(value: Option<&IntOrString>, replicas: usize, up: bool) -> usize {
    match value {
        None => (replicas + 3 * usize::from(up)) / 4,
        Some(IntOrString::Int(n)) => usize::try_from(*n).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(25);
            (replicas * percent + if up { 99 } else { 0 }) / 100
        }
    }
}

fn status_of(
    deployment: &Deployment,
    wanted: usize,
    all: usize,
    new: usize,
    available: usize,
) -> Value {
    let minimum = wanted.saturating_sub(wanted / 4);
    let is_available = available >= minimum;
    let complete = new == wanted && all == wanted && available == wanted;
    let condition = |kind: &str, ok: bool, reason: &str| {
        let before = deployment
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.type_ == kind);
        let value = if ok { "True" } else { "False" };
        let since = before
            .filter(|c| c.status == value)
            .and_then(|c| c.last_transition_time.as_ref())
            .map(|t| t.0);
        let since = crate::managed_fields::stamp(since.unwrap_or_else(jiff::Timestamp::now));
        json!({"type": kind, "status": value, "reason": reason, "lastTransitionTime": since})
    };
    json!({
        "observedGeneration": deployment.metadata.generation.unwrap_or(0),
        "replicas": all, "updatedReplicas": new, "readyReplicas": available, "availableReplicas": available,
        "unavailableReplicas": wanted.saturating_sub(available),
        "conditions": [
            condition("Available", is_available, if is_available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" }),
            condition("Progressing", true, if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }),
        ],
    })
}

/// Makes what exists follow the plan.
pub(crate) async fn reconcile(
    client: &Client,
    deployment: &Deployment,
    plan: Plan,
) -> Result<(), kube::Error> {
    let Some(spec) = &deployment.spec else {
        return Ok(());
    };
    let (name, namespace) = (
        deployment.name_any(),
        deployment.namespace().unwrap_or_default(),
    );
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    for _ in 0..plan.create {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let suffix: String = (0..5)
            .map(|_| char::from(ALPHABET[rand::rng().random_range(0..ALPHABET.len())]))
            .collect();
        let owner = deployment.controller_owner_ref(&()).unwrap_or_default();
        let mut pod = pod_from(
            &spec.template,
            &format!("{name}-{}-{suffix}", plan.hash),
            &namespace,
            owner,
        );
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(HASH.to_owned(), plan.hash.clone());
        unless_exists(pods.create(&PostParams::default(), &pod)).await?;
    }
    for pod in &plan.delete {
        let preconditions = Some(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        unless_gone(pods.delete(
            &pod.name_any(),
            &DeleteParams {
                preconditions,
                ..DeleteParams::default()
            },
        ))
        .await?;
    }
    let before =
        serde_json::to_value(deployment.status.clone().unwrap_or_default()).unwrap_or_default();
    if differs(&before, &plan.status) {
        let patch = Patch::Merge(json!({"status": plan.status}));
        unless_gone(deployments.patch_status(&name, &PatchParams::default(), &patch)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: i32, image: &str, strategy: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "default", "uid": "uid"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "strategy": strategy,
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    fn pods(of: &Deployment, prefix: &str, count: usize, ready: bool) -> Vec<Arc<Pod>> {
        let template = &of.spec.as_ref().unwrap().template;
        let make = |index| {
            let owner = of.controller_owner_ref(&()).unwrap();
            let mut pod = pod_from(template, &format!("{prefix}-{index}"), "default", owner);
            pod.metadata
                .labels
                .get_or_insert_default()
                .insert(HASH.into(), template_hash(template));
            let status = if ready { "True" } else { "False" };
            pod.status = Some(serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})).unwrap());
            Arc::new(pod)
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn a_new_template_surges_first_and_removes_old_pods_as_new_ones_become_ready() {
        let rolling =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        let (old, new) = (
            deployment(2, "old", rolling.clone()),
            deployment(2, "new", rolling),
        );
        let mut existing = pods(&old, "old", 2, true);
        let first = plan(&new, &existing);
        assert_eq!((first.create, first.delete.len()), (1, 0), "surge only");
        existing.extend(pods(&new, "new", 1, false));
        assert_eq!(
            plan(&new, &existing).delete.len(),
            0,
            "the new pod is not ready yet"
        );
        existing.pop();
        existing.extend(pods(&new, "new", 1, true));
        assert_eq!(plan(&new, &existing).delete.len(), 1);
    }

    #[test]
    fn recreate_removes_everything_before_it_creates() {
        let (old, new) = (
            deployment(2, "old", json!({"type": "Recreate"})),
            deployment(2, "new", json!({"type": "Recreate"})),
        );
        let got = plan(&new, &pods(&old, "old", 2, true));
        assert_eq!((got.create, got.delete.len()), (0, 2));
        assert_eq!(plan(&new, &[]).create, 2);
    }
}
