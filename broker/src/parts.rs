//! How are the parts of a broker made from its configuration?

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use broker_core::group::GroupConfig;
use broker_core::group::consumer::assignor::Assignor;
use broker_core::group::consumer::request::ConsumerConfig;
use broker_core::metadata::MetadataImage;
use broker_core::partition::AlterPartitionAnswer;
use broker_core::txn::TransactionConfig;
use config::BrokerSettings;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::transport::Channel;
use types::NodeId;

use crate::broker::{Broker, ControllerAccess, QuorumView};
use crate::broker_meta::DataDir;
use crate::clock::Clock;
use crate::control_plane::ControlPlane;
use crate::controller::ControllerClient;
use crate::coordinator::{GroupService, GroupServiceConfig, OFFSETS_TOPIC};
use crate::http::Status;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::listener::Connections;
use crate::kafka::liveness::Liveness;
use crate::lifecycle::{BrokerStatus, LifecycleHandle};
use crate::metadata::MetadataPublisher;
use crate::metrics::{self, Metrics, ProcessState};
use crate::node::Node;
use crate::offsets_log::ReplicatedOffsetsLog;
use crate::peer::Peers;
use crate::producer_ids::ProducerIds;
use crate::replication::metadata::{alter_partition_answers, alter_partition_request};
use crate::replication::{
    Identity, IsrController, IsrRequest, ManagerConfig, PeerConnector, PeerError, ReplicaManager,
    StartError,
};
use crate::topic_creation::TopicCreation;
use crate::transactions::{
    ClusterMarkers, MarkerWriter, TRANSACTIONS_TOPIC, TransactionService, TransactionServiceConfig,
};

/// Just-appended batches kept in memory for followers and for consumers at the end of their partitions. A follower is
/// milliseconds behind, so this bounds memory without costing reads.
const TAIL_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Patience for a batch of ISR changes; they are asked for again.
const ISR_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the logs, recovering what is in them, on a thread that may block.
pub(crate) async fn start_replicas(
    node: &Node,
    data: &DataDir,
    control_plane: &ControlPlane,
    status: watch::Receiver<BrokerStatus>,
) -> Result<ReplicaManager, StartError> {
    let config = ManagerConfig {
        identity: Identity {
            cluster_id: node.file.cluster_id.as_str().into(),
            node: node.id(),
        },
        log_root: data.path().join("logs"),
        durability: node.file.durability,
        settings: node.settings.clone(),
        file_config: Arc::new(node.file.config.clone()),
        tail_cache_bytes: TAIL_CACHE_BYTES,
    };
    let connector = Arc::new(MetadataConnector {
        publisher: control_plane.publisher().clone(),
        peers: control_plane.directory().peers().clone(),
    });
    let controller = Arc::new(IsrOverController {
        node: node.id(),
        client: control_plane.client().clone(),
        status,
    });
    let runtime = tokio::runtime::Handle::current();
    let opening = tokio::task::spawn_blocking(move || {
        let _entered = runtime.enter();
        ReplicaManager::start(config, connector, controller)
    });
    match opening.await {
        Ok(opened) => opened,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The metadata that this broker acts on, and the newest that it has heard of.
pub(crate) type MetadataStates = (
    watch::Receiver<Arc<MetadataImage>>,
    watch::Receiver<Arc<MetadataImage>>,
);

/// What requests share. `controller` is the way to the active controller, `peers` that to other brokers.
pub(crate) fn broker(
    node: &Node,
    controller: Arc<dyn ControllerAccess>,
    peers: Peers,
    replicas: &ReplicaManager,
    (metadata, newest): MetadataStates,
) -> Broker {
    let settings = node.settings.clone();
    let clock = Clock::new();
    let groups = Arc::new(groups(&settings, replicas, &metadata, clock));
    let marker_writer = MarkerWriter {
        replicas: replicas.clone(),
        groups: groups.clone(),
        metadata: metadata.clone(),
    };
    let markers = Arc::new(ClusterMarkers {
        node_id: node.id(),
        writer: marker_writer.clone(),
        peers: peers.clone(),
        newest,
    });
    let transactions = transactions(&settings, replicas, &metadata, markers, clock);
    let slots = usize::try_from(settings.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    Broker {
        node_id: node.id(),
        cluster_id: node.file.cluster_id.as_str().into(),
        file: node.file.config.clone(),
        broker_count: node.file.brokers().count(),
        metadata,
        replicas: replicas.clone(),
        controller,
        groups,
        transactions,
        marker_writer,
        peers: peers.clone(),
        liveness: Liveness::new(peers),
        fetch_sessions: FetchSessions::new(slots),
        producer_ids: ProducerIds::default(),
        topic_creation: TopicCreation::default(),
        metrics: Arc::new(Metrics::default()),
        settings,
    }
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(1))
}

/// The coordinators' way to their topic.
fn coordinator_log(
    topic: &'static str,
    settings: &BrokerSettings,
    replicas: &ReplicaManager,
    metadata: &watch::Receiver<Arc<MetadataImage>>,
) -> Arc<ReplicatedOffsetsLog> {
    Arc::new(ReplicatedOffsetsLog {
        topic,
        replicas: replicas.clone(),
        metadata: metadata.clone(),
        commit_timeout: ms(i64::from(settings.offsets_commit_timeout_ms)),
    })
}

fn groups(
    settings: &BrokerSettings,
    replicas: &ReplicaManager,
    metadata: &watch::Receiver<Arc<MetadataImage>>,
    clock: Clock,
) -> GroupService {
    GroupService::new(GroupServiceConfig {
        groups: GroupConfig {
            min_session_timeout_ms: settings.group_min_session_timeout_ms,
            max_session_timeout_ms: settings.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
            max_size: usize::try_from(settings.group_max_size).unwrap_or(usize::MAX),
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            offset_metadata_max_bytes: usize::try_from(settings.offset_metadata_max_bytes)
                .unwrap_or(0),
            consumer: consumer_groups(settings),
        },
        expiry_interval: ms(settings.offsets_retention_check_interval_ms),
        log: coordinator_log(OFFSETS_TOPIC, settings, replicas, metadata),
        clock,
    })
}

fn consumer_groups(settings: &BrokerSettings) -> ConsumerConfig {
    let names = settings.group_consumer_assignors.0.iter();
    let mut assignors = names.filter_map(|name| Assignor::find(name));
    ConsumerConfig {
        heartbeat_interval_ms: settings.group_consumer_heartbeat_interval_ms,
        session_timeout_ms: settings.group_consumer_session_timeout_ms,
        max_size: usize::try_from(settings.group_consumer_max_size).unwrap_or(usize::MAX),
        assignors: (
            // The key's validator lets only known names and no empty list pass.
            assignors.next().unwrap_or(Assignor::Uniform),
            assignors.next(),
        ),
        migration: settings.group_consumer_migration_policy,
    }
}

fn transactions(
    settings: &BrokerSettings,
    replicas: &ReplicaManager,
    metadata: &watch::Receiver<Arc<MetadataImage>>,
    markers: Arc<ClusterMarkers>,
    clock: Clock,
) -> TransactionService {
    TransactionService::new(TransactionServiceConfig {
        transactions: TransactionConfig {
            max_timeout_ms: settings.transaction_max_timeout_ms,
            id_expiration_ms: i64::from(settings.transactional_id_expiration_ms),
        },
        abort_interval: ms(i64::from(settings.transaction_abort_interval_ms)),
        expiry_interval: ms(i64::from(settings.transaction_expiry_interval_ms)),
        log: coordinator_log(TRANSACTIONS_TOPIC, settings, replicas, metadata),
        markers,
        clock,
    })
}

impl ControllerAccess for ControllerClient {
    fn submit(
        &self,
        request: ControllerRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ControllerResponse, String>> {
        Box::pin(async move {
            let answer = Self::submit(self, request, timeout).await;
            answer.map_err(|error| error.to_string())
        })
    }

    fn quorum(&self, timeout: Duration) -> BoxFuture<'_, Result<QuorumView, String>> {
        Box::pin(async move {
            let answer = Self::quorum(self, timeout).await;
            answer.map_err(|error| error.to_string())
        })
    }
}

/// Finds peers where the metadata says they registered.
#[derive(Debug)]
struct MetadataConnector {
    publisher: MetadataPublisher,
    peers: Peers,
}

#[tonic::async_trait]
impl PeerConnector for MetadataConnector {
    async fn connect(&self, node: NodeId) -> Result<Channel, PeerError> {
        let image = self.publisher.image();
        let Some(peer) = image.broker(node) else {
            return Err(PeerError {
                node,
                reason: "it is not registered".to_owned(),
            });
        };
        Ok(self.peers.dedicated_channel(&peer.rpc.host, peer.rpc.port))
    }
}

/// Asks the active controller for ISR changes, in the name of the current registration.
#[derive(Debug)]
struct IsrOverController {
    node: NodeId,
    client: ControllerClient,
    status: watch::Receiver<BrokerStatus>,
}

#[tonic::async_trait]
impl IsrController for IsrOverController {
    async fn alter_partitions(&self, requests: &[IsrRequest]) -> Vec<AlterPartitionAnswer> {
        let unknown = || vec![AlterPartitionAnswer::Unknown; requests.len()];
        let Some(epoch) = self.status.borrow().epoch else {
            return unknown();
        };
        let asked = alter_partition_request(self.node, epoch, requests);
        match self.client.submit(asked, ISR_TIMEOUT).await {
            Ok(ControllerResponse::AlterPartition(answer)) => {
                alter_partition_answers(requests, answer)
            }
            Ok(other) => {
                tracing::warn!(?other, "an ISR change was answered by something else");
                unknown()
            }
            Err(error) => {
                tracing::warn!(%error, "failed to ask for ISR changes");
                unknown()
            }
        }
    }
}

/// What the HTTP port shows, from the first moment on.
#[derive(Default)]
pub(crate) struct ProcessStatus {
    control_plane: OnceLock<Arc<ControlPlane>>,
    broker: OnceLock<(Arc<Broker>, LifecycleHandle, Arc<Connections>)>,
}

impl ProcessStatus {
    pub(crate) fn set_control_plane(&self, control_plane: &Arc<ControlPlane>) {
        // Set once, at the start.
        let _ = self.control_plane.set(control_plane.clone());
    }

    pub(crate) fn set_broker(
        &self,
        broker: &Arc<Broker>,
        lifecycle: &LifecycleHandle,
        connections: Arc<Connections>,
    ) {
        // Set once, at the start.
        let _ = (self.broker).set((broker.clone(), lifecycle.clone(), connections));
    }
}

impl Status for ProcessStatus {
    fn not_ready(&self) -> Option<String> {
        let Some(control_plane) = self.control_plane.get() else {
            return Some("starting".to_owned());
        };
        let Some((_, lifecycle, _)) = self.broker.get() else {
            // A controller without the broker role is ready when it knows who leads.
            let led = (control_plane.quorum_status())
                .is_some_and(|status| status.borrow().leader.is_some());
            return (!led).then(|| "the quorum has no leader".to_owned());
        };
        let status = *lifecycle.status().borrow();
        match (status.epoch, status.active) {
            (None, _) => Some("not registered with a controller".to_owned()),
            (Some(_), false) => Some("fenced: catching up with the metadata".to_owned()),
            (Some(_), true) => None,
        }
    }

    fn metrics(&self) -> Option<String> {
        let (broker, lifecycle, connections) = self.broker.get()?;
        let process = ProcessState {
            connections: connections.count(),
            is_active_controller: self
                .control_plane
                .get()
                .is_some_and(|control_plane| control_plane.is_active_controller()),
            unfenced: lifecycle.status().borrow().active,
        };
        Some(metrics::render(broker, process))
    }
}
