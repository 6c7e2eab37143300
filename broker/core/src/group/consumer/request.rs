//! What do members of consumer groups ask, and what is answered?

use std::collections::BTreeSet;

use config::MigrationPolicy;
use types::ErrorCode;

use super::assignor::Assignor;
use super::partitions::Partitions;
use super::pattern::Pattern;
use super::record::MemberMetadata;
use crate::group::GroupState;

/// The epoch of a member that wants to join.
pub const JOIN_EPOCH: i32 = 0;
/// The epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that leaves and means to come back.
pub const STATIC_LEAVE_EPOCH: i32 = -2;
/// The longest message of a refusal, in bytes: it may repeat what the client sent, which may be longer than what an
/// answer can hold.
const MAX_MESSAGE: usize = 1024;

/// Broker configuration that consumer groups obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.consumer.max.size`
    pub max_size: usize,
    /// `group.consumer.assignors`: the default one, and another.
    pub assignors: (Assignor, Option<Assignor>),
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
}

impl Default for ConsumerConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            max_size: i32::MAX as usize,
            assignors: (Assignor::Uniform, Some(Assignor::Range)),
            migration: MigrationPolicy::Bidirectional,
        }
    }
}

impl ConsumerConfig {
    /// The assignor of that name, if members may choose it.
    pub(super) fn assignor(&self, name: &str) -> Option<Assignor> {
        let allowed = |one: &Assignor| *one == self.assignors.0 || Some(*one) == self.assignors.1;
        Assignor::find(name).filter(allowed)
    }
}

/// `ConsumerGroupHeartbeat`; what is `None` did not change since the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member's id, or empty if the coordinator has to give it one.
    pub member_id: String,
    /// An id for such a member; `None` where the client has to bring its own (version 1).
    pub fresh_id: Option<String>,
    /// The epoch the member is in, or one of the epochs with a meaning of their own.
    pub member_epoch: i32,
    /// `group.instance.id`
    pub instance_id: Option<String>,
    /// `client.rack`
    pub rack_id: Option<String>,
    /// How long the member may take to give partitions back, ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics it names.
    pub topic_names: Option<BTreeSet<String>>,
    /// The regular expression of the topics it wants; empty for none any more.
    pub topic_regex: Option<String>,
    /// The assignor it prefers.
    pub server_assignor: Option<String>,
    /// What it consumes.
    pub owned: Option<Partitions>,
    /// From the request header.
    pub client_id: String,
    /// `/address` of the client.
    pub client_host: String,
}

/// A heartbeat that is well-formed. What takes long and does not need the group is done.
#[derive(Debug, Clone)]
pub struct ValidHeartbeat {
    pub(in crate::group) request: ConsumerHeartbeat,
    /// Of its regular expression, if it brings one.
    pub(super) pattern: Option<Pattern>,
}

/// How a member goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Its id.
    pub member_id: String,
    /// The epoch it is in now.
    pub member_epoch: i32,
    /// When to come again, ms.
    pub heartbeat_interval_ms: i32,
    /// What it may consume, if that changed or it asked for everything.
    pub assignment: Option<Partitions>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// Kafka's code.
    pub error: ErrorCode,
    /// What the client shows.
    pub message: String,
}

impl Rejection {
    pub(in crate::group) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Self { error, message }
    }
}

/// A member as `ConsumerGroupDescribe` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Who it is and what it wants.
    pub metadata: MemberMetadata,
    /// The epoch it is in.
    pub epoch: i32,
    /// What it may consume.
    pub assignment: Partitions,
    /// What it shall have.
    pub target: Partitions,
}

/// A group as `ConsumerGroupDescribe` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// Where it is in its life.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch its target assignment is of.
    pub assignment_epoch: i32,
    /// The assignor that most members prefer.
    pub assignor: Assignor,
    /// Its members.
    pub members: Vec<ConsumerMemberDescription>,
}
