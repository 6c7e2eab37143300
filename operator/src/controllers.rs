//! Which change of which object wakes which reconcile, and what happens when one fails?

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{FutureExt as _, Shared, try_join_all};
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
use crate::caught::caught;
use crate::context::{Context, Failures, TopicStore};
use crate::metrics::{ControllerMetrics, Metrics};
use crate::{OperatorConfig, OperatorError, cluster, http, lease, retry, topic};

/// Topic reconciles at once: two full batches of admin requests.
const TOPIC_CONCURRENCY: u16 = 200;
/// Cluster reconciles at once: each is some tens of requests to the API server.
const CLUSTER_CONCURRENCY: u16 = 8;
/// A burst of changes (three pods turning Ready) is one reconcile: long beside the gap between them, short beside a person's patience.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Clusters whose last state is remembered; far more than one operator looks after.
const MAX_SEEN: usize = 10_000;

/// Runs everything until `shutdown`.
pub(crate) async fn run(
    client: Client,
    config: OperatorConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), OperatorError> {
    let client = retry::client(client);
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

/// Runs the controllers of every watched namespace. Namespaces share nothing but the client and the counters, and each needs rights in
/// itself only.
async fn control(
    client: Client,
    config: &OperatorConfig,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
) -> Result<(), OperatorError> {
    let scopes: Vec<Option<String>> = if config.namespaces.is_empty() {
        vec![None]
    } else {
        config.namespaces.iter().cloned().map(Some).collect()
    };
    let runs = scopes.into_iter().map(|namespace| {
        let scope = Scope {
            client: client.clone(),
            namespace,
        };
        control_scope(scope, config, shutdown.clone(), Arc::clone(&metrics)).boxed()
    });
    try_join_all(runs).await.map(|_| ())
}

async fn control_scope(
    scope: Scope,
    config: &OperatorConfig,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
) -> Result<(), OperatorError> {
    let client = scope.client.clone();
    let clusters = Controller::new(scope.api::<KafkaCluster>(), watcher::Config::default());
    let topics = Controller::new(scope.api::<KafkaTopic>(), watcher::Config::default());
    let reporter = Reporter {
        controller: "tidemark-operator".into(),
        instance: Some(config.instance.clone()),
    };
    let failures = Arc::new(Failures::default());
    let context = Arc::new(Context {
        settings: config.settings.clone(),
        drift_interval: config.drift_interval,
        admin: Arc::clone(&config.admin),
        batcher: Batcher::start(Arc::clone(&config.admin)),
        recorder: Recorder::new(client.clone(), reporter),
        metrics,
        failures: Arc::clone(&failures),
        topics: TopicStore(topics.store()),
        client,
    });
    let (seen_clusters, topic_store) = (clusters.store(), topics.store());
    let seen_topics = topic_store.clone();
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
            wake_topics(topic_store, failures),
        )
        .with_config(
            controller::Config::default()
                .concurrency(TOPIC_CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(shutdown.clone().map(|()| ()))
        .run(reconcile_topic, topic_failed, context);
    futures::join!(
        unless_blind(
            drain("kafkacluster", clusters),
            seen_clusters,
            shutdown.clone()
        ),
        unless_blind(drain("kafkatopic", topics), seen_topics, shutdown.clone()),
    );
    if shutdown.peek().is_some() {
        Ok(())
    } else {
        Err(OperatorError::ControllerEnded)
    }
}

/// Runs a controller to its end, or to a shutdown before its first look at the API server is complete. Then no reconcile has begun,
/// and the graceful end would wait for that look for ever.
async fn unless_blind<K>(controller: impl Future<Output = ()>, seen: Store<K>, shutdown: Shutdown)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let blind = async {
        shutdown.await;
        if seen.wait_until_ready().now_or_never().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = controller => {}
        () = blind => {}
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

/// A cluster wakes its topics when it changes in what matters to them: it comes, goes, is edited, or has other Ready nodes. What failed
/// before is tried at once then: the change may be the end of what made it fail.
fn wake_topics(
    topics: Store<KafkaTopic>,
    failures: Arc<Failures>,
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
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            // What is forgotten wakes its topics once too often.
            seen.clear();
        }
        let before = seen.insert(uid, now.clone());
        drop(seen);
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
            .map(|topic| {
                failures.reset(&topic.uid().unwrap_or_default());
                ObjectRef::from_obj(topic.as_ref())
            })
            .collect()
    }
}

async fn reconcile_cluster(
    object: Arc<KafkaCluster>,
    ctx: Arc<Context>,
) -> Result<Action, cluster::Error> {
    if let Some(wait) = must_wait(&ctx, object.as_ref()) {
        return Ok(Action::requeue(wait));
    }
    let started = Instant::now();
    let result = caught(Box::pin(cluster::reconcile(
        Arc::clone(&object),
        Arc::clone(&ctx),
    )))
    .await;
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
    if let Some(wait) = must_wait(&ctx, object.as_ref()) {
        return Ok(Action::requeue(wait));
    }
    let started = Instant::now();
    let result = caught(Box::pin(topic::reconcile(
        Arc::clone(&object),
        Arc::clone(&ctx),
    )))
    .await;
    observe(
        &ctx,
        &ctx.metrics.topic,
        &object.uid().unwrap_or_default(),
        started,
        &result,
    );
    result
}

/// How long an object that failed a moment ago has to wait, whatever woke it: its own status, written with the failure, did.
fn must_wait<K: Resource>(ctx: &Context, object: &K) -> Option<Duration> {
    let uid = object.uid().unwrap_or_default();
    ctx.failures.wait(&uid, object.meta().generation)
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
    let uid = object.uid().unwrap_or_default();
    let delay = ctx.failures.next(&uid, object.meta().generation);
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(kind, namespace, name, error = chain(error), retry_in = ?delay, "failed to reconcile");
    Action::requeue(delay)
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        if let Some(kube::Error::Api(status)) = api_error(error) {
            // Its own text is the whole answer in Rust's notation, and its source is the same again.
            let answer = format!("{} ({}, {})", status.message, status.reason, status.code);
            text.push_str(&answer);
            return text;
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

fn api_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::Error> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>();
    error
        .downcast_ref::<kube::Error>()
        .or_else(|| boxed().map(AsRef::as_ref))
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

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;

    use super::*;

    #[test]
    fn a_shutdown_ends_a_controller_that_has_seen_nothing_and_no_other() {
        let (seen, mut writer) = reflector::store::<KafkaTopic>();
        let shutdown = std::future::ready(()).boxed().shared();
        let run = |seen| unless_blind(std::future::pending(), seen, shutdown.clone());
        assert_eq!(run(seen.clone()).now_or_never(), Some(()));
        for event in [watcher::Event::Init, watcher::Event::InitDone] {
            writer.apply_watcher_event(&event);
        }
        assert_eq!(run(seen).now_or_never(), None);
    }
}
