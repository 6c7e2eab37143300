//! Do brokers over real sockets get one answer from one controller, whoever dies?

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use ::config::BrokerConfig;
use broker_core::controller::request::{
    CreatableTopic, CreateTopicsRequest, RegisterBrokerRequest,
};
use broker_core::metadata::{BrokerEndpoint, BrokerUuid, MetadataImage};
use tokio_util::sync::CancellationToken;
use types::ErrorCode;
use uuid::Uuid;

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use types::NodeId;

use super::*;
use crate::control_plane::ControlPlane;
use crate::grpc;
use crate::lifecycle::{Lifecycle, LifecycleConfig, LifecycleHandle};
use crate::names::Resolver;
use crate::registered::RegisteredFile;

/// Generous for a busy machine; every wait ends with its condition long before.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    plane: Arc<ControlPlane>,
    broker: LifecycleHandle,
    /// Ends heartbeats and session, and nothing else.
    silence: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

/// Nodes 0, 1, 2 are controllers and brokers; others are brokers only.
struct Cluster {
    file: BrokerConfig,
    folder: tempfile::TempDir,
    nodes: std::collections::BTreeMap<i32, Node>,
}

impl Cluster {
    /// Every cluster has loopback addresses of its own, so that one port serves all its nodes.
    async fn new(count: i32) -> Self {
        static CLUSTERS: AtomicU8 = AtomicU8::new(1);
        let net = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let host = |id: i32| format!("127.83.{net}.{}", id + 1);
        let probe = grpc::bind(&host(0), 0).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        let nodes: String = (0..count)
            .map(|id| {
                let roles = if id < 3 {
                    "controller, broker"
                } else {
                    "broker"
                };
                format!(
                    "- {{name: n{id}, id: {id}, roles: [{roles}], host: {}}}\n",
                    host(id)
                )
            })
            .collect();
        let text = format!(
            "apiVersion: tidemark.dev/broker/v1\nclusterId: AAAAAAAAAAAAAAAAAAAAAQ\nnodes:\n{nodes}\
             dataDir: /unused\nlisteners: [{{name: internal, port: 9092}}]\nrpcPort: {port}\n"
        );
        let mut cluster = Self {
            file: BrokerConfig::parse("broker.yaml", &text).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            nodes: std::collections::BTreeMap::new(),
        };
        drop(probe);
        for id in 0..count {
            cluster.start(id).await;
        }
        cluster
    }

    async fn started(count: i32) -> Self {
        let cluster = Self::new(count).await;
        cluster
            .until("all brokers are active", |image| {
                active(image) == count as usize
            })
            .await;
        cluster
    }

    fn data_dir(&self, id: i32) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    async fn start(&mut self, id: i32) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (file, data_dir) = (self.file.clone(), self.data_dir(id));
        let silence = CancellationToken::new();
        let silenced = silence.clone();
        let started = runtime.spawn(async move {
            let node = file.node(Some(&format!("n{id}"))).unwrap().clone();
            let listener = grpc::bind(&node.host, file.rpc_port).await.unwrap();
            let plane = ControlPlane::start(&file, &node, &data_dir, Resolver::default())
                .await
                .unwrap();
            tokio::spawn(grpc::serve(
                listener,
                plane.routes(),
                CancellationToken::new(),
            ));
            let endpoint = |name: &str, port| BrokerEndpoint {
                name: name.to_owned(),
                host: node.host.clone(),
                port,
            };
            let config = LifecycleConfig {
                registration: RegisterBrokerRequest {
                    cluster_id: file.cluster_id.clone(),
                    node_id: node.id,
                    incarnation: broker_core::metadata::Incarnation::from_bytes(
                        *Uuid::new_v4().as_bytes(),
                    ),
                    broker_uuid: BrokerUuid::from_bytes([u8::try_from(id).unwrap() + 1; 16]),
                    endpoints: vec![endpoint("internal", 9092)],
                    rpc: endpoint("rpc", file.rpc_port),
                    rack: None,
                    software_version: "test".to_owned(),
                    previous_epoch: None,
                    reads_elr: true,
                    had_registered: false,
                },
                heartbeat_interval: Duration::from_millis(500),
                directory: plane.directory().clone(),
                registered: RegisteredFile::open(&data_dir),
            };
            let applied = plane.publisher().watch();
            let (lifecycle, handle) = Lifecycle::new(config, plane.client().clone(), applied);
            tokio::spawn(lifecycle.run(silenced));
            (Arc::new(plane), handle)
        });
        let (plane, broker) = started.await.unwrap();
        let node = Node {
            plane,
            broker,
            silence,
            runtime,
        };
        self.nodes.insert(id, node);
    }

    /// As kill -9: every task and connection ends, nothing is handed over.
    async fn kill(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        let ended = move || node.runtime.shutdown_timeout(PATIENCE);
        tokio::task::spawn_blocking(ended).await.unwrap();
    }

    /// Waits until every running node has an image of which `reached` is true.
    async fn until(&self, what: &str, reached: impl Fn(&MetadataImage) -> bool) {
        for (id, node) in &self.nodes {
            let mut images = node.plane.publisher().watch();
            let wait = images.wait_for(|image| reached(image));
            let result = tokio::time::timeout(PATIENCE, wait)
                .await
                .map(|image| image.is_ok());
            let image = node.plane.publisher().image();
            assert_eq!(result, Ok(true), "node {id}: {what}: {image:#?}");
        }
    }

    async fn active_controller(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        let mut timer = tokio::time::interval(Duration::from_millis(5));
        while Instant::now() < deadline {
            timer.tick().await;
            let found = self
                .nodes
                .iter()
                .find(|(_, node)| node.plane.is_active_controller());
            if let Some((id, _)) = found {
                return *id;
            }
        }
        panic!("no active controller");
    }

    /// The node's answer to a create of `topic` with a replica on every broker that is asked for.
    async fn create(&self, from: i32, topic: &str) -> Result<(), ErrorCode> {
        create(self.nodes[&from].plane.client().clone(), topic.to_owned()).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in std::mem::take(&mut self.nodes).into_values() {
            node.runtime.shutdown_background();
        }
    }
}

async fn create(client: ControllerClient, topic: String) -> Result<(), ErrorCode> {
    let request = ControllerRequest::CreateTopics(CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic,
            num_partitions: 3,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        validate_only: false,
    });
    match client.submit(request, PATIENCE).await.unwrap() {
        ControllerResponse::CreateTopics(mut topics) => {
            let topic = topics.pop().unwrap();
            topic.result.map(|_| ()).map_err(|error| error.code)
        }
        other => panic!("{other:?}"),
    }
}

fn active(image: &MetadataImage) -> usize {
    image.brokers().filter(|broker| broker.is_active()).count()
}

fn is_fenced(image: &MetadataImage, id: i32) -> bool {
    image.broker(NodeId(id)).is_some_and(|broker| broker.fenced)
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_become_active_and_a_topic_made_anywhere_is_known_everywhere() {
    let cluster = Cluster::started(4).await;
    for id in 0..4 {
        let topic = format!("made-by-{id}");
        cluster.create(id, &topic).await.unwrap();
        cluster
            .until("the topic is known", |image| {
                image.topic_by_name(&topic).is_some()
            })
            .await;
    }
    let images: Vec<_> = cluster
        .nodes
        .values()
        .map(|node| node.plane.publisher().image())
        .collect();
    let offset = images.iter().map(|image| image.offset()).max().unwrap();
    cluster
        .until("all are at one offset", |image| image.offset() >= offset)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_creates_of_one_topic_exactly_one_succeeds() {
    let cluster = Cluster::started(3).await;
    for round in 0..10 {
        let topic = format!("contested-{round}");
        let creates = (0..12).map(|index| {
            let client = cluster.nodes[&(index % 3)].plane.client().clone();
            tokio::spawn(create(client, topic.clone()))
        });
        let results = futures::future::join_all(creates).await;
        let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        let made = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(made, 1, "{results:?}");
        let refused = Err(ErrorCode::TopicAlreadyExists);
        assert_eq!(
            results.iter().filter(|result| **result == refused).count(),
            11
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_can_be_created_again_soon_after_the_active_controller_died() {
    let mut cluster = Cluster::started(3).await;
    for round in 0..3 {
        let dead = cluster.active_controller().await;
        let other = (0..3).find(|id| *id != dead).unwrap();
        cluster.kill(dead).await;
        let killed = Instant::now();
        cluster
            .create(other, &format!("topic-{round}"))
            .await
            .unwrap();
        let created = killed.elapsed();
        cluster
            .until("the dead broker is fenced", |image| is_fenced(image, dead))
            .await;
        let fenced = killed.elapsed();
        println!("created after {created:?}, fenced after {fenced:?}");
        // The session timeout is 3 s: only the refused connection explains an earlier fence.
        assert!(fenced < Duration::from_millis(2500), "{fenced:?}");
        cluster.start(dead).await;
        cluster
            .until("all brokers are active", |image| active(image) == 3)
            .await;
    }
    let image = cluster.nodes[&0].plane.publisher().image();
    assert_eq!(image.topic_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_fenced_long_before_its_session_expires() {
    let mut cluster = Cluster::started(4).await;
    cluster.kill(3).await;
    let killed = Instant::now();
    cluster
        .until("it is fenced", |image| is_fenced(image, 3))
        .await;
    let fenced = killed.elapsed();
    println!("fenced after {fenced:?}");
    assert!(fenced < Duration::from_millis(2500), "{fenced:?}");
    cluster.start(3).await;
    cluster
        .until("it is active again", |image| active(image) == 4)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_whose_process_lives_is_fenced_only_by_the_session_timeout() {
    let cluster = Cluster::started(4).await;
    let silent = Instant::now();
    cluster.nodes[&3].silence.cancel();
    cluster
        .until("it is fenced", |image| is_fenced(image, 3))
        .await;
    // The last heartbeat may have been 500 ms before the silence.
    assert!(
        silent.elapsed() > Duration::from_millis(2400),
        "{:?}",
        silent.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_leaves_is_told_when_it_may_stop() {
    let cluster = Cluster::started(4).await;
    cluster.create(0, "topic").await.unwrap();
    assert!(cluster.nodes[&3].broker.controlled_shutdown(PATIENCE).await);
    cluster
        .until("it is fenced", |image| is_fenced(image, 3))
        .await;
    cluster
        .until("it leads nothing", |image| {
            image
                .topics()
                .flat_map(|topic| topic.iter())
                .all(|(_, partition)| partition.leader != Some(NodeId(3)))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_serve_is_fenced_at_once_though_its_process_lives() {
    let cluster = Cluster::started(4).await;
    cluster.create(0, "topic").await.unwrap();
    let asked = Instant::now();
    assert!(cluster.nodes[&3].broker.fence(PATIENCE).await);
    assert!(asked.elapsed() < Duration::from_millis(2000), "{asked:?}");
    cluster
        .until("it is fenced and leads nothing", |image| {
            let mut partitions = image.topics().flat_map(|topic| topic.iter());
            is_fenced(image, 3)
                && partitions.all(|(_, partition)| partition.leader != Some(NodeId(3)))
        })
        .await;
    // It goes on to say so: being caught up does not unfence it.
    let mut status = cluster.nodes[&3].broker.status();
    let unfenced = status.wait_for(|status| status.active);
    let waited = tokio::time::timeout(Duration::from_millis(500), unfenced).await;
    assert!(waited.is_err(), "unfenced: {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_what_a_restart_would_risk() {
    use rpc::admin::v1 as wire;
    let mut cluster = Cluster::started(3).await;
    cluster.create(0, "one-replica").await.unwrap();
    let active = cluster.active_controller().await;
    let ask = async |cluster: &Cluster, node_id: i32| {
        let plane = &cluster.nodes[&active].plane;
        let controller = plane.directory().controllers()[&NodeId(active)].clone();
        let channel = plane.directory().controller_channel(&controller);
        let request = wire::CanRestartRequest {
            version: 1,
            cluster_id: cluster.file.cluster_id.clone(),
            node_id,
        };
        let mut client = wire::admin_client::AdminClient::new(channel);
        client.can_restart(request).await.unwrap().into_inner()
    };
    let others: Vec<_> = (0..3).filter(|id| *id != active).collect();
    let answer = ask(&cluster, others[0]).await;
    // One replica each is all they will ever have: that alone must not block a roll for ever.
    assert!(answer.safe, "{answer:?}");
    assert!(
        !answer.risks.iter().any(|risk| risk.contains("quorum")),
        "{answer:?}"
    );
    cluster.kill(others[1]).await;
    let answer = ask(&cluster, others[0]).await;
    assert!(
        !answer.safe && answer.risks.iter().any(|risk| risk.contains("quorum")),
        "{answer:?}"
    );
}
