//! What does a KafkaCluster's status say, and is it the truth?
//!
//! A status is written only when it differs from what is there, so an unchanged world causes no writes and no new reconciles.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use operator_core::api::v1alpha1::{
    BrokerStatus, EffectiveCluster, KafkaCluster, KafkaClusterStatus, ListenerStatus, PoolStatus,
    RollCurrent, RollPhase, RollStatus,
};
use operator_core::conditions::{self, Verdict};
use operator_core::identity::{Identity, Node};
use operator_core::roll::Step;
use operator_core::validate::{Invalid, ValidatedCluster};
use operator_core::{build, names};
use serde_json::json;

use super::roll::Facts;
use super::verdicts::{self, held, is_ready, ready_count};
use super::{Error, event};
use crate::apply::CLUSTER_MANAGER;
use crate::context::Context;
use crate::events::Reason;

/// Writes the status after a reconcile that went through. Returns whether nothing is under way any more.
pub(super) async fn update(
    ctx: &Context,
    object: &KafkaCluster,
    cluster: &ValidatedCluster,
    identity: &Identity,
    facts: &Facts,
) -> Result<bool, Error> {
    let old = object.status.clone().unwrap_or_default();
    let verdicts = verdicts::verdicts(object, identity, facts);
    let settled = verdicts::settled(&verdicts);
    let mut status = describe(ctx, object, cluster, identity, facts);
    status.conditions = conditions::merge(
        &old.conditions,
        &verdicts,
        object.metadata.generation,
        &now(),
    );
    let ready = conditions::is_true(&status.conditions, "Ready");
    status.phase = Some(verdicts::phase(&old, ready, facts).into());
    status.message = Some(verdicts::message(identity, facts));
    write(ctx, object, &status).await?;
    tell(ctx, object, &old, &status).await;
    let held = [
        (Reason::ChangeHeldBack, held(identity)),
        (Reason::StorageChangeRefused, verdicts::refused(facts)),
    ];
    for (reason, text) in held {
        let before = old.message.as_deref().unwrap_or_default();
        if !text.is_empty() && !before.contains(&text) {
            event(ctx, object, reason, text).await;
        }
    }
    Ok(settled)
}

/// The spec cannot be built: whatever runs keeps running.
pub(super) async fn invalid(
    ctx: &Context,
    object: &KafkaCluster,
    invalid: &Invalid,
) -> Result<(), Error> {
    let text = invalid.to_string();
    let verdicts = [
        Verdict::new("Ready", false, "Invalid", &text),
        Verdict::new(
            "Progressing",
            false,
            "Invalid",
            "the last valid generation keeps running",
        ),
    ];
    let news = amend(ctx, object, &verdicts, "Invalid", &text).await?;
    if news {
        event(ctx, object, Reason::Invalid, text).await;
    }
    Ok(())
}

/// The pause annotation is there.
pub(super) async fn paused(ctx: &Context, object: &KafkaCluster) -> Result<(), Error> {
    let text = format!(
        "the annotation {} pauses the operator for this cluster",
        names::PAUSE_ANNOTATION
    );
    amend(
        ctx,
        object,
        &[Verdict::new("Progressing", false, "Paused", &text)],
        "Paused",
        &text,
    )
    .await
    .map(|_| ())
}

/// A step failed; it is retried.
pub(super) async fn failed(
    ctx: &Context,
    object: &KafkaCluster,
    error: &Error,
) -> Result<(), Error> {
    let reason = match error {
        Error::Build(_) => "BuildFailed",
        Error::Panicked(_) => "InternalError",
        Error::Dereference(_)
        | Error::Children(_)
        | Error::Claim { .. }
        | Error::Orphan { .. }
        | Error::Restart { .. }
        | Error::Status(_) => "ApiError",
    };
    let text = crate::controllers::chain(error);
    let verdicts = [Verdict::new("Progressing", true, reason, &text)];
    let ready = object
        .status
        .as_ref()
        .is_some_and(|status| conditions::is_true(&status.conditions, "Ready"));
    if ready {
        return amend(ctx, object, &verdicts, "Ready", &text)
            .await
            .map(|_| ());
    }
    let verdicts = [
        Verdict::new("Ready", false, reason, &text),
        verdicts[0].clone(),
    ];
    amend(ctx, object, &verdicts, "Progressing", &text)
        .await
        .map(|_| ())
}

/// Changes conditions, phase and message and keeps all the rest. Returns whether the message is new.
async fn amend(
    ctx: &Context,
    object: &KafkaCluster,
    verdicts: &[Verdict],
    phase: &str,
    message: &str,
) -> Result<bool, Error> {
    let old = object.status.clone().unwrap_or_default();
    let news = old.message.as_deref() != Some(message);
    let status = KafkaClusterStatus {
        observed_generation: object.metadata.generation,
        phase: Some(phase.into()),
        message: Some(message.into()),
        conditions: conditions::merge(
            &old.conditions,
            verdicts,
            object.metadata.generation,
            &now(),
        ),
        ..old
    };
    write(ctx, object, &status).await?;
    Ok(news)
}

fn now() -> Time {
    // Conditions carry whole seconds; more would differ from what the API server gives back.
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

async fn write(
    ctx: &Context,
    object: &KafkaCluster,
    status: &KafkaClusterStatus,
) -> Result<(), Error> {
    if object.status.as_ref() == Some(status) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "tidemark.dev/v1alpha1",
        "kind": "KafkaCluster",
        "metadata": { "name": object.name_any() },
        "status": status,
    });
    let params = PatchParams::apply(CLUSTER_MANAGER).force();
    let api = ctx.api::<KafkaCluster>(&object.namespace().unwrap_or_default());
    api.patch_status(&object.name_any(), &params, &Patch::Apply(patch))
        .await
        .map_err(|error| Error::Status(Box::new(error)))?;
    Ok(())
}

fn describe(
    ctx: &Context,
    object: &KafkaCluster,
    cluster: &ValidatedCluster,
    identity: &Identity,
    facts: &Facts,
) -> KafkaClusterStatus {
    let host = names::bootstrap_host(
        &cluster.name,
        &cluster.namespace,
        &ctx.settings.cluster_domain,
    );
    let listeners: Vec<ListenerStatus> = cluster
        .listeners
        .iter()
        .map(|listener| ListenerStatus {
            name: listener.name.clone(),
            bootstrap_servers: format!("{host}:{}", listener.port),
        })
        .collect();
    let broker = |node: &Node| BrokerStatus {
        node_id: node.id,
        pod: node.pod.clone(),
        pool: node.pool.clone(),
        roles: node.roles.clone(),
        ready: is_ready(facts, &node.pod),
    };
    let mut pools: Vec<String> = Vec::new();
    for node in &identity.nodes {
        if !pools.contains(&node.pool) {
            pools.push(node.pool.clone());
        }
    }
    let pool = |name: String| PoolStatus {
        replicas: identity.replicas(&name),
        ready_replicas: count(
            identity
                .pool(&name)
                .filter(|node| is_ready(facts, &node.pod))
                .count(),
        ),
        name,
    };
    KafkaClusterStatus {
        observed_generation: object.metadata.generation,
        cluster_id: Some(identity.cluster_id.clone()),
        bootstrap_servers: listeners
            .first()
            .map(|listener| listener.bootstrap_servers.clone()),
        listeners,
        ready: Some(format!("{}/{}", ready_count(facts), identity.nodes.len())),
        brokers: identity.nodes.iter().map(broker).collect(),
        pools: pools.into_iter().map(pool).collect(),
        effective: Some(EffectiveCluster {
            image: cluster
                .image
                .clone()
                .unwrap_or_else(|| ctx.settings.image.clone()),
            config: build::effective_config(cluster, identity, &ctx.settings),
        }),
        roll: roll_status(object, facts),
        ..KafkaClusterStatus::default()
    }
}

fn roll_status(object: &KafkaCluster, facts: &Facts) -> Option<RollStatus> {
    let current = match &facts.step {
        Step::Done => return None,
        Step::Wait {
            pod, phase, block, ..
        } => RollCurrent {
            pod: pod.clone(),
            phase: *phase,
            last_block: Some(block.clone()),
        },
        Step::Restart(pods) => RollCurrent {
            pod: pods.first()?.0.clone(),
            phase: RollPhase::AwaitReady,
            last_block: None,
        },
    };
    let pending = facts
        .pods
        .iter()
        .filter(|pod| !pod.current && pod.name != current.pod)
        .map(|pod| pod.name.clone());
    Some(RollStatus {
        generation: object.metadata.generation.unwrap_or_default(),
        pending: pending.collect(),
        current: Some(current),
    })
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Events on what changed.
async fn tell(
    ctx: &Context,
    object: &KafkaCluster,
    old: &KafkaClusterStatus,
    new: &KafkaClusterStatus,
) {
    let message = new.message.clone().unwrap_or_default();
    match (
        conditions::is_true(&old.conditions, "Ready"),
        conditions::is_true(&new.conditions, "Ready"),
    ) {
        (false, true) => event(ctx, object, Reason::ClusterReady, &message).await,
        (true, false) if new.phase.as_deref() == Some("Degraded") => {
            event(ctx, object, Reason::ClusterDegraded, &message).await;
        }
        _ => {}
    }
}
