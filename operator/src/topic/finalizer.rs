//! How is the finalizer set and taken away without overwriting anybody else's?
//!
//! A merge patch of the whole list with the resource version it was read at: a conflict means the object changed, and the change wakes the
//! reconcile again.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use operator_core::api::v1alpha1::KafkaTopic;
use operator_core::names::TOPIC_FINALIZER;
use serde_json::json;

use super::Error;
use crate::apply::is_not_found;
use crate::context::Context;

/// Makes the finalizer be there, or not.
pub(super) async fn ensure(ctx: &Context, object: &KafkaTopic, wanted: bool) -> Result<(), Error> {
    let there = object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == TOPIC_FINALIZER);
    if there == wanted {
        return Ok(());
    }
    let mut finalizers: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != TOPIC_FINALIZER)
        .cloned()
        .collect();
    if wanted {
        finalizers.push(TOPIC_FINALIZER.to_owned());
    }
    let patch = json!({ "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers } });
    let api = ctx.api::<KafkaTopic>(&object.namespace().unwrap_or_default());
    match api
        .patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(Error::Finalizer(Box::new(error))),
    }
}

/// Makes the finalizer not be there.
pub(super) async fn remove(ctx: &Context, object: &KafkaTopic) -> Result<(), Error> {
    ensure(ctx, object, false).await
}
