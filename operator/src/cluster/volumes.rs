//! How do the volumes of a pool grow?
//!
//! The steps and their order are decided by [`operator_core::storage`]; each of them is one write here. A refusal of the API server (a
//! StorageClass that cannot expand) is a sentence in the status and stops nothing else.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::names;
use operator_core::storage::{Claim, Observed, Plan, Refused, Template};
use serde_json::json;

use super::dereference::Observed as Children;
use super::{Error, event};
use crate::apply;
use crate::context::Context;
use crate::events::Reason;

/// What is there of volumes. A StatefulSet that is being deleted counts as gone.
pub(super) fn observe(children: &Children) -> Observed {
    let live = children
        .stateful_sets
        .iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none());
    let template = |set: &StatefulSet| {
        let pool = set.labels().get(names::POOL_LABEL)?.clone();
        let template = set
            .spec
            .as_ref()?
            .volume_claim_templates
            .as_ref()?
            .first()?;
        let spec = template.spec.as_ref()?;
        let template = Template {
            size: size(spec)?,
            class: spec.storage_class_name.clone(),
        };
        Some((pool, template))
    };
    let claim = |claim: &PersistentVolumeClaim| {
        let status = claim.status.as_ref();
        let capacity = status.and_then(|status| status.capacity.as_ref()?.get("storage").cloned());
        let state = Claim {
            requested: size(claim.spec.as_ref()?)?,
            capacity: capacity.map(|quantity| quantity.0),
            bound: status.and_then(|status| status.phase.as_deref()) == Some("Bound"),
        };
        Some((claim.name_any(), state))
    };
    Observed {
        templates: live.filter_map(template).collect(),
        claims: children.claims.iter().filter_map(claim).collect(),
    }
}

fn size(spec: &PersistentVolumeClaimSpec) -> Option<String> {
    let requests = spec.resources.as_ref()?.requests.as_ref()?;
    Some(requests.get("storage")?.0.clone())
}

/// Takes the steps that the plan allows now; what the API server refuses is added to it.
pub(super) async fn grow(
    ctx: &Context,
    object: &KafkaCluster,
    children: &Children,
    plan: &mut Plan,
) -> Result<(), Error> {
    for (name, size) in plan.grow.clone() {
        let claim = children
            .claims
            .iter()
            .find(|claim| claim.name_any() == name);
        if let Some(claim) = claim.filter(|claim| claim.metadata.deletion_timestamp.is_none())
            && let Some(refused) = raise(ctx, object, claim, &size).await?
        {
            plan.growing
                .retain(|sentence| !sentence.starts_with(&format!("{name} ")));
            plan.refused.push(refused);
        }
    }
    for pool in &plan.replace {
        let name = names::stateful_set(&object.name_any(), pool);
        let set = children
            .stateful_sets
            .iter()
            .find(|set| set.name_any() == name);
        if let Some(set) = set {
            orphan(ctx, object, set).await?;
        }
    }
    Ok(())
}

/// Raises the request of one claim.
async fn raise(
    ctx: &Context,
    object: &KafkaCluster,
    claim: &PersistentVolumeClaim,
    size: &str,
) -> Result<Option<Refused>, Error> {
    let name = claim.name_any();
    let patch = json!({
        "metadata": { "resourceVersion": claim.resource_version() },
        "spec": { "resources": { "requests": { "storage": size } } },
    });
    let api = ctx.api::<PersistentVolumeClaim>(&object.namespace().unwrap_or_default());
    let patched = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Ok(_) => {
            let note = format!("claim {name} grows to {size}");
            event(ctx, object, Reason::VolumeGrows, note).await;
            Ok(None)
        }
        // Gone, or changed since it was read: the change wakes this reconcile again.
        Err(error) if apply::is_not_found(&error) || apply::is_conflict(&error) => Ok(None),
        Err(error) if apply::is_forbidden(&error) || apply::is_invalid(&error) => {
            Ok(Some(Refused::Claim {
                claim: name,
                want: size.to_owned(),
                message: crate::controllers::chain(&error),
            }))
        }
        Err(source) => Err(Error::Claim {
            name,
            source: Box::new(source),
        }),
    }
}

/// Deletes a StatefulSet and leaves its pods running; the next reconcile makes it anew, and it adopts them.
async fn orphan(ctx: &Context, object: &KafkaCluster, set: &StatefulSet) -> Result<(), Error> {
    let name = set.name_any();
    let preconditions = Preconditions {
        uid: set.uid(),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let api = ctx.api::<StatefulSet>(&object.namespace().unwrap_or_default());
    match api.delete(&name, &params).await {
        Ok(_) => {
            tracing::info!(%name, "made room for a StatefulSet with a larger claim template; its pods run on");
            Ok(())
        }
        Err(error) if apply::is_not_found(&error) || apply::is_conflict(&error) => Ok(()),
        Err(source) => Err(Error::Orphan {
            name,
            source: Box::new(source),
        }),
    }
}
