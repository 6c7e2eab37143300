//! How does one KafkaCluster come true?
//!
//! Flow: `dereference` (what is there) -> validate -> identity -> build -> apply and prune -> claims -> roll -> `status`. Every step is
//! idempotent and the whole is repeated on every change, so any of them may be the first after a crash.
//!
//! There is no finalizer: children go by owner reference, volumes stay or go by theirs, so deleting a cluster never hangs.

mod claims;
mod dereference;
mod roll;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use operator_core::api::v1alpha1::KafkaCluster;
use operator_core::build::{self, ClusterObjects, Owner};
use operator_core::identity::{self, Identity};
use operator_core::{names, validate};

use self::dereference::Observed;
use crate::context::{Context, jitter};
use crate::{apply, events};

/// Why a reconcile of a cluster failed; it is retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The children could not be read.
    #[error("failed to read the children of the cluster")]
    Dereference(#[source] Box<kube::Error>),
    /// The objects could not be built.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// An object could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A volume claim could not be marked.
    #[error("failed to mark the volume claim {name}")]
    Claim {
        /// The claim.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A pod could not be deleted.
    #[error("failed to restart pod {name}")]
    Restart {
        /// The pod.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The status could not be written.
    #[error("failed to write the status")]
    Status(#[source] Box<kube::Error>),
}

/// One reconcile.
pub(crate) async fn reconcile(
    object: Arc<KafkaCluster>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if is_paused(&object) {
        status::paused(&ctx, &object).await?;
        return Ok(Action::await_change());
    }
    let cluster = match validate::cluster(&object) {
        Ok(cluster) => cluster,
        Err(invalid) => {
            status::invalid(&ctx, &object, &invalid).await?;
            return Ok(Action::await_change());
        }
    };
    let result = make_true(&ctx, &object, &cluster).await;
    if let Err(error) = &result {
        // The reason belongs where people look; that this write fails too must not hide the first error.
        if let Err(second) = status::failed(&ctx, &object, error).await {
            tracing::warn!(error = %second, "failed to report a failure in the status");
        }
    }
    result
}

async fn make_true(
    ctx: &Context,
    object: &KafkaCluster,
    cluster: &validate::ValidatedCluster,
) -> Result<Action, Error> {
    let owner = Owner {
        name: cluster.name.clone(),
        uid: object.uid().unwrap_or_default(),
    };
    let observed = dereference::dereference(ctx, cluster).await?;
    let identity = identity::assign(cluster, &owner.uid, &dereference::known(&observed, object));
    let objects = build::cluster(cluster, &identity, &owner, &ctx.settings)?;
    let stateful_sets = apply_all(ctx, cluster, &identity, &objects, &observed, &owner.uid).await?;
    claims::mark(ctx, cluster, &identity, &observed.claims, &owner).await?;
    let facts = roll::observe(ctx, object, &identity, &stateful_sets, &observed.pods).await;
    roll::advance(ctx, object, &facts).await?;
    let settled = status::update(ctx, object, cluster, &identity, &facts).await?;
    let delay = if settled {
        ctx.drift_interval.min(HEALTH_INTERVAL)
    } else {
        UNSETTLED_INTERVAL
    };
    Ok(Action::requeue(jitter(&owner.uid, delay)))
}

/// How often the health of a settled cluster is asked again.
const HEALTH_INTERVAL: Duration = Duration::from_secs(15);
/// How often a cluster that is on its way is looked at, besides every change of its children.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(2);

fn is_paused(object: &KafkaCluster) -> bool {
    object
        .annotations()
        .get(names::PAUSE_ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// Writes what was built, and deletes what is no longer. Pods that may still need it (removed pools that are held) keep what they have.
async fn apply_all(
    ctx: &Context,
    cluster: &validate::ValidatedCluster,
    identity: &Identity,
    objects: &ClusterObjects,
    observed: &Observed,
    uid: &str,
) -> Result<Vec<StatefulSet>, Error> {
    let namespace = &cluster.namespace;
    let accounts = ctx.api::<ServiceAccount>(namespace);
    let (maps, services) = (
        ctx.api::<ConfigMap>(namespace),
        ctx.api::<Service>(namespace),
    );
    let (budgets, sets) = (
        ctx.api::<PodDisruptionBudget>(namespace),
        ctx.api::<StatefulSet>(namespace),
    );

    apply::child(
        &accounts,
        &objects.service_account,
        &observed.service_accounts,
        uid,
    )
    .await?;
    for config_map in &objects.config_maps {
        apply::child(&maps, config_map, &observed.config_maps, uid).await?;
    }
    for service in &objects.services {
        apply::child(&services, service, &observed.services, uid).await?;
    }
    apply::child(&budgets, &objects.pdb, &observed.budgets, uid).await?;
    let mut applied = Vec::new();
    for stateful_set in &objects.stateful_sets {
        applied.push(apply::child(&sets, stateful_set, &observed.stateful_sets, uid).await?);
    }

    let held = |pool: &String| cluster.pool(pool).is_none() && identity.replicas(pool) > 0;
    let held: Vec<String> = identity
        .nodes
        .iter()
        .map(|node| node.pool.clone())
        .filter(held)
        .collect();
    let keep = |built: Vec<String>, of_pool: fn(&str, &str) -> String| -> BTreeSet<String> {
        built
            .into_iter()
            .chain(held.iter().map(|pool| of_pool(&cluster.name, pool)))
            .collect()
    };
    let none = |_: &str, _: &str| String::new();
    apply::prune(
        &accounts,
        &observed.service_accounts,
        &keep(
            names_of(std::slice::from_ref(&objects.service_account)),
            none,
        ),
        uid,
    )
    .await?;
    apply::prune(
        &maps,
        &observed.config_maps,
        &keep(names_of(&objects.config_maps), names::config_map),
        uid,
    )
    .await?;
    apply::prune(
        &services,
        &observed.services,
        &keep(names_of(&objects.services), none),
        uid,
    )
    .await?;
    apply::prune(
        &budgets,
        &observed.budgets,
        &keep(names_of(std::slice::from_ref(&objects.pdb)), none),
        uid,
    )
    .await?;
    apply::prune(
        &sets,
        &observed.stateful_sets,
        &keep(names_of(&objects.stateful_sets), names::stateful_set),
        uid,
    )
    .await?;

    let built = names_of(&objects.stateful_sets);
    applied.extend(
        observed
            .stateful_sets
            .iter()
            .filter(|set| !built.contains(&set.name_any()))
            .cloned(),
    );
    Ok(applied)
}

fn names_of<K: kube::Resource>(objects: &[K]) -> Vec<String> {
    objects
        .iter()
        .filter_map(|object| object.meta().name.clone())
        .collect()
}

/// Writes an event about a cluster.
pub(crate) async fn event(
    ctx: &Context,
    object: &KafkaCluster,
    reason: events::Reason,
    note: impl Into<String>,
) {
    events::publish(&ctx.recorder, &object.object_ref(&()), reason, note).await;
}
