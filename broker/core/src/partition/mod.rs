//! What does one replica of a partition do: lead, follow, or nothing; and what may it promise to clients?
//!
//! A [`Partition`] is the pure half of a replica. The shell holds its lock, tells it what happened (a metadata
//! record, an append, a follower's ack, a leader's message) together with the time, and does what the returned
//! struct says. Terms are Kafka's: log end offset (LEO), high watermark (HW), ISR, maximal ISR, leader epoch,
//! partition epoch.
//!
//! Invariants, which the simulation in this crate's tests checks:
//! * (A) at most one leader per leader epoch;
//! * (B) a leader's HW never moves back, and never passes the LEO of a member of the maximal ISR;
//! * (C) an acks=all record that was acknowledged is on every later leader elected from the ISR;
//! * (D) two logs that hold a batch of the same epoch at the same offset are equal up to there;
//! * (E) once faults end, all replicas converge to the leader's log.

pub mod registration;

pub mod reassignment;

pub mod fencing;

pub mod epochs;

pub mod high_watermark;

pub mod isr;

pub mod leader;

pub mod follower;

pub mod refused;

#[cfg(test)]
mod tests;

use types::{LeaderEpoch, NodeId, Offset, PartitionEpoch};

pub use epochs::{Diverging, EpochHistory};
pub use fencing::{EpochFence, check_epoch};
pub use follower::{BatchVerdict, Follower, SubscribeVerdict, Truncation};
pub use high_watermark::HighWatermarkMove;
pub use isr::{AlterPartitionAnswer, AlterPartitionProposal, IsrMember};
pub use leader::{
    AckOutcome, FollowerSession, Leader, ProduceRefusal, ReplicaProgress, Settlement, Straggler,
    Subscription, SubscriptionAnswer,
};
pub use refused::{RefusedBatches, SentBatch};
pub use registration::PartitionRegistration;

/// What a partition needs to know of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionConfig {
    /// `min.insync.replicas`; capped at the number of replicas where it is used.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: i64,
    /// Whether a record counts on this replica only once it is fsynced (`durability: fsync`).
    pub await_flush: bool,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            min_insync_replicas: 1,
            replica_lag_time_max_ms: 30_000,
            await_flush: false,
        }
    }
}

/// Where the local log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// First offset of the log.
    pub start: Offset,
    /// Offset after the last record (LEO).
    pub end: Offset,
}

impl LogPosition {
    /// Whether more than `bytes` lie at or after `offset`, taking the records of a log of `size` bytes as equally large.
    #[must_use]
    pub fn has_after(self, offset: Offset, size: u64, bytes: u64) -> bool {
        if offset >= self.end {
            return false;
        }
        let wide = |from: Offset| u128::from(self.end.0.abs_diff(from.0));
        // Two factors of 64 bits each.
        u128::from(size) * wide(offset) > u128::from(bytes) * wide(self.start).max(1)
    }
}

/// What this replica does at present.
#[derive(Debug)]
pub enum Role {
    /// It leads the partition.
    Leader(Box<Leader>),
    /// It copies from a leader, or waits for one to be elected.
    Follower(Follower),
    /// It is not a replica of the partition (any more), or no registration was seen yet.
    Offline,
}

/// What a registration changed for this replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// The registration is not newer than the one known: nothing changed.
    Stale,
    /// This replica leads from now on, in `epoch`; its log ended at `epoch_start` then. The shell adds
    /// `(epoch, epoch_start)` to the leader epoch cache even if nothing is ever written in the epoch.
    BecameLeader {
        /// The new leader epoch.
        epoch: LeaderEpoch,
        /// LEO at that moment.
        epoch_start: Offset,
        /// The HW moves at once where this replica is the whole ISR.
        moved: Option<HighWatermarkMove>,
    },
    /// It led before and still does in the same epoch; replicas or ISR changed.
    StillLeader {
        /// A smaller ISR may let the HW move.
        moved: Option<HighWatermarkMove>,
    },
    /// It follows `leader` (`None`: nobody is elected) in `epoch` from now on and has to subscribe anew.
    BecameFollower {
        /// The leader, if there is one.
        leader: Option<NodeId>,
        /// The leader epoch.
        epoch: LeaderEpoch,
        /// Whether it was the leader until now: waiting requests end with NOT_LEADER_OR_FOLLOWER.
        was_leader: bool,
    },
    /// It followed before and still does in the same epoch.
    StillFollower,
    /// It is not a replica any more.
    WentOffline {
        /// Whether it was the leader until now.
        was_leader: bool,
    },
}

/// One replica of one partition.
#[derive(Debug)]
pub struct Partition {
    me: NodeId,
    config: PartitionConfig,
    registration: Option<PartitionRegistration>,
    high_watermark: Offset,
    role: Role,
}

impl Partition {
    /// A replica on node `me` whose log's checkpointed HW is `high_watermark`.
    #[must_use]
    pub const fn new(me: NodeId, config: PartitionConfig, high_watermark: Offset) -> Self {
        Self {
            me,
            config,
            registration: None,
            high_watermark,
            role: Role::Offline,
        }
    }

    /// The role and its state.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The registration that was applied last.
    #[must_use]
    pub const fn registration(&self) -> Option<&PartitionRegistration> {
        self.registration.as_ref()
    }

    /// The leader's state, if this replica leads.
    #[must_use]
    pub fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Offline => None,
        }
    }

    /// The leader's state, if this replica leads.
    pub fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Offline => None,
        }
    }

    /// The follower's state, if this replica follows.
    #[must_use]
    pub const fn follower(&self) -> Option<&Follower> {
        match &self.role {
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Offline => None,
        }
    }

    /// The follower's state, if this replica follows.
    pub const fn follower_mut(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Offline => None,
        }
    }

    /// The high watermark as this replica knows it.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        match &self.role {
            Role::Leader(leader) => leader.high_watermark(),
            Role::Follower(follower) => follower.high_watermark(),
            Role::Offline => self.high_watermark,
        }
    }

    /// The leader epoch of the last registration.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.registration.as_ref().map(|r| r.leader_epoch)
    }

    /// The newest partition epoch that was applied. The controller's answer to a leader may bring it earlier than the
    /// metadata log does; the record that follows is old news then and must not touch what was proposed since.
    fn known_partition_epoch(&self) -> Option<PartitionEpoch> {
        let applied = self.registration.as_ref().map(|r| r.partition_epoch);
        applied.max(self.leader().map(Leader::partition_epoch))
    }

    /// Takes over changed settings; a lower `min.insync.replicas` may let the HW move.
    pub fn configure(&mut self, now_ms: i64, config: PartitionConfig) -> Option<HighWatermarkMove> {
        self.config = config;
        match &mut self.role {
            Role::Leader(leader) => leader.configure(now_ms, config),
            Role::Follower(_) | Role::Offline => None,
        }
    }

    /// Applies a partition registration from the metadata log. `log` is where the local log lies now.
    ///
    /// A registration whose partition epoch is not above the known one is [`RoleChange::Stale`].
    pub fn apply(
        &mut self,
        now_ms: i64,
        registration: &PartitionRegistration,
        log: LogPosition,
    ) -> RoleChange {
        if self
            .known_partition_epoch()
            .is_some_and(|known| registration.partition_epoch <= known)
        {
            // What the leader took from the controller's answer is known in full from now on.
            let applied = self.registration.as_ref().map(|r| r.partition_epoch);
            if applied < Some(registration.partition_epoch) {
                self.registration = Some(registration.clone());
            }
            return RoleChange::Stale;
        }
        self.high_watermark = self.high_watermark().min(log.end);
        let same_epoch = self.leader_epoch() == Some(registration.leader_epoch);
        self.registration = Some(registration.clone());
        if registration.leader == Some(self.me) {
            self.lead(now_ms, registration, log, same_epoch)
        } else if registration.replicas.contains(&self.me) {
            self.follow(registration, log, same_epoch)
        } else {
            let was_leader = matches!(self.role, Role::Leader(_));
            self.role = Role::Offline;
            RoleChange::WentOffline { was_leader }
        }
    }

    fn lead(
        &mut self,
        now_ms: i64,
        registration: &PartitionRegistration,
        log: LogPosition,
        same_epoch: bool,
    ) -> RoleChange {
        if let Role::Leader(leader) = &mut self.role
            && same_epoch
        {
            let moved = leader.on_registration(now_ms, registration);
            return RoleChange::StillLeader { moved };
        }
        let mut leader = Leader::new(
            self.me,
            self.config,
            registration,
            log,
            self.high_watermark,
            now_ms,
        );
        let moved = leader.advance_high_watermark(now_ms);
        self.role = Role::Leader(Box::new(leader));
        RoleChange::BecameLeader {
            epoch: registration.leader_epoch,
            epoch_start: log.end,
            moved,
        }
    }

    fn follow(
        &mut self,
        registration: &PartitionRegistration,
        log: LogPosition,
        same_epoch: bool,
    ) -> RoleChange {
        if matches!(self.role, Role::Follower(_)) && same_epoch {
            return RoleChange::StillFollower;
        }
        let was_leader = matches!(self.role, Role::Leader(_));
        self.role = Role::Follower(Follower::new(registration, log, self.high_watermark));
        RoleChange::BecameFollower {
            leader: registration.leader,
            epoch: registration.leader_epoch,
            was_leader,
        }
    }
}
