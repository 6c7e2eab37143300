//! Which StatefulSet runs a pool?

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::meta::child;
use super::{Owner, Settings, pod};
use crate::api::v1alpha1::DeletionPolicy;
use crate::identity::Identity;
use crate::names;
use crate::validate::{ValidatedCluster, ValidatedPool};

/// The StatefulSet of a pool: all pods start at once (a quorum needs a majority), and none is replaced unless the operator deletes it.
pub(super) fn stateful_set(
    cluster: &ValidatedCluster,
    pool: &ValidatedPool,
    identity: &Identity,
    owner: &Owner,
    settings: &Settings,
    config_hash: &str,
) -> StatefulSet {
    let match_labels = [
        (names::CLUSTER_LABEL.to_owned(), cluster.name.clone()),
        (names::POOL_LABEL.to_owned(), pool.name.clone()),
    ];
    StatefulSet {
        metadata: child(
            cluster,
            owner,
            names::stateful_set(&cluster.name, &pool.name),
            names::pool_labels(&cluster.name, &pool.name),
        ),
        spec: Some(StatefulSetSpec {
            service_name: Some(names::headless_service(&cluster.name)),
            replicas: Some(identity.replicas(&pool.name)),
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(when_deleted(pool.deletion_policy).into()),
                    when_scaled: Some("Retain".into()),
                },
            ),
            revision_history_limit: Some(10),
            selector: LabelSelector {
                match_labels: Some(match_labels.into()),
                ..LabelSelector::default()
            },
            template: pod::template(cluster, pool, settings, config_hash),
            volume_claim_templates: Some(vec![claim_template(cluster, pool)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// With `Delete`, Kubernetes makes the StatefulSet an owner of its claims, beside the KafkaCluster: what has two owners goes when both are
/// gone, so no claim goes while a StatefulSet is there that would make an empty one in its place.
fn when_deleted(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Delete => names::CLAIMS_GO,
        DeletionPolicy::Retain => names::CLAIMS_STAY,
    }
}

/// The volume of each node. No owner here: whether volumes go with the cluster is `deletionPolicy`, which may change, and this may not.
fn claim_template(cluster: &ValidatedCluster, pool: &ValidatedPool) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.into()),
            labels: Some(names::pool_labels(&cluster.name, &pool.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: pool.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(
                    [("storage".to_owned(), Quantity(pool.storage_size.clone()))].into(),
                ),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
