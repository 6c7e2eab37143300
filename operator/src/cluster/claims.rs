//! What do the volume claims remember, and do they go with the cluster?
//!
//! Each claim carries the cluster id and the node id of the data on it, so that a KafkaCluster that is deleted and created again takes its
//! data up again. With `deletionPolicy: Delete` it also carries an owner reference, and Kubernetes adds one to its StatefulSet: garbage
//! collection takes it when both are gone, after the pods. One to the StatefulSet alone would lose the data to whoever deletes that by hand,
//! so ours is there before that and goes after it, or with it.

use std::borrow::Cow;

use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::StatefulSet;
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

use super::{Error, roll};
use crate::apply;
use crate::context::Context;

/// Marks every claim of a node of the cluster whose pool has this `policy`; `false` if one has to be looked at again. `sets` are the cluster's
/// StatefulSets. Claims of no node (left by an earlier, larger cluster) are not touched.
pub(super) async fn mark(
    ctx: &Context,
    cluster: &ValidatedCluster,
    identity: &Identity,
    (claims, sets): (&[PersistentVolumeClaim], &[StatefulSet]),
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
        let set = names::stateful_set(&cluster.name, &node.pool);
        let now = sets.iter().find(|now| now.name_any() == set);
        let mark = Mark {
            node_id: node.id.to_string(),
            cluster_id: &identity.cluster_id,
            owner,
            set_uid: now.and_then(|now| now.uid()),
            is_released: now.is_none_or(keeps_claims),
            set,
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
    /// The StatefulSet of the node's pool, and the uid of the one that is there.
    set: String,
    set_uid: Option<String>,
    /// Whether its controller, if there is one, knows that the claims stay.
    is_released: bool,
    policy: DeletionPolicy,
}

/// How often a claim is read anew because somebody else wrote it meanwhile.
const TRIES: usize = 5;

impl Mark<'_> {
    /// Marks the claim unless it is marked or going; `false` if that has to be tried again, or waits for the StatefulSet's controller. A cluster that is deleted now must find its
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
                return Ok(!self.waits(&claim));
            };
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await;
            match patched {
                Ok(_) => return Ok(!self.waits(&claim)),
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
        let references = self.wanted_references(claim);
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

    /// Whether ours has to stay, for now, on a claim that is to belong to nobody: the StatefulSet's controller takes its own reference away when
    /// it has seen that the StatefulSet says `Retain`; before that it could add it again.
    fn waits(&self, claim: &PersistentVolumeClaim) -> bool {
        let references = claim.owner_references();
        let is_current = |reference: &OwnerReference| {
            self.is_of_set(reference) && Some(&reference.uid) == self.set_uid.as_ref()
        };
        self.policy == DeletionPolicy::Retain
            && references.contains(&self.owner.reference())
            && (!self.is_released || references.iter().any(is_current))
    }

    fn is_of_set(&self, reference: &OwnerReference) -> bool {
        reference.kind == StatefulSet::KIND
            && reference.api_version == StatefulSet::API_VERSION
            && reference.name == self.set
    }

    /// The claim's references with ours added or taken away; a reference to an earlier KafkaCluster of the same name goes too.
    ///
    /// Of a claim that stays, ours is the last to go: before it the one to the StatefulSet, which its own controller takes away, and with it
    /// any to an earlier StatefulSet of the same name. That one is left to garbage collection otherwise, which deletes a claim without another
    /// owner.
    fn wanted_references(&self, claim: &PersistentVolumeClaim) -> Vec<OwnerReference> {
        let ours = self.owner.reference();
        let is_kept = |reference: &OwnerReference| {
            if reference.kind == ours.kind && reference.api_version == ours.api_version {
                let stays = self.policy == DeletionPolicy::Delete || self.waits(claim);
                stays && *reference == ours
            } else if self.policy == DeletionPolicy::Retain && self.is_of_set(reference) {
                Some(&reference.uid) == self.set_uid.as_ref()
            } else {
                true
            }
        };
        let there = claim.owner_references().iter();
        let mut references: Vec<OwnerReference> = there
            .filter(|reference| is_kept(reference))
            .cloned()
            .collect();
        if self.policy == DeletionPolicy::Delete && !references.contains(&ours) {
            references.push(ours);
        }
        references
    }
}

/// Whether a StatefulSet says that its claims stay, and its controller has seen it.
fn keeps_claims(set: &StatefulSet) -> bool {
    let spec = set.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let when_deleted = policy.and_then(|policy| policy.when_deleted.as_deref());
    when_deleted != Some(names::CLAIMS_GO) && roll::is_taken_up(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "6d3c3d4e-0000-4000-8000-000000000001";
    const BEFORE: &str = "6d3c3d4e-0000-4000-8000-000000000002";

    fn set(name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "StatefulSet".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    fn shop(uid: &str) -> Owner {
        Owner {
            name: "shop".to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// What `policy` makes of a claim of pool `main` that has `references`.
    fn wanted(policy: DeletionPolicy, references: &[OwnerReference]) -> Vec<OwnerReference> {
        wanted_of(true, policy, references)
    }

    /// The same, where the StatefulSet's controller may not know yet that the claims stay.
    fn wanted_of(
        is_released: bool,
        policy: DeletionPolicy,
        references: &[OwnerReference],
    ) -> Vec<OwnerReference> {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.owner_references = Some(references.to_vec());
        let mark = Mark {
            node_id: "0".to_owned(),
            cluster_id: "rBPUpmQ3TzSDzbEaxX6p5A",
            owner: &shop(NOW),
            set: "shop-main".to_owned(),
            set_uid: Some(NOW.to_owned()),
            is_released,
            policy,
        };
        mark.wanted_references(&claim)
    }

    #[test]
    fn a_claim_that_stays_is_let_go_after_its_stateful_set_let_it_go() {
        let (ours, now) = (shop(NOW).reference(), set("shop-main", NOW));
        let both = [now, ours.clone()];
        assert_eq!(wanted(DeletionPolicy::Retain, &both), both);
        let alone = std::slice::from_ref(&ours);
        assert_eq!(wanted_of(false, DeletionPolicy::Retain, alone), alone);
        assert_eq!(wanted(DeletionPolicy::Retain, alone), []);
    }

    #[test]
    fn a_claim_that_stays_belongs_to_no_earlier_stateful_set() {
        let (ours, before) = (shop(NOW).reference(), set("shop-main", BEFORE));
        let references = [before.clone(), ours.clone()];
        assert_eq!(wanted(DeletionPolicy::Retain, &references), []);
        let other = set("somebody", BEFORE);
        let references = [before, other.clone(), ours];
        assert_eq!(wanted(DeletionPolicy::Retain, &references), [other]);
    }

    #[test]
    fn a_claim_that_goes_belongs_to_this_cluster_and_to_whoever_else_has_it() {
        let (ours, set) = (shop(NOW).reference(), set("shop-main", NOW));
        let both = [set.clone(), ours];
        assert_eq!(
            wanted(DeletionPolicy::Delete, std::slice::from_ref(&set)),
            both
        );
        assert_eq!(wanted(DeletionPolicy::Delete, &both), both);
        let of_earlier = [shop(BEFORE).reference(), set];
        assert_eq!(wanted(DeletionPolicy::Delete, &of_earlier), both);
    }
}
