//! What do the records of a consumer group say, byte for byte as Kafka writes them?
//!
//! Keys 3 to 8 and 16; every value has version 0, which is flexible. A null value is a tombstone. Source: the message
//! definitions `ConsumerGroup*Key/Value` of Kafka. Tagged fields of newer versions (the racks a hash stands for, the epoch
//! at which each partition was assigned) are skipped, as Kafka skips what it does not know.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use types::TopicId;

use super::partitions::Partitions;
use crate::group::codec::{Reader, put_text};
use crate::group::record::RecordError;

/// A record of one consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The group.
    pub group_id: String,
    /// What it says about the group.
    pub fact: Fact,
}

/// What a record says about its group; `None` takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The group's epoch; without it there is no group.
    Epoch(Option<GroupEpoch>),
    /// What Kafka 4.0 knew of the subscribed topics, as it wrote it; only ever taken back here.
    PartitionMetadata(Option<Bytes>),
    /// Who a member is and what it wants.
    Member(String, Option<MemberMetadata>),
    /// The group epoch that the target assignment is of.
    TargetEpoch(Option<i32>),
    /// What a member shall have.
    Target(String, Option<Partitions>),
    /// What a member has.
    Current(String, Option<CurrentAssignment>),
    /// The topics that match a regular expression.
    Regex(String, Option<ResolvedRegex>),
}

impl Fact {
    /// Whether it takes something back.
    pub(in crate::group) fn is_tombstone(&self) -> bool {
        match self {
            Self::Epoch(value) => value.is_none(),
            Self::PartitionMetadata(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Regex(_, value) => value.is_none(),
        }
    }
}

/// A group's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEpoch {
    /// The epoch.
    pub epoch: i32,
    /// Stands for the subscribed topics as they were known in this epoch.
    pub metadata_hash: i64,
}

/// Who a member is and what it wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its `client.rack`.
    pub rack_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// `/address` of the client.
    pub client_host: String,
    /// The topics it names.
    pub topic_names: BTreeSet<String>,
    /// The regular expression of the topics it wants.
    pub topic_regex: Option<String>,
    /// How long it may take to give partitions back, ms.
    pub rebalance_timeout_ms: i32,
    /// The assignor it prefers.
    pub server_assignor: Option<String>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

/// What the classic protocol needs to know of a member beside what both protocols have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassicMember {
    /// Silence after which it is given up, ms.
    pub session_timeout_ms: i32,
    /// Its protocols in its order of preference, with its metadata for each.
    pub protocols: Vec<(String, Bytes)>,
}

/// How far a member is on the way to what it shall have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it shall have.
    #[default]
    Stable,
    /// It has to give partitions back first.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give back first.
    UnreleasedPartitions,
}

/// What a member has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    /// The epoch the member is in.
    pub epoch: i32,
    /// The one before, which it may still speak in.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it may consume.
    pub assigned: Partitions,
    /// What it was told to give back and did not confirm yet.
    pub pending_revocation: Partitions,
}

/// The topics that match a regular expression.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// Their names.
    pub topics: BTreeSet<String>,
    /// Version of the metadata that was looked at.
    pub version: i64,
    /// Wall clock of that, ms.
    pub timestamp_ms: i64,
}

/// First and last key version of consumer groups, beside that of regular expressions.
const EPOCH: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;
/// The tag of the hash in the value of an epoch.
const HASH_TAG: i64 = 0;
/// The tag of what makes a member a classic one.
const CLASSIC_TAG: i64 = 0;

impl ConsumerRecord {
    /// Key and value as they go into the log.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let (version, name, value) = match &self.fact {
            Fact::Epoch(value) => (EPOCH, None, value.map(|value| encode_epoch(&value))),
            Fact::PartitionMetadata(value) => (PARTITION_METADATA, None, value.clone()),
            Fact::Member(id, value) => (MEMBER, Some(id), value.as_ref().map(encode_member)),
            Fact::TargetEpoch(value) => (TARGET_EPOCH, None, value.map(encode_target_epoch)),
            Fact::Target(id, value) => (TARGET, Some(id), value.as_ref().map(encode_target)),
            Fact::Current(id, value) => (CURRENT, Some(id), value.as_ref().map(encode_current)),
            Fact::Regex(regex, value) => (REGEX, Some(regex), value.as_ref().map(encode_regex)),
        };
        let mut key = BytesMut::with_capacity(64);
        key.put_i16(version);
        put_text(&mut key, &self.group_id);
        if let Some(name) = name {
            put_text(&mut key, name);
        }
        (key.freeze(), value)
    }

    /// Reads a record whose key has this version; `None` if it is not one of consumer groups.
    pub(in crate::group) fn decode(
        version: i16,
        key: &mut Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Option<Self>, RecordError> {
        if !matches!(version, EPOCH..=CURRENT | REGEX) {
            return Ok(None);
        }
        let group_id = key.text("group", false)?;
        let fact = match version {
            EPOCH => Fact::Epoch(value.map(decode_epoch).transpose()?),
            PARTITION_METADATA => Fact::PartitionMetadata(value.map(Bytes::copy_from_slice)),
            MEMBER => Fact::Member(
                key.text("member id", false)?,
                value.map(decode_member).transpose()?,
            ),
            TARGET_EPOCH => Fact::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => Fact::Target(
                key.text("member id", false)?,
                value.map(decode_target).transpose()?,
            ),
            CURRENT => Fact::Current(
                key.text("member id", false)?,
                value.map(decode_current).transpose()?,
            ),
            _ => Fact::Regex(
                key.text("regular expression", false)?,
                value.map(decode_regex).transpose()?,
            ),
        };
        Ok(Some(Self { group_id, fact }))
    }
}

fn encode_epoch(value: &GroupEpoch) -> Bytes {
    let mut out = start();
    out.put_i32(value.epoch);
    if value.metadata_hash == 0 {
        put_varint(&mut out, 0);
    } else {
        out.put_slice(&[1, 0, 8]); // one tag, number 0, of 8 bytes
        out.put_i64(value.metadata_hash);
    }
    out.freeze()
}

fn decode_epoch(bytes: &[u8]) -> Result<GroupEpoch, RecordError> {
    let mut value = open(bytes)?;
    let epoch = value.i32("epoch")?;
    let hash = tagged(&mut value, HASH_TAG)?;
    let hash = hash.map(|mut hash| hash.i64("metadata hash")).transpose()?;
    Ok(GroupEpoch {
        epoch,
        metadata_hash: hash.unwrap_or(0),
    })
}

/// Reads the tagged fields at the end of a value; what is in the one of that number.
fn tagged<'a>(value: &mut Reader<'a>, wanted: i64) -> Result<Option<Reader<'a>>, RecordError> {
    let mut found = None;
    for _ in 0..value.varint("tags")? {
        let tag = value.varint("tag")?;
        let size = value.varint("tag size")?;
        let length = usize::try_from(size).map_err(|_| RecordError::Length {
            field: "tag size",
            length: size,
        })?;
        let content = Reader(value.take("tag value", length)?);
        if tag == wanted {
            found = Some(content);
        }
    }
    Ok(found)
}

fn encode_member(value: &MemberMetadata) -> Bytes {
    let mut out = start();
    put_compact_nullable(&mut out, value.instance_id.as_deref());
    put_compact_nullable(&mut out, value.rack_id.as_deref());
    put_compact(&mut out, &value.client_id);
    put_compact(&mut out, &value.client_host);
    put_names(&mut out, &value.topic_names);
    put_compact_nullable(&mut out, value.topic_regex.as_deref());
    out.put_i32(value.rebalance_timeout_ms);
    put_compact_nullable(&mut out, value.server_assignor.as_deref());
    match value.classic.as_ref().map(encode_classic) {
        None => put_varint(&mut out, 0),
        Some(classic) => {
            out.put_slice(&[1, 0]); // one tag, number 0
            put_varint(&mut out, classic.len());
            out.put_slice(&classic);
        }
    }
    out.freeze()
}

fn encode_classic(value: &ClassicMember) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    put_varint(&mut out, 1); // not null
    out.put_i32(value.session_timeout_ms);
    put_varint(&mut out, value.protocols.len() + 1);
    for (name, metadata) in &value.protocols {
        put_compact(&mut out, name);
        put_varint(&mut out, metadata.len() + 1);
        out.put_slice(metadata);
        put_varint(&mut out, 0);
    }
    put_varint(&mut out, 0);
    out.freeze()
}

fn decode_classic(mut value: Reader<'_>) -> Result<Option<ClassicMember>, RecordError> {
    if value.varint("classic member")? == 0 {
        return Ok(None);
    }
    let session_timeout_ms = value.i32("session timeout")?;
    let mut protocols = Vec::new();
    for _ in 0..value.count("protocols", true)? {
        let name = value.text("protocol", true)?;
        protocols.push((name, value.bytes("protocol metadata", true)?));
        value.skip_tags()?;
    }
    value.skip_tags()?;
    Ok(Some(ClassicMember {
        session_timeout_ms,
        protocols,
    }))
}

fn decode_member(bytes: &[u8]) -> Result<MemberMetadata, RecordError> {
    let mut value = open(bytes)?;
    let mut member = MemberMetadata {
        instance_id: value.nullable("instance id", true)?,
        rack_id: value.nullable("rack id", true)?,
        client_id: value.text("client id", true)?,
        client_host: value.text("client host", true)?,
        topic_names: names(&mut value)?,
        topic_regex: value
            .nullable("topic regex", true)?
            .filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: value.i32("rebalance timeout")?,
        server_assignor: value.nullable("server assignor", true)?,
        classic: None,
    };
    if let Some(classic) = tagged(&mut value, CLASSIC_TAG)? {
        member.classic = decode_classic(classic)?;
    }
    Ok(member)
}

fn encode_target_epoch(epoch: i32) -> Bytes {
    let mut out = start();
    out.put_i32(epoch);
    put_varint(&mut out, 0);
    out.freeze()
}

fn decode_target_epoch(bytes: &[u8]) -> Result<i32, RecordError> {
    let mut value = open(bytes)?;
    let epoch = value.i32("assignment epoch")?;
    value.skip_tags()?;
    Ok(epoch)
}

fn encode_target(partitions: &Partitions) -> Bytes {
    let mut out = start();
    put_partitions(&mut out, partitions);
    put_varint(&mut out, 0);
    out.freeze()
}

fn decode_target(bytes: &[u8]) -> Result<Partitions, RecordError> {
    let mut value = open(bytes)?;
    let target = partitions(&mut value)?;
    value.skip_tags()?;
    Ok(target)
}

fn encode_current(value: &CurrentAssignment) -> Bytes {
    let mut out = start();
    out.put_i32(value.epoch);
    out.put_i32(value.previous_epoch);
    out.put_i8(match value.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_partitions(&mut out, &value.assigned);
    put_partitions(&mut out, &value.pending_revocation);
    put_varint(&mut out, 0);
    out.freeze()
}

fn decode_current(bytes: &[u8]) -> Result<CurrentAssignment, RecordError> {
    let mut value = open(bytes)?;
    let epoch = value.i32("member epoch")?;
    let previous_epoch = value.i32("previous member epoch")?;
    let state = match value.take("state", 1)?[0] {
        0 => MemberState::Stable,
        1 => MemberState::UnrevokedPartitions,
        2 => MemberState::UnreleasedPartitions,
        state => {
            return Err(RecordError::Value {
                field: "state",
                value: i64::from(state),
            });
        }
    };
    let current = CurrentAssignment {
        epoch,
        previous_epoch,
        state,
        assigned: partitions(&mut value)?,
        pending_revocation: partitions(&mut value)?,
    };
    value.skip_tags()?;
    Ok(current)
}

fn encode_regex(value: &ResolvedRegex) -> Bytes {
    let mut out = start();
    put_names(&mut out, &value.topics);
    out.put_i64(value.version);
    out.put_i64(value.timestamp_ms);
    put_varint(&mut out, 0);
    out.freeze()
}

fn decode_regex(bytes: &[u8]) -> Result<ResolvedRegex, RecordError> {
    let mut value = open(bytes)?;
    let resolved = ResolvedRegex {
        topics: names(&mut value)?,
        version: value.i64("version")?,
        timestamp_ms: value.i64("timestamp")?,
    };
    value.skip_tags()?;
    Ok(resolved)
}

/// A value of version 0.
fn start() -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(0);
    out
}

fn open(bytes: &[u8]) -> Result<Reader<'_>, RecordError> {
    let mut value = Reader(bytes);
    value.version(0, 0)?;
    Ok(value)
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_compact(out: &mut BytesMut, text: &str) {
    put_varint(out, text.len() + 1);
    out.put_slice(text.as_bytes());
}

fn put_compact_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_compact(out, text),
        None => put_varint(out, 0),
    }
}

fn put_names(out: &mut BytesMut, names: &BTreeSet<String>) {
    put_varint(out, names.len() + 1);
    for name in names {
        put_compact(out, name);
    }
}

fn names(value: &mut Reader<'_>) -> Result<BTreeSet<String>, RecordError> {
    let mut names = BTreeSet::new();
    for _ in 0..value.count("topic names", true)? {
        names.insert(value.text("topic name", true)?);
    }
    Ok(names)
}

fn put_partitions(out: &mut BytesMut, partitions: &Partitions) {
    put_varint(out, partitions.topics().count() + 1);
    for (topic, indexes) in partitions.topics() {
        out.put_slice(&topic.0);
        put_varint(out, indexes.len() + 1);
        for index in indexes {
            out.put_i32(*index);
        }
        put_varint(out, 0);
    }
}

fn partitions(value: &mut Reader<'_>) -> Result<Partitions, RecordError> {
    let mut partitions = Partitions::default();
    for _ in 0..value.count("topics", true)? {
        let mut id = [0; 16];
        id.copy_from_slice(value.take("topic id", 16)?);
        for _ in 0..value.count("partitions", true)? {
            partitions.insert(TopicId(id), value.i32("partition")?);
        }
        value.skip_tags()?;
    }
    Ok(partitions)
}
