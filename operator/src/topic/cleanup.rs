//! What happens to the topic when its object is deleted?
//!
//! It is deleted only if the object says so, owns it, nobody waits to take it over, and the cluster is there to be asked. In every other
//! case the object is let go at once, so that deleting a namespace never hangs on a cluster that is gone.

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use operator_core::api::v1alpha1::{DeletionPolicy, KafkaCluster, KafkaTopic};
use operator_core::names::TOPIC_FINALIZER;
use operator_core::validate;
use types::ErrorCode;

use super::status::{self, Report};
use super::{Error, event, finalizer, full_name, other_claimant, uid};
use crate::admin::AdminError;
use crate::context::Context;
use crate::events::Reason;

/// One reconcile of an object that is being deleted.
pub(super) async fn cleanup(ctx: &Context, object: &KafkaTopic) -> Result<Action, Error> {
    ctx.failures.reset(&uid(object));
    if !object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == TOPIC_FINALIZER)
    {
        return Ok(Action::await_change());
    }
    if let Some(kept) = why_kept(ctx, object).await? {
        event(ctx, object, Reason::TopicKept, kept).await;
        finalizer::remove(ctx, object).await?;
        return Ok(Action::await_change());
    }
    let topic = validate::topic_name(object);
    let Some(cluster) = cluster(ctx, object).await? else {
        finalizer::remove(ctx, object).await?;
        return Ok(Action::await_change());
    };
    match ctx.batcher.delete(&ctx.endpoint(&cluster), &topic).await {
        Ok(()) => {
            event(
                ctx,
                object,
                Reason::TopicDeleted,
                format!("deleted topic {topic}"),
            )
            .await;
        }
        Err(AdminError::Refused {
            code: ErrorCode::UnknownTopicOrPartition,
            ..
        }) => {}
        Err(error) => {
            let text = format!(
                "topic {topic} is not deleted yet ({error}); set spec.deletionPolicy to Retain to keep it and let the object go"
            );
            if status::write(ctx, object, Report::Refused(&text)).await? {
                event(ctx, object, Reason::Refused, text).await;
            }
            return Err(error.into());
        }
    }
    finalizer::remove(ctx, object).await?;
    Ok(Action::await_change())
}

/// Why the topic stays although the object goes, if it does.
async fn why_kept(ctx: &Context, object: &KafkaTopic) -> Result<Option<String>, Error> {
    let topic = validate::topic_name(object);
    if object.spec.deletion_policy == DeletionPolicy::Retain || !object.spec.managed {
        return Ok(Some(format!(
            "topic {topic} stays: spec.deletionPolicy is Retain"
        )));
    }
    if let Err(invalid) = validate::topic(object) {
        return Ok(Some(format!(
            "topic {topic} stays: the object was not valid: {invalid}"
        )));
    }
    if let Some(other) = other_claimant(ctx, object) {
        return Ok(Some(format!(
            "topic {topic} stays: KafkaTopic {} takes it over",
            full_name(&other)
        )));
    }
    Ok(None)
}

/// The cluster, unless it is gone or going: then its volumes' policy decides about the data.
async fn cluster(ctx: &Context, object: &KafkaTopic) -> Result<Option<KafkaCluster>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let name = &object.spec.cluster_ref.name;
    let api = ctx.api::<KafkaCluster>(&namespace);
    let found = api.get_opt(name).await.map_err(|source| Error::Cluster {
        name: name.clone(),
        source: Box::new(source),
    })?;
    Ok(found.filter(|cluster| cluster.metadata.deletion_timestamp.is_none()))
}
