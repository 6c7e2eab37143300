//! How many pods may be disrupted now? The status of each PodDisruptionBudget.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::statefulset::{differs, unless_gone};
use super::workload::selects;
use crate::api::evict::Disruptions;

/// The status the budget should show.
pub(crate) fn status(budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Value {
    let selector = budget
        .spec
        .as_ref()
        .and_then(|s| s.selector.clone())
        .unwrap_or_default();
    let matched: Vec<Value> = pods
        .iter()
        .filter(|pod| pod.namespace() == budget.namespace() && selects(&selector, pod))
        .filter_map(|pod| serde_json::to_value(pod.as_ref()).ok())
        .collect();
    let value = serde_json::to_value(budget).unwrap_or_default();
    let room = Disruptions::of(&value, &matched.iter().collect::<Vec<_>>());
    json!({
        "observedGeneration": budget.metadata.generation.unwrap_or(0),
        "expectedPods": room.expected, "currentHealthy": room.current_healthy,
        "desiredHealthy": room.desired_healthy, "disruptionsAllowed": room.allowed,
    })
}

/// Writes the status when it changed.
pub(crate) async fn reconcile(
    client: &Client,
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
) -> Result<(), kube::Error> {
    let wanted = status(budget, pods);
    let before =
        serde_json::to_value(budget.status.clone().unwrap_or_default()).unwrap_or_default();
    if !differs(&before, &wanted) {
        return Ok(());
    }
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(client.clone(), &budget.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"status": wanted}));
    unless_gone(api.patch_status(&budget.name_any(), &PatchParams::default(), &patch)).await
}
