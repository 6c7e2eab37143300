//! A broker that is its own controller, without a quorum: for tests of what clients see.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use broker_core::controller::request::{
    BrokerHeartbeatRequest, ControllerRequest, ControllerResponse, RegisterBrokerRequest,
};
use broker_core::controller::{Controller, ControllerConfig};
use broker_core::metadata::{
    BrokerEndpoint, BrokerUuid, Incarnation, MetadataImage, MetadataRecord,
};
use broker_core::partition::AlterPartitionAnswer;
use config::{BrokerConfig, Durability, Environment};
use futures::future::BoxFuture;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use types::{BrokerEpoch, NodeId};

use crate::broker::{Broker, ControllerAccess, QuorumMember, QuorumView};
use crate::clock::Clock;
use crate::follow_metadata::{MetadataFollower, follow_leaderships};
use crate::kafka::connection::ConnectionLimits;
use crate::kafka::dispatch::Dispatcher;
use crate::kafka::listener::{ConnectionCounts, Connections, Listener};
use crate::names::Resolver;
use crate::node::{BrokerOptions, Node};
use crate::parts;
use crate::peer::Peers;
use crate::replication::{
    Identity, IsrController, IsrRequest, ManagerConfig, PeerConnector, PeerError, ReplicaManager,
};

/// Decides and applies at once: what a quorum of one without a disk would do.
struct Solo {
    state: Mutex<State>,
    broker: OnceLock<Arc<Broker>>,
    clock: Clock,
}

struct State {
    controller: Controller,
    image: MetadataImage,
    follower: MetadataFollower,
}

impl Solo {
    async fn ask(&self, request: ControllerRequest) -> ControllerResponse {
        let mut state = self.state.lock().await;
        let now_ms = self.clock.now().monotonic_ms;
        let decision = state.controller.decide(now_ms, 7, &request).unwrap();
        self.commit(&mut state, &decision.records).await;
        decision.response
    }

    /// What the active controller does by itself: a new cluster gets its features.
    async fn tick(&self) {
        let mut state = self.state.lock().await;
        let records = state.controller.tick(self.clock.now().monotonic_ms);
        self.commit(&mut state, &records.unwrap()).await;
    }

    async fn commit(&self, state: &mut State, records: &[MetadataRecord]) {
        if records.is_empty() {
            return;
        }
        let offset = state.image.offset() + 1;
        let delta = state.image.apply(offset, records).unwrap();
        state.controller.committed(offset);
        let image = Arc::new(state.image.clone());
        let broker = self.broker.get().expect("set before the first request");
        let applied = state.follower.apply(image, &delta, broker);
        applied.await.unwrap();
    }
}

impl ControllerAccess for Solo {
    fn submit(
        &self,
        request: ControllerRequest,
        _timeout: Duration,
    ) -> BoxFuture<'_, Result<ControllerResponse, String>> {
        Box::pin(async move { Ok(self.ask(request).await) })
    }

    fn quorum(&self, _timeout: Duration) -> BoxFuture<'_, Result<QuorumView, String>> {
        let alone = QuorumMember {
            node_id: NodeId(1),
            disk: [2; 16],
            is_voter: true,
            host: "solo".to_owned(),
            rpc_port: 1,
            last_log_index: Some(4),
        };
        let view = QuorumView {
            leader: NodeId(1),
            term: 7,
            last_log_index: 4,
            committed_index: 3,
            members: vec![alone],
        };
        Box::pin(std::future::ready(Ok(view)))
    }
}

/// There are no followers.
#[derive(Debug)]
struct Nobody;

#[tonic::async_trait]
impl IsrController for Nobody {
    async fn alter_partitions(&self, requests: &[IsrRequest]) -> Vec<AlterPartitionAnswer> {
        vec![AlterPartitionAnswer::Unknown; requests.len()]
    }
}

#[tonic::async_trait]
impl PeerConnector for Nobody {
    async fn connect(&self, node: NodeId) -> Result<tonic::transport::Channel, PeerError> {
        panic!("there is no node {node}")
    }
}

/// A running broker.
pub(super) struct SoloBroker {
    pub(super) address: std::net::SocketAddr,
    solo: Arc<Solo>,
    stop: CancellationToken,
}

impl SoloBroker {
    /// What the controller answers.
    pub(super) async fn ask(&self, request: ControllerRequest) -> ControllerResponse {
        self.solo.ask(request).await
    }

    /// What the controller knows.
    pub(super) async fn image(&self) -> MetadataImage {
        self.solo.state.lock().await.image.clone()
    }

    /// A broker that the controller takes for alive, though there is none.
    pub(super) async fn register_another(&self, id: u8) {
        let address = std::net::SocketAddr::from(([127, 0, 0, id], 1));
        let broker_epoch = register(&self.solo, id, address).await;
        unfence(&self.solo, id, broker_epoch).await;
    }
}

impl Drop for SoloBroker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const CLUSTER: &str = "c29sby1jbHVzdGVyLWlkMQ";

fn broker_file(data: &Path, config: &[(&str, &str)]) -> BrokerConfig {
    let mut text = format!(
        "apiVersion: tidemark.dev/broker/v1\nclusterId: {CLUSTER}\nnodes:\n\
         - {{name: solo, id: 1, roles: [controller, broker], host: 127.0.0.1}}\n\
         dataDir: {}\nlisteners: [{{name: internal, port: 9092}}]\nconfig:\n  \
         offsets.topic.num.partitions: \"3\"\n  group.initial.rebalance.delay.ms: \"0\"\n",
        data.display()
    );
    for (name, value) in config {
        text.push_str(&format!("  {name}: \"{value}\"\n"));
    }
    BrokerConfig::parse("solo.yaml", &text).unwrap()
}

/// Starts a broker on `host:port` with its data in `data`.
pub(super) async fn start(
    data: &Path,
    host: &str,
    port: u16,
    config: &[(&str, &str)],
) -> SoloBroker {
    let node = Node::new(BrokerOptions {
        config: broker_file(data, config),
        node_name: Some("solo".to_owned()),
        environment: Environment::default(),
    })
    .unwrap();
    let clock = Clock::new();
    let replicas = open_replicas(&node, data);
    let (applied, metadata) = watch::channel(Arc::new(MetadataImage::empty()));
    let solo = Arc::new(Solo {
        state: Mutex::new(State {
            controller: Controller::take_over(
                ControllerConfig::new(node.id(), &node.file).unwrap(),
                MetadataImage::empty(),
                clock.now().monotonic_ms,
            ),
            image: MetadataImage::empty(),
            follower: MetadataFollower::new(node.id(), replicas.clone(), applied),
        }),
        broker: OnceLock::new(),
        clock,
    });
    let peers = Peers::new(Resolver::default());
    let broker = parts::broker(
        &node,
        solo.clone(),
        peers,
        &replicas,
        (metadata.clone(), metadata),
    );
    let broker = Arc::new(broker);
    let _ = solo.broker.set(broker.clone());
    let changes = replicas.leader_changes();
    tokio::spawn(follow_leaderships(replicas, changes, broker.clone()));
    let listener = Listener::bind("internal", host, port).await.unwrap();
    let broker_epoch = register(&solo, 1, listener.address()).await;
    let mut state = solo.state.lock().await;
    state.follower.registered(Some(broker_epoch));
    drop(state);
    unfence(&solo, 1, broker_epoch).await;
    solo.tick().await;
    serve(listener, broker, solo)
}

fn open_replicas(node: &Node, data: &Path) -> ReplicaManager {
    let config = ManagerConfig {
        identity: Identity {
            cluster_id: CLUSTER.into(),
            node: node.id(),
        },
        log_root: data.join("logs"),
        durability: Durability::Replicated,
        settings: node.settings.clone(),
        file_config: Arc::new(node.file.config.clone()),
        tail_cache_bytes: 16 * 1024 * 1024,
    };
    ReplicaManager::start(config, Arc::new(Nobody), Arc::new(Nobody)).unwrap()
}

fn serve(listener: Listener, broker: Arc<Broker>, solo: Arc<Solo>) -> SoloBroker {
    let stop = CancellationToken::new();
    let limits = ConnectionLimits {
        max_frame: 100 * 1024 * 1024,
        max_in_flight: 100,
        max_in_flight_bytes: 16 * 1024 * 1024,
        request_memory: Arc::new(Semaphore::new(256 * 1024)),
        request_memory_kib: 256 * 1024,
        max_idle: None,
        max_stall: Duration::from_secs(10),
        drain: Duration::from_secs(1),
    };
    let counts = ConnectionCounts {
        total: 1000,
        per_ip: 1000,
    };
    let address = listener.address();
    let service = Arc::new(Dispatcher::new(broker));
    tokio::spawn(listener.run(service, limits, Connections::new(counts), stop.clone()));
    SoloBroker {
        address,
        solo,
        stop,
    }
}

async fn register(solo: &Solo, id: u8, address: std::net::SocketAddr) -> BrokerEpoch {
    let endpoint = |port| BrokerEndpoint {
        name: "internal".to_owned(),
        host: address.ip().to_string(),
        port,
    };
    let registered = solo
        .ask(ControllerRequest::RegisterBroker(RegisterBrokerRequest {
            cluster_id: CLUSTER.to_owned(),
            node_id: NodeId(id.into()),
            incarnation: Incarnation::from_bytes([id; 16]),
            broker_uuid: BrokerUuid::from_bytes([id + 1; 16]),
            endpoints: vec![endpoint(address.port())],
            rpc: endpoint(1),
            rack: None,
            software_version: "test".to_owned(),
            previous_epoch: None,
            reads_elr: true,
            had_registered: false,
        }))
        .await;
    let ControllerResponse::RegisterBroker(Ok(broker_epoch)) = registered else {
        panic!("{registered:?}")
    };
    broker_epoch
}

async fn unfence(solo: &Solo, id: u8, broker_epoch: BrokerEpoch) {
    let heartbeat = ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
        node_id: NodeId(id.into()),
        broker_epoch,
        metadata_offset: u64::MAX,
        want_fence: false,
        want_shut_down: false,
        reads_elr: true,
    });
    solo.ask(heartbeat).await;
}
