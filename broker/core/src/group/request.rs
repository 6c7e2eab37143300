//! What do clients ask of a group coordinator, and what is answered?
//!
//! Models of the requests, free of the wire format and of its versions.

use bytes::Bytes;
use types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};

use super::GroupState;
use super::consumer::request::{HeartbeatAnswer, Rejection};
use super::record::CommittedOffset;

/// Names a request whose reply may come later; chosen by the shell, unique among the waiting ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A reply to a request that was given a [`Token`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`JoinRequest`].
    Join(JoinReply),
    /// To [`SyncRequest`].
    Sync(SyncReply),
    /// To [`CommitRequest`].
    Commit(CommitReply),
    /// To [`super::consumer::request::ConsumerHeartbeat`].
    ConsumerHeartbeat(Result<HeartbeatAnswer, Rejection>),
    /// To a request to delete a group.
    DeleteGroup(ErrorCode),
    /// To a request to delete offsets: the error of each partition, in the order asked, or one of the group.
    DeleteOffsets(Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode>),
    /// To the end of a transaction.
    TransactionEnded(ErrorCode),
}

/// `JoinGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// `/address` of the client.
    pub client_host: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// The member's protocols in its order of preference, with its metadata for each.
    pub protocols: Vec<(String, Bytes)>,
    /// Silence after which the member is expired, ms.
    pub session_timeout_ms: i32,
    /// How long the member needs to rejoin, ms.
    pub rebalance_timeout_ms: i32,
    /// Whether a dynamic member without id is sent away with one first (KIP-394: v4 and later).
    pub require_known_member_id: bool,
    /// Whether the client understands `skip_assignment` (KIP-814: v9 and later).
    pub supports_skip_assignment: bool,
    /// A fresh unique text (a UUID) for the id of a new member.
    pub fresh_id: String,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Its metadata for the selected protocol.
    pub metadata: Bytes,
}

/// Reply to [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Why it failed, or `NONE`.
    pub error: ErrorCode,
    /// `None` on an error.
    pub generation: Option<i32>,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The selected protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// Whether the leader must not compute an assignment (KIP-814).
    pub skip_assignment: bool,
    /// The id of the member that joined.
    pub member_id: String,
    /// Every member, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode, member_id: impl Into<String>) -> Self {
        Self {
            error,
            generation: None,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// `SyncGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The generation the member joined.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Checked against the group's when given (v5).
    pub protocol_type: Option<String>,
    /// Checked against the selected one when given (v5).
    pub protocol: Option<String>,
    /// The leader's assignments by member id; empty from everybody else.
    pub assignments: Vec<(String, Bytes)>,
}

/// Reply to [`SyncRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// Why it failed, or `NONE`.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The selected protocol.
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

impl SyncReply {
    /// A refusal.
    #[must_use]
    pub const fn error(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// `Heartbeat`; answered at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The generation the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
}

/// A member named in `LeaveGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty to name a static member by its instance id only.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
}

/// One partition of an [`CommitRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// Next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Free text of the client.
    pub metadata: String,
    /// An error found before the coordinator was asked (an unknown partition), reported back in place.
    pub error: ErrorCode,
}

/// `OffsetCommit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The group.
    pub group_id: String,
    /// `None` (-1 on the wire) from a consumer that manages its own partitions.
    pub generation: Option<i32>,
    /// Empty from such a consumer.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Whether the client knows of member epochs (v9 and later); the generation is one in a consumer group.
    pub knows_epochs: bool,
    /// Retention asked for by the client (v2-v4), ms.
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub partitions: Vec<CommitPartition>,
}

/// The error of each partition of a [`CommitRequest`], in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReply {
    /// Partition and error.
    pub partitions: Vec<(TopicPartition, ErrorCode)>,
}

/// A committed offset as `OffsetFetch` answers it; `None` when nothing is committed.
pub type FetchedOffset = (TopicPartition, Option<CommittedOffset>);

/// A member as `DescribeGroups` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// `/address` of the client.
    pub client_host: String,
    /// Its metadata for the selected protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// A group as `DescribeGroups` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// [`GroupState::Dead`] for an unknown group.
    pub state: GroupState,
    /// The protocol type; empty for a group without members ever.
    pub protocol_type: String,
    /// The selected protocol; empty unless the group is stable.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A group as `ListGroups` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// The protocol type; empty for a group that only has offsets.
    pub protocol_type: String,
    /// Which protocol its members speak.
    pub kind: GroupKind,
    /// Its state.
    pub state: GroupState,
}

/// Which protocol the members of a group speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// The one of generations.
    Classic,
    /// The one of KIP-848.
    Consumer,
}

impl GroupKind {
    /// Kafka's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}
