//! What do all replicas of a broker share?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use types::{BrokerEpoch, NodeId};

use super::flusher::FlushQueue;
use super::isr::IsrRequest;
use super::model::LeaderChange;
use super::room::Room;
use super::tail_cache::TailBudget;
use super::throttle::Throttles;

/// Who this broker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// This node.
    pub node: NodeId,
}

/// Monotonic milliseconds since the process began: what the cores are told as the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ms(self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The wall clock in ms since the epoch, for record timestamps and retention.
pub(crate) fn wall_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// Resolves when the broker stops.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The sender going away is a stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// What all replicas of a broker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) await_flush: bool,
    pub(crate) replica_lag_time_max_ms: i64,
    pub(crate) budget: Arc<TailBudget>,
    pub(crate) isr: mpsc::Sender<IsrRequest>,
    pub(crate) flush: FlushQueue,
    pub(crate) throttles: Throttles,
    pub(crate) room: Room,
    /// Some log begins elsewhere than it is written down.
    pub(crate) log_starts: Notify,
    pub(crate) changes: broadcast::Sender<LeaderChange>,
    broker_epoch: AtomicI64,
    sessions: AtomicU64,
    fatal: watch::Sender<Option<Arc<str>>>,
    fatal_logged: Mutex<bool>,
}

/// What a [`Shared`] is made from.
#[derive(Debug)]
pub(crate) struct SharedParts {
    pub(crate) identity: Identity,
    pub(crate) await_flush: bool,
    pub(crate) replica_lag_time_max_ms: i64,
    pub(crate) tail_cache_bytes: usize,
    pub(crate) isr: mpsc::Sender<IsrRequest>,
    pub(crate) room: Room,
}

/// Leader changes that a slow listener may lag behind by before it has to look at all partitions anew: one
/// failover of a broker with some thousand partitions of the coordinators' topics fits.
const CHANGES_KEPT: usize = 4096;

impl Shared {
    pub(crate) fn new(parts: SharedParts) -> Self {
        Self {
            identity: parts.identity,
            clock: Clock::start(),
            await_flush: parts.await_flush,
            replica_lag_time_max_ms: parts.replica_lag_time_max_ms,
            budget: TailBudget::new(parts.tail_cache_bytes),
            isr: parts.isr,
            flush: FlushQueue::default(),
            throttles: Throttles::default(),
            room: parts.room,
            log_starts: Notify::new(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            broker_epoch: AtomicI64::new(-1),
            sessions: AtomicU64::new(0),
            fatal: watch::Sender::new(None),
            fatal_logged: Mutex::new(false),
        }
    }

    pub(crate) fn broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.broker_epoch.load(Ordering::Acquire))
    }

    pub(crate) fn set_broker_epoch(&self, epoch: BrokerEpoch) {
        self.broker_epoch.store(epoch.0, Ordering::Release);
    }

    /// A number for a subscription, larger than all before it.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An I/O error: the broker has to stop, since what its disk holds is not known any more.
    pub(crate) fn fail(&self, error: &broker_log::LogError) {
        if matches!(error, broker_log::LogError::DiskFull { .. }) {
            tracing::warn!(%error, "the disk is full: produces are refused until there is room");
            return;
        }
        if let broker_log::LogError::Records { source, .. } = error {
            // The checksum is right, or the batch would not be here: its producer wrote it so. Whoever asked is told.
            tracing::warn!(%error, cause = %source, "a client wrote records that nobody can read");
            return;
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        if !std::mem::replace(&mut *self.fatal_logged.lock(), true) {
            tracing::error!(error = %text, "the log directory failed");
        }
        self.fatal.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert_with(|| text.into());
            new
        });
    }

    pub(crate) fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.fatal.subscribe()
    }
}
