//! How many nodes may an administrator's drain take away at once?

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;
use super::meta::child;
use crate::names;
use crate::validate::ValidatedCluster;

/// One budget over all pools: one node of the cluster at a time.
pub(super) fn pdb(cluster: &ValidatedCluster, owner: &Owner) -> PodDisruptionBudget {
    let selector = [(names::CLUSTER_LABEL.to_owned(), cluster.name.clone())].into();
    PodDisruptionBudget {
        metadata: child(
            cluster,
            owner,
            cluster.name.clone(),
            names::labels(&cluster.name),
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
