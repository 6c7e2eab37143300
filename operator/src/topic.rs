//! How does one KafkaTopic come true?
//!
//! Flow: let go if unmanaged -> validate -> find the cluster -> who owns the topic -> describe -> change -> describe -> status.
//! The direction is one way: the object decides, and what somebody changes by hand in Kafka is changed back at the next look.
//!
//! A finalizer is there only while the object owns its topic and `deletionPolicy` is `Delete`: only then is there something to do before
//! the object may go.

mod cleanup;
mod finalizer;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use operator_core::api::v1alpha1::{DeletionPolicy, KafkaCluster, KafkaTopic};
use operator_core::topic::{Changes, ObservedTopic, changes, owns_before};
use operator_core::validate::{self, ValidatedTopic};
use types::ErrorCode;

use self::status::Report;
use crate::admin::{AdminError, ConfigChange, KafkaEndpoint, NewTopic};
use crate::caught::Panicked;
use crate::context::{Context, jitter};
use crate::events::{self, Reason};

/// Why a reconcile of a topic failed; it is retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The cluster object could not be read.
    #[error("failed to read KafkaCluster {name}")]
    Cluster {
        /// Its name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Kafka did not do what was asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The finalizer could not be set or taken away.
    #[error("failed to change the finalizer")]
    Finalizer(#[source] Box<kube::Error>),
    /// The status could not be written.
    #[error("failed to write the status")]
    Status(#[source] Box<kube::Error>),
    /// The reconcile panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// How soon a wait for another object is checked besides that object's changes.
const WAIT: Duration = Duration::from_secs(10);
/// How soon a topic that was just created is looked for again: metadata reaches all brokers within this.
const PROPAGATION: Duration = Duration::from_millis(200);

/// One reconcile.
pub(crate) async fn reconcile(object: Arc<KafkaTopic>, ctx: Arc<Context>) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return cleanup::cleanup(&ctx, &object).await;
    }
    if !object.spec.managed {
        finalizer::remove(&ctx, &object).await?;
        status::write(&ctx, &object, Report::Unmanaged).await?;
        return Ok(Action::await_change());
    }
    let topic = match validate::topic(&object) {
        Ok(topic) => topic,
        Err(invalid) => {
            let text = invalid.to_string();
            if status::write(&ctx, &object, Report::Invalid(&text)).await? {
                event(&ctx, &object, Reason::Invalid, text).await;
            }
            return Ok(Action::await_change());
        }
    };
    let cluster = match find_cluster(&ctx, &object, &topic).await? {
        Ok(cluster) => cluster,
        Err((reason, text)) => {
            status::write(
                &ctx,
                &object,
                Report::Waiting {
                    reason,
                    text: &text,
                },
            )
            .await?;
            return Ok(Action::requeue(jitter(&uid(&object), WAIT)));
        }
    };
    if let Some(owner) = older_claimant(&ctx, &object) {
        finalizer::remove(&ctx, &object).await?;
        let text = format!(
            "topic {} belongs to KafkaTopic {}, which is older: delete one of the two",
            topic.topic,
            full_name(&owner)
        );
        if status::write(&ctx, &object, Report::Conflict(&text)).await? {
            event(&ctx, &object, Reason::TopicConflict, text).await;
        }
        return Ok(Action::requeue(jitter(&uid(&object), WAIT)));
    }
    finalizer::ensure(
        &ctx,
        &object,
        topic.deletion_policy == DeletionPolicy::Delete,
    )
    .await?;
    let at = ctx.endpoint(&cluster);
    match make_true(&ctx, &object, &topic, &at).await {
        Ok(action) => Ok(action),
        Err(Error::Admin(error)) => {
            report_failure(&ctx, &object, &cluster, &error).await?;
            Err(error.into())
        }
        Err(error) => Err(error),
    }
}

async fn make_true(
    ctx: &Context,
    object: &KafkaTopic,
    topic: &ValidatedTopic,
    at: &KafkaEndpoint,
) -> Result<Action, Error> {
    let before = ctx.batcher.describe(at, &topic.topic).await?;
    let changes = changes(topic, before.as_ref());
    let after = if changes.is_empty() {
        before
    } else {
        change(ctx, object, topic, at, &changes).await?;
        ctx.batcher.describe(at, &topic.topic).await?
    };
    let left = operator_core::topic::changes(topic, after.as_ref());
    let Some(observed) = after.filter(|_| left.is_empty()) else {
        // Another broker answered than the one that changed, and does not know yet.
        status::write(
            ctx,
            object,
            Report::Waiting {
                reason: "Propagating",
                text: "the change is on its way to all brokers",
            },
        )
        .await?;
        return Ok(Action::requeue(PROPAGATION));
    };
    report_success(ctx, object, topic, &observed, &left).await
}

async fn report_success(
    ctx: &Context,
    object: &KafkaTopic,
    topic: &ValidatedTopic,
    observed: &ObservedTopic,
    left: &Changes,
) -> Result<Action, Error> {
    let report = if left.impossible.is_empty() {
        Report::Done {
            topic: &topic.topic,
            observed,
        }
    } else {
        Report::Impossible {
            topic: &topic.topic,
            observed,
            wishes: &left.impossible,
        }
    };
    let news = status::write(ctx, object, report).await?;
    if news && !left.impossible.is_empty() {
        let text = left
            .impossible
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        event(ctx, object, Reason::Impossible, text).await;
    }
    let delay = if observed.healthy() {
        ctx.drift_interval
    } else {
        ctx.drift_interval.min(WAIT)
    };
    Ok(Action::requeue(jitter(&uid(object), delay)))
}

/// Carries out changes, and says so in events.
async fn change(
    ctx: &Context,
    object: &KafkaTopic,
    topic: &ValidatedTopic,
    at: &KafkaEndpoint,
    changes: &Changes,
) -> Result<(), Error> {
    if changes.create {
        return create(ctx, object, topic, at).await;
    }
    if let Some(partitions) = changes.grow_to {
        ctx.batcher.grow(at, &topic.topic, partitions).await?;
        let note = format!("topic {} has {partitions} partitions now", topic.topic);
        event(ctx, object, Reason::PartitionsAdded, note).await;
    }
    if changes.set.is_empty() && changes.unset.is_empty() {
        return Ok(());
    }
    let change = ConfigChange {
        topic: topic.topic.clone(),
        set: changes.set.clone(),
        unset: changes.unset.clone(),
    };
    ctx.batcher.alter(at, change).await?;
    let (reason, note) = about_config(object, topic, changes);
    event(ctx, object, reason, note).await;
    Ok(())
}

async fn create(
    ctx: &Context,
    object: &KafkaTopic,
    topic: &ValidatedTopic,
    at: &KafkaEndpoint,
) -> Result<(), Error> {
    let new = NewTopic {
        name: topic.topic.clone(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        config: topic.config.clone(),
    };
    match ctx.batcher.create(at, new).await {
        Ok(()) => {
            let note = format!("created topic {}", topic.topic);
            event(ctx, object, Reason::TopicCreated, note).await;
            Ok(())
        }
        // Created by the attempt whose answer was lost, or by somebody else a moment ago: what differs is changed next.
        Err(AdminError::Refused {
            code: ErrorCode::TopicAlreadyExists,
            ..
        }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What to say about a change of configuration: one that no new generation explains is drift.
fn about_config(
    object: &KafkaTopic,
    topic: &ValidatedTopic,
    changes: &Changes,
) -> (Reason, String) {
    let keys: Vec<&str> = changes
        .set
        .keys()
        .chain(&changes.unset)
        .map(String::as_str)
        .collect();
    let (keys, topic) = (keys.join(", "), &topic.topic);
    let drifted = object.status.as_ref().is_some_and(|status| {
        status.observed_generation == object.metadata.generation
            && status.phase.as_deref() == Some("Ready")
    });
    if drifted {
        (
            Reason::DriftReverted,
            format!("topic {topic} was changed by hand; put back: {keys}"),
        )
    } else {
        (
            Reason::ConfigChanged,
            format!("configuration of topic {topic} follows the spec: {keys}"),
        )
    }
}

async fn report_failure(
    ctx: &Context,
    object: &KafkaTopic,
    cluster: &KafkaCluster,
    error: &AdminError,
) -> Result<(), Error> {
    let starting = cluster
        .status
        .as_ref()
        .is_none_or(|status| status.brokers.iter().any(|broker| !broker.ready));
    let text = error.to_string();
    match error {
        AdminError::Refused {
            code: ErrorCode::InvalidReplicationFactor,
            ..
        } if starting => {
            let text = format!("waiting for brokers: {text}");
            status::write(
                ctx,
                object,
                Report::Waiting {
                    reason: "WaitingForBrokers",
                    text: &text,
                },
            )
            .await?;
        }
        AdminError::Refused { code, .. } if !code.is_retriable() => {
            if status::write(ctx, object, Report::Refused(&text)).await? {
                event(ctx, object, Reason::Refused, text).await;
            }
        }
        AdminError::Refused { .. } | AdminError::Unreachable(_) => {
            status::write(
                ctx,
                object,
                Report::Waiting {
                    reason: "ClusterUnreachable",
                    text: &text,
                },
            )
            .await?;
        }
    }
    Ok(())
}

/// The cluster that the topic belongs to, or why it has to wait.
type Found = Result<KafkaCluster, (&'static str, String)>;

async fn find_cluster(
    ctx: &Context,
    object: &KafkaTopic,
    topic: &ValidatedTopic,
) -> Result<Found, Error> {
    let name = format!("{}/{}", topic.cluster_namespace, topic.cluster);
    if Some(&topic.cluster_namespace) != object.metadata.namespace.as_ref() {
        let text = format!(
            "KafkaCluster {name} grants no topics to other namespaces: move this object to {}",
            topic.cluster_namespace
        );
        return Ok(Err(("NotGranted", text)));
    }
    let api = ctx.api::<KafkaCluster>(&topic.cluster_namespace);
    let found = api
        .get_opt(&topic.cluster)
        .await
        .map_err(|source| Error::Cluster {
            name: name.clone(),
            source: Box::new(source),
        })?;
    Ok(match found {
        None => Err((
            "ClusterNotFound",
            format!("there is no KafkaCluster {name}: create it, or correct spec.clusterRef"),
        )),
        Some(cluster) if cluster.metadata.deletion_timestamp.is_some() => Err((
            "ClusterGoing",
            format!("KafkaCluster {name} is being deleted"),
        )),
        Some(cluster) => {
            let serving = cluster
                .status
                .as_ref()
                .is_some_and(|status| status.brokers.iter().any(|broker| broker.ready));
            if serving {
                Ok(cluster)
            } else {
                Err((
                    "ClusterNotReady",
                    format!("no broker of KafkaCluster {name} is Ready"),
                ))
            }
        }
    })
}

/// Another object that claims the same topic of the same cluster and is older.
fn older_claimant(ctx: &Context, object: &KafkaTopic) -> Option<Arc<KafkaTopic>> {
    ctx.topics
        .0
        .find(|other| claims_the_same(other, object) && owns_before(other, object))
}

/// Another object that claims the same topic of the same cluster.
fn other_claimant(ctx: &Context, object: &KafkaTopic) -> Option<Arc<KafkaTopic>> {
    ctx.topics.0.find(|other| claims_the_same(other, object))
}

fn claims_the_same(other: &KafkaTopic, object: &KafkaTopic) -> bool {
    other.metadata.uid != object.metadata.uid
        && other.metadata.deletion_timestamp.is_none()
        && other.spec.managed
        && other.metadata.namespace == object.metadata.namespace
        && other.spec.cluster_ref.name == object.spec.cluster_ref.name
        && validate::topic_name(other) == validate::topic_name(object)
        && validate::topic(other).is_ok()
}

fn full_name(topic: &KafkaTopic) -> String {
    format!(
        "{}/{}",
        topic.namespace().unwrap_or_default(),
        topic.name_any()
    )
}

fn uid(object: &KafkaTopic) -> String {
    object.uid().unwrap_or_default()
}

/// Writes an event about a topic.
async fn event(ctx: &Context, object: &KafkaTopic, reason: Reason, note: impl Into<String>) {
    events::publish(&ctx.recorder, &object.object_ref(&()), reason, note).await;
}
