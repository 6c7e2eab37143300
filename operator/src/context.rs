//! What does every reconcile need?

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    pub(crate) failures: Arc<Failures>,
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

/// Failures in a row, by uid of the object: retries of what keeps failing get rarer, and a change of its own status, or of a child, does
/// not make them more frequent. Only a new generation does. Lost with the process, which only means an earlier retry.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    failing: Mutex<HashMap<String, Failing>>,
}

#[derive(Debug)]
struct Failing {
    in_a_row: u32,
    generation: Option<i64>,
    until: Instant,
}

/// The first retry comes after this.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// No retry comes later than this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Objects remembered: beyond this many, those whose wait is over are forgotten (most of them were deleted).
const MAX_FAILING: usize = 10_000;

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object is well.
    pub(crate) fn reset(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Counts a failure of this generation and says when to retry.
    pub(crate) fn next(&self, uid: &str, generation: Option<i64>) -> Duration {
        let now = Instant::now();
        let mut failing = self.lock();
        if failing.len() >= MAX_FAILING {
            failing.retain(|_, failing| failing.until > now);
        }
        let known = failing
            .get(uid)
            .filter(|known| known.generation == generation);
        let in_a_row = known.map_or(1, |known| known.in_a_row.saturating_add(1));
        let delay = FIRST_RETRY
            .saturating_mul(1 << (in_a_row - 1).min(10))
            .min(LAST_RETRY);
        let delay = jitter(uid, delay);
        let until = now + delay;
        failing.insert(
            uid.to_owned(),
            Failing {
                in_a_row,
                generation,
                until,
            },
        );
        delay
    }

    /// How long the next try of this generation has to wait, if it has to.
    pub(crate) fn wait(&self, uid: &str, generation: Option<i64>) -> Option<Duration> {
        let failing = self.lock();
        let known = failing
            .get(uid)
            .filter(|known| known.generation == generation)?;
        let left = known.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
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
    fn retries_get_rarer_up_to_a_minute_and_start_anew_after_success_and_for_a_new_generation() {
        let failures = Failures::default();
        let first = failures.next("a", Some(1));
        let second = failures.next("a", Some(1));
        assert!(second > first, "{first:?} {second:?}");
        for _ in 0..40 {
            assert!(failures.next("a", Some(1)) <= LAST_RETRY * 110 / 100);
        }
        assert_eq!(failures.next("a", Some(2)), first);
        failures.reset("a");
        assert_eq!(failures.next("a", Some(2)), first);
    }

    #[test]
    fn a_failing_object_waits_unless_its_generation_is_another() {
        let failures = Failures::default();
        let delay = failures.next("a", Some(1));
        let wait = failures.wait("a", Some(1));
        assert!(wait.is_some_and(|wait| wait <= delay), "{wait:?}");
        assert_eq!(failures.wait("a", Some(2)), None);
        assert_eq!(failures.wait("b", Some(1)), None);
        failures.reset("a");
        assert_eq!(failures.wait("a", Some(1)), None);
    }
}
