//! Which Kubernetes objects does a cluster consist of?
//!
//! Builders are pure: a validated cluster, the settled identity and the operator's own settings in, objects out. They know nothing of what
//! exists already; applying, pruning and rolling are the shell's business.

mod broker_config;
mod config_map;
mod meta;
mod pdb;
mod pod;
mod service_account;
mod services;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

pub use broker_config::{broker_config, effective_config, static_config_hash};
pub use meta::Owner;
pub(crate) use pod::unprivileged;

use crate::identity::Identity;
use crate::validate::ValidatedCluster;

/// What the operator itself brings to every cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of the nodes when the cluster names none.
    pub image: String,
    /// DNS domain of the Kubernetes cluster, usually `cluster.local`.
    pub cluster_domain: String,
    /// `auto.create.topics.enable` when the cluster does not say: `false` where topics are objects.
    pub auto_create_topics: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: "tidemark:dev".into(),
            cluster_domain: "cluster.local".into(),
            auto_create_topics: false,
        }
    }
}

/// Every object of one cluster, by kind.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterObjects {
    /// The account the pods run as; it has no rights.
    pub service_account: ServiceAccount,
    /// The headless Service, then the bootstrap Service.
    pub services: Vec<Service>,
    /// One ConfigMap a pool.
    pub config_maps: Vec<ConfigMap>,
    /// One budget for the whole cluster.
    pub pdb: PodDisruptionBudget,
    /// One StatefulSet a pool.
    pub stateful_sets: Vec<StatefulSet>,
}

/// Why a cluster cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker configuration has no YAML form.
    #[error("failed to render the broker configuration")]
    Render(#[source] config::yaml::YamlError),
    /// The broker would refuse its configuration.
    #[error("failed to build a configuration that the broker accepts: {0}")]
    Refused(String),
}

/// Builds every object of a cluster.
pub fn cluster(
    cluster: &ValidatedCluster,
    identity: &Identity,
    owner: &Owner,
    settings: &Settings,
) -> Result<ClusterObjects, Error> {
    let config = broker_config(cluster, identity, settings);
    config.check().map_err(|mistake| {
        Error::Refused(format!("{}: {}", mistake.path.join("."), mistake.message))
    })?;
    let yaml = config.to_yaml().map_err(Error::Render)?;
    let hash = static_config_hash(&config);
    let pools = || {
        cluster
            .pools
            .iter()
            .filter(|pool| identity.replicas(&pool.name) > 0)
    };
    Ok(ClusterObjects {
        service_account: service_account::service_account(cluster, owner),
        services: vec![
            services::headless(cluster, owner),
            services::bootstrap(cluster, owner),
        ],
        config_maps: pools()
            .map(|pool| config_map::config_map(cluster, pool, owner, &yaml))
            .collect(),
        pdb: pdb::pdb(cluster, owner),
        stateful_sets: pools()
            .map(|pool| stateful_set::stateful_set(cluster, pool, identity, owner, settings, &hash))
            .collect(),
    })
}
