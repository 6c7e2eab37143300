//! How does one replica tie its core, its log and those who wait for it together?
//!
//! Everything of a replica is under one lock that is held for memory operations and for one write to the page
//! cache, never across an await or an fsync. The lock order is: a replica, then a push stream's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use broker_core::cleaning::{CleaningRecord, Setback};
use broker_core::partition::{
    AlterPartitionAnswer, AlterPartitionProposal, EpochHistory, HighWatermarkMove, LogPosition,
    Partition, PartitionConfig, PartitionRegistration, Role, RoleChange, Settlement,
};
use broker_log::{DeletedDir, FoundLog, Log, LogConfig, LogDir, OpenMode, RealVfs};
use config::{ThrottledReplicas, TopicSettings};
use parking_lot::{Mutex, MutexGuard};
use types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::directory::set_aside;
use super::flusher::UNFLUSHED_BYTES;
use super::isr::IsrRequest;
use super::log_starts::LogStart;
use super::model::{
    LeaderChange, LeaderChangeKind, LeaderHint, PartitionError, PartitionSnapshot, TopicIdPartition,
};
use super::push::PushPartition;
use super::shared::Shared;
use super::tail_cache::TailCache;
use super::transactions::Verifying;
use super::waiters::{DeleteWaiters, FetchWaiters, ProduceWaiters};

/// A log on the real file system.
pub(crate) type DiskLog = Log<RealVfs>;

/// A replica of a partition on this broker.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) partition: TopicIdPartition,
    pub(crate) shared: Arc<Shared>,
    settings: ArcSwap<TopicSettings>,
    flush_queued: AtomicBool,
    /// The log is deleted or set aside: those who still use its files will find them gone.
    deleted: AtomicBool,
    pub(crate) cleaning: Cleaning,
    state: Mutex<State>,
}

/// What cleaners have to do with the log.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    running: AtomicBool,
    record: Mutex<CleaningRecord>,
}

impl Cleaning {
    /// Takes the log for one cleaner; `false` if another has it, or it is not to be tried yet.
    pub(crate) fn begin(&self, now_ms: i64) -> bool {
        if self.running.swap(true, Ordering::AcqRel) {
            return false;
        }
        let begins = self.record().may_start(now_ms);
        if !begins {
            self.end();
        }
        begins
    }

    pub(crate) fn end(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// How the cleanings went so far.
    pub(crate) fn record(&self) -> CleaningRecord {
        *self.record.lock()
    }

    /// A cleaning was done.
    pub(crate) fn on_done(&self) {
        self.record.lock().on_done();
    }

    /// See [`CleaningRecord::on_setback`].
    pub(crate) fn on_setback(&self, now_ms: i64, setback: Setback, backoff_ms: i64) -> Option<i64> {
        self.record.lock().on_setback(now_ms, setback, backoff_ms)
    }
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) core: Partition,
    pub(crate) log: DiskLog,
    pub(crate) tail: TailCache,
    pub(crate) produces: ProduceWaiters,
    /// Produces with acks=1 that wait for an fsync.
    pub(crate) flushes: ProduceWaiters,
    pub(crate) fetches: FetchWaiters,
    pub(crate) deletes: DeleteWaiters,
    pub(crate) log_start: LogStart,
    /// Producers whose transaction is being asked for.
    pub(crate) verifying: Verifying,
    pub(crate) pushes: Vec<Arc<PushPartition>>,
    /// Appended since the last flush began.
    pub(crate) unflushed_bytes: u64,
    /// The last subscription's session, as a follower.
    pub(crate) session: u64,
    /// The topic was deleted, the partition is on other brokers or this one is stopping: nothing is done any more.
    pub(crate) closed: bool,
}

/// The leader epochs of a log as the core asks for them.
pub(crate) struct History<'a>(pub(crate) &'a DiskLog);

impl EpochHistory for History<'_> {
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0
            .leader_epochs()
            .end_offset_for(epoch, self.0.log_end_offset())
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.leader_epochs().latest_epoch()
    }
}

/// Where a log lies, as the core wants it.
pub(crate) const fn position_of(log: &DiskLog) -> LogPosition {
    LogPosition {
        start: log.log_start_offset(),
        end: log.log_end_offset(),
    }
}

/// The log's settings out of the topic's.
pub(crate) fn log_config(settings: &TopicSettings, producer_id_expiration_ms: i64) -> LogConfig {
    let unsigned = |value: i64| u64::try_from(value).ok();
    let clamp = |value: i32| u32::try_from(value).unwrap_or(0);
    LogConfig {
        segment_bytes: clamp(settings.segment_bytes),
        segment_ms: settings.segment_ms,
        retention_bytes: unsigned(settings.retention_bytes),
        retention_ms: (settings.retention_ms >= 0).then_some(settings.retention_ms),
        delete: settings.cleanup_policy.delete,
        compact: settings.cleanup_policy.compact,
        delete_retention_ms: settings.delete_retention_ms,
        min_compaction_lag_ms: settings.min_compaction_lag_ms,
        max_compaction_lag_ms: settings.max_compaction_lag_ms,
        index_interval_bytes: clamp(settings.index_interval_bytes),
        max_message_bytes: clamp(settings.max_message_bytes),
        file_delete_delay_ms: settings.file_delete_delay_ms,
        producer_id_expiration_ms,
    }
}

impl Replica {
    pub(crate) fn new(
        partition: TopicIdPartition,
        shared: Arc<Shared>,
        mut log: DiskLog,
        settings: Arc<TopicSettings>,
        high_watermark: Offset,
    ) -> Arc<Self> {
        let high_watermark = high_watermark
            .min(log.log_end_offset())
            .max(log.log_start_offset());
        log.advance_high_watermark(high_watermark);
        let config = core_config(&settings, &shared);
        let tail = TailCache::new(Arc::clone(&shared.budget));
        Arc::new(Self {
            state: Mutex::new(State {
                core: Partition::new(shared.identity.node, config, high_watermark),
                log,
                tail,
                produces: ProduceWaiters::default(),
                flushes: ProduceWaiters::default(),
                fetches: FetchWaiters::default(),
                deletes: DeleteWaiters::default(),
                log_start: LogStart::default(),
                verifying: Verifying::default(),
                pushes: Vec::new(),
                unflushed_bytes: 0,
                session: 0,
                closed: false,
            }),
            partition,
            shared,
            settings: ArcSwap::new(settings),
            flush_queued: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            cleaning: Cleaning::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Notes whether the replica waits for a flush; gives whether it did.
    pub(crate) fn set_flush_queued(&self, queued: bool) -> bool {
        self.flush_queued.swap(queued, Ordering::AcqRel)
    }

    /// An append of `bytes` happened: is it time to flush?
    pub(crate) fn note_unflushed(self: &Arc<Self>, state: &mut State, bytes: usize) {
        state.unflushed_bytes += bytes as u64;
        if self.shared.await_flush || state.unflushed_bytes >= UNFLUSHED_BYTES {
            self.shared.flush.request(self);
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.load_full()
    }

    /// Whether the topic's configuration has this replica throttled, as leader or as follower.
    pub(crate) fn is_listed(
        &self,
        list: impl FnOnce(&TopicSettings) -> &ThrottledReplicas,
    ) -> bool {
        let (partition, node) = (self.partition.partition, self.shared.identity.node);
        list(&self.settings.load()).contains(partition, node.0)
    }

    /// Takes over changed settings of the topic.
    pub(crate) fn configure(&self, settings: Arc<TopicSettings>, producer_id_expiration_ms: i64) {
        let mut state = self.lock();
        state
            .log
            .set_config(log_config(&settings, producer_id_expiration_ms));
        let config = core_config(&settings, &self.shared);
        self.settings.store(settings);
        let moved = state.core.configure(self.now_ms(), config);
        state.after_move(moved);
    }

    /// Applies a registration; gives what changed. Waiting requests are ended or woken here, and listeners of
    /// leadership are told; the follower's stream is the caller's.
    pub(crate) fn apply(self: &Arc<Self>, registration: &PartitionRegistration) -> RoleChange {
        let mut state = self.lock();
        if state.closed {
            return RoleChange::Stale;
        }
        let log = position_of(&state.log);
        let change = state.core.apply(self.now_ms(), registration, log);
        match &change {
            RoleChange::BecameLeader {
                epoch,
                epoch_start,
                moved,
            } => {
                state.log.assign_leader_epoch(*epoch, *epoch_start);
                state.drop_pushes();
                let (moved, flushed) = (*moved, state.log.recovery_point());
                let now_ms = self.now_ms();
                let again = state
                    .core
                    .leader_mut()
                    .and_then(|leader| leader.on_flushed(now_ms, flushed));
                state.after_move(again.or(moved));
                if self.shared.await_flush && flushed < state.log.log_end_offset() {
                    // What it has from before counts once it is durable here.
                    self.shared.flush.request(self);
                }
                self.announce(*epoch, LeaderChangeKind::BecameLeader);
            }
            RoleChange::StillLeader { moved } => {
                let moved = *moved;
                state.after_move(moved);
                // A replica may have gone.
                state.settle_deletes();
                self.propose(&mut state);
            }
            RoleChange::BecameFollower {
                was_leader, epoch, ..
            } => {
                if *was_leader {
                    state.end_leadership();
                    self.announce(*epoch, LeaderChangeKind::LostLeadership);
                }
                // Long-polling clients have to be told who leads now.
                state.fetches.wake_all();
            }
            RoleChange::WentOffline { was_leader } => {
                state.end_leadership();
                if *was_leader {
                    let epoch = registration.leader_epoch;
                    self.announce(epoch, LeaderChangeKind::LostLeadership);
                }
            }
            RoleChange::StillFollower | RoleChange::Stale => {}
        }
        change
    }

    fn announce(&self, leader_epoch: LeaderEpoch, kind: LeaderChangeKind) {
        // Nobody may be listening.
        let _ = self.shared.changes.send(LeaderChange {
            partition: self.partition.clone(),
            leader_epoch,
            kind,
        });
    }

    /// The metadata says whether a node could be in an ISR.
    pub(crate) fn set_eligible(&self, node: NodeId, eligible: bool) {
        let mut state = self.lock();
        let now_ms = self.now_ms();
        if let Some(leader) = state.core.leader_mut() {
            let moved = leader.set_eligible(now_ms, node, eligible);
            state.after_move(moved);
            self.propose(&mut state);
        }
        // Nobody waits for a broker that is fenced.
        state.settle_deletes();
    }

    /// Asks for ISR changes that are due: lagging members, caught-up replicas, proposals without an answer.
    pub(crate) fn check_isr(&self) {
        let mut state = self.lock();
        let now_ms = self.now_ms();
        let proposal = state
            .core
            .leader_mut()
            .and_then(|leader| leader.propose_shrink(now_ms));
        match proposal {
            Some(proposal) => self.send_proposal(&mut state, proposal),
            None => self.propose(&mut state),
        }
    }

    /// Asks to add the replicas that are in sync now.
    pub(crate) fn propose(&self, state: &mut State) {
        let now_ms = self.now_ms();
        let proposal = state
            .core
            .leader_mut()
            .and_then(|leader| leader.propose_expansion(now_ms));
        if let Some(proposal) = proposal {
            self.send_proposal(state, proposal);
        }
    }

    fn send_proposal(&self, state: &mut State, proposal: AlterPartitionProposal) {
        let based_on = proposal.partition_epoch;
        let request = IsrRequest {
            partition: self.partition.clone(),
            proposal,
        };
        if self.shared.isr.try_send(request).is_err() {
            // Full (the controller is slow) or stopping: the periodic check sends it again.
            let now_ms = self.now_ms();
            if let Some(leader) = state.core.leader_mut() {
                let unknown = AlterPartitionAnswer::Unknown;
                leader.on_alter_partition_answer(now_ms, based_on, &unknown);
            }
        }
    }

    /// The controller's answer to a proposal of this leader.
    pub(crate) fn on_alter_partition_answer(
        &self,
        proposal: &AlterPartitionProposal,
        answer: &AlterPartitionAnswer,
    ) {
        let mut state = self.lock();
        let now_ms = self.now_ms();
        let same_epoch = |epoch| epoch == proposal.leader_epoch;
        if let Some(leader) = state.core.leader_mut()
            && same_epoch(leader.leader_epoch())
        {
            let moved = leader.on_alter_partition_answer(now_ms, proposal.partition_epoch, answer);
            state.after_move(moved);
            self.propose(&mut state);
        }
    }

    /// Who leads, for a client that came to the wrong broker.
    pub(crate) fn hint(state: &State) -> Option<LeaderHint> {
        state.core.registration().map(|registration| LeaderHint {
            leader: registration.leader,
            leader_epoch: registration.leader_epoch,
        })
    }

    pub(crate) fn snapshot(&self) -> PartitionSnapshot {
        let state = self.lock();
        let registration = state.core.registration();
        let leader = state.core.leader();
        let (replicas, isr) = registration.map_or((Vec::new(), Vec::new()), |r| {
            (r.replicas.clone(), r.isr.clone())
        });
        let isr = leader.map_or(isr, |leader| leader.isr().to_vec());
        let copies = registration.map_or(0, PartitionRegistration::replication_factor);
        PartitionSnapshot {
            partition: self.partition.clone(),
            is_leader: leader.is_some(),
            leader: registration.and_then(|r| r.leader),
            leader_epoch: registration.map_or(LeaderEpoch(-1), |r| r.leader_epoch),
            log_start_offset: state.log.log_start_offset(),
            log_end_offset: state.log.log_end_offset(),
            high_watermark: state.core.high_watermark(),
            size_bytes: state.log.size_bytes(),
            under_replicated: leader.is_some() && isr.len() < copies,
            under_min_isr: leader.is_some_and(|leader| leader.is_under_min_isr()),
            replicas,
            isr,
        }
    }

    /// Ends everything that waits, for a replica that is deleted or a stopping broker.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let was_leader = state.core.leader().is_some();
        state.closed = true;
        state.end_leadership();
        state.tail.clear();
        let epoch = state.core.leader_epoch().unwrap_or(LeaderEpoch(-1));
        drop(state);
        if was_leader {
            self.announce(epoch, LeaderChangeKind::LostLeadership);
        }
    }

    /// Deletes the log of a closed replica: its directory is renamed, so that it counts no more; the files are the
    /// caller's to remove.
    pub(crate) fn delete_log(
        &self,
        dir: &LogDir<RealVfs>,
    ) -> Result<DeletedDir<RealVfs>, broker_log::LogError> {
        let state = self.lock();
        self.deleted.store(true, Ordering::Release);
        dir.give_up(&FoundLog {
            topic_partition: self.partition.topic_partition(),
            topic_id: Some(self.partition.topic_id),
            dir: state.log.dir().to_owned(),
            mode: OpenMode::default(),
            high_watermark: None,
        })
    }

    /// Sets the log of a closed replica aside, as one that is found at start and not named by the metadata.
    pub(crate) fn set_log_aside(&self) -> Result<(), broker_log::LogError> {
        let state = self.lock();
        self.deleted.store(true, Ordering::Release);
        set_aside(state.log.dir(), &self.partition.topic_id.to_string())
    }

    /// Whether the log was deleted, or set aside.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The log failed: the broker stops, unless it was only deleted under one who still used it.
    pub(crate) fn fail(&self, error: &broker_log::LogError) {
        if self.is_deleted() {
            tracing::debug!(partition = %self.partition, %error, "a deleted log was still in use");
        } else {
            self.shared.fail(error);
        }
    }
}

impl State {
    /// Why a closed replica answers nothing: the partition is on other brokers, or was deleted.
    pub(crate) fn absence(&self) -> PartitionError {
        match self.core.role() {
            Role::Offline => PartitionError {
                code: ErrorCode::NotLeaderOrFollower,
                leader_hint: Replica::hint(self),
            },
            Role::Leader(_) | Role::Follower(_) => {
                PartitionError::new(ErrorCode::UnknownTopicOrPartition)
            }
        }
    }

    /// Completes and wakes what a move of the HW allows.
    pub(crate) fn after_move(&mut self, moved: Option<HighWatermarkMove>) {
        let Some(moved) = moved else { return };
        self.log.advance_high_watermark(moved.to);
        if let Some(leader) = self.core.leader() {
            let outcome = match leader.settle(moved.to) {
                Settlement::Done | Settlement::Waiting => Ok(()),
                Settlement::NotEnoughReplicasAfterAppend => {
                    Err(ErrorCode::NotEnoughReplicasAfterAppend)
                }
            };
            self.produces.complete(moved.to, outcome);
        }
        self.fetches.wake_below(moved.to);
        self.mark_pushes();
    }

    /// The leader's log begins later than before: followers are told.
    pub(crate) fn after_log_start(&mut self) {
        let log_start = self.log.log_start_offset();
        if let Some(leader) = self.core.leader_mut() {
            leader.on_log_start(log_start);
            self.mark_pushes();
        }
        self.settle_deletes();
    }

    /// Ends the DeleteRecords requests that all live replicas have carried out.
    pub(crate) fn settle_deletes(&mut self) {
        if !self.deletes.is_empty()
            && let Some(low_watermark) = self.low_watermark()
        {
            self.deletes.complete(low_watermark);
        }
    }

    /// There is something new for the followers.
    pub(crate) fn mark_pushes(&self) {
        for push in &self.pushes {
            push.mark();
        }
    }

    fn drop_pushes(&mut self) {
        for push in self.pushes.drain(..) {
            push.close();
        }
    }

    fn end_leadership(&mut self) {
        self.produces.fail_all(ErrorCode::NotLeaderOrFollower);
        self.flushes.fail_all(ErrorCode::NotLeaderOrFollower);
        self.deletes.fail_all(ErrorCode::NotLeaderOrFollower);
        self.verifying.clear();
        self.fetches.wake_all();
        self.drop_pushes();
    }
}

fn core_config(settings: &TopicSettings, shared: &Shared) -> PartitionConfig {
    PartitionConfig {
        min_insync_replicas: usize::try_from(settings.min_insync_replicas).unwrap_or(1),
        replica_lag_time_max_ms: shared.replica_lag_time_max_ms,
        await_flush: shared.await_flush,
    }
}
