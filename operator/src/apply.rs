//! How is a built object written, and how does one go that is no longer built?
//!
//! Server-side apply with one fixed field manager: what the operator wrote before and no longer writes disappears, what others own stays,
//! and what others changed of ours is put back. An object of the same name that is not ours is left alone and reported.

use std::collections::BTreeSet;
use std::fmt::Debug;

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The field manager of everything the cluster controller builds.
pub(crate) const CLUSTER_MANAGER: &str = "tidemark-kafkacluster";
/// The field manager of what the topic controller writes.
pub(crate) const TOPIC_MANAGER: &str = "tidemark-kafkatopic";

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something else has this name.
    #[error(
        "{kind} {name} exists already and belongs to something else: rename or delete it, or give the cluster another name"
    )]
    Foreign {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server refused.
    #[error("failed to write {kind} {name}")]
    Write {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A kind of child.
pub(crate) trait Child:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Child for K where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
}

/// Whether the object is controlled by the owner of this uid.
pub(crate) fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|reference| reference.controller == Some(true) && reference.uid == uid)
}

/// Writes one child. `observed` are the children found by label; an object that is not among them is looked up by name first.
///
/// One that went meanwhile is not made anew: its cluster may be gone too, and what is made for a moment leaves volume claims behind.
/// One that is being deleted is returned as it is: what is written to it goes with it, and its end wakes the reconcile that makes it anew.
/// When the API server finds the result invalid because of what somebody else put into it, lists of ours are written as a whole.
pub(crate) async fn child<K: Child>(
    api: &Api<K>,
    desired: &K,
    observed: &[K],
    uid: &str,
) -> Result<K, Error> {
    let name = desired.name_any();
    let failed = |source| Error::Write {
        kind: K::kind(&()).into_owned(),
        name: name.clone(),
        source: Box::new(source),
    };
    let existing = match observed.iter().find(|object| object.name_any() == name) {
        Some(object) => Some(object.clone()),
        None => api.get_opt(&name).await.map_err(failed)?,
    };
    if let Some(object) = &existing {
        if !is_controlled_by(object, uid) {
            return Err(Error::Foreign {
                kind: K::kind(&()).into_owned(),
                name,
            });
        }
        if object.meta().deletion_timestamp.is_some() {
            return Ok(object.clone());
        }
    }
    let mut desired = desired.clone();
    desired.meta_mut().uid = existing.as_ref().and_then(|object| object.uid());
    let params = PatchParams::apply(CLUSTER_MANAGER).force();
    match api.patch(&name, &params, &Patch::Apply(&desired)).await {
        Err(error) if existing.is_some() && is_invalid(&error) => {
            overwrite(api, &name, &desired).await.map_err(failed)?;
            api.patch(&name, &params, &Patch::Apply(&desired))
                .await
                .map_err(failed)
        }
        result => result.map_err(failed),
    }
}

/// Writes every field of ours, lists as a whole: server-side apply leaves the items of a list that others added.
pub(crate) async fn overwrite<K: Child>(
    api: &Api<K>,
    name: &str,
    desired: &K,
) -> Result<K, kube::Error> {
    let params = PatchParams {
        field_manager: Some(CLUSTER_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Merge(desired)).await
}

/// Deletes children of ours that are not in `keep`.
pub(crate) async fn prune<K: Child>(
    api: &Api<K>,
    observed: &[K],
    keep: &BTreeSet<String>,
    uid: &str,
) -> Result<(), Error> {
    for object in observed {
        let name = object.name_any();
        let leaving = object.meta().deletion_timestamp.is_some();
        if keep.contains(&name) || leaving || !is_controlled_by(object, uid) {
            continue;
        }
        let params = DeleteParams::background();
        match api.delete(&name, &params).await {
            Ok(_) => {
                tracing::info!(kind = %K::kind(&()), %name, "deleted a child that is no longer built");
            }
            Err(error) if is_not_found(&error) => {}
            Err(source) => {
                return Err(Error::Write {
                    kind: K::kind(&()).into_owned(),
                    name,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}

/// Whether the API server said 404.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    has_code(error, 404)
}

/// Whether the API server said 409.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    has_code(error, 409)
}

/// Whether the API server said 422.
pub(crate) fn is_invalid(error: &kube::Error) -> bool {
    has_code(error, 422)
}

/// Whether the API server said 403.
pub(crate) fn is_forbidden(error: &kube::Error) -> bool {
    has_code(error, 403)
}

fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
