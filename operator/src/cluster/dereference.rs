//! What is there of a cluster already?

use std::collections::BTreeMap;

use config::BrokerConfig;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Resource, ResourceExt as _};
use operator_core::api::v1alpha1::{KafkaCluster, Role};
use operator_core::identity::{Known, KnownNode};
use operator_core::names;
use operator_core::validate::ValidatedCluster;
use serde::de::DeserializeOwned;

use super::Error;
use crate::context::Context;

/// Everything that carries the cluster's label.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) service_accounts: Vec<ServiceAccount>,
    pub(super) config_maps: Vec<ConfigMap>,
    pub(super) services: Vec<Service>,
    pub(super) budgets: Vec<PodDisruptionBudget>,
    pub(super) stateful_sets: Vec<StatefulSet>,
    pub(super) pods: Vec<Pod>,
    pub(super) claims: Vec<PersistentVolumeClaim>,
}

/// Reads everything that carries the cluster's label.
pub(super) async fn dereference(
    ctx: &Context,
    cluster: &ValidatedCluster,
) -> Result<Observed, Error> {
    Ok(Observed {
        service_accounts: list(ctx, cluster).await?,
        config_maps: list(ctx, cluster).await?,
        services: list(ctx, cluster).await?,
        budgets: list(ctx, cluster).await?,
        stateful_sets: list(ctx, cluster).await?,
        pods: list(ctx, cluster).await?,
        claims: list(ctx, cluster).await?,
    })
}

async fn list<K>(ctx: &Context, cluster: &ValidatedCluster) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let params = ListParams::default().labels(&names::selector(&cluster.name));
    let listed = ctx.api::<K>(&cluster.namespace).list(&params).await;
    Ok(listed
        .map_err(|error| Error::Dereference(Box::new(error)))?
        .items)
}

/// What the three places remember of ids. A volume claim is bound to its disk, so its word weighs most; the status is the copy that is
/// easiest to lose.
pub(super) fn known(observed: &Observed, object: &KafkaCluster) -> Known {
    let mut known = Known::default();
    if let Some(status) = &object.status {
        known.cluster_id.clone_from(&status.cluster_id);
        for node in &status.brokers {
            known.nodes.insert(
                node.pod.clone(),
                KnownNode {
                    id: node.node_id,
                    pool: node.pool.clone(),
                    roles: Some(node.roles.clone()),
                },
            );
        }
    }
    for config_map in &observed.config_maps {
        from_config_map(config_map, object, &mut known);
    }
    for claim in &observed.claims {
        from_claim(claim, &mut known);
    }
    known
}

/// The file that the brokers read. One that nobody can read (changed by hand) is as good as none: it is written anew.
fn from_config_map(config_map: &ConfigMap, object: &KafkaCluster, known: &mut Known) {
    let Some(text) = config_map
        .data
        .as_ref()
        .and_then(|data| data.get(names::CONFIG_KEY))
    else {
        return;
    };
    let config = match BrokerConfig::parse(&config_map.name_any(), text) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(config_map = %config_map.name_any(), %error, "ignoring a broker configuration that does not parse");
            return;
        }
    };
    known.cluster_id = Some(config.cluster_id);
    let prefix = format!("{}-", object.name_any());
    for node in config.nodes {
        let Some((pool, _)) = node
            .name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.rsplit_once('-'))
        else {
            continue;
        };
        let role = |role: &config::Role| match role {
            config::Role::Controller => Role::Controller,
            config::Role::Broker => Role::Broker,
        };
        let roles = Some(node.roles.iter().map(role).collect());
        known.nodes.insert(
            node.name.clone(),
            KnownNode {
                id: node.id.0,
                pool: pool.to_owned(),
                roles,
            },
        );
    }
}

fn from_claim(claim: &PersistentVolumeClaim, known: &mut Known) {
    let annotations: &BTreeMap<String, String> = claim.annotations();
    let name = claim.name_any();
    let pod = name
        .strip_prefix(&format!("{}-", names::DATA_VOLUME))
        .map(str::to_owned);
    let id = annotations
        .get(names::NODE_ID_ANNOTATION)
        .and_then(|id| id.parse::<i32>().ok());
    let pool = claim.labels().get(names::POOL_LABEL).cloned();
    if let Some(cluster_id) = annotations.get(names::CLUSTER_ID_ANNOTATION) {
        known.cluster_id = Some(cluster_id.clone());
    }
    if let (Some(pod), Some(id), Some(pool)) = (pod, id, pool) {
        let roles = known.nodes.get(&pod).and_then(|node| node.roles.clone());
        known.nodes.insert(pod, KnownNode { id, pool, roles });
    }
}
