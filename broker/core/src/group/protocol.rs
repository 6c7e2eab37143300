//! What do consumers of the classic protocol say of themselves, and how are they told their assignment?
//!
//! The coordinator hands these bytes from member to leader and back without looking, except where members of both
//! protocols are in one group. Source: the message definitions `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment` of Kafka, versions 0 to 3; what says that it is newer is read as the newest one known. All
//! integers are big-endian.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Reader, length, put_text};
use super::record::RecordError;

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";
/// The newest version of both messages.
const NEWEST: i16 = 3;

/// Partitions by the name of their topic.
pub(super) type Named = BTreeMap<String, BTreeSet<i32>>;

/// What a member wants, and what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: BTreeSet<String>,
    /// Empty from an eager member, which gives up everything before it joins.
    pub(super) owned: Named,
    /// The generation in which it had that, if it says so.
    pub(super) generation: Option<i32>,
    pub(super) rack_id: Option<String>,
}

/// What a member gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) partitions: Named,
    /// Whether the assignor told its members more, which the coordinator cannot hand on.
    pub(super) has_user_data: bool,
}

impl Subscription {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader(bytes);
        let version = version(&mut value)?;
        let mut topics = BTreeSet::new();
        for _ in 0..value.count("topics", false)? {
            topics.insert(value.text("topic", false)?);
        }
        value.bytes("user data", false)?;
        let mut subscription = Self {
            topics,
            ..Self::default()
        };
        if version >= 1 {
            subscription.owned = named(&mut value)?;
        }
        if version >= 2 {
            subscription.generation = Some(value.i32("generation")?).filter(|known| *known >= 0);
        }
        if version >= 3 {
            let rack_id = value.nullable("rack id", false)?;
            subscription.rack_id = rack_id.filter(|rack| !rack.is_empty());
        }
        Ok(subscription)
    }
}

impl Assignment {
    /// Reads what the leader gave to a member; nothing if there was no leader yet.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut value = Reader(bytes);
        version(&mut value)?;
        Ok(Self {
            partitions: named(&mut value)?,
            has_user_data: !value.bytes("user data", false)?.is_empty(),
        })
    }
}

/// An assignment in the version that the member speaks in its subscription.
pub(super) fn encode_assignment(partitions: &Named, subscription: &[u8]) -> Bytes {
    let version = version(&mut Reader(subscription)).unwrap_or(0);
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(version);
    out.put_i32(length(partitions.len()));
    for (topic, indexes) in partitions {
        put_text(&mut out, topic);
        out.put_i32(length(indexes.len()));
        for index in indexes {
            out.put_i32(*index);
        }
    }
    out.put_i32(-1); // no user data
    out.freeze()
}

fn version(value: &mut Reader<'_>) -> Result<i16, RecordError> {
    Ok(value.version(0, i16::MAX)?.min(NEWEST))
}

fn named(value: &mut Reader<'_>) -> Result<Named, RecordError> {
    let mut named = Named::new();
    for _ in 0..value.count("topics", false)? {
        let indexes: &mut BTreeSet<i32> = named.entry(value.text("topic", false)?).or_default();
        for _ in 0..value.count("partitions", false)? {
            indexes.insert(value.i32("partition")?);
        }
    }
    Ok(named)
}
