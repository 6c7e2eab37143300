//! In which order do the parts of a broker start, and in which do they stop?
//!
//! Start: data directory, HTTP port, gRPC port, logs (recovery), metadata (the quorum, on controllers), registration,
//! replicas act on the metadata, Kafka listeners accept. Ready when the controller has unfenced the broker.
//!
//! Stop: leaders move away, listeners close, groups end, logs are flushed and marked clean, the quorum's leadership is
//! handed over, ports close. Every step is bounded, so that brokers stopped together all end. A broker that cannot go
//! on (its log directory failed) has itself fenced instead of the first step, and exits with the reason.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::request::RegisterBrokerRequest;
use broker_core::metadata::{Incarnation, MetadataImage};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::Broker;
use crate::broker_meta::{BrokerMetaError, DataDir};
use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::follow_metadata::{FollowError, MetadataFollower, follow_leaderships};
use crate::grpc::{self, GrpcError};
use crate::http;
use crate::kafka::listener::ListenError;
use crate::kafka::server::KafkaServer;
use crate::lifecycle::{Lifecycle, LifecycleConfig, LifecycleError, LifecycleHandle};
use crate::limits;
use crate::names::Resolver;
use crate::node::{BrokerOptions, Node, OptionsError};
use crate::parts::{self, ProcessStatus};
use crate::replication::{ReplicaManager, ReplicationService, StartError};
use crate::transactions::TransactionRpc;

/// How long the controller may take to move this broker's leaders away.
const HAND_OVER: Duration = Duration::from_millis(1500);
/// How long the controller may take to fence this broker when it cannot go on: it is dead to the others soon anyway.
const FENCE: Duration = Duration::from_millis(1000);
/// How long running requests of clients may take at the end.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the last step, the quorum's hand-over, may take.
const LAST: Duration = Duration::from_millis(1500);

/// Why a broker could not start, or had to stop by itself.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// What it was started with.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] BrokerMetaError),
    /// The HTTP port.
    #[error("failed to listen on {address} for HTTP")]
    Http {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The gRPC port.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// A Kafka listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The logs.
    #[error(transparent)]
    Logs(#[from] StartError),
    /// The metadata.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The registration.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// Metadata that cannot be acted on.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A part ended that should not have.
    #[error("failed to go on: {0}")]
    Failed(String),
}

/// Runs one node until `shutdown` is cancelled, or it cannot go on.
///
/// # Errors
/// Why it could not start or go on, in one line. A stop that was asked for is no error.
pub async fn run(options: BrokerOptions, shutdown: CancellationToken) -> Result<(), BrokerError> {
    limits::raise_open_files();
    let node = Node::new(options)?;
    let starting = Running::start(node);
    let mut running = tokio::select! {
        started = starting => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = running.failed() => Err(error),
    };
    running.stop(outcome.is_ok()).await;
    outcome
}

/// A node that runs.
struct Running {
    /// Tasks that only end by themselves when something is wrong.
    tasks: JoinSet<Result<(), BrokerError>>,
    control_plane: Arc<ControlPlane>,
    broker: Option<BrokerParts>,
    /// Ends the ports that other nodes and probes use.
    stop_ports: CancellationToken,
    _data: DataDir,
}

/// What only a node with the broker role has.
struct BrokerParts {
    broker: Arc<Broker>,
    replicas: ReplicaManager,
    lifecycle: LifecycleHandle,
    stop_clients: CancellationToken,
    clients_gone: CancellationToken,
    stop_lifecycle: CancellationToken,
}

impl Running {
    async fn start(node: Node) -> Result<Self, BrokerError> {
        let path = node.environment.mounted(&node.file.data_dir);
        let data = DataDir::open(&path, &node.file.cluster_id, node.id())?;
        let status = Arc::new(ProcessStatus::default());
        let stop_ports = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let port = node.moved(node.file.http_port);
        let http = TcpListener::bind((node.bind_host.as_str(), port)).await;
        let http = http.map_err(|source| BrokerError::Http {
            address: format!("{}:{port}", node.bind_host),
            source,
        })?;
        let serving = http::serve(http, status.clone(), stop_ports.clone());
        tasks.spawn(async move {
            let ended = serving.await;
            ended.map_err(|error| BrokerError::Failed(format!("the HTTP port: {error}")))
        });
        let rpc_port = node.moved(node.file.rpc_port);
        let rpc = grpc::bind(&node.bind_host, rpc_port).await?;
        let resolver = (node.environment.hosts.clone())
            .map_or_else(Resolver::from_env, Resolver::with_hosts_file);
        let control_plane =
            Arc::new(ControlPlane::start(&node.file, &node.me, &path, resolver).await?);
        status.set_control_plane(&control_plane);
        let mut routes = control_plane.routes();
        let broker = if node.is_broker() {
            let started = start_broker(&node, &data, &control_plane, &status, &mut tasks).await?;
            routes = routes
                .add_service(ReplicationService::server(started.replicas.clone()))
                .add_service(TransactionRpc::server(started.broker.clone()));
            Some(started)
        } else {
            None
        };
        let serving = grpc::serve(rpc, routes, stop_ports.clone());
        tasks.spawn(async move { Ok(serving.await?) });
        info!(node = node.me.name, id = %node.id(), cluster = node.file.cluster_id, "started");
        Ok(Self {
            tasks,
            control_plane,
            broker,
            stop_ports,
            _data: data,
        })
    }

    /// Resolves when the node cannot go on.
    async fn failed(&mut self) -> BrokerError {
        let mut fatal = self.broker.as_ref().map(|broker| broker.replicas.fatal());
        let disk = async {
            match &mut fatal {
                Some(fatal) => match fatal.wait_for(Option::is_some).await {
                    Ok(reason) => reason.as_deref().unwrap_or_default().to_owned(),
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = disk => BrokerError::Failed(reason),
            reason = self.control_plane.failed() => BrokerError::Failed(reason),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => error,
                Some(Err(panic)) => BrokerError::Failed(panic.to_string()),
                Some(Ok(Ok(()))) | None => BrokerError::Failed("a part ended".to_owned()),
            },
        }
    }

    /// Stops everything; `orderly` when nothing is wrong, so that leaders can be moved away first.
    async fn stop(mut self, orderly: bool) {
        if let Some(parts) = &self.broker {
            parts.stop(orderly).await;
        }
        bounded(LAST, "hand over the quorum", self.control_plane.stop()).await;
        self.stop_ports.cancel();
        self.tasks.shutdown().await;
        info!("stopped");
    }
}

impl BrokerParts {
    /// Waits until the controller has moved this broker's leaders away, unless there is nobody to move them to.
    async fn hand_over(&self) {
        let me = self.broker.node_id;
        let alone = self.broker.until(HAND_OVER, |image| {
            image
                .brokers()
                .all(|broker| broker.node_id == me || !broker.is_active())
        });
        tokio::select! {
            biased; // the first branch tells the controller, which the other brokers have to know
            moved = self.lifecycle.controlled_shutdown(HAND_OVER) => {
                if !moved {
                    warn!("stopping although not all leaders moved away");
                }
            }
            alone = alone => {
                if alone {
                    info!("no other broker is there to take over");
                }
            }
        }
    }

    async fn stop(&self, orderly: bool) {
        if orderly {
            self.hand_over().await;
        } else if self.lifecycle.fence(FENCE).await {
            info!("fenced by the controller, since this broker cannot go on");
        } else {
            warn!("the controller has not fenced this broker, which cannot go on");
        }
        self.stop_clients.cancel();
        bounded(
            DRAIN,
            "end client connections",
            self.clients_gone.cancelled(),
        )
        .await;
        bounded(DRAIN, "end group coordinators", self.broker.groups.stop()).await;
        let transactions = self.broker.transactions.stop();
        bounded(DRAIN, "end transaction coordinators", transactions).await;
        self.stop_lifecycle.cancel();
        // As long as the disk takes: what is not flushed now is recovered at the next start.
        if let Err(error) = self.replicas.stop().await {
            warn!(%error, "failed to close the logs cleanly");
        }
    }
}

async fn bounded(limit: Duration, what: &str, step: impl Future<Output = ()>) {
    if tokio::time::timeout(limit, step).await.is_err() {
        warn!(?limit, "gave up waiting to {what}");
    }
}

async fn start_broker(
    node: &Node,
    data: &DataDir,
    control_plane: &Arc<ControlPlane>,
    status: &Arc<ProcessStatus>,
    tasks: &mut JoinSet<Result<(), BrokerError>>,
) -> Result<BrokerParts, BrokerError> {
    let kafka = KafkaServer::bind(node).await?;
    let (applied, metadata) = watch::channel(Arc::new(MetadataImage::empty()));
    let (mut lifecycle, handle) = Lifecycle::new(
        LifecycleConfig {
            registration: registration(node, data),
            heartbeat_interval: Duration::from_millis(
                u64::try_from(node.settings.broker_heartbeat_interval_ms).unwrap_or(500),
            ),
            directory: control_plane.directory().clone(),
            registered: data.registered().clone(),
        },
        control_plane.client().clone(),
        metadata.clone(),
    );
    let replicas = parts::start_replicas(node, data, control_plane, handle.status()).await?;
    let intact_since = replicas
        .previous_epoch()
        .or(data.registered().intact_since());
    lifecycle.set_previous_epoch(intact_since);
    let controller = Arc::new(control_plane.client().clone());
    let peers = control_plane.directory().peers().clone();
    let broker = parts::broker(
        node,
        controller,
        peers,
        &replicas,
        (metadata.clone(), control_plane.publisher().watch()),
    );
    let broker = Arc::new(broker);
    let changes = replicas.leader_changes();
    tasks.spawn({
        let following = follow_leaderships(replicas.clone(), changes, broker.clone());
        async move {
            following.await;
            Ok(())
        }
    });
    let stop_lifecycle = CancellationToken::new();
    let living = lifecycle.run(stop_lifecycle.clone());
    tasks.spawn(async move { Ok(living.await?) });
    let follower = MetadataFollower::new(node.id(), replicas.clone(), applied);
    let stream = control_plane.publisher().stream();
    let following = follower.run(stream, handle.status(), broker.clone());
    tasks.spawn(async move { Ok(following.await?) });
    let (stop_clients, clients_gone) = (CancellationToken::new(), CancellationToken::new());
    status.set_broker(&broker, &handle, kafka.connections());
    let serving = serve_clients(kafka, broker.clone(), metadata, stop_clients.clone());
    let gone = clients_gone.clone();
    tasks.spawn(async move {
        serving.await;
        gone.cancel();
        std::future::pending().await
    });
    Ok(BrokerParts {
        broker,
        replicas,
        lifecycle: handle,
        stop_clients,
        clients_gone,
        stop_lifecycle,
    })
}

fn registration(node: &Node, data: &DataDir) -> RegisterBrokerRequest {
    RegisterBrokerRequest {
        cluster_id: node.file.cluster_id.clone(),
        node_id: node.id(),
        incarnation: Incarnation::from_bytes(Uuid::new_v4().into_bytes()),
        broker_uuid: data.broker_uuid(),
        endpoints: node.endpoints(),
        rpc: node.rpc_endpoint(),
        rack: node.me.rack.clone(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        previous_epoch: None, // known once the logs are opened
        had_registered: data.registered().is_there(),
        reads_elr: true,
    }
}

/// Accepts clients once this broker has acted on metadata that contains its own registration.
async fn serve_clients(
    kafka: KafkaServer,
    broker: Arc<Broker>,
    mut metadata: watch::Receiver<Arc<MetadataImage>>,
    stop: CancellationToken,
) {
    let node = broker.node_id;
    tokio::select! {
        () = stop.cancelled() => return,
        known = metadata.wait_for(|image| image.broker(node).is_some()) => {
            if known.is_err() {
                return; // the node stops
            }
        }
    }
    info!("accepting clients");
    kafka.run(broker, stop).await;
}
