//! Which change of which object wakes which reconcile, and what happens when one fails?

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{FutureExt as _, Shared};
use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::names;

use crate::admin::batch::Batcher;
use crate::context::{Context, Failures, TopicStore};
use crate::metrics::{ControllerMetrics, Metrics};
use crate::{OperatorConfig, OperatorError, cluster, http, lease, topic};

/// Topic reconciles at once: two full batches of admin requests.
const TOPIC_CONCURRENCY: u16 = 200;
/// Cluster reconciles at once: each is some tens of requests to the API server.
const CLUSTER_CONCURRENCY: u16 = 8;
/// A burst of changes (three pods turning Ready) is one reconcile: long beside the gap between them, short beside a person's patience.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Runs everything until `shutdown`.
pub(crate) async fn run(
    client: Client,
    config: OperatorConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), OperatorError> {
    let shutdown = shutdown.boxed().shared();
    let metrics = Arc::new(Metrics::default());
    let active = Arc::new(AtomicBool::new(false));
    let server = match config.http {
        Some(address) => {
            Some(http::serve(address, Arc::clone(&metrics), Arc::clone(&active)).await?)
        }
        None => None,
    };
    let result = lead(client, config, shutdown, metrics, &active).await;
    if let Some(server) = server {
        server.abort();
    }
    result
}

type Shutdown = Shared<futures::future::BoxFuture<'static, ()>>;

async fn lead(
    client: Client,
    config: OperatorConfig,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    active: &AtomicBool,
) -> Result<(), OperatorError> {
    let Some(lease) = config.lease.clone() else {
        active.store(true, Ordering::Relaxed);
        return control(client, &config, shutdown, metrics).await;
    };
    let mut holder = lease::Holder::new(client.clone(), lease, config.instance.clone());
    tokio::select! {
        () = holder.acquire() => {}
        () = shutdown.clone() => return Ok(()),
    }
    active.store(true, Ordering::Relaxed);
    let result = tokio::select! {
        result = control(client, &config, shutdown, metrics) => result,
        lost = holder.keep() => Err(lost),
    };
    holder.release().await;
    result
}

async fn control(
    client: Client,
    config: &OperatorConfig,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
) -> Result<(), OperatorError> {
    let scope = Scope {
        client: client.clone(),
        namespace: config.namespace.clone(),
    };
    let clusters = Controller::new(scope.api::<KafkaCluster>(), watcher::Config::default());
    let topics = Controller::new(scope.api::<KafkaTopic>(), watcher::Config::default());
    let reporter = Reporter {
        controller: "tidemark-operator".into(),
        instance: Some(config.instance.clone()),
    };
    let context = Arc::new(Context {
        settings: config.settings.clone(),
        drift_interval: config.drift_interval,
        admin: Arc::clone(&config.admin),
        batcher: Batcher::start(Arc::clone(&config.admin)),
        recorder: Recorder::new(client.clone(), reporter),
        metrics,
        failures: Failures::default(),
        topics: TopicStore(topics.store()),
        client,
    });
    let topic_store = topics.store();
    let clusters = watch_cluster_children(clusters, &scope)
        .with_config(
            controller::Config::default()
                .concurrency(CLUSTER_CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(shutdown.clone().map(|()| ()))
        .run(reconcile_cluster, cluster_failed, Arc::clone(&context));
    let topics = topics
        .watches(
            scope.api::<KafkaCluster>(),
            watcher::Config::default(),
            wake_topics(topic_store),
        )
        .with_config(
            controller::Config::default()
                .concurrency(TOPIC_CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(shutdown.clone().map(|()| ()))
        .run(reconcile_topic, topic_failed, context);
    futures::join!(drain("kafkacluster", clusters), drain("kafkatopic", topics));
    if shutdown.peek().is_some() {
        Ok(())
    } else {
        Err(OperatorError::ControllerEnded)
    }
}

/// Which part of the API is watched.
#[derive(Clone)]
struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// Every child wakes its cluster: by owner reference what the operator builds, by label what is built from that (pods, claims).
fn watch_cluster_children(
    controller: Controller<KafkaCluster>,
    scope: &Scope,
) -> Controller<KafkaCluster> {
    let ours = || watcher::Config::default().labels(names::CLUSTER_LABEL);
    controller
        .owns(scope.api::<StatefulSet>(), ours())
        .owns(scope.api::<ConfigMap>(), ours())
        .owns(scope.api::<Service>(), ours())
        .owns(scope.api::<ServiceAccount>(), ours())
        .owns(scope.api::<PodDisruptionBudget>(), ours())
        .watches(scope.api::<Pod>(), ours(), |pod| cluster_of(&pod))
        .watches(scope.api::<PersistentVolumeClaim>(), ours(), |claim| {
            cluster_of(&claim)
        })
}

fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<KafkaCluster>> {
    let labels: &BTreeMap<String, String> = object.labels();
    let name = labels.get(names::CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// A cluster wakes its topics when it changes in what matters to them: it comes, goes, is edited, or has other Ready nodes.
fn wake_topics(
    topics: Store<KafkaTopic>,
) -> impl Fn(KafkaCluster) -> Vec<ObjectRef<KafkaTopic>> + Send + Sync + 'static {
    type Seen = (Option<i64>, Option<String>, bool);
    let seen: Mutex<HashMap<String, Seen>> = Mutex::default();
    move |cluster| {
        let ready = cluster
            .status
            .as_ref()
            .and_then(|status| status.ready.clone());
        let now: Seen = (
            cluster.metadata.generation,
            ready,
            cluster.metadata.deletion_timestamp.is_some(),
        );
        let uid = cluster.uid().unwrap_or_default();
        let before = seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid, now.clone());
        if before == Some(now) {
            return Vec::new();
        }
        let (name, namespace) = (cluster.name_any(), cluster.namespace());
        let of_cluster = |topic: &KafkaTopic| {
            topic.spec.cluster_ref.name == name && topic.namespace() == namespace
        };
        topics
            .state_filter(of_cluster)
            .iter()
            .map(|topic| ObjectRef::from_obj(topic.as_ref()))
            .collect()
    }
}

async fn reconcile_cluster(
    object: Arc<KafkaCluster>,
    ctx: Arc<Context>,
) -> Result<Action, cluster::Error> {
    let started = Instant::now();
    let result = Box::pin(cluster::reconcile(Arc::clone(&object), Arc::clone(&ctx))).await;
    observe(
        &ctx,
        &ctx.metrics.cluster,
        &object.uid().unwrap_or_default(),
        started,
        &result,
    );
    result
}

async fn reconcile_topic(
    object: Arc<KafkaTopic>,
    ctx: Arc<Context>,
) -> Result<Action, topic::Error> {
    let started = Instant::now();
    let result = Box::pin(topic::reconcile(Arc::clone(&object), Arc::clone(&ctx))).await;
    observe(
        &ctx,
        &ctx.metrics.topic,
        &object.uid().unwrap_or_default(),
        started,
        &result,
    );
    result
}

fn observe<E>(
    ctx: &Context,
    metrics: &ControllerMetrics,
    uid: &str,
    started: Instant,
    result: &Result<Action, E>,
) {
    metrics.observe(started.elapsed(), result.is_err());
    if result.is_ok() {
        ctx.failures.reset(uid);
    }
}

fn cluster_failed(object: Arc<KafkaCluster>, error: &cluster::Error, ctx: Arc<Context>) -> Action {
    failed("KafkaCluster", object.as_ref(), error, &ctx)
}

fn topic_failed(object: Arc<KafkaTopic>, error: &topic::Error, ctx: Arc<Context>) -> Action {
    failed("KafkaTopic", object.as_ref(), error, &ctx)
}

fn failed<K: Resource>(
    kind: &str,
    object: &K,
    error: &(dyn std::error::Error + 'static),
    ctx: &Context,
) -> Action {
    let delay = ctx.failures.next(&object.uid().unwrap_or_default());
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(kind, namespace, name, error = chain(error), retry_in = ?delay, "failed to reconcile");
    Action::requeue(delay)
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Runs a controller to its end. Failures of reconciles were told already; what is left are failures of watches, which retry by themselves.
async fn drain<K, E>(
    name: &str,
    results: impl Stream<Item = Result<(ObjectRef<K>, Action), controller::Error<E, watcher::Error>>>,
) where
    K: Resource,
    E: std::error::Error + 'static,
{
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(_)
            | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) =>
                {}
            Err(error @ (controller::Error::QueueError(_) | controller::Error::RunnerError(_))) => {
                tracing::warn!(
                    controller = name,
                    error = chain(&error),
                    "a watch failed; it is started again"
                );
            }
        }
    }
    tracing::info!(controller = name, "stopped");
}
