//! What does a record of `__consumer_offsets` say, byte for byte as Kafka writes it?
//!
//! Keys: version 0 and 1 name a committed offset (group, topic, partition), version 2 a group, 3 to 8 and 16 the parts of
//! a consumer group ([`super::consumer::record`]). A null value is a
//! tombstone. Values of offset commits are read in versions 0-4 and written in 3 (1 with an expiry), group metadata is
//! read in 0-4 and written in 3, which every tool since Kafka 2.3 reads. Source: the message definitions
//! `OffsetCommitKey/Value`, `GroupMetadataKey/Value` of the public Kafka documentation; all integers big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use types::{LeaderEpoch, Offset, TopicPartition};

use super::codec::{Reader, length, put_bytes, put_nullable, put_text};
use super::consumer::record::ConsumerRecord;

/// The most that a batch of `__consumer_offsets` holds as brokers make that topic (its `max.message.bytes`), in bytes.
pub(super) const MAX_BATCH: usize = 8 << 20;

/// A record of `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// A committed offset, or its removal.
    Offset {
        /// The group.
        group_id: String,
        /// The partition.
        partition: TopicPartition,
        /// `None` removes it.
        value: Option<CommittedOffset>,
    },
    /// The members and assignment of a generation, or the group's removal.
    Group {
        /// The group.
        group_id: String,
        /// `None` removes it.
        value: Option<GroupMetadata>,
    },
    /// A part of a group of the consumer protocol (KIP-848).
    Consumer(ConsumerRecord),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Free text of the client.
    pub metadata: String,
    /// Wall clock of the commit, ms.
    pub commit_timestamp_ms: i64,
    /// Wall clock after which it may go (only when the client asked for a retention), ms.
    pub expire_timestamp_ms: Option<i64>,
}

/// A generation of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `consumer` for consumers; empty for a group that never had members.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The selected protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Wall clock of the last change of state, ms.
    pub current_state_timestamp_ms: Option<i64>,
    /// The members.
    pub members: Vec<MemberMetadata>,
}

/// A member of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// `/address` of the client.
    pub client_host: String,
    /// Its rebalance timeout, ms.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout, ms.
    pub session_timeout_ms: i32,
    /// Its metadata for the selected protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// Why bytes are not a record of `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside a field.
    #[error("record ends inside the field {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// A string is not UTF-8.
    #[error("record's field {field} is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// A length or a count is negative or larger than the record.
    #[error("record's field {field} has the impossible length {length}")]
    Length {
        /// The field.
        field: &'static str,
        /// The length.
        length: i64,
    },
    /// A value of a version this build cannot read.
    #[error("record's value has version {version}, want {min} to {max}")]
    Version {
        /// The version.
        version: i16,
        /// First one read.
        min: i16,
        /// Last one read.
        max: i16,
    },
    /// A number stands for nothing this build knows.
    #[error("record's field {field} has the unknown value {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// The number.
        value: i64,
    },
}

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;

impl GroupRecord {
    /// Key and value as they go into the log.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::with_capacity(64);
        match self {
            Self::Offset {
                group_id,
                partition,
                value,
            } => {
                key.put_i16(OFFSET_KEY_VERSION);
                put_text(&mut key, group_id);
                put_text(&mut key, &partition.topic);
                key.put_i32(partition.partition);
                (key.freeze(), value.as_ref().map(CommittedOffset::encode))
            }
            Self::Group { group_id, value } => {
                key.put_i16(GROUP_KEY_VERSION);
                put_text(&mut key, group_id);
                (key.freeze(), value.as_ref().map(GroupMetadata::encode))
            }
            Self::Consumer(record) => record.encode(),
        }
    }

    /// Reads a record; `None` for a key version of another kind of group, which is left alone.
    ///
    /// # Errors
    /// [`RecordError`] for bytes that Kafka would not have written.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordError> {
        let mut key = Reader(key);
        let version = key.i16("key version")?;
        match version {
            0 | OFFSET_KEY_VERSION => Ok(Some(Self::Offset {
                group_id: key.text("group", false)?,
                partition: TopicPartition::new(key.text("topic", false)?, key.i32("partition")?),
                value: value.map(CommittedOffset::decode).transpose()?,
            })),
            GROUP_KEY_VERSION => Ok(Some(Self::Group {
                group_id: key.text("group", false)?,
                value: value.map(GroupMetadata::decode).transpose()?,
            })),
            _ => Ok(ConsumerRecord::decode(version, &mut key, value)?.map(Self::Consumer)),
        }
    }
}

impl CommittedOffset {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.metadata.len());
        if let Some(expire_timestamp_ms) = self.expire_timestamp_ms {
            out.put_i16(1);
            out.put_i64(self.offset.0);
            put_text(&mut out, &self.metadata);
            out.put_i64(self.commit_timestamp_ms);
            out.put_i64(expire_timestamp_ms);
        } else {
            out.put_i16(3);
            out.put_i64(self.offset.0);
            out.put_i32(self.leader_epoch.map_or(-1, |epoch| epoch.0));
            put_text(&mut out, &self.metadata);
            out.put_i64(self.commit_timestamp_ms);
        }
        out.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader(bytes);
        let version = value.version(0, 4)?;
        let flexible = version >= 4;
        Ok(Self {
            offset: Offset(value.i64("offset")?),
            leader_epoch: if version >= 3 {
                Some(value.i32("leader epoch")?)
                    .filter(|epoch| *epoch >= 0)
                    .map(LeaderEpoch)
            } else {
                None
            },
            metadata: value.text("metadata", flexible)?,
            commit_timestamp_ms: value.i64("commit timestamp")?,
            expire_timestamp_ms: if version == 1 {
                Some(value.i64("expire timestamp")?).filter(|time| *time >= 0)
            } else {
                None
            },
        })
    }
}

impl GroupMetadata {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + 256 * self.members.len());
        out.put_i16(3);
        put_text(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable(&mut out, self.protocol.as_deref());
        put_nullable(&mut out, self.leader.as_deref());
        out.put_i64(self.current_state_timestamp_ms.unwrap_or(-1));
        out.put_i32(length(self.members.len()));
        for member in &self.members {
            put_text(&mut out, &member.member_id);
            put_nullable(&mut out, member.group_instance_id.as_deref());
            put_text(&mut out, &member.client_id);
            put_text(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader(bytes);
        let version = value.version(0, 4)?;
        let flexible = version >= 4;
        let mut group = Self {
            protocol_type: value.text("protocol type", flexible)?,
            generation: value.i32("generation")?,
            protocol: value.nullable("protocol", flexible)?,
            leader: value.nullable("leader", flexible)?,
            current_state_timestamp_ms: if version >= 2 {
                Some(value.i64("current state timestamp")?).filter(|time| *time >= 0)
            } else {
                None
            },
            members: Vec::new(),
        };
        // Every member takes more than one byte, so the count is bounded by the bytes that remain.
        for _ in 0..value.count("members", flexible)? {
            group.members.push(decode_member(&mut value, version)?);
        }
        Ok(group)
    }
}

fn decode_member(value: &mut Reader<'_>, version: i16) -> Result<MemberMetadata, RecordError> {
    let flexible = version >= 4;
    let member_id = value.text("member id", flexible)?;
    let group_instance_id = if version >= 3 {
        value.nullable("group instance id", flexible)?
    } else {
        None
    };
    let client_id = value.text("client id", flexible)?;
    let client_host = value.text("client host", flexible)?;
    let rebalance_timeout_ms = if version >= 1 {
        Some(value.i32("rebalance timeout")?)
    } else {
        None
    };
    let session_timeout_ms = value.i32("session timeout")?;
    let member = MemberMetadata {
        member_id,
        group_instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: value.bytes("subscription", flexible)?,
        assignment: value.bytes("assignment", flexible)?,
    };
    if flexible {
        value.skip_tags()?;
    }
    Ok(member)
}
