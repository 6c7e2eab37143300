//! What metadata does every child of a cluster carry?

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource as _;

use crate::api::v1alpha1::KafkaCluster;
use crate::validate::ValidatedCluster;

/// The KafkaCluster as the owner of its children: they go when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl Owner {
    /// The owner reference that makes the KafkaCluster the controller of a child.
    #[must_use]
    pub fn controller_reference(&self) -> OwnerReference {
        OwnerReference {
            controller: Some(true),
            block_owner_deletion: Some(true),
            ..self.reference()
        }
    }

    /// An owner reference for garbage collection only.
    #[must_use]
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: KafkaCluster::api_version(&()).into_owned(),
            kind: KafkaCluster::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        }
    }
}

/// Metadata of a child.
pub(super) fn child(
    cluster: &ValidatedCluster,
    owner: &Owner,
    name: String,
    labels: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner.controller_reference()]),
        ..ObjectMeta::default()
    }
}
