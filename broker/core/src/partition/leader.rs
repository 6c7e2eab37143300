//! What does the leader of a partition promise, and to whom does it listen?
//!
//! The leader knows its own LEO and that of every follower, moves the HW, asks the controller to change the ISR,
//! and decides whether a produce may start and when it is done. Everything from another replica carries the
//! leader epoch and is refused if that is not the leader's own.

use types::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use super::epochs::find_divergence;
use super::fencing::check_epoch;
use super::high_watermark::{HighWatermark, smallest};
use super::isr::Isr;
use super::{
    AlterPartitionAnswer, AlterPartitionProposal, Diverging, EpochFence, EpochHistory,
    HighWatermarkMove, IsrMember, LogPosition, PartitionConfig, PartitionRegistration,
};

/// Pause before a replica that the controller refused is proposed again.
const REFUSED_PAUSE_MS: i64 = 500;

/// What the leader knows of one follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// The follower's node.
    pub node: NodeId,
    /// Its LEO, `None` until it has told this leader.
    pub log_end: Option<Offset>,
    /// First offset of its log.
    pub log_start: Offset,
    /// When it last held everything this leader had (monotonic ms).
    pub last_caught_up_ms: i64,
    /// The incarnation it subscribed as.
    pub broker_epoch: Option<BrokerEpoch>,
    /// Its subscription, so that acks of an earlier one are told apart; `None` while it has none.
    pub session: Option<u64>,
    /// The newest subscription of that incarnation, also when it has ended.
    newest_session: u64,
    /// Whether the controller would accept it (not fenced, not shutting down).
    eligible: bool,
    /// Our LEO and the time at its last ack: reaching that LEO later proves it was caught up then.
    last_ack: Option<(Offset, i64)>,
    refused_until_ms: i64,
}

impl ReplicaProgress {
    const fn new(node: NodeId, last_caught_up_ms: i64) -> Self {
        Self {
            node,
            log_end: None,
            log_start: Offset(0),
            last_caught_up_ms,
            broker_epoch: None,
            session: None,
            newest_session: 0,
            eligible: true,
            last_ack: None,
            refused_until_ms: i64::MIN,
        }
    }

    /// Whether a subscription is older than one that was accepted: of an earlier incarnation, or late, from a stream that
    /// the follower has left. Taken up, it would end the one that the follower believes in, and nothing would be sent any
    /// more to a follower that waits for it.
    fn is_before(&self, late: &Subscription) -> bool {
        let newest = self.broker_epoch.map(|epoch| (epoch, self.newest_session));
        newest > Some((late.broker_epoch, late.session))
    }

    fn is_in(&self, session: &FollowerSession) -> bool {
        self.session == Some(session.session) && self.broker_epoch == Some(session.broker_epoch)
    }
}

/// One subscription of one incarnation of a follower: what an ack or the end of a stream is for. Each process counts
/// its sessions anew, so a number alone could be that of a process before it, whose log may have been longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerSession {
    /// The follower.
    pub node: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// The number of its subscription.
    pub session: u64,
}

/// What a follower asks for when it subscribes a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The follower.
    pub node: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// A number that grows with each subscription of this follower; its acks carry it.
    pub session: u64,
    /// The epoch it believes the leader to be in.
    pub leader_epoch: LeaderEpoch,
    /// Its LEO.
    pub fetch_offset: Offset,
    /// The epoch of its last record, `None` for an empty log.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// First offset of its log.
    pub log_start: Offset,
}

impl Subscription {
    /// The session that begins with it.
    #[must_use]
    pub const fn session(&self) -> FollowerSession {
        FollowerSession {
            node: self.node,
            broker_epoch: self.broker_epoch,
            session: self.session,
        }
    }
}

/// The leader's answer to a [`Subscription`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionAnswer {
    /// The follower's log is a prefix of ours: batches from its LEO on follow.
    Accepted {
        /// The position that was found to match, which the follower compares with its own.
        fetch_offset: Offset,
        /// The epoch that was found to match.
        last_fetched_epoch: Option<LeaderEpoch>,
        /// The leader's HW.
        high_watermark: Offset,
        /// First offset of the leader's log.
        log_start: Offset,
        /// What the follower's position made possible.
        outcome: AckOutcome,
    },
    /// The follower has records that we never had: it truncates and subscribes again.
    Diverging(Diverging),
    /// The follower's LEO lies before our log: it starts over at `log_start`.
    OutOfRange {
        /// First offset of the leader's log.
        log_start: Offset,
        /// LEO of the leader.
        log_end: Offset,
    },
    /// Another leader epoch.
    Fenced(EpochFence),
    /// The node is not a replica of this partition, or an older incarnation of it, or has subscribed anew since.
    NotAReplica,
}

/// A member of the ISR that lacks records, so that the HW waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Straggler {
    /// Its node.
    pub node: NodeId,
    /// For how long it has not held everything. After `replica.lag.time.max.ms` the controller is asked to drop it.
    pub behind_ms: i64,
    /// Its LEO as far as known.
    pub log_end: Option<Offset>,
    /// Whether it follows at present.
    pub subscribed: bool,
}

/// What changed through a follower's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AckOutcome {
    /// The HW moved.
    pub moved: Option<HighWatermarkMove>,
    /// The follower may join the ISR: the shell calls [`Leader::propose_expansion`].
    pub may_join: bool,
}

/// Why a produce is refused before anything is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceRefusal {
    /// The request names another leader epoch.
    #[error(transparent)]
    Fenced(#[from] EpochFence),
    /// acks=all and too few replicas in sync.
    #[error("{in_sync} replicas in sync, acks=all needs {needed}")]
    NotEnoughReplicas {
        /// Size of the committed ISR.
        in_sync: usize,
        /// The effective `min.insync.replicas`.
        needed: usize,
    },
}

/// Where a produce with acks=all stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The HW has not reached its end.
    Waiting,
    /// Replicated to the ISR, which is large enough.
    Done,
    /// Replicated to the ISR, which has shrunk below `min.insync.replicas` since.
    NotEnoughReplicasAfterAppend,
}

/// The leader of a partition in one leader epoch.
#[derive(Debug)]
pub struct Leader {
    me: NodeId,
    config: PartitionConfig,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    epoch_start: Offset,
    log: LogPosition,
    /// Up to where our own log counts for the HW: the LEO, or with `await_flush` what is fsynced.
    durable_end: Offset,
    high_watermark: HighWatermark,
    isr: Isr,
    /// Copies there have to be; a running reassignment makes more followers than that.
    replication_factor: usize,
    /// Whether replicas outside the ISR hold all that is acknowledged, and have to go on doing so.
    has_eligible_replicas: bool,
    followers: Vec<ReplicaProgress>,
}

impl Leader {
    /// Takes over leadership as `registration` says, with the local log and the HW known so far.
    #[must_use]
    pub fn new(
        me: NodeId,
        config: PartitionConfig,
        registration: &PartitionRegistration,
        log: LogPosition,
        high_watermark: Offset,
        now_ms: i64,
    ) -> Self {
        let followers = registration
            .replicas
            .iter()
            .filter(|node| **node != me)
            .map(|node| {
                // Members of the ISR get the benefit of the doubt for one lag time.
                let in_sync = registration.isr.contains(node);
                let caught_up = if in_sync { now_ms } else { i64::MIN / 2 };
                ReplicaProgress::new(*node, caught_up)
            })
            .collect();
        Self {
            me,
            config,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            epoch_start: log.end,
            log,
            durable_end: if config.await_flush {
                high_watermark
            } else {
                log.end
            },
            high_watermark: HighWatermark::new(high_watermark),
            isr: Isr::committed_only(registration.isr.clone()),
            replication_factor: registration.replication_factor(),
            has_eligible_replicas: registration.has_eligible_replicas(),
            followers,
        }
    }

    /// The leader epoch.
    #[must_use]
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The partition epoch that is known to be committed.
    #[must_use]
    pub const fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// LEO when this replica became leader.
    #[must_use]
    pub const fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// The log end offset.
    #[must_use]
    pub const fn log_end(&self) -> Offset {
        self.log.end
    }

    /// The high watermark.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark.get()
    }

    /// The committed ISR.
    #[must_use]
    pub fn isr(&self) -> &[NodeId] {
        self.isr.committed()
    }

    /// Whether an ISR change is under way.
    #[must_use]
    pub const fn is_alter_pending(&self) -> bool {
        self.isr.is_pending()
    }

    /// What is known of the followers.
    #[must_use]
    pub fn followers(&self) -> &[ReplicaProgress] {
        &self.followers
    }

    /// The follower of `near` that a client may read from `offset` on: in sync, with the offset in its log. Of several
    /// it is the one with the most records (KIP-392).
    #[must_use]
    pub fn closest_replica(&self, near: &[NodeId], offset: Offset) -> Option<NodeId> {
        let reached = |follower: &&ReplicaProgress| {
            near.contains(&follower.node)
                && self.isr().contains(&follower.node)
                && follower.log_start <= offset
                && follower.log_end.is_some_and(|end| end >= offset)
        };
        let candidates = self.followers.iter().filter(reached);
        candidates
            .max_by_key(|follower| (follower.log_end, std::cmp::Reverse(follower.node)))
            .map(|follower| follower.node)
    }

    /// Whom the HW waits for.
    pub fn stragglers(&self, now_ms: i64) -> impl Iterator<Item = Straggler> + '_ {
        let end = self.log.end;
        self.followers
            .iter()
            .filter(move |f| self.isr.maximal_contains(f.node) && f.log_end != Some(end))
            .map(move |f| Straggler {
                node: f.node,
                behind_ms: now_ms.saturating_sub(f.last_caught_up_ms),
                log_end: f.log_end,
                subscribed: f.session.is_some(),
            })
    }

    /// `min.insync.replicas`, capped at the number of replicas; those that a reassignment is still adding do not raise
    /// the cap, or what was writable would not be until they are in sync. While there are eligible leader replicas
    /// (KIP-966), the controller counts on more members than there are, whatever this broker's configuration says.
    #[must_use]
    pub fn effective_min_isr(&self) -> usize {
        let configured = self.config.min_insync_replicas.min(self.replication_factor);
        let counted_on = if self.has_eligible_replicas {
            self.isr.committed().len() + 1
        } else {
            1
        };
        configured.max(counted_on)
    }

    /// Whether the committed ISR is smaller than `min.insync.replicas`.
    #[must_use]
    pub fn is_under_min_isr(&self) -> bool {
        self.isr.committed().len() < self.effective_min_isr()
    }

    /// The end that "latest" and reads at the end may be told. `None` until a record position of this epoch is
    /// known to be replicated: before that our HW may lie behind what the previous leader told (KIP-207).
    #[must_use]
    pub fn settled_high_watermark(&self) -> Option<Offset> {
        (self.high_watermark.get() >= self.epoch_start).then(|| self.high_watermark.get())
    }

    /// The smallest log start offset of all live replicas: up to where a DeleteRecords is done everywhere. One that is
    /// between two subscriptions lives as long as the metadata says so.
    #[must_use]
    pub fn low_watermark(&self) -> Offset {
        self.followers
            .iter()
            .filter(|f| f.eligible || f.session.is_some())
            .map(|f| f.log_start)
            .fold(self.log.start, Offset::min)
    }

    /// May a produce be appended?
    ///
    /// # Errors
    /// [`ProduceRefusal`]: another leader epoch, or acks=all (`acks == -1`) with too small an ISR.
    pub fn check_produce(
        &self,
        acks: i16,
        epoch: Option<LeaderEpoch>,
    ) -> Result<(), ProduceRefusal> {
        check_epoch(self.leader_epoch, epoch)?;
        if acks == -1 && self.is_under_min_isr() {
            return Err(ProduceRefusal::NotEnoughReplicas {
                in_sync: self.isr.committed().len(),
                needed: self.effective_min_isr(),
            });
        }
        Ok(())
    }

    /// The log was extended to `log_end`.
    pub fn on_append(&mut self, now_ms: i64, log_end: Offset) -> Option<HighWatermarkMove> {
        debug_assert!(log_end >= self.log.end, "a leader's log never shrinks");
        for follower in &mut self.followers {
            // Those who held everything until now were caught up until now, however long nothing was written.
            if follower.session.is_some() && follower.log_end == Some(self.log.end) {
                follower.last_caught_up_ms = now_ms;
            }
        }
        self.log.end = log_end;
        if !self.config.await_flush {
            self.durable_end = log_end;
        }
        self.advance_high_watermark(now_ms)
    }

    /// The log is fsynced up to `end`.
    pub fn on_flushed(&mut self, now_ms: i64, end: Offset) -> Option<HighWatermarkMove> {
        if self.config.await_flush {
            self.durable_end = self.durable_end.max(end.min(self.log.end));
        }
        self.advance_high_watermark(now_ms)
    }

    /// Up to where the local log is fsynced, or its end where that is not asked for.
    #[must_use]
    pub const fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Retention or DeleteRecords moved the start of the log.
    pub fn on_log_start(&mut self, log_start: Offset) {
        self.log.start = self.log.start.max(log_start);
    }

    /// A follower wants to be sent batches.
    pub fn on_subscribe(
        &mut self,
        now_ms: i64,
        subscription: &Subscription,
        history: &dyn EpochHistory,
    ) -> SubscriptionAnswer {
        if let Err(fence) = check_epoch(self.leader_epoch, Some(subscription.leader_epoch)) {
            return SubscriptionAnswer::Fenced(fence);
        }
        let (log, high_watermark) = (self.log, self.high_watermark.get());
        let Some(follower) = self.follower(subscription.node) else {
            return SubscriptionAnswer::NotAReplica;
        };
        if follower.is_before(subscription) {
            return SubscriptionAnswer::NotAReplica;
        }
        let position = subscription.fetch_offset;
        if position < log.start {
            return SubscriptionAnswer::OutOfRange {
                log_start: log.start,
                log_end: log.end,
            };
        }
        let diverging =
            find_divergence(history, log.end, position, subscription.last_fetched_epoch);
        if let Some(diverging) = diverging {
            return SubscriptionAnswer::Diverging(diverging);
        }
        if position > log.end {
            return SubscriptionAnswer::OutOfRange {
                log_start: log.start,
                log_end: log.end,
            };
        }
        follower.broker_epoch = Some(subscription.broker_epoch);
        follower.session = Some(subscription.session);
        follower.newest_session = subscription.session;
        follower.last_ack = None;
        // A follower that lost its tail in a crash may come back with a smaller LEO.
        follower.log_end = None;
        follower.log_start = subscription.log_start;
        let outcome = if self.config.await_flush {
            // Its log ends there, but how much of it is durable it has yet to say.
            AckOutcome::default()
        } else {
            self.progress(now_ms, subscription.node, position, subscription.log_start)
        };
        SubscriptionAnswer::Accepted {
            fetch_offset: position,
            last_fetched_epoch: subscription.last_fetched_epoch,
            high_watermark: high_watermark.max(self.high_watermark.get()),
            log_start: log.start,
            outcome,
        }
    }

    /// A follower's log ends at `log_end` now. Acks of another epoch, of an earlier session or of an
    /// earlier incarnation change nothing.
    pub fn on_follower_ack(
        &mut self,
        now_ms: i64,
        from: FollowerSession,
        leader_epoch: LeaderEpoch,
        log: LogPosition,
    ) -> AckOutcome {
        let ours = self.log.end;
        let current = self
            .follower(from.node)
            .filter(|f| f.is_in(&from))
            .is_some_and(|f| f.log_end.is_none_or(|known| known <= log.end));
        if leader_epoch != self.leader_epoch || !current || log.end > ours {
            return AckOutcome::default();
        }
        self.progress(now_ms, from.node, log.end, log.start)
    }

    /// The session of a follower ended: no acks come until it subscribes again.
    pub fn on_unsubscribe(
        &mut self,
        now_ms: i64,
        from: FollowerSession,
    ) -> Option<HighWatermarkMove> {
        let follower = self.follower(from.node).filter(|f| f.is_in(&from))?;
        follower.session = None;
        follower.last_ack = None;
        self.advance_high_watermark(now_ms)
    }

    /// The metadata says whether `node` could be in an ISR at present (unfenced, not shutting down).
    pub fn set_eligible(
        &mut self,
        now_ms: i64,
        node: NodeId,
        eligible: bool,
    ) -> Option<HighWatermarkMove> {
        let follower = self.follower(node)?;
        if std::mem::replace(&mut follower.eligible, eligible) == eligible {
            return None;
        }
        follower.refused_until_ms = i64::MIN;
        self.advance_high_watermark(now_ms)
    }

    /// Where a produce with acks=all stands whose records end at `end`.
    #[must_use]
    pub fn settle(&self, end: Offset) -> Settlement {
        if self.high_watermark.get() < end {
            Settlement::Waiting
        } else if self.is_under_min_isr() {
            Settlement::NotEnoughReplicasAfterAppend
        } else {
            Settlement::Done
        }
    }

    /// Proposes to add every follower that is in sync, if one is and nothing is pending.
    pub fn propose_expansion(&mut self, now_ms: i64) -> Option<AlterPartitionProposal> {
        if self.isr.is_pending() {
            return None;
        }
        let joining: Vec<NodeId> = self
            .followers
            .iter()
            .filter(|f| !self.isr.is_committed(f.node) && self.may_join(now_ms, f))
            .map(|f| f.node)
            .collect();
        if joining.is_empty() {
            return None;
        }
        let members = self
            .isr
            .committed()
            .iter()
            .copied()
            .chain(joining)
            .collect();
        Some(self.propose(members))
    }

    /// Proposes to drop every member of the ISR that is behind for longer than `replica.lag.time.max.ms`; also
    /// gives a proposal that stayed without an answer, to be sent again. Called about twice per lag time.
    pub fn propose_shrink(&mut self, now_ms: i64) -> Option<AlterPartitionProposal> {
        if self.isr.is_pending() {
            return self.isr.resend(now_ms);
        }
        let lagging = |node: &NodeId| {
            self.followers
                .iter()
                .any(|f| f.node == *node && self.is_lagging(now_ms, f))
        };
        let (lagging, staying): (Vec<NodeId>, Vec<NodeId>) =
            self.isr.committed().iter().partition(|node| lagging(node));
        (!lagging.is_empty()).then(|| self.propose(staying))
    }

    /// The controller answered the proposal that was based on `based_on`.
    pub fn on_alter_partition_answer(
        &mut self,
        now_ms: i64,
        based_on: PartitionEpoch,
        answer: &AlterPartitionAnswer,
    ) -> Option<HighWatermarkMove> {
        if let AlterPartitionAnswer::Committed(registration) = answer {
            let ours = registration.leader == Some(self.me)
                && registration.leader_epoch == self.leader_epoch
                && registration.partition_epoch > self.partition_epoch;
            return if ours {
                self.on_registration(now_ms, registration)
            } else {
                None
            };
        }
        for node in self.isr.on_failure(now_ms, based_on, answer) {
            if let Some(follower) = self.follower(node) {
                follower.refused_until_ms = now_ms + REFUSED_PAUSE_MS;
            }
        }
        self.advance_high_watermark(now_ms)
    }

    /// A newer registration of the same leader epoch: ISR and replicas as committed.
    pub(super) fn on_registration(
        &mut self,
        now_ms: i64,
        registration: &PartitionRegistration,
    ) -> Option<HighWatermarkMove> {
        self.partition_epoch = registration.partition_epoch;
        self.isr.commit(registration.isr.clone());
        self.replication_factor = registration.replication_factor();
        self.has_eligible_replicas = registration.has_eligible_replicas();
        self.followers
            .retain(|f| registration.replicas.contains(&f.node));
        for node in &registration.replicas {
            if *node != self.me && !self.followers.iter().any(|f| f.node == *node) {
                self.followers
                    .push(ReplicaProgress::new(*node, i64::MIN / 2));
            }
        }
        self.advance_high_watermark(now_ms)
    }

    pub(super) fn configure(
        &mut self,
        now_ms: i64,
        config: PartitionConfig,
    ) -> Option<HighWatermarkMove> {
        self.config = config;
        if !config.await_flush {
            self.durable_end = self.log.end;
        }
        self.advance_high_watermark(now_ms)
    }

    /// HW = min LEO over the maximal ISR, and over followers about to join it; it stays below `min.insync.replicas`
    /// (KIP-966), and while a member's LEO is unknown.
    pub(super) fn advance_high_watermark(&mut self, now_ms: i64) -> Option<HighWatermarkMove> {
        if self.is_under_min_isr() {
            return None;
        }
        let counted = self
            .followers
            .iter()
            .filter(|f| self.counts(now_ms, f))
            .map(|f| f.log_end);
        let candidate = smallest(self.durable_end, counted)?;
        self.high_watermark.advance(candidate)
    }

    /// Whether the HW waits for that follower: it is in sync, or about to be.
    #[must_use]
    pub fn waits_for(&self, now_ms: i64, node: NodeId) -> bool {
        let mut followers = self.followers.iter();
        followers.any(|f| f.node == node && self.counts(now_ms, f))
    }

    fn counts(&self, now_ms: i64, follower: &ReplicaProgress) -> bool {
        self.isr.maximal_contains(follower.node) || self.holds_back(now_ms, follower)
    }

    fn follower(&mut self, node: NodeId) -> Option<&mut ReplicaProgress> {
        self.followers.iter_mut().find(|f| f.node == node)
    }

    fn progress(
        &mut self,
        now_ms: i64,
        node: NodeId,
        log_end: Offset,
        log_start: Offset,
    ) -> AckOutcome {
        let ours = self.log.end;
        let Some(follower) = self.follower(node) else {
            return AckOutcome::default();
        };
        if log_end >= ours {
            follower.last_caught_up_ms = now_ms;
        } else if let Some((then, at_ms)) = follower.last_ack
            && log_end >= then
        {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(at_ms);
        }
        follower.last_ack = Some((ours, now_ms));
        follower.log_end = Some(log_end);
        follower.log_start = log_start;
        let moved = self.advance_high_watermark(now_ms);
        let may_join = !self.isr.is_pending()
            && !self.isr.is_committed(node)
            && self
                .followers
                .iter()
                .any(|f| f.node == node && self.may_join(now_ms, f));
        AckOutcome { moved, may_join }
    }

    /// In sync: at the HW at least, and with everything that was in the log when this epoch began.
    fn may_join(&self, now_ms: i64, follower: &ReplicaProgress) -> bool {
        follower.eligible
            && follower.session.is_some()
            && follower.refused_until_ms <= now_ms
            && follower
                .log_end
                .is_some_and(|leo| leo >= self.high_watermark.get() && leo >= self.epoch_start)
    }

    /// A caught-up follower outside the ISR holds the HW back, or under constant load it would never reach it.
    fn holds_back(&self, now_ms: i64, follower: &ReplicaProgress) -> bool {
        follower.eligible
            && follower.session.is_some()
            && follower.refused_until_ms <= now_ms
            && follower.log_end.is_some_and(|leo| leo >= self.epoch_start)
            && now_ms - follower.last_caught_up_ms <= self.config.replica_lag_time_max_ms
    }

    fn is_lagging(&self, now_ms: i64, follower: &ReplicaProgress) -> bool {
        follower.log_end != Some(self.log.end)
            && now_ms - follower.last_caught_up_ms > self.config.replica_lag_time_max_ms
    }

    fn propose(&mut self, members: Vec<NodeId>) -> AlterPartitionProposal {
        let isr = members
            .into_iter()
            .map(|node| IsrMember {
                node,
                broker_epoch: self
                    .followers
                    .iter()
                    .find(|f| f.node == node)
                    .and_then(|f| f.broker_epoch),
            })
            .collect();
        self.isr.propose(AlterPartitionProposal {
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            isr,
        })
    }
}
