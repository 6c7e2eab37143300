//! Which replicas does this broker hold, and what can be asked of them?
//!
//! [`ReplicaManager`] is a cheap handle. [`ReplicaManager::start`] opens the log directory and begins the background
//! work, [`ReplicaManager::stop`] ends it in the order that makes the stop a clean one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker_log::LogError;
use bytes::Bytes;
use config::{BrokerSettings, ConfigMap, Durability, TopicSettings};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, TopicId};

use super::append::{Appended, absent};
use super::cleaner::Cleaners;
use super::convert::PartitionKey;
use super::directory::{Directory, Volume};
use super::isr::{self, IsrController};
use super::links::{Links, PeerConnector};
use super::model::{
    AppendChecks, LeaderChange, LeaderHint, PartitionError, PartitionSnapshot, ProduceError,
    ProduceOk, TopicIdPartition,
};
use super::push::PeerTraffic;
use super::replica::Replica;
use super::room::Room;
use super::shared::{Identity, Shared, SharedParts, wall_ms};
use super::transactions::TransactionRule;
use super::validate::{Origin, prepare};
use super::waiters::Outcome;
use super::{flusher, housekeeping, log_starts};

/// What a replica manager is started with.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Who this broker is.
    pub identity: Identity,
    /// The log directory (`dataDir/logs`).
    pub log_root: PathBuf,
    /// When a record counts as replicated: in the page cache, or fsynced.
    pub durability: Durability,
    /// The broker's settings.
    pub settings: Arc<BrokerSettings>,
    /// The `config` of the broker's file: the layer below what is set at run time.
    pub file_config: Arc<ConfigMap>,
    /// Bytes of just-appended batches kept in memory for readers at the end.
    pub tail_cache_bytes: usize,
}

/// The replica manager could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log directory cannot be opened.
    #[error("failed to open the log directory {root}")]
    Logs {
        /// The directory.
        root: PathBuf,
        /// Why.
        #[source]
        source: LogError,
    },
    /// The operating system gave no thread.
    #[error("failed to start a thread for the logs")]
    Thread(#[source] std::io::Error),
}

/// All replicas of this broker; a cheap handle.
#[derive(Debug, Clone)]
pub struct ReplicaManager(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Directory,
    pub(crate) links: Arc<Links>,
    pub(crate) cleaners: Cleaners,
    pub(crate) replicas: RwLock<HashMap<PartitionKey, Arc<Replica>>>,
    /// Topic ids by name, for requests that have only that.
    pub(crate) names: RwLock<HashMap<Arc<str>, TopicId>>,
    pub(crate) settings: RwLock<HashMap<TopicId, Arc<TopicSettings>>>,
    /// Who leads the partitions that have no replica here, for clients that come to ask.
    pub(crate) elsewhere: RwLock<BTreeMap<PartitionKey, LeaderHint>>,
    pub(crate) ineligible: Mutex<HashSet<NodeId>>,
    /// Held while metadata is applied.
    pub(crate) applying: Mutex<()>,
    pub(crate) producer_id_expiration_ms: i64,
    pub(crate) runtime: tokio::runtime::Handle,
    file_config: Arc<ConfigMap>,
    metadata_applied: AtomicBool,
    shutdown: watch::Sender<bool>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Inner {
    pub(crate) fn file_config(&self) -> &ConfigMap {
        &self.file_config
    }

    /// Whether an image with this incarnation's registration was applied.
    pub(crate) fn metadata_applied(&self) -> bool {
        self.metadata_applied.load(Ordering::Acquire)
    }

    pub(crate) fn set_metadata_applied(&self) {
        self.metadata_applied.store(true, Ordering::Release);
    }
}

impl ReplicaManager {
    /// Opens the log directory (recovering what is in it) and starts the background work on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]: the disk, or no thread.
    pub fn start(
        config: ManagerConfig,
        connector: Arc<dyn PeerConnector>,
        controller: Arc<dyn IsrController>,
    ) -> Result<Self, StartError> {
        let directory = Directory::open(&config.log_root).map_err(|source| StartError::Logs {
            root: config.log_root.clone(),
            source,
        })?;
        let (isr, isr_requests) = mpsc::channel(isr::REQUESTS_QUEUED);
        let shared = Arc::new(Shared::new(SharedParts {
            identity: config.identity,
            await_flush: config.durability == Durability::Fsync,
            replica_lag_time_max_ms: config.settings.replica_lag_time_max_ms,
            tail_cache_bytes: config.tail_cache_bytes,
            isr,
            room: Room::new(
                &config.log_root,
                u64::try_from(config.settings.log_dir_reserve_bytes).unwrap_or(0),
            ),
        }));
        let runtime = tokio::runtime::Handle::current();
        let links = Links::new(Arc::clone(&shared), connector, runtime.clone());
        let manager = Self(Arc::new(Inner {
            directory,
            links,
            cleaners: Cleaners::new(&config.settings),
            replicas: RwLock::default(),
            names: RwLock::default(),
            settings: RwLock::default(),
            elsewhere: RwLock::default(),
            ineligible: Mutex::default(),
            applying: Mutex::default(),
            producer_id_expiration_ms: i64::from(config.settings.producer_id_expiration_ms),
            runtime: runtime.clone(),
            file_config: config.file_config,
            metadata_applied: AtomicBool::new(false),
            shutdown: watch::Sender::new(false),
            threads: Mutex::default(),
            shared,
        }));
        manager.start_flushing(config.durability)?;
        manager
            .0
            .cleaners
            .start(&manager)
            .map_err(StartError::Thread)?;
        let stopping = || manager.0.shutdown.subscribe();
        // All end with `stop`.
        runtime.spawn(isr::run(
            manager.clone(),
            controller,
            isr_requests,
            stopping(),
        ));
        runtime.spawn(housekeeping::run(
            manager.clone(),
            Duration::from_millis(
                u64::try_from(config.settings.log_retention_check_interval_ms).unwrap_or(300_000),
            ),
            stopping(),
        ));
        runtime.spawn(log_starts::run(manager.clone(), stopping()));
        Ok(manager)
    }

    fn start_flushing(&self, durability: Durability) -> Result<(), StartError> {
        // A second thread keeps one slow file from holding up the group commit of the others.
        let count = if durability == Durability::Fsync {
            2
        } else {
            1
        };
        for index in 0..count {
            let shared = Arc::clone(&self.0.shared);
            let links = Arc::downgrade(&self.0.links);
            let thread = std::thread::Builder::new()
                .name(format!("log-flush-{index}"))
                .spawn(move || flusher::run(&shared, &links))
                .map_err(StartError::Thread)?;
            self.0.threads.lock().push(thread);
        }
        Ok(())
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Who this broker is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.shared.identity
    }

    /// The broker epoch of the process before this one, if it stopped cleanly, so that no log can have lost records.
    #[must_use]
    pub fn previous_epoch(&self) -> Option<BrokerEpoch> {
        self.0.directory.clean_epoch()
    }

    /// The broker epoch that the controller gave this incarnation; followers' streams state it. To be set before
    /// the first metadata is applied.
    pub fn set_broker_epoch(&self, epoch: BrokerEpoch) {
        self.0.shared.set_broker_epoch(epoch);
    }

    /// Becomes `Some(reason)` when the log directory failed: the broker must stop, exiting non-zero.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.shared.fatal()
    }

    /// Leadership that comes and goes, for the coordinators. One who lags behind by more than the channel keeps
    /// gets an error, and looks at [`Self::led_partitions`] then.
    #[must_use]
    pub fn leader_changes(&self) -> broadcast::Receiver<LeaderChange> {
        self.0.shared.changes.subscribe()
    }

    /// The partitions of a topic that this broker leads, with their leader epochs.
    #[must_use]
    pub fn led_partitions(&self, topic: &str) -> Vec<(i32, LeaderEpoch)> {
        let Some(id) = self.0.names.read().get(topic).copied() else {
            return Vec::new();
        };
        let mut led: Vec<_> = self
            .replicas_of(id)
            .into_iter()
            .filter_map(|replica| {
                let epoch = replica.lock().core.leader()?.leader_epoch();
                Some((replica.partition.partition, epoch))
            })
            .collect();
        led.sort_unstable();
        led
    }

    /// Appends a client's batches as leader and waits as `acks` (0, 1, -1) says. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// Kafka's codes, with the leader where it is another broker.
    pub async fn produce(
        &self,
        partition: &TopicIdPartition,
        records: Bytes,
        acks: i16,
        timeout: Duration,
        now_ms: i64,
    ) -> Result<ProduceOk, ProduceError> {
        self.produce_guarded(
            partition,
            records,
            (acks, AppendChecks::default()),
            timeout,
            now_ms,
        )
        .await
    }

    /// As [`Self::produce`], with what is known of the batch beside the log.
    ///
    /// # Errors
    /// As [`Self::produce`], and `INVALID_TXN_STATE`.
    pub async fn produce_guarded(
        &self,
        partition: &TopicIdPartition,
        records: Bytes,
        (acks, checks): (i16, AppendChecks),
        timeout: Duration,
        now_ms: i64,
    ) -> Result<ProduceOk, ProduceError> {
        let replica = self
            .find(partition)
            .ok_or_else(|| absent(self.absence(partition)))?;
        let room = &self.0.shared.room;
        if !room.admits(records.len()) {
            return Err(ProduceError::new(
                ErrorCode::KafkaStorageError,
                "the disk has less room than log.dir.reserve.bytes",
            ));
        }
        let mut prepared = prepare(records, &replica.settings(), Origin::Client, now_ms)?;
        prepared.rule = TransactionRule::Produce {
            guard: checks.guard,
        };
        prepared.is_behind_refused = checks.is_behind_refused;
        let appended = replica.append_as_leader(prepared, acks, None, now_ms)?;
        settled(&replica, appended, timeout).await
    }

    /// Appends a coordinator's batches in the leader epoch that it was loaded in, and waits for the HW.
    ///
    /// # Errors
    /// As [`Self::produce`], and the codes of a leader epoch that is not the current one.
    pub async fn append_internal(
        &self,
        partition: &TopicIdPartition,
        leader_epoch: LeaderEpoch,
        records: Bytes,
        timeout: Duration,
    ) -> Result<ProduceOk, ProduceError> {
        self.append_in_transaction(
            partition,
            leader_epoch,
            records,
            TransactionRule::Free,
            timeout,
        )
        .await
    }

    /// As [`Self::append_internal`], for what has to do with a producer's transaction.
    ///
    /// # Errors
    /// As [`Self::append_internal`], and the codes of `rule`.
    pub async fn append_in_transaction(
        &self,
        partition: &TopicIdPartition,
        leader_epoch: LeaderEpoch,
        records: Bytes,
        rule: TransactionRule,
        timeout: Duration,
    ) -> Result<ProduceOk, ProduceError> {
        let replica = self
            .find(partition)
            .ok_or_else(|| absent(self.absence(partition)))?;
        let now_ms = wall_ms();
        let mut prepared = prepare(records, &replica.settings(), Origin::Coordinator, now_ms)?;
        prepared.rule = rule;
        let appended = replica.append_as_leader(prepared, -1, Some(leader_epoch), now_ms)?;
        settled(&replica, appended, timeout).await
    }

    /// What a partition looks like; `None` if there is no replica here.
    #[must_use]
    pub fn partition_snapshot(&self, partition: &TopicIdPartition) -> Option<PartitionSnapshot> {
        self.find(partition).map(|replica| replica.snapshot())
    }

    /// What all partitions look like, by name and index.
    #[must_use]
    pub fn snapshots(&self) -> Vec<PartitionSnapshot> {
        let mut all: Vec<_> = self
            .all_replicas()
            .iter()
            .map(|replica| replica.snapshot())
            .collect();
        all.sort_by(|a, b| {
            (&a.partition.name, a.partition.partition)
                .cmp(&(&b.partition.name, b.partition.partition))
        });
        all
    }

    /// The file system that the logs lie on.
    ///
    /// # Errors
    /// The system's.
    pub async fn volume(&self) -> std::io::Result<Volume> {
        let manager = self.clone();
        let volume = tokio::task::spawn_blocking(move || manager.0.directory.volume());
        volume.await?
    }

    /// Where the logs are.
    #[must_use]
    pub fn log_root(&self) -> PathBuf {
        self.0.directory.dir().path().to_owned()
    }

    /// What was replicated from and to each peer.
    #[must_use]
    pub fn peer_traffic(&self) -> Vec<(NodeId, Arc<PeerTraffic>)> {
        self.0.links.all_traffic()
    }

    /// Bytes of record batches that passed the throttles, as leader and as follower (KIP-73).
    #[must_use]
    pub fn throttled_bytes(&self) -> (u64, u64) {
        let throttles = &self.0.shared.throttles;
        (throttles.leader.passed(), throttles.follower.passed())
    }

    pub(crate) fn traffic(&self, node: NodeId) -> Arc<PeerTraffic> {
        self.0.links.traffic(node)
    }

    pub(crate) fn replica(&self, key: PartitionKey) -> Option<Arc<Replica>> {
        self.0.replicas.read().get(&key).map(Arc::clone)
    }

    /// The replica by topic id, or by name where the id is not given.
    pub(crate) fn find(&self, partition: &TopicIdPartition) -> Option<Arc<Replica>> {
        let topic_id = if partition.topic_id.is_zero() {
            self.0.names.read().get(&partition.name).copied()?
        } else {
            partition.topic_id
        };
        self.replica((topic_id, partition.partition))
    }

    /// Why there is no replica to ask: the partition is on other brokers, or there is none as far as this one knows.
    pub(crate) fn absence(&self, partition: &TopicIdPartition) -> PartitionError {
        let topic_id = if partition.topic_id.is_zero() {
            self.0.names.read().get(&partition.name).copied()
        } else {
            Some(partition.topic_id)
        };
        let key = topic_id.map(|id| (id, partition.partition));
        let leader = key.and_then(|key| self.0.elsewhere.read().get(&key).copied());
        match leader {
            Some(leader) => PartitionError {
                code: ErrorCode::NotLeaderOrFollower,
                leader_hint: Some(leader),
            },
            None => PartitionError::new(ErrorCode::UnknownTopicOrPartition),
        }
    }

    pub(crate) fn all_replicas(&self) -> Vec<Arc<Replica>> {
        self.0.replicas.read().values().map(Arc::clone).collect()
    }

    pub(crate) fn replicas_of(&self, topic: TopicId) -> Vec<Arc<Replica>> {
        self.0
            .replicas
            .read()
            .iter()
            .filter(|((id, _), _)| *id == topic)
            .map(|(_, replica)| Arc::clone(replica))
            .collect()
    }

    /// A clean stop: no more streams, waiting requests end, logs are flushed and closed, checkpoints written, and at
    /// last the file that says so. Takes as long as the disk does.
    ///
    /// # Errors
    /// The disk; the next start recovers as after a crash.
    pub async fn stop(&self) -> Result<(), LogError> {
        self.0.shutdown.send_replace(true);
        self.0.links.stop();
        self.0.shared.flush.stop();
        let manager = self.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            manager.0.cleaners.stop();
            for thread in manager.0.threads.lock().drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a flush thread panicked");
                }
            }
            housekeeping::close_all(&manager)
        });
        // The task cannot panic and is never cancelled.
        stopped.await.unwrap_or(Ok(()))
    }
}

/// Waits until the append is replicated as its acks ask.
pub(crate) async fn settled(
    replica: &Arc<Replica>,
    appended: Appended,
    timeout: Duration,
) -> Result<ProduceOk, ProduceError> {
    let Some(wait) = appended.wait else {
        return Ok(appended.ok);
    };
    match outcome(wait, timeout).await {
        Ok(()) => Ok(appended.ok),
        Err(code) => {
            let leader_hint = (code == ErrorCode::NotLeaderOrFollower)
                .then(|| Replica::hint(&replica.lock()))
                .flatten();
            Err(ProduceError {
                leader_hint,
                ..ProduceError::new(code, "the append was not replicated as its acks ask")
            })
        }
    }
}

async fn outcome(wait: oneshot::Receiver<Outcome>, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, wait).await {
        Ok(Ok(outcome)) => outcome,
        // The replica went away with its queue.
        Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}
