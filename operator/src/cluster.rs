//! How does one KafkaCluster come true?
//!
//! Flow: `dereference` (what is there) -> validate -> identity -> `volumes` -> build -> `children` (apply and prune; `claims` before and after)
//! -> `roll` -> `status`. Every step is idempotent and the whole is repeated on every change, so any of them may be the first after a crash.
//!
//! There is no finalizer: children go by owner reference, volumes stay or go by theirs, so deleting a cluster never hangs.

mod children;
mod claims;
mod dereference;
mod roll;
mod status;
mod trouble;
mod verdicts;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use operator_core::api::v1alpha1::{DeletionPolicy, KafkaCluster};
use operator_core::build::{self, Owner};
use operator_core::{identity, names, storage, validate};

use crate::caught::Panicked;
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
    /// Objects could not be written, at least one; the others were.
    #[error("{}", list(.0))]
    Children(Vec<apply::Error>),
    /// A volume claim could not be changed.
    #[error("failed to change the volume claim {name}")]
    Claim {
        /// The claim.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A StatefulSet could not make room for one with larger volumes.
    #[error("failed to replace StatefulSet {name}")]
    Orphan {
        /// The StatefulSet.
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
    /// The reconcile panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

fn list(errors: &[apply::Error]) -> String {
    let texts: Vec<String> = errors
        .iter()
        .map(|error| crate::controllers::chain(error))
        .collect();
    texts.join("; ")
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
    match make_true(&ctx, &object, &cluster).await {
        Ok((action, failures)) if failures.is_empty() => Ok(action),
        Ok((_, failures)) => Err(Error::Children(failures)),
        Err(error) => {
            // The reason belongs where people look; that this write fails too must not hide the first error.
            if let Err(second) = status::failed(&ctx, &object, &error).await {
                tracing::warn!(error = %second, "failed to report a failure in the status");
            }
            Err(error)
        }
    }
}

/// Takes every step that can be taken. What could not be written stands in the status already and is returned to be retried.
async fn make_true(
    ctx: &Context,
    object: &KafkaCluster,
    cluster: &validate::ValidatedCluster,
) -> Result<(Action, Vec<apply::Error>), Error> {
    let owner = Owner {
        name: cluster.name.clone(),
        uid: object.uid().unwrap_or_default(),
    };
    let observed = dereference::dereference(ctx, cluster).await?;
    let identity = identity::assign(cluster, &owner.uid, &dereference::known(&observed, object));
    let mut volumes = storage::plan(cluster, &identity, &volumes::observe(&observed));
    volumes::grow(ctx, object, &observed, &mut volumes).await?;
    if !volumes.replace.is_empty() {
        // Its end is a change of a child, which wakes the reconcile that goes on here.
        return Ok((Action::requeue(UNSETTLED_INTERVAL), Vec::new()));
    }
    let cluster = &volumes.settle(cluster);
    let objects = build::cluster(cluster, &identity, &owner, &ctx.settings)?;
    let mark = |sets, policy| {
        let claims = (observed.claims.as_slice(), sets);
        claims::mark(ctx, cluster, &identity, claims, &owner, policy)
    };
    let mut marked = mark(&observed.stateful_sets, DeletionPolicy::Delete).await?;
    let written = children::write(ctx, cluster, &identity, &objects, &observed, &owner.uid).await;
    let sets = written.stateful_sets.as_slice();
    marked &= mark(sets, DeletionPolicy::Retain).await?;
    let mut facts = roll::observe(ctx, object, &identity, sets, &observed.pods).await;
    facts.volumes = volumes;
    facts.failures = written.failures;
    roll::advance(ctx, object, &facts).await?;
    let settled = status::update(ctx, object, cluster, &identity, &facts).await?;
    let delay = if settled && marked {
        ctx.drift_interval.min(HEALTH_INTERVAL)
    } else {
        UNSETTLED_INTERVAL
    };
    Ok((Action::requeue(jitter(&owner.uid, delay)), facts.failures))
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

/// Writes an event about a cluster.
pub(crate) async fn event(
    ctx: &Context,
    object: &KafkaCluster,
    reason: events::Reason,
    note: impl Into<String>,
) {
    events::publish(&ctx.recorder, &object.object_ref(&()), reason, note).await;
}
