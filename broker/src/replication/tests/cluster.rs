//! What do the tests start: managers with their servers, and a controller double that they share?

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use broker_core::partition::{AlterPartitionAnswer, PartitionRegistration};
use bytes::Bytes;
use config::{BrokerSettings, Durability, TopicSettings};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint, Server};
use types::builder::BatchBuilder;
use types::{
    BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId,
    TopicId,
};

use crate::replication::{
    FetchPartition, FetchPartitionData, FetchRequestModel, Identity, Isolation, IsrController,
    IsrRequest, ManagerConfig, PartitionChange, PeerConnector, PeerError, ProduceError, ProduceOk,
    Reader, ReplicaChanges, ReplicaManager, ReplicationService, TopicIdPartition,
};

pub(super) const LONG: Duration = Duration::from_secs(20);

/// Where the nodes' servers listen; a node without a port cannot be reached.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<HashMap<NodeId, u16>>);

#[tonic::async_trait]
impl PeerConnector for Ports {
    async fn connect(&self, node: NodeId) -> Result<Channel, PeerError> {
        let failed = |reason: String| PeerError { node, reason };
        let port = self.0.lock().get(&node).copied();
        let port = port.ok_or_else(|| failed("no address".to_owned()))?;
        // As the broker's own connector: whether anybody listens shows when the channel is used.
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
        Ok(endpoint
            .map_err(|error| failed(error.to_string()))?
            .connect_lazy())
    }
}

impl Ports {
    /// The node's process died, or never ran: its host answers that nobody listens.
    pub(super) fn refuse(&self, node: i32) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        self.0.lock().insert(NodeId(node), port);
    }
}

/// Commits ISR changes as the controller would and tells all nodes.
#[derive(Debug, Default)]
pub(super) struct Controller {
    partitions: Mutex<HashMap<TopicIdPartition, PartitionRegistration>>,
    nodes: Mutex<HashMap<NodeId, ReplicaManager>>,
    this: Mutex<Weak<Self>>,
    /// Held while nodes are told: they hear of one state after the other.
    publishing: Mutex<()>,
}

impl Controller {
    fn alter(&self, request: &IsrRequest) -> AlterPartitionAnswer {
        let mut partitions = self.partitions.lock();
        let Some(registration) = partitions.get_mut(&request.partition) else {
            return AlterPartitionAnswer::Refused(ErrorCode::UnknownTopicOrPartition);
        };
        if registration.leader_epoch != request.proposal.leader_epoch {
            return AlterPartitionAnswer::Refused(ErrorCode::FencedLeaderEpoch);
        }
        if registration.partition_epoch != request.proposal.partition_epoch {
            return AlterPartitionAnswer::Refused(ErrorCode::InvalidUpdateVersion);
        }
        registration.isr = request.proposal.isr.iter().map(|m| m.node).collect();
        let next = registration.clone().completed();
        step(registration, next);
        AlterPartitionAnswer::Committed(registration.clone())
    }

    /// Begins to move the partition to `target`, or gives that up, and tells all nodes.
    pub(super) fn reassign(&self, partition: &TopicIdPartition, target: Option<&[i32]>) {
        let mut partitions = self.partitions.lock();
        let registration = partitions.get_mut(partition).unwrap();
        let next = target.map_or_else(
            || registration.reverted(),
            |target| {
                let target: Vec<_> = target.iter().copied().map(NodeId).collect();
                registration.reassigned(&target)
            },
        );
        step(registration, next);
        drop(partitions);
        self.publish(partition, &[]);
    }

    pub(super) fn registration(&self, partition: &TopicIdPartition) -> PartitionRegistration {
        self.partitions.lock()[partition].clone()
    }

    /// Tells `nodes` (all of them, if none are given) of the partition as it is.
    pub(super) fn publish(&self, partition: &TopicIdPartition, nodes: &[i32]) {
        self.publish_all(std::slice::from_ref(partition), nodes);
    }

    /// As [`Self::publish`], of several partitions in one step.
    pub(super) fn publish_all(&self, partitions: &[TopicIdPartition], nodes: &[i32]) {
        let _one_at_a_time = self.publishing.lock();
        let change = |partition: &TopicIdPartition| PartitionChange {
            partition: partition.clone(),
            registration: self.registration(partition),
        };
        let changes = ReplicaChanges {
            partitions: partitions.iter().map(change).collect(),
            ..ReplicaChanges::default()
        };
        for (node, manager) in self.nodes.lock().iter() {
            if nodes.is_empty() || nodes.contains(&node.0) {
                manager.apply(&changes).unwrap();
            }
        }
    }
}

/// Goes on to the replicas and the ISR of `next`; who is left leads in a new epoch if some go.
fn step(registration: &mut PartitionRegistration, next: PartitionRegistration) {
    let before = std::mem::replace(registration, next);
    registration.partition_epoch = before.partition_epoch.next();
    if (before.replicas.iter()).any(|node| !registration.replicas.contains(node)) {
        let stays = before.leader.filter(|node| registration.isr.contains(node));
        let in_sync = |node: &&NodeId| registration.isr.contains(node);
        registration.leader = stays.or(registration.replicas.iter().find(in_sync).copied());
        registration.leader_epoch = before.leader_epoch.next();
    }
}

#[tonic::async_trait]
impl IsrController for Controller {
    async fn alter_partitions(&self, requests: &[IsrRequest]) -> Vec<AlterPartitionAnswer> {
        let answers = requests.iter().map(|request| self.alter(request)).collect();
        let this = self.this.lock().upgrade();
        for request in requests {
            let (this, partition) = (this.clone(), request.partition.clone());
            if let Some(this) = this {
                tokio::task::spawn_blocking(move || this.publish(&partition, &[]));
            }
        }
        answers
    }
}

/// One broker's replicas and its gRPC server.
pub(super) struct Node {
    pub(super) manager: ReplicaManager,
    server: tokio::task::JoinHandle<()>,
}

/// Some brokers with one controller double.
pub(super) struct Cluster {
    pub(super) dir: TempDir,
    pub(super) controller: Arc<Controller>,
    pub(super) ports: Arc<Ports>,
    pub(super) nodes: HashMap<i32, Node>,
    pub(super) settings: Arc<TopicSettings>,
    /// What nodes are started with.
    pub(super) broker: BrokerSettings,
    durability: Durability,
}

impl Cluster {
    pub(super) async fn start(nodes: i32) -> Self {
        Self::with(nodes, TopicSettings::default(), Durability::Replicated).await
    }

    pub(super) async fn with(nodes: i32, settings: TopicSettings, durability: Durability) -> Self {
        let controller = Arc::new(Controller::default());
        *controller.this.lock() = Arc::downgrade(&controller);
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            controller,
            ports: Arc::default(),
            nodes: HashMap::new(),
            settings: Arc::new(settings),
            broker: BrokerSettings {
                log_cleaner_backoff_ms: 20,
                ..BrokerSettings::default()
            },
            durability,
        };
        for id in 0..nodes {
            cluster.start_node(id).await;
        }
        cluster
    }

    pub(super) async fn start_node(&mut self, id: i32) {
        let root = self.dir.path().join(format!("node-{id}"));
        let manager = start_manager(
            id,
            &root,
            (self.durability, self.broker.clone()),
            Arc::clone(&self.ports) as Arc<dyn PeerConnector>,
            Arc::clone(&self.controller) as Arc<dyn IsrController>,
        );
        manager.set_broker_epoch(BrokerEpoch(100 + i64::from(id)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = ReplicationService::server(manager.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            let served = Server::builder()
                .tcp_nodelay(true)
                .serve_with_incoming(service, incoming);
            served.await.unwrap();
        });
        self.ports.0.lock().insert(NodeId(id), port);
        self.controller
            .nodes
            .lock()
            .insert(NodeId(id), manager.clone());
        self.nodes.insert(id, Node { manager, server });
    }

    /// The node's process is gone: its connections break.
    pub(super) async fn stop_node(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        self.ports.0.lock().remove(&NodeId(id));
        self.controller.nodes.lock().remove(&NodeId(id));
        node.server.abort();
        node.manager.stop().await.unwrap();
    }

    pub(super) fn manager(&self, id: i32) -> &ReplicaManager {
        &self.nodes[&id].manager
    }

    /// A topic with one partition on these replicas, the first leading, all in the ISR.
    pub(super) fn create_topic(&self, name: &str, replicas: &[i32]) -> TopicIdPartition {
        let mut id = [0; 16];
        id[..name.len()].copy_from_slice(name.as_bytes());
        let partition = TopicIdPartition::new(TopicId(id), name, 0);
        let replicas: Vec<_> = replicas.iter().copied().map(NodeId).collect();
        self.controller.partitions.lock().insert(
            partition.clone(),
            PartitionRegistration {
                leader: Some(replicas[0]),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                isr: replicas.clone(),
                replicas,
                ..PartitionRegistration::default()
            },
        );
        let settings = ReplicaChanges {
            settings: vec![(partition.topic_id, Arc::clone(&self.settings))],
            ..ReplicaChanges::default()
        };
        for node in self.nodes.values() {
            node.manager.apply(&settings).unwrap();
        }
        self.controller.publish(&partition, &[]);
        partition
    }

    /// Elects `leader` with `isr`, telling nobody yet.
    pub(super) fn elect(&self, partition: &TopicIdPartition, leader: i32, isr: &[i32]) {
        let mut partitions = self.controller.partitions.lock();
        let registration = partitions.get_mut(partition).unwrap();
        registration.leader = Some(NodeId(leader));
        registration.isr = isr.iter().copied().map(NodeId).collect();
        registration.leader_epoch = registration.leader_epoch.next();
        registration.partition_epoch = registration.partition_epoch.next();
    }

    pub(super) async fn produce(
        &self,
        node: i32,
        partition: &TopicIdPartition,
        records: Bytes,
        acks: i16,
    ) -> Result<ProduceOk, ProduceError> {
        self.manager(node)
            .produce(partition, records, acks, LONG, NOW_MS)
            .await
    }

    pub(super) fn log_end(&self, node: i32, partition: &TopicIdPartition) -> Offset {
        let snapshot = self.manager(node).partition_snapshot(partition);
        snapshot.map_or(Offset(-1), |snapshot| snapshot.log_end_offset)
    }

    pub(super) fn high_watermark(&self, node: i32, partition: &TopicIdPartition) -> Offset {
        let snapshot = self.manager(node).partition_snapshot(partition);
        snapshot.map_or(Offset(-1), |snapshot| snapshot.high_watermark)
    }

    /// The bytes of all the node's segments, in order: a truncated log may go on in a new one.
    pub(super) fn segment(&self, node: i32, partition: &TopicIdPartition) -> Vec<u8> {
        let folder = self.dir.path().join(format!("node-{node}/{partition}"));
        let mut segments: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        segments.sort();
        segments
            .iter()
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}

pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn start_manager(
    id: i32,
    root: &Path,
    (durability, settings): (Durability, BrokerSettings),
    connector: Arc<dyn PeerConnector>,
    controller: Arc<dyn IsrController>,
) -> ReplicaManager {
    let config = ManagerConfig {
        identity: Identity {
            cluster_id: "test".into(),
            node: NodeId(id),
        },
        log_root: root.to_owned(),
        durability,
        settings: Arc::new(settings),
        file_config: Arc::default(),
        tail_cache_bytes: 16 << 20,
    };
    ReplicaManager::start(config, connector, controller).unwrap()
}

/// A batch of one record with this value.
pub(super) fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(NOW_MS, Some(b"key"), Some(value));
    builder.build().unwrap()
}

/// A batch of an idempotent producer.
pub(super) fn idempotent(producer: i64, sequence: i32) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    builder.push(NOW_MS, None, Some(b"value"));
    builder.build().unwrap()
}

pub(super) fn fetch_request(
    partition: &TopicIdPartition,
    from: i64,
    max_wait: Duration,
) -> FetchRequestModel {
    FetchRequestModel {
        max_wait,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: Isolation::ReadUncommitted,
        reader: Reader::default(),
        partitions: vec![FetchPartition {
            partition: partition.clone(),
            fetch_offset: Offset(from),
            max_bytes: 1 << 20,
            current_leader_epoch: None,
            last_fetched_epoch: None,
        }],
    }
}

pub(super) async fn fetch(
    manager: &ReplicaManager,
    partition: &TopicIdPartition,
    from: i64,
) -> FetchPartitionData {
    let request = fetch_request(partition, from, Duration::ZERO);
    manager.fetch(&request).await.remove(0)
}

/// Waits until `condition` holds; `what` says what was waited for when it never does.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
