//! As which account do the pods of a cluster run?

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Owner;
use super::meta::child;
use crate::names;
use crate::validate::ValidatedCluster;

/// An account of its own without any right: brokers never speak to the Kubernetes API.
pub(super) fn service_account(cluster: &ValidatedCluster, owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: child(
            cluster,
            owner,
            cluster.name.clone(),
            names::labels(&cluster.name),
        ),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
