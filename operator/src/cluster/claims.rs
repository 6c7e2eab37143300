//! What do the volume claims remember, and do they go with the cluster?
//!
//! Each claim carries the cluster id and the node id of the data on it, so that a KafkaCluster that is deleted and created again takes its
//! data up again. With `deletionPolicy: Delete` it also carries an owner reference, and Kubernetes adds one to its StatefulSet: garbage
//! collection takes it when both are gone, after the pods. One to the StatefulSet alone would lose the data to whoever deletes that by hand,
//! so ours is there before that and goes after it.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use operator_core::api::v1alpha1::DeletionPolicy;
use operator_core::build::Owner;
use operator_core::identity::Identity;
use operator_core::names;
use operator_core::validate::ValidatedCluster;
use serde_json::json;

use super::Error;
use crate::apply;
use crate::context::Context;

/// Marks every claim of a node of the cluster whose pool has this `policy`; `false` if one has to be looked at again. Claims of no node
/// (left by an earlier, larger cluster) are not touched.
pub(super) async fn mark(
    ctx: &Context,
    cluster: &ValidatedCluster,
    identity: &Identity,
    claims: &[PersistentVolumeClaim],
    owner: &Owner,
    policy: DeletionPolicy,
) -> Result<bool, Error> {
    let mut all = true;
    let api = ctx.api::<PersistentVolumeClaim>(&cluster.namespace);
    for node in &identity.nodes {
        let name = names::claim(&node.pod);
        let Some(claim) = claims.iter().find(|claim| claim.name_any() == name) else {
            continue;
        };
        // A removed pool has no policy any more: what is not understood is kept.
        let has = cluster
            .pool(&node.pool)
            .map_or(DeletionPolicy::Retain, |pool| pool.deletion_policy);
        if has != policy {
            continue;
        }
        let mark = Mark {
            node_id: node.id.to_string(),
            cluster_id: &identity.cluster_id,
            owner,
            policy,
        };
        all &= mark.put_on(&api, claim).await?;
    }
    Ok(all)
}

/// What a claim remembers.
struct Mark<'a> {
    node_id: String,
    cluster_id: &'a str,
    owner: &'a Owner,
    policy: DeletionPolicy,
}

/// How often a claim is read anew because somebody else wrote it meanwhile.
const TRIES: usize = 5;

impl Mark<'_> {
    /// Marks the claim unless it is marked or going; `false` if that has to be tried again. A cluster that is deleted now must find its
    /// nodes when it comes back, so a conflict is not left to the next reconcile.
    async fn put_on(
        &self,
        api: &Api<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) -> Result<bool, Error> {
        let name = claim.name_any();
        let failed = |source| Error::Claim {
            name: name.clone(),
            source: Box::new(source),
        };
        let ours = ListParams::default().labels(&names::selector(&self.owner.name));
        let mut claim = Cow::Borrowed(claim);
        for _ in 0..TRIES {
            let Some(patch) = self.patch(&claim) else {
                return Ok(true);
            };
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            match patched {
                Ok(_) => return Ok(true),
                Err(error) if apply::is_not_found(&error) => return Ok(false),
                Err(error) if apply::is_conflict(&error) => {}
                Err(error) => return Err(failed(error)),
            }
            // There is no right to get one alone, and none is needed.
            let all = api.list(&ours).await.map_err(failed)?;
            let Some(newer) = all.into_iter().find(|other| other.name_any() == name) else {
                return Ok(false);
            };
            claim = Cow::Owned(newer);
        }
        Ok(false)
    }

    /// What has to be written, if anything.
    fn patch(&self, claim: &PersistentVolumeClaim) -> Option<serde_json::Value> {
        let references = wanted_references(claim, self.owner, self.policy);
        let says =
            |key: &str, value: &str| claim.annotations().get(key).is_some_and(|is| is == value);
        let marked = says(names::NODE_ID_ANNOTATION, &self.node_id)
            && says(names::CLUSTER_ID_ANNOTATION, self.cluster_id)
            && references == claim.owner_references();
        let needed = claim.metadata.deletion_timestamp.is_none() && !marked;
        needed.then(|| {
            json!({ "metadata": {
                "resourceVersion": claim.resource_version(),
                "annotations": {
                    names::NODE_ID_ANNOTATION: self.node_id,
                    names::CLUSTER_ID_ANNOTATION: self.cluster_id,
                },
                "ownerReferences": references,
            }})
        })
    }
}

/// The claim's references with ours added or taken away; a reference to an earlier KafkaCluster of the same name goes too.
fn wanted_references(
    claim: &PersistentVolumeClaim,
    owner: &Owner,
    policy: DeletionPolicy,
) -> Vec<OwnerReference> {
    let ours = owner.reference();
    let is_ours = |reference: &&OwnerReference| {
        reference.kind == ours.kind && reference.api_version == ours.api_version
    };
    let there = claim.owner_references().iter();
    let mut references: Vec<OwnerReference> = there
        .filter(|reference| {
            !is_ours(reference) || (policy == DeletionPolicy::Delete && **reference == ours)
        })
        .cloned()
        .collect();
    if policy == DeletionPolicy::Delete && !references.contains(&ours) {
        references.push(ours);
    }
    references
}
