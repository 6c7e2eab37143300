//! Which types does the metadata quorum hand to Raft?

use std::fmt;

use bytes::Bytes;
use types::NodeId;
use uuid::Uuid;

openraft::declare_raft_types!(
    /// The Raft of the metadata quorum: opaque record batches, voters named by their disks.
    pub TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Member,
        SnapshotData = SnapshotData,
);

/// Raft, typed for the metadata quorum.
pub(crate) type Raft = openraft::Raft<TypeConfig>;
/// An entry of the Raft log.
pub(crate) type Entry = openraft::Entry<TypeConfig>;
/// Position of an entry: the leader that appended it and its index.
pub(crate) type LogId = openraft::LogId<u64>;
/// What a voter has voted for.
pub(crate) type Vote = openraft::Vote<u64>;
/// Voters and learners.
pub(crate) type Membership = openraft::Membership<u64, Member>;
/// A membership and the entry that set it.
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Member>;
/// What a snapshot is of.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
/// A failure of the quorum's disk, as Raft wants it.
pub(crate) type StorageError = openraft::StorageError<u64>;
/// A view of the state of Raft on this node.
pub(crate) type Metrics = openraft::RaftMetrics<u64, Member>;

/// Records that a leader proposes in one entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The term whose leader decided the records. In an entry of another term they are void.
    pub term: u64,
    /// Encoded metadata records; the quorum never looks inside.
    pub records: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Proposal(term {}, {} bytes)",
            self.term,
            self.records.len()
        )
    }
}

/// What became of a committed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// False when the entry was void (see [`Proposal::term`]).
    pub accepted: bool,
}

/// A serialised image of the metadata, as it travels and as it lies in a snapshot file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotData(pub Bytes);

/// One voter or learner: a disk, the Kafka node id behind which it serves, and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The Kafka node id.
    pub node_id: NodeId,
    /// The configured host name: never a bind address.
    pub host: String,
    /// The gRPC port.
    pub rpc_port: u16,
    /// The disk's uuid, from which the Raft id is derived.
    pub disk: Uuid,
}

impl Default for Member {
    /// What openraft asks for in an unknown place: no node at all.
    fn default() -> Self {
        Self {
            node_id: NodeId(-1),
            host: String::new(),
            rpc_port: 0,
            disk: Uuid::nil(),
        }
    }
}

impl Member {
    /// The id by which Raft knows this disk.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        raft_id(self.disk)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {} at {}:{} (disk {})",
            self.node_id, self.host, self.rpc_port, self.disk
        )
    }
}

/// The Raft id of a disk: the first eight bytes of its uuid, of which 58 bits are random.
#[must_use]
pub fn raft_id(disk: Uuid) -> u64 {
    disk.as_u64_pair().0
}
