//! How does a node get its configuration file?

use k8s_openapi::api::core::v1::ConfigMap;

use super::Owner;
use super::meta::child;
use crate::names;
use crate::validate::{ValidatedCluster, ValidatedPool};

/// The ConfigMap of a pool: `broker.yaml` names every node of the cluster, and each process finds itself in it by its pod's name.
pub(super) fn config_map(
    cluster: &ValidatedCluster,
    pool: &ValidatedPool,
    owner: &Owner,
    yaml: &str,
) -> ConfigMap {
    ConfigMap {
        metadata: child(
            cluster,
            owner,
            names::config_map(&cluster.name, &pool.name),
            names::pool_labels(&cluster.name, &pool.name),
        ),
        data: Some([(names::CONFIG_KEY.to_owned(), yaml.to_owned())].into()),
        ..ConfigMap::default()
    }
}
