//! What does the API hold now of the kinds the node agent cares about?
//!
//! One watch per kind keeps a local copy; one signal says that anything moved. Controllers are level-triggered: they
//! look at the whole view again, which for one machine's worth of objects is cheaper than being clever.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Local copies of all watched kinds.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) pods: Store<Pod>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) services: Store<Service>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    moved: watch::Receiver<u64>,
}

impl View {
    /// Starts the watches in `tasks`; returns once every kind is listed.
    pub(crate) async fn start(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let moved = Arc::new(watch::channel(0).0);
        let view = Self {
            pods: follow(client, &moved, tasks),
            claims: follow(client, &moved, tasks),
            services: follow(client, &moved, tasks),
            config_maps: follow(client, &moved, tasks),
            secrets: follow(client, &moved, tasks),
            stateful_sets: follow(client, &moved, tasks),
            deployments: follow(client, &moved, tasks),
            budgets: follow(client, &moved, tasks),
            moved: moved.subscribe(),
        };
        // A writer that was dropped means its task ended, which only shutdown does.
        let listed = tokio::join!(
            view.pods.wait_until_ready(),
            view.claims.wait_until_ready(),
            view.services.wait_until_ready(),
            view.config_maps.wait_until_ready(),
            view.secrets.wait_until_ready(),
            view.stateful_sets.wait_until_ready(),
            view.deployments.wait_until_ready(),
            view.budgets.wait_until_ready(),
        );
        tracing::debug!(
            complete = listed.0.is_ok(),
            "the node agent has listed its kinds"
        );
        view
    }

    /// Wakes when anything moved since the last call.
    pub(crate) fn moved(&self) -> watch::Receiver<u64> {
        self.moved.clone()
    }
}

fn follow<K>(client: &Client, moved: &Arc<watch::Sender<u64>>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let (reader, writer) = reflector::store::<K>();
    let api: Api<K> = Api::all(client.clone());
    let moved = Arc::clone(moved);
    let stream = watcher(api, watcher::Config::default())
        .backoff(ShortBackoff::default())
        .reflect(writer);
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => moved.send_modify(|count| *count += 1),
                Err(e) => tracing::debug!(kind = %K::kind(&()), error = %e, "a watch failed and is retried"),
            }
        }
    });
    reader
}

/// The API is in this process: a failed watch is tried again soon, and never less than once a second.
#[derive(Debug, Default)]
struct ShortBackoff(u32);

impl Iterator for ShortBackoff {
    type Item = std::time::Duration;

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = (self.0 + 1).min(7);
        Some(std::time::Duration::from_millis(8 << self.0))
    }
}

impl kube::runtime::utils::Backoff for ShortBackoff {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
