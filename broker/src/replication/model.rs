//! What do the Kafka side and the coordinators ask of a replica, and what do they get?
//!
//! Plain types: the wire's structs are converted to these in `kafka/handlers`, the protocol between brokers in
//! this folder. `None` stands for what is -1 on the wire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker_core::partition::Diverging;
use bytes::Bytes;
use types::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerId, TopicId, TopicPartition};

/// A partition by its topic's id and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    /// The topic's id; the zero id means that only the name is known.
    pub topic_id: TopicId,
    /// The topic's name; only for messages where the id is given.
    pub name: Arc<str>,
    /// The partition's index.
    pub partition: i32,
}

impl TopicIdPartition {
    /// Partition `partition` of the topic.
    pub fn new(topic_id: TopicId, name: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic_id,
            name: name.into(),
            partition,
        }
    }

    /// The partition by name only.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.name), self.partition)
    }
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.partition)
    }
}

/// Who leads the partition instead, for the client's next try (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader, `None` while nobody is elected.
    pub leader: Option<NodeId>,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
}

/// What a client's append is checked against beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendChecks {
    /// The guard of a transaction that was asked for, see [`super::Verification`].
    pub guard: Option<u64>,
    /// Whether a batch before it was refused on its connection.
    pub is_behind_refused: bool,
}

/// A produce was appended, and replicated as far as its acks ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceOk {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The time given to the records, with `message.timestamp.type=LogAppendTime`; ms since the epoch.
    pub log_append_time_ms: Option<i64>,
    /// First offset of the log.
    pub log_start_offset: Offset,
}

/// A produce was refused, or not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to produce: {code}: {message}")]
pub struct ProduceError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// The current leader, where the code says it is not this broker.
    pub leader_hint: Option<LeaderHint>,
    /// What was wrong, for the client's log.
    pub message: String,
    /// Which record of the batch is to blame, from 0, where it is one (KIP-467).
    pub record: Option<i32>,
}

impl ProduceError {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            leader_hint: None,
            message: message.into(),
            record: None,
        }
    }

    /// The error, with the record that is to blame.
    #[must_use]
    pub fn of_record(self, record: i32) -> Self {
        Self {
            record: Some(record),
            ..self
        }
    }
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset, with the list of aborted transactions.
    ReadCommitted,
}

/// A client's fetch over several partitions.
#[derive(Debug, Clone)]
pub struct FetchRequestModel {
    /// How long to wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer at once when so many bytes are there.
    pub min_bytes: usize,
    /// Bound of the whole answer; the first batch is given even if it is larger (KIP-74).
    pub max_bytes: usize,
    /// Which records may be seen.
    pub isolation: Isolation,
    /// Where the client may read.
    pub reader: Reader,
    /// What to read, in this order.
    pub partitions: Vec<FetchPartition>,
}

/// Which replicas a client may read from (KIP-392).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reader {
    /// Whether a follower may answer, up to the high watermark it knows. Otherwise only the leader does.
    pub may_read_followers: bool,
    /// Brokers that are closer to the client than this one: a leader sends it to one of these, if it is in sync.
    pub near: Vec<NodeId>,
}

/// One partition of a fetch.
#[derive(Debug, Clone)]
pub struct FetchPartition {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// From where; the answer may begin with a batch that contains this offset.
    pub fetch_offset: Offset,
    /// Bound for this partition.
    pub max_bytes: usize,
    /// The leader epoch the client knows (KIP-320).
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the client's last record, to detect truncation (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// A transaction that was aborted and has records in the answer's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
}

/// The answer for one partition of a fetch.
#[derive(Debug, Clone)]
pub struct FetchPartitionData {
    /// Kafka's code, `None` (0) for success.
    pub error: ErrorCode,
    /// The high watermark.
    pub high_watermark: Option<Offset>,
    /// The last stable offset.
    pub last_stable_offset: Option<Offset>,
    /// First offset of the log.
    pub log_start_offset: Option<Offset>,
    /// Whole batches, one after another; empty when there is nothing.
    pub records: Vec<Bytes>,
    /// Aborted transactions in the range, with `read_committed` only.
    pub aborted: Vec<AbortedTransaction>,
    /// Where the client's log diverges from ours; it truncates.
    pub diverging_epoch: Option<Diverging>,
    /// The current leader, where the error says it is not this broker.
    pub leader_hint: Option<LeaderHint>,
    /// The replica that the client should read from instead of this one; there are no records then.
    pub preferred_read_replica: Option<NodeId>,
}

impl FetchPartitionData {
    /// Whether the client has something else to do than to read on here: to truncate, or to ask another replica.
    #[must_use]
    pub const fn is_redirect(&self) -> bool {
        self.diverging_epoch.is_some() || self.preferred_read_replica.is_some()
    }

    /// An answer without records.
    #[must_use]
    pub const fn failed(error: ErrorCode, leader_hint: Option<LeaderHint>) -> Self {
        Self {
            error,
            high_watermark: None,
            last_stable_offset: None,
            log_start_offset: None,
            records: Vec::new(),
            aborted: Vec::new(),
            diverging_epoch: None,
            leader_hint,
            preferred_read_replica: None,
        }
    }

    /// Bytes of the records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// An error of a single-partition question, with the current leader where that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to answer for the partition: {code}")]
pub struct PartitionError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// The current leader, where the code says it is not this broker.
    pub leader_hint: Option<LeaderHint>,
}

impl PartitionError {
    /// An error without a hint.
    #[must_use]
    pub const fn new(code: ErrorCode) -> Self {
        Self {
            code,
            leader_hint: None,
        }
    }
}

/// Which offset a ListOffsets asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The end that the isolation level allows to see (-1).
    Latest,
    /// The first offset (-2; also -4, the log being local only).
    Earliest,
    /// The record with the largest timestamp (-3).
    MaxTimestamp,
    /// The first record whose timestamp is at least this, ms since the epoch.
    Timestamp(i64),
}

/// The answer to a ListOffsets; `offset` is `None` when no record matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset found.
    pub offset: Option<Offset>,
    /// The record's timestamp, for timestamp questions.
    pub timestamp_ms: Option<i64>,
    /// The leader epoch of that record, or the current one for the ends of the log.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// The answer to an OffsetForLeaderEpoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch not above the one asked for, `None` if there is none.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Offset after its last record.
    pub end_offset: Option<Offset>,
}

/// What a partition looks like, for metrics, health and the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSnapshot {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// Whether this broker leads it.
    pub is_leader: bool,
    /// The leader known here.
    pub leader: Option<NodeId>,
    /// The leader epoch known here.
    pub leader_epoch: LeaderEpoch,
    /// The assigned replicas.
    pub replicas: Vec<NodeId>,
    /// The committed ISR.
    pub isr: Vec<NodeId>,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// Offset after the last record.
    pub log_end_offset: Offset,
    /// The high watermark known here.
    pub high_watermark: Offset,
    /// Bytes of the log.
    pub size_bytes: u64,
    /// Whether fewer replicas are in sync than there have to be copies (leaders only).
    pub under_replicated: bool,
    /// Whether fewer are in sync than `min.insync.replicas` asks for (leaders only).
    pub under_min_isr: bool,
}

/// Leadership of a partition came to this broker, or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderChange {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The epoch that began.
    pub leader_epoch: LeaderEpoch,
    /// What happened.
    pub kind: LeaderChangeKind,
}

/// What happened to leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderChangeKind {
    /// This broker leads from this epoch on.
    BecameLeader,
    /// This broker led and does not any more.
    LostLeadership,
}
