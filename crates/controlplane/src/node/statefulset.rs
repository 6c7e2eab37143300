//! Which pods and claims must a StatefulSet have now, and what is its status?
//!
//! [`plan`] decides, purely; [`reconcile`] acts. Pods are made in ordinal order (all at once for `Parallel`), scaled down
//! from the highest ordinal, never replaced under `OnDelete`, and replaced one at a time from the highest ordinal under
//! `RollingUpdate`. Claims are made before their pod and kept unless `persistentVolumeClaimRetentionPolicy` says else.
//!
//! Deviation: no ControllerRevision objects. A pod that is recreated in the middle of a RollingUpdate gets the update
//! revision, whatever its ordinal; under `OnDelete` that is what Kubernetes does too.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume,
};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::claims;
use super::workload::{healthy, owned_by, phase, pod_from, ready, template_hash, terminating};

const REVISION: &str = "controller-revision-hash";

/// What to do next.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) claims: Vec<PersistentVolumeClaim>,
    pub(crate) create: Vec<Pod>,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// Claims of pods that were scaled away, when the policy says to delete them.
    pub(crate) drop_claims: Vec<String>,
    pub(crate) status: Value,
}

/// The set as the plan sees it.
struct Shape<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    name: String,
    namespace: String,
    uid: String,
    revision: String,
}

/// Decides from what exists.
pub(crate) fn plan(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    claims: &[Arc<PersistentVolumeClaim>],
) -> Plan {
    let Some(spec) = &set.spec else {
        return Plan::default();
    };
    let name = set.name_any();
    let shape = Shape {
        set,
        spec,
        namespace: set.namespace().unwrap_or_default(),
        uid: set.uid().unwrap_or_default(),
        revision: format!("{name}-{}", template_hash(&spec.template)),
        name,
    };
    let mine: BTreeMap<i32, &Arc<Pod>> = pods
        .iter()
        .filter(|pod| owned_by(pod, &shape.uid))
        .filter_map(|pod| Some((ordinal(&pod.name_any(), &shape.name)?, pod)))
        .collect();
    let mut plan = Plan {
        status: shape.status(&mine),
        ..Plan::default()
    };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let start = spec.ordinals.as_ref().map_or(0, |o| o.start.unwrap_or(0));
    let wanted = start..start + spec.replicas.unwrap_or(1);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let mut settled = true;
    for index in wanted.clone() {
        shape.ensure(index, mine.get(&index).copied(), claims, &mut plan);
        let fine = mine.get(&index).is_some_and(|pod| healthy(pod));
        settled &= fine;
        if !fine && !parallel {
            break;
        }
    }
    let mut surplus: Vec<&Arc<Pod>> = mine
        .iter()
        .filter(|(i, _)| !wanted.contains(i))
        .map(|(_, pod)| *pod)
        .collect();
    surplus.reverse();
    let going = surplus.iter().filter(|pod| !terminating(pod));
    if parallel {
        plan.delete.extend(going.map(|pod| Arc::clone(pod)));
    } else if settled && surplus.iter().all(|pod| !terminating(pod)) {
        plan.delete.extend(going.take(1).map(|pod| Arc::clone(pod)));
    }
    shape.drop_scaled_claims(&wanted, &mine, claims, &mut plan);
    if settled && surplus.is_empty() {
        shape.roll(&mine, start, &mut plan);
    }
    plan
}

/// `3` of `shop-main-3`.
fn ordinal(pod: &str, set: &str) -> Option<i32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

impl Shape<'_> {
    fn ensure(
        &self,
        index: i32,
        existing: Option<&Arc<Pod>>,
        claims: &[Arc<PersistentVolumeClaim>],
        plan: &mut Plan,
    ) {
        match existing {
            Some(pod) if terminating(pod) => return,
            Some(pod) if matches!(phase(pod), "Failed" | "Succeeded") => {
                plan.delete.push(Arc::clone(pod));
                return;
            }
            _ => {}
        }
        for claim in self.claims_of(index) {
            let found = claims
                .iter()
                .any(|c| c.name_any() == claim.name_any() && c.namespace() == claim.namespace());
            if !found {
                plan.claims.push(claim);
            }
        }
        if existing.is_none() {
            plan.create.push(self.pod(index));
        }
    }

    fn claim_name(&self, template: &str, index: i32) -> String {
        format!("{template}-{}-{index}", self.name)
    }

    fn claims_of(&self, index: i32) -> impl Iterator<Item = PersistentVolumeClaim> {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        let with_set = policy.and_then(|p| p.when_deleted.as_deref()) == Some("Delete");
        self.spec
            .volume_claim_templates
            .iter()
            .flatten()
            .map(move |template| {
                let mut claim = template.clone();
                claim.status = None;
                claims::prepare(
                    &mut claim,
                    &self.namespace,
                    &self.claim_name(&template.name_any(), index),
                );
                claim.metadata.name = Some(self.claim_name(&template.name_any(), index));
                claim.metadata.namespace = Some(self.namespace.clone());
                let labels = claim.metadata.labels.get_or_insert_default();
                labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
                if with_set {
                    claim.metadata.owner_references =
                        Some(self.set.controller_owner_ref(&()).into_iter().collect());
                }
                claim
            })
    }

    fn pod(&self, index: i32) -> Pod {
        let name = format!("{}-{index}", self.name);
        let owner = self.set.controller_owner_ref(&()).unwrap_or_default();
        let mut pod = pod_from(&self.spec.template, &name, &self.namespace, owner);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(
            "statefulset.kubernetes.io/pod-name".to_owned(),
            name.clone(),
        );
        labels.insert("apps.kubernetes.io/pod-index".to_owned(), index.to_string());
        labels.insert(REVISION.to_owned(), self.revision.clone());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name);
        spec.subdomain = self.spec.service_name.clone();
        let volumes = spec.volumes.get_or_insert_default();
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let volume_name = template.name_any();
            volumes.retain(|volume| volume.name != volume_name);
            let source = PersistentVolumeClaimVolumeSource {
                claim_name: self.claim_name(&volume_name, index),
                read_only: None,
            };
            volumes.push(Volume {
                name: volume_name,
                persistent_volume_claim: Some(source),
                ..Volume::default()
            });
        }
        pod
    }

    fn drop_scaled_claims(
        &self,
        wanted: &std::ops::Range<i32>,
        mine: &BTreeMap<i32, &Arc<Pod>>,
        claims: &[Arc<PersistentVolumeClaim>],
        plan: &mut Plan,
    ) {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        if policy.and_then(|p| p.when_scaled.as_deref()) != Some("Delete") {
            return;
        }
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let prefix = format!("{}-{}", template.name_any(), self.name);
            for claim in claims
                .iter()
                .filter(|c| c.namespace().as_deref() == Some(self.namespace.as_str()))
            {
                let index = ordinal(&claim.name_any(), &prefix);
                let scaled_away =
                    index.is_some_and(|i| !wanted.contains(&i) && !mine.contains_key(&i));
                if scaled_away && claim.metadata.deletion_timestamp.is_none() {
                    plan.drop_claims.push(claim.name_any());
                }
            }
        }
    }

    /// Everything is healthy: under `RollingUpdate`, the highest outdated pod is next.
    fn roll(&self, mine: &BTreeMap<i32, &Arc<Pod>>, start: i32, plan: &mut Plan) {
        let strategy = self.spec.update_strategy.clone().unwrap_or_default();
        if strategy.type_.as_deref() == Some("OnDelete") {
            return;
        }
        let partition = strategy
            .rolling_update
            .and_then(|r| r.partition)
            .unwrap_or(0);
        let outdated = mine
            .iter()
            .rev()
            .filter(|(index, _)| **index - start >= partition);
        let next = outdated.map(|(_, pod)| *pod).find(|pod| !self.current(pod));
        plan.delete.extend(next.map(Arc::clone));
    }

    fn current(&self, pod: &Pod) -> bool {
        pod.labels().get(REVISION) == Some(&self.revision)
    }

    fn status(&self, mine: &BTreeMap<i32, &Arc<Pod>>) -> Value {
        let before = self.set.status.clone().unwrap_or_default();
        let alive: Vec<&&Arc<Pod>> = mine
            .values()
            .filter(|pod| !matches!(phase(pod), "Failed" | "Succeeded"))
            .collect();
        let count = |f: &dyn Fn(&Pod) -> bool| alive.iter().filter(|pod| f(pod)).count();
        let updated = count(&|pod| self.current(pod) && !terminating(pod));
        let ready_now = count(&|pod| ready(pod) && !terminating(pod));
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|s| s.type_.as_deref())
            != Some("OnDelete");
        let replicas = usize::try_from(self.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let complete =
            rolling && updated == replicas && ready_now == replicas && alive.len() == replicas;
        let current_revision = match before.current_revision.filter(|r| !r.is_empty()) {
            Some(current) if !complete => current,
            _ => self.revision.clone(),
        };
        let at_current = count(&|pod| {
            pod.labels().get(REVISION) == Some(&current_revision) && !terminating(pod)
        });
        json!({
            "observedGeneration": self.set.metadata.generation.unwrap_or(0),
            "replicas": alive.len(),
            "readyReplicas": ready_now,
            "availableReplicas": ready_now,
            "currentReplicas": at_current,
            "updatedReplicas": updated,
            "currentRevision": current_revision,
            "updateRevision": self.revision,
            "collisionCount": 0,
        })
    }
}

/// Makes what exists follow the plan. What already exists or is already gone is what was wanted.
pub(crate) async fn reconcile(
    client: &Client,
    data_dir: &std::path::Path,
    set: &StatefulSet,
    plan: Plan,
) -> Result<(), kube::Error> {
    let namespace = set.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let post = PostParams {
        field_manager: Some("statefulset-controller".to_owned()),
        ..PostParams::default()
    };
    // A claim is bound before its pod is made: the pod then starts at its first try.
    let make = async |claim: &PersistentVolumeClaim| match claims.create(&post, claim).await {
        Ok(created) => {
            if let Err(e) = claims::reconcile(client, data_dir, &created, &[]).await {
                tracing::debug!(claim = %created.name_any(), error = %e, "failed to bind a new claim; the next round retries");
            }
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(e) => Err(e),
    };
    futures::future::try_join_all(plan.claims.iter().map(make)).await?;
    futures::future::try_join_all(
        plan.create
            .iter()
            .map(|pod| unless_exists(pods.create(&post, pod))),
    )
    .await?;
    for pod in &plan.delete {
        let preconditions = Some(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        };
        unless_gone(pods.delete(&pod.name_any(), &params)).await?;
    }
    for claim in &plan.drop_claims {
        unless_gone(claims.delete(claim, &DeleteParams::default())).await?;
    }
    let before = serde_json::to_value(set.status.clone().unwrap_or_default()).unwrap_or_default();
    if differs(&before, &plan.status) {
        let patch = Patch::Merge(json!({"status": plan.status}));
        unless_gone(sets.patch_status(&set.name_any(), &PatchParams::default(), &patch)).await?;
    }
    Ok(())
}

/// Whether any wanted field has another value; absent counts are zero.
pub(crate) fn differs(before: &Value, wanted: &Value) -> bool {
    let fields = wanted.as_object().into_iter().flatten();
    fields
        .into_iter()
        .any(|(name, value)| match before.get(name) {
            Some(now) => now != value,
            None => value != &json!(0),
        })
}

/// 409 on a create means that it is there: a stale view asked twice.
pub(crate) async fn unless_exists<T>(
    result: impl Future<Output = Result<T, kube::Error>>,
) -> Result<(), kube::Error> {
    match result.await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}

/// 404 on a change means that it is gone, 409 with a UID precondition that another has its name.
pub(crate) async fn unless_gone<T>(
    result: impl Future<Output = Result<T, kube::Error>>,
) -> Result<(), kube::Error> {
    match result.await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
