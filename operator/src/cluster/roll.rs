//! What do the pods and the Kafka cluster look like, and which pod is replaced next?

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};
use operator_core::api::v1alpha1::{KafkaCluster, Role};
use operator_core::identity::Identity;
use operator_core::names;
use operator_core::roll::{self, KafkaHealth, PodState, Step};
use operator_core::storage;

use super::{Error, event, trouble};
use crate::apply;
use crate::context::Context;
use crate::events::Reason;

/// How long the cluster may take to say how it is; the next reconcile asks again.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// What one reconcile saw.
#[derive(Debug)]
pub(super) struct Facts {
    /// Pods of nodes of the cluster, in the order of the nodes.
    pub(super) pods: Vec<PodState>,
    /// What Kafka says; `None` when it was not asked, because nodes are missing anyway.
    pub(super) health: Option<KafkaHealth>,
    /// Whether every StatefulSet controller has seen what was applied.
    pub(super) observed: bool,
    /// What to do about outdated pods.
    pub(super) step: Step,
    /// Why a pod does not run, when that does not pass by itself.
    pub(super) trouble: Option<String>,
    /// What is done about volumes.
    pub(super) volumes: storage::Plan,
    /// Children that could not be written.
    pub(super) failures: Vec<apply::Error>,
}

/// Looks at pods and Kafka and decides.
pub(super) async fn observe(
    ctx: &Context,
    object: &KafkaCluster,
    identity: &Identity,
    sets: &[StatefulSet],
    pods: &[Pod],
) -> Facts {
    let observed = identity.nodes.iter().all(|node| {
        sets.iter()
            .any(|set| set.labels().get(names::POOL_LABEL) == Some(&node.pool) && is_taken_up(set))
    });
    let trouble = trouble::first(pods);
    let pods = pod_states(identity, sets, pods);
    let all_ready = pods.len() == identity.nodes.len() && pods.iter().all(|pod| pod.ready);
    let outdated = pods.iter().any(|pod| !pod.current);
    let any_broker = identity.nodes.iter().any(|node| {
        node.roles.contains(&Role::Broker)
            && pods.iter().any(|pod| pod.ready && pod.name == node.pod)
    });
    let health = if any_broker && (all_ready || outdated) {
        Some(ask(ctx, object).await)
    } else {
        None
    };
    let step = if observed {
        let unknown = KafkaHealth::Unknown("no broker is Ready".into());
        roll::next(
            &pods,
            identity.nodes.len(),
            health.as_ref().unwrap_or(&unknown),
        )
    } else {
        Step::Done
    };
    Facts {
        pods,
        health,
        observed,
        step,
        trouble,
        volumes: storage::Plan::default(),
        failures: Vec::new(),
    }
}

/// Whether the StatefulSet controller has seen what was applied last.
pub(super) fn is_taken_up(set: &StatefulSet) -> bool {
    let status = set.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    set.metadata.deletion_timestamp.is_none() && seen.is_some() && seen == set.metadata.generation
}

async fn ask(ctx: &Context, object: &KafkaCluster) -> KafkaHealth {
    let at = ctx.endpoint(object);
    match tokio::time::timeout(HEALTH_TIMEOUT, ctx.admin.health(&at)).await {
        Ok(Ok(health)) => KafkaHealth::Known {
            under_replicated: health.under_replicated,
            active_controller: health.active_controller,
        },
        Ok(Err(error)) => KafkaHealth::Unknown(error.to_string()),
        Err(_) => KafkaHealth::Unknown(format!(
            "no answer from {}:{} in {} s",
            at.host,
            at.port,
            HEALTH_TIMEOUT.as_secs()
        )),
    }
}

fn pod_states(identity: &Identity, sets: &[StatefulSet], pods: &[Pod]) -> Vec<PodState> {
    let state = |node: &operator_core::identity::Node| {
        let pod = pods.iter().find(|pod| pod.name_any() == node.pod)?;
        let set = sets
            .iter()
            .find(|set| set.labels().get(names::POOL_LABEL) == Some(&node.pool));
        let newest = set
            .and_then(|set| set.status.as_ref())
            .and_then(|status| status.update_revision.as_ref());
        let own = pod.labels().get("controller-revision-hash");
        Some(PodState {
            name: node.pod.clone(),
            uid: pod.uid().unwrap_or_default(),
            // A revision that is not known yet is no reason to restart anything.
            current: newest.is_none() || own.is_none() || own == newest,
            ready: is_ready(pod),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node_id: node.id,
        })
    };
    identity.nodes.iter().filter_map(state).collect()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Deletes the pods that the decision names, each only if it is still the one that was looked at.
pub(super) async fn advance(
    ctx: &Context,
    object: &KafkaCluster,
    facts: &Facts,
) -> Result<(), Error> {
    let Step::Restart(pods) = &facts.step else {
        return Ok(());
    };
    let api = ctx.api::<Pod>(&object.namespace().unwrap_or_default());
    for (name, uid) in pods {
        let preconditions = Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => {
                event(
                    ctx,
                    object,
                    Reason::PodRestarted,
                    format!("restarting {name} on the new template"),
                )
                .await;
            }
            // Another one stands in its place already, or none.
            Err(error) if apply::is_not_found(&error) || apply::is_conflict(&error) => {}
            Err(source) => {
                return Err(Error::Restart {
                    name: name.clone(),
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}
