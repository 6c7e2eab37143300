//! Who is in a consumer group, which generation and assignment is current, and which offsets are committed?
//!
//! A pure state machine: one [`Coordinator`] holds the groups of one partition of `__consumer_offsets`.
//! Every method takes the time and returns an [`Outcome`]: replies that may go out at once, and records to append.
//! The shell appends the records and reports each result with [`Coordinator::appended`], in the order of the
//! appends; replies that depend on a record come out of that call, so nothing is acknowledged that the log could
//! still lose. Timers are read with [`Coordinator::next_deadline`] and fired by [`Coordinator::tick`].
//!
//! ```text
//!            join                    all joined / timeout              leader's sync committed
//!   Empty ----------> PreparingRebalance ----------> CompletingRebalance ----------> Stable
//!     ^                   |   ^   ^                          |                          |
//!     '-- nobody joined --'   |   '--- join, leave, expiry --'                          |
//!                             '------------------ join, leave, expiry ------------------'
//! ```
//! [`migration`] leads a group from one protocol to the other while it has members. The classic group protocol with KIP-345 (static members), KIP-394 (member id required), KIP-211 (offset expiry),
//! KIP-814 (static rejoin skips the assignment), KIP-800 (reasons). [`consumer`] has the protocol of KIP-848.

mod admin;
mod classic;
mod codec;
pub mod consumer;
mod consumer_groups;
mod coordinator;
mod expiry;
mod join;
mod leave;
mod member;
mod migration;
mod offsets;
mod protocol;
mod rebalance;
pub mod record;
mod replay;
pub mod request;
mod sync;
#[cfg(test)]
mod tests;
mod transactions;

use std::fmt;

use types::{EndTransactionMarker, ProducerEpoch, ProducerId};

pub use coordinator::Coordinator;
pub use record::GroupRecord;
pub use request::{Reply, Token};

/// The two clocks a coordinator sees: timers run on the monotonic one, records carry the wall clock's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps, from any origin.
    pub monotonic_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// Broker configuration that groups obey; the fields carry Kafka's names in their docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `offsets.retention.minutes`, in milliseconds
    pub offsets_retention_ms: i64,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// Of groups of the consumer protocol.
    pub consumer: consumer::request::ConsumerConfig,
}

impl Default for GroupConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offsets_retention_ms: 10_080 * 60_000,
            offset_metadata_max_bytes: 4_096,
            consumer: consumer::request::ConsumerConfig::default(),
        }
    }
}

/// Where a group is in its life; the names are those `DescribeGroups` and `ListGroups` show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; may hold offsets.
    Empty,
    /// Waiting for all members to join the next generation.
    PreparingRebalance,
    /// The generation is formed; waiting for the leader's assignment.
    CompletingRebalance,
    /// Of a consumer group: the target assignment is not that of the group's epoch yet.
    Assigning,
    /// Of a consumer group: members are on the way to their target.
    Reconciling,
    /// Every member may fetch its assignment, or has it.
    Stable,
    /// Deleted, or never existed.
    Dead,
}

impl GroupState {
    /// Every state a group can be in, for per-state metrics.
    pub const ALL: [Self; 7] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Assigning,
        Self::Reconciling,
        Self::Stable,
        Self::Dead,
    ];

    /// Kafka's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one append the coordinator asked for; later appends have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// Records to append as one batch, and the id to report the result under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// What to hand to [`Coordinator::appended`].
    pub id: AppendId,
    /// What kind of batch it is.
    pub kind: AppendKind,
    /// At least one record, unless it is a marker.
    pub records: Vec<GroupRecord>,
}

/// How records relate to a producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendKind {
    /// They count at once.
    Plain,
    /// They count when the transaction is committed.
    Transactional(TransactionalCommit),
    /// The end of the transaction.
    Marker(TransactionEnd),
}

/// Who commits offsets in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionalCommit {
    /// The producer.
    pub producer: (ProducerId, ProducerEpoch),
    /// What the log has to know of the check that the partition is in the transaction.
    pub guard: Option<u64>,
}

/// The end of a transaction, as its coordinator tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    /// The producer.
    pub producer: (ProducerId, ProducerEpoch),
    /// Commit or abort, and by whom.
    pub marker: EndTransactionMarker,
    /// Whether the epoch is above that of the transaction (KIP-890).
    pub bumped: bool,
}

/// What the shell has to do after a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Replies that may be sent now.
    pub replies: Vec<(Token, Reply)>,
    /// Batches to append, in this order.
    pub appends: Vec<Append>,
}

impl Outcome {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.appends.is_empty()
    }
}
