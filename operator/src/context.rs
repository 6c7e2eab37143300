//! What does every reconcile need?

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource};
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::build::Settings;

use crate::admin::batch::Batcher;
use crate::admin::{KafkaAdmin, KafkaEndpoint};
use crate::metrics::Metrics;

/// Shared by all reconciles.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) drift_interval: Duration,
    pub(crate) admin: Arc<dyn KafkaAdmin>,
    pub(crate) batcher: Batcher,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failures: Failures,
    pub(crate) topics: TopicStore,
}

/// All KafkaTopics as last seen by the watch; read to find other claimants of a topic.
pub(crate) struct TopicStore(pub(crate) Store<KafkaTopic>);

impl std::fmt::Debug for TopicStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TopicStore({} topics)", self.0.len())
    }
}

impl Context {
    /// The API of a kind in a namespace.
    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Where a cluster's first listener is reached.
    pub(crate) fn endpoint(&self, cluster: &KafkaCluster) -> KafkaEndpoint {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
        let port = cluster
            .spec
            .listeners
            .first()
            .map_or(0, |listener| listener.port);
        KafkaEndpoint {
            host: operator_core::names::bootstrap_host(
                &name,
                &namespace,
                &self.settings.cluster_domain,
            ),
            port: u16::try_from(port).unwrap_or_default(),
            namespace,
            cluster: name,
        }
    }
}

/// Failures in a row, by uid of the object: retries of what keeps failing get rarer. Lost with the process, which only means an earlier retry.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    in_a_row: Mutex<HashMap<String, u32>>,
}

/// The first retry comes after this.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// No retry comes later than this.
const LAST_RETRY: Duration = Duration::from_secs(60);

impl Failures {
    /// The object is well.
    pub(crate) fn reset(&self, uid: &str) {
        self.in_a_row
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Counts a failure and says when to retry.
    pub(crate) fn next(&self, uid: &str) -> Duration {
        let mut in_a_row = self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_a_row.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        let delay = FIRST_RETRY
            .saturating_mul(1 << (*count - 1).min(10))
            .min(LAST_RETRY);
        jitter(uid, delay)
    }
}

/// Spreads equal delays of different objects over +-10 %, the same for the same object.
pub(crate) fn jitter(uid: &str, delay: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let percent = 90 + u32::try_from(hasher.finish() % 21).unwrap_or(10);
    delay * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_get_rarer_up_to_a_minute_and_start_anew_after_success() {
        let failures = Failures::default();
        let first = failures.next("a");
        let second = failures.next("a");
        assert!(second > first, "{first:?} {second:?}");
        for _ in 0..40 {
            assert!(failures.next("a") <= LAST_RETRY * 110 / 100);
        }
        failures.reset("a");
        assert_eq!(failures.next("a"), first);
    }
}
