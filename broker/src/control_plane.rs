//! Which parts of a process deal with metadata, and how are they put together?
//!
//! ```text
//! controller node:  quorum -> MetadataMachine -> MetadataPublisher     Writer -> quorum     Sessions -> Writer
//! any other node:   Observer -> MetadataMachine -> MetadataPublisher
//! both:             ControllerClient (to the local Writer, or over gRPC to the active controller's)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::controller::ControllerConfig;
use config::{BrokerConfig, ConfigMap, KeyError, NodeConfig, Role};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use types::NodeId;

use crate::admin::{AdminConfig, AdminService};
use crate::controller::{
    ControllerClient, ControllerHandle, ControllerService, LocalController, Sessions, Writer,
    WriterConfig,
};
use crate::metadata::{MetadataMachine, MetadataPublisher, MetadataService, Observer};
use crate::names::Resolver;
use crate::peer::Peers;
use crate::quorum::{
    ControllerNode, Directory, MetadataQuorum as _, QuorumConfig, QuorumError, QuorumRuntime,
    QuorumStatus, Timing,
};

/// The metadata cannot be followed on this node.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The quorum's disk.
    #[error("failed to start the metadata quorum")]
    Quorum(#[from] QuorumError),
    /// A configuration value.
    #[error("failed to read the controller's settings")]
    Settings(#[from] KeyError),
}

/// Everything about metadata in one process.
#[derive(Debug)]
pub struct ControlPlane {
    cluster_id: String,
    node_id: NodeId,
    file: ConfigMap,
    directory: Directory,
    publisher: MetadataPublisher,
    client: ControllerClient,
    local: Option<Local>,
    failure: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What only a controller has.
#[derive(Debug)]
struct Local {
    quorum: QuorumRuntime,
    handle: ControllerHandle,
    sessions: Sessions,
}

impl Local {
    /// Decides over `quorum` and looks after the brokers' sessions, until `stop`.
    fn start(
        quorum: QuorumRuntime,
        config: WriterConfig,
        directory: &Directory,
        stop: &CancellationToken,
        tasks: &mut Vec<JoinHandle<()>>,
    ) -> Self {
        let (own_id, publisher) = (quorum.me().node_id, config.publisher.clone());
        let (writer, handle) = Writer::new(Arc::new(quorum.clone()), config);
        let peers = directory.peers().clone();
        let sessions = Sessions::new(own_id, handle.clone(), publisher, peers);
        tasks.push(tokio::spawn(writer.run(stop.clone())));
        tasks.push(tokio::spawn(sessions.clone().run(stop.clone())));
        Self {
            quorum,
            handle,
            sessions,
        }
    }
}

/// Follows the metadata on a node that is no controller.
async fn observe(
    observer: Observer,
    failed: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    if let Err(error) = observer.run(stop).await {
        tracing::error!(%error, "this node cannot follow the metadata any more");
        failed.send_replace(Some(error.to_string()));
    }
}

fn directory(file: &BrokerConfig, peers: Peers) -> Directory {
    let controllers = file.controllers().map(|node| ControllerNode {
        node_id: node.id,
        host: node.host.clone(),
        rpc_port: file.rpc_port,
    });
    Directory::new(controllers, peers)
}

impl ControlPlane {
    /// Starts the parts that `node` has. [`ControlPlane::routes`] must be served on the node's gRPC port.
    ///
    /// # Errors
    /// When the disk or the settings cannot be used; nothing runs then.
    pub async fn start(
        file: &BrokerConfig,
        node: &NodeConfig,
        data_dir: &Path,
        resolver: Resolver,
    ) -> Result<Self, ControlPlaneError> {
        let directory = directory(file, Peers::new(resolver));
        let publisher = MetadataPublisher::default();
        let machine = MetadataMachine::new(publisher.clone());
        let stop = CancellationToken::new();
        let (failed, failure) = watch::channel(None);
        let mut tasks = Vec::new();
        let local = if node.roles.contains(&Role::Controller) {
            let config = QuorumConfig {
                cluster_id: file.cluster_id.clone(),
                node_id: node.id,
                host: node.host.clone(),
                rpc_port: file.rpc_port,
                metadata: metadata_dir(data_dir),
                timing: Timing::default(),
            };
            let controller = WriterConfig {
                controller: ControllerConfig::new(node.id, file)?,
                publisher: publisher.clone(),
            };
            let quorum = QuorumRuntime::start(config, directory.clone(), Box::new(machine)).await?;
            tasks.push(tokio::spawn(watch_failure(quorum.status(), failed)));
            Some(Local::start(
                quorum, controller, &directory, &stop, &mut tasks,
            ))
        } else {
            let observer = Observer {
                cluster_id: file.cluster_id.clone(),
                node_id: node.id,
                directory: directory.clone(),
                machine,
            };
            tasks.push(tokio::spawn(observe(observer, failed, stop.clone())));
            None
        };
        let reach = local.as_ref().map(|local| LocalController {
            handle: local.handle.clone(),
            status: local.quorum.status(),
        });
        let client =
            ControllerClient::new(file.cluster_id.clone(), node.id, directory.clone(), reach);
        Ok(Self {
            cluster_id: file.cluster_id.clone(),
            node_id: node.id,
            file: file.config.clone(),
            directory,
            publisher,
            client,
            local,
            failure,
            stop,
            tasks: Mutex::new(tasks),
        })
    }

    /// The gRPC services about metadata, to which others are added before they are served.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        let admin = AdminService::new(AdminConfig {
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            file: self.file.clone(),
            publisher: self.publisher.clone(),
            directory: self.directory.clone(),
            quorum: self.quorum_status(),
        });
        routes.add_service(admin.into_server());
        if let Some(local) = &self.local {
            let controller = ControllerService::new(
                self.cluster_id.clone(),
                local.handle.clone(),
                local.sessions.clone(),
                local.quorum.status(),
            );
            let metadata = MetadataService::new(self.cluster_id.clone(), self.publisher.clone());
            routes
                .add_service(local.quorum.service().into_server())
                .add_service(controller.into_server())
                .add_service(metadata.into_server());
        }
        routes.routes()
    }

    /// Committed metadata.
    #[must_use]
    pub fn publisher(&self) -> &MetadataPublisher {
        &self.publisher
    }

    /// The way to the active controller.
    #[must_use]
    pub fn client(&self) -> &ControllerClient {
        &self.client
    }

    /// Where the controllers are, and channels to any node.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether this node is the active controller.
    #[must_use]
    pub fn is_active_controller(&self) -> bool {
        self.local
            .as_ref()
            .is_some_and(|local| local.handle.is_active())
    }

    /// What this node knows of the quorum, when it has the controller role.
    #[must_use]
    pub fn quorum_status(&self) -> Option<watch::Receiver<QuorumStatus>> {
        self.local.as_ref().map(|local| local.quorum.status())
    }

    /// Resolves, with the reason, when this node cannot follow the metadata any more: the process must end.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The watching task ended with the process's own stop.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands leadership of the quorum over and stops everything.
    pub async fn stop(&self) {
        if let Some(local) = &self.local {
            local.quorum.hand_over().await;
        }
        self.stop.cancel();
        if let Some(local) = &self.local {
            local.quorum.abandon().await;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the control plane failed");
            }
        }
    }
}

/// Folder of the quorum's files in a data directory.
#[must_use]
pub fn metadata_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("metadata")
}

async fn watch_failure(
    mut status: watch::Receiver<QuorumStatus>,
    failed: watch::Sender<Option<String>>,
) {
    if let Ok(status) = status.wait_for(|status| status.failed.is_some()).await {
        failed.send_replace(status.failed.clone());
    }
}
