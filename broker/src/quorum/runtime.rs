//! What runs in a controller for the metadata quorum, and how does it start and stop?

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{Config, SnapshotPolicy};
use rpc::quorum::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::NodeId;

use super::directory::Directory;
use super::identity::{IdentityError, disk_uuid};
use super::service::RaftService;
use super::state_machine::{Machine, StateMachine};
use super::status::{Signals, Takeover};
use super::storage::LogFilesError;
use super::storage::log::DiskLog;
use super::transport::Transport;
use super::types::{LogId, Member, Proposal, Raft};
use super::{
    MetadataQuorum, PROTOCOL_VERSION, ProposeError, QuorumStatus, bootstrap, codec, election,
    status, transport,
};

/// Members that may wait for being taken in: one per configured controller is plenty.
const OFFERS: usize = 16;
/// How long a stopping leader waits for its successor.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(700);

/// The quorum's clockwork.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Pause between a leader's heartbeats.
    pub heartbeat: Duration,
    /// A voter that heard a leader within this time votes for nobody else.
    pub lease: Duration,
    /// A controller that heard no leader for a random time in this range stands for election.
    pub patience: Range<Duration>,
    /// Random pause before the first election of a start and between failed ones.
    pub retry: Range<Duration>,
    /// A leader that no quorum answered for this long stops acting.
    pub fence_after: Duration,
    /// A leader whose disk does not answer for this long falls silent, so that the others elect.
    pub stall: Duration,
    /// Entries after which the state is saved and the log shortened.
    pub snapshot_after: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            // Three heartbeats: shorter would call elections at every scheduling hiccup.
            lease: Duration::from_millis(150),
            // Six heartbeats at least. It is for leaders that cannot be seen to be dead: a dead process is noticed after
            // the lease.
            patience: Duration::from_millis(300)..Duration::from_millis(600),
            retry: Duration::from_millis(10)..Duration::from_millis(120),
            fence_after: Duration::from_millis(1000),
            // Less than a broker's session, so that a stall of the active controller's disk fences nobody.
            stall: Duration::from_millis(2000),
            snapshot_after: 5000,
        }
    }
}

/// What a controller needs to take part in the quorum.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    /// Messages of other clusters are refused.
    pub cluster_id: String,
    /// This node.
    pub node_id: NodeId,
    /// Name under which others reach this node.
    pub host: String,
    /// Port of this node's gRPC server.
    pub rpc_port: u16,
    /// Folder of the quorum's files.
    pub metadata: PathBuf,
    /// Timers.
    pub timing: Timing,
}

/// The quorum could not be started on this node.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// The disk's identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogFilesError),
    /// The snapshot.
    #[error("failed to load the metadata snapshot in {folder}")]
    Snapshot {
        /// The metadata folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Raft found its files inconsistent.
    #[error("failed to start Raft: {0}")]
    Raft(String),
}

/// What the tasks of the quorum share.
pub(crate) struct Shared {
    pub(crate) config: QuorumConfig,
    pub(crate) me: Member,
    pub(crate) directory: Directory,
    pub(crate) raft: Raft,
    pub(crate) log: DiskLog,
    pub(crate) signals: Signals,
    pub(crate) offers: mpsc::Sender<Member>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The last entry in this node's log.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.raft.data_metrics().borrow().last_log
    }
}

/// One controller's part of the quorum. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QuorumRuntime {
    shared: Arc<Shared>,
    status: watch::Receiver<QuorumStatus>,
    stop: CancellationToken,
    tasks: Arc<parking_lot::Mutex<Vec<JoinHandle<()>>>>,
}

fn raft_config(config: &QuorumConfig) -> Config {
    let lease = u64::try_from(config.timing.lease.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: config.cluster_id.clone(),
        // Elections and heartbeats are ours (election.rs). What is left of these timers are the lease
        // (election_timeout_max), the time a vote may take (min), and the time an append may take (heartbeat).
        enable_elect: false,
        enable_heartbeat: false,
        heartbeat_interval: lease,
        election_timeout_min: lease - 1,
        election_timeout_max: lease,
        install_snapshot_timeout: 60_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.timing.snapshot_after),
        max_in_snapshot_log_to_keep: config.timing.snapshot_after / 5,
        replication_lag_threshold: config.timing.snapshot_after * 2,
        ..Config::default()
    }
}

impl QuorumRuntime {
    /// Opens the disk, restores `machine`, and starts the quorum's tasks. [`QuorumRuntime::service`] must be served
    /// on `config.rpc_port` for anything to happen among several controllers.
    ///
    /// # Errors
    /// When the disk cannot be used; nothing runs then.
    pub async fn start(
        config: QuorumConfig,
        directory: Directory,
        machine: Box<dyn Machine>,
    ) -> Result<Self, QuorumError> {
        let me = Member {
            node_id: config.node_id,
            host: config.host.clone(),
            rpc_port: config.rpc_port,
            disk: disk_uuid(&config.metadata)?,
        };
        let log = DiskLog::open(&config.metadata)?;
        let state_machine = StateMachine::open(&config.metadata, machine).map_err(|source| {
            QuorumError::Snapshot {
                folder: config.metadata.clone(),
                source,
            }
        })?;
        let transport = Transport {
            cluster_id: config.cluster_id.clone(),
            directory: directory.clone(),
        };
        let raft = Raft::new(
            me.raft_id(),
            Arc::new(raft_config(&config)),
            transport,
            log.clone(),
            state_machine,
        )
        .await
        .map_err(|error| QuorumError::Raft(error.to_string()))?;
        tracing::info!(member = %me, initialized = log.has_entries(), "the metadata quorum starts here");
        let (offers, offered) = mpsc::channel(OFFERS);
        let shared = Arc::new(Shared {
            config,
            me,
            directory,
            raft,
            log,
            signals: Signals::default(),
            offers,
        });
        Ok(Self::spawn(shared, offered))
    }

    fn spawn(shared: Arc<Shared>, offered: mpsc::Receiver<Member>) -> Self {
        let stop = CancellationToken::new();
        let (sender, status) = watch::channel(QuorumStatus::default());
        let tasks = vec![
            tokio::spawn(publish_status(shared.clone(), sender, stop.clone())),
            tokio::spawn(election::run(shared.clone(), stop.clone())),
            tokio::spawn(bootstrap::join(shared.clone(), stop.clone())),
            tokio::spawn(bootstrap::take_in(shared.clone(), offered, stop.clone())),
        ];
        Self {
            shared,
            status,
            stop,
            tasks: Arc::new(parking_lot::Mutex::new(tasks)),
        }
    }

    /// What other controllers call.
    #[must_use]
    pub fn service(&self) -> RaftService {
        RaftService {
            shared: self.shared.clone(),
        }
    }

    /// This disk.
    #[must_use]
    pub fn me(&self) -> &Member {
        &self.shared.me
    }

    /// Gives leadership to the voter that has most of the log, when this node leads; waits for the successor a
    /// bounded time. This node never leads again afterwards.
    pub async fn hand_over(&self) {
        let shared = &self.shared;
        let leads = shared.raft.metrics().borrow().state.is_leader();
        shared.signals.resign();
        if !leads {
            return;
        }
        // Heartbeats have stopped; the voters' lease must run out before they vote for another.
        tokio::time::sleep(shared.config.timing.lease).await;
        let Some(successor) = self.successor() else {
            return;
        };
        let request = wire::ElectRequest {
            version: PROTOCOL_VERSION,
            cluster_id: shared.config.cluster_id.clone(),
            to_raft_id: successor.raft_id(),
            last_log_id: shared.last_log_id().map(codec::log_id_to_wire),
        };
        let mut client = transport::client(shared.directory.channel(&successor));
        let me = shared.me.raft_id();
        let work = async {
            if let Err(status) = client.elect(request).await {
                tracing::warn!(%successor, %status, "the successor does not stand for election");
                return;
            }
            let mut metrics = shared.raft.metrics();
            // An error means that Raft has stopped: there is nobody to wait for.
            let _ = metrics
                .wait_for(|metrics| metrics.current_leader.is_some_and(|id| id != me))
                .await;
        };
        if tokio::time::timeout(HAND_OVER_TIMEOUT, work).await.is_err() {
            tracing::warn!(%successor, "no successor took over in time");
        }
    }

    fn successor(&self) -> Option<Member> {
        let metrics = self.shared.raft.metrics().borrow().clone();
        let status = status::of(
            &metrics,
            &Takeover::default(),
            &self.shared.signals,
            Duration::MAX,
        );
        let me = self.shared.me.raft_id();
        status
            .voters
            .into_iter()
            .filter(|member| member.raft_id() != me)
            .max_by_key(|member| status.matched.get(&member.raft_id()).copied())
    }

    /// Hands over, then stops every task and closes the files.
    pub async fn stop(&self) {
        self.hand_over().await;
        self.abandon().await;
    }

    /// Stops without handing over, as a crash would (but with the tasks ended).
    pub async fn abandon(&self) {
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the quorum failed");
            }
        }
        if let Err(error) = self.shared.raft.shutdown().await {
            tracing::error!(%error, "Raft failed to stop");
        }
    }
}

async fn publish_status(
    shared: Arc<Shared>,
    sender: watch::Sender<QuorumStatus>,
    stop: CancellationToken,
) {
    let mut metrics = shared.raft.metrics();
    let mut takeover = Takeover::default();
    // The age of the last quorum answer grows without any event.
    let mut timer = tokio::time::interval(shared.config.timing.heartbeat);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let current = {
            let metrics = metrics.borrow_and_update();
            takeover.observe(&metrics);
            let fence_after = shared.config.timing.fence_after;
            status::of(&metrics, &takeover, &shared.signals, fence_after)
        };
        let failed = current.failed.is_some();
        sender.send_if_modified(|known| {
            let changed = *known != current;
            *known = current;
            changed
        });
        if failed {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
            _ = timer.tick() => {}
        }
    }
}

impl MetadataQuorum for QuorumRuntime {
    fn status(&self) -> watch::Receiver<QuorumStatus> {
        self.status.clone()
    }

    async fn propose(&self, term: u64, records: Bytes) -> Result<u64, ProposeError> {
        let written = self
            .shared
            .raft
            .client_write(Proposal { term, records })
            .await;
        match written {
            Ok(response) if response.data.accepted => Ok(response.log_id.index),
            Ok(_) => Err(ProposeError::NotLeader { term }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ProposeError::NotLeader { term })
            }
            Err(error) => Err(ProposeError::Stopped {
                reason: error.to_string(),
            }),
        }
    }
}
