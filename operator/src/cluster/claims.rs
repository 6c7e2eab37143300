//! What do the volume claims remember, and do they go with the cluster?
//!
//! Each claim carries the cluster id and the node id of the data on it, so that a KafkaCluster that is deleted and created again takes its
//! data up again. With `deletionPolicy: Delete` it also carries an owner reference: garbage collection then takes it after the pods.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use operator_core::api::v1alpha1::DeletionPolicy;
use operator_core::build::Owner;
use operator_core::identity::Identity;
use operator_core::names;
use operator_core::validate::ValidatedCluster;
use serde_json::json;

use super::Error;
use crate::apply;
use crate::context::Context;

/// Marks every claim of a node of the cluster; `false` if one has to be looked at again. Claims of no node (left by an earlier, larger
/// cluster) are not touched.
pub(super) async fn mark(
    ctx: &Context,
    cluster: &ValidatedCluster,
    identity: &Identity,
    claims: &[PersistentVolumeClaim],
    owner: &Owner,
) -> Result<bool, Error> {
    let mut all = true;
    let api = ctx.api::<PersistentVolumeClaim>(&cluster.namespace);
    for node in &identity.nodes {
        let name = names::claim(&node.pod);
        let Some(claim) = claims.iter().find(|claim| claim.name_any() == name) else {
            continue;
        };
        // A removed pool has no policy any more: what is not understood is kept.
        let policy = cluster
            .pool(&node.pool)
            .map_or(DeletionPolicy::Retain, |pool| pool.deletion_policy);
        let references = wanted_references(claim, owner, policy);
        let id = node.id.to_string();
        let annotations = claim.annotations();
        let marked = annotations.get(names::NODE_ID_ANNOTATION) == Some(&id)
            && annotations.get(names::CLUSTER_ID_ANNOTATION) == Some(&identity.cluster_id);
        if claim.metadata.deletion_timestamp.is_some()
            || (marked && references == claim.owner_references())
        {
            continue;
        }
        let patch = json!({ "metadata": {
            "resourceVersion": claim.resource_version(),
            "annotations": { names::NODE_ID_ANNOTATION: id, names::CLUSTER_ID_ANNOTATION: identity.cluster_id },
            "ownerReferences": references,
        }});
        match api
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {}
            // Gone, or changed since it was read.
            Err(error) if apply::is_not_found(&error) || apply::is_conflict(&error) => all = false,
            Err(source) => {
                return Err(Error::Claim {
                    name,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(all)
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
    let mut references: Vec<OwnerReference> = claim
        .owner_references()
        .iter()
        .filter(|reference| !is_ours(reference))
        .cloned()
        .collect();
    if policy == DeletionPolicy::Delete {
        references.push(ours);
    }
    references
}
