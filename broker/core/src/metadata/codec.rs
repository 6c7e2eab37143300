//! How do records look as bytes, in the quorum's log and in snapshots?
//!
//! Each record is framed as kind (u16), version (u8), length (u32), all big endian, and that many bytes of msgpack
//! with named fields. A kind or version this build does not know is an error: replaying the rest would make an image
//! that differs from everybody else's. A record is written in the oldest version that can say what it says, so that an
//! older build stops only at what it would get wrong. Fields that came later are optional: what was written before them
//! still reads.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::MetadataRecord;

const FRAME_HEADER: usize = 7;

/// Bytes that are not records this build can replay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end within a record.
    #[error("failed to decode metadata record {index}: {have} bytes of {need}")]
    Truncated {
        /// Which record, from 0.
        index: usize,
        /// Bytes there are.
        have: usize,
        /// Bytes it needs.
        need: usize,
    },
    /// A kind of record of a newer version of the software.
    #[error(
        "failed to decode metadata record {index}: unknown kind {kind}, written by a newer version"
    )]
    UnknownKind {
        /// Which record, from 0.
        index: usize,
        /// The kind.
        kind: u16,
    },
    /// A shape of a record of a newer version of the software.
    #[error(
        "failed to decode metadata record {index}: kind {kind} has version {version}, this build reads 0 to {newest}"
    )]
    UnknownVersion {
        /// Which record, from 0.
        index: usize,
        /// The kind.
        kind: u16,
        /// Its version.
        version: u8,
        /// The newest version this build knows.
        newest: u8,
    },
    /// The body is not what the version says.
    #[error("failed to decode metadata record {index}: kind {kind}: {problem}")]
    Body {
        /// Which record, from 0.
        index: usize,
        /// The kind.
        kind: u16,
        /// What the decoder said.
        problem: String,
    },
}

/// Assigns each variant its number and the newest version of its shape, for ever.
macro_rules! kinds {
    ($($variant:ident = $kind:literal v $newest:literal,)+) => {
        fn put(buffer: &mut BytesMut, record: &MetadataRecord) {
            match record {
                $(MetadataRecord::$variant(body) => put_frame(buffer, $kind, version_of(record), body),)+
            }
        }

        fn get(index: usize, kind: u16, version: u8, body: &[u8]) -> Result<MetadataRecord, RecordError> {
            match kind {
                $($kind => {
                    if version > $newest {
                        return Err(RecordError::UnknownVersion { index, kind, version, newest: $newest });
                    }
                    get_body(index, kind, body).map(MetadataRecord::$variant)
                })+
                _ => Err(RecordError::UnknownKind { index, kind }),
            }
        }
    };
}

kinds! {
    RegisterBroker = 1 v 0,
    BrokerRegistrationChange = 2 v 0,
    UnregisterBroker = 3 v 0,
    Topic = 4 v 0,
    RemoveTopic = 5 v 0,
    Partition = 6 v 2,
    PartitionChange = 7 v 2,
    Config = 8 v 0,
    ProducerIds = 9 v 0,
    FeatureLevel = 10 v 0,
    BrokerEpochs = 11 v 0,
}

/// The oldest version of its kind's shape that holds the record.
fn version_of(record: &MetadataRecord) -> u8 {
    use MetadataRecord as M;
    match record {
        // Version 1 has what reassignments add and remove, version 2 who is eligible beside the ISR.
        M::Partition(body) => {
            let p = &body.registration;
            let tells_elr = p.has_eligible_replicas() || !p.last_known_elr.is_empty();
            version_with(p.is_reassigning(), tells_elr)
        }
        M::PartitionChange(body) => {
            let moves = body.adding_replicas.is_some() || body.removing_replicas.is_some();
            version_with(moves, body.tells_elr())
        }
        M::RegisterBroker(_)
        | M::BrokerRegistrationChange(_)
        | M::UnregisterBroker(_)
        | M::Topic(_)
        | M::RemoveTopic(_)
        | M::Config(_)
        | M::ProducerIds(_)
        | M::FeatureLevel(_)
        | M::BrokerEpochs(_) => 0,
    }
}

const fn version_with(moves: bool, tells_elr: bool) -> u8 {
    match (moves, tells_elr) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    }
}

fn put_frame(buffer: &mut BytesMut, kind: u16, version: u8, body: &impl Serialize) {
    let body = rmp_serde::to_vec_named(body)
        .expect("records are plain structs, which msgpack always holds");
    let length = u32::try_from(body.len()).expect("a record is far smaller than 4 GiB");
    buffer.put_u16(kind);
    buffer.put_u8(version);
    buffer.put_u32(length);
    buffer.put_slice(&body);
}

fn get_body<T: DeserializeOwned>(index: usize, kind: u16, body: &[u8]) -> Result<T, RecordError> {
    rmp_serde::from_slice(body).map_err(|error| RecordError::Body {
        index,
        kind,
        problem: error.to_string(),
    })
}

/// The bytes of `records`: the payload of one entry of the quorum's log.
#[must_use]
pub fn encode_records(records: &[MetadataRecord]) -> Bytes {
    let mut buffer = BytesMut::new();
    for record in records {
        put(&mut buffer, record);
    }
    buffer.freeze()
}

/// The records in `bytes`.
///
/// # Errors
/// [`RecordError`] for anything but whole records that this build knows.
pub fn decode_records(mut bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let index = records.len();
        let truncated = |need| RecordError::Truncated {
            index,
            have: bytes.len(),
            need,
        };
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
            return Err(truncated(FRAME_HEADER));
        };
        let [k0, k1, version, l0, l1, l2, l3] = *header;
        let kind = u16::from_be_bytes([k0, k1]);
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some((body, rest)) = rest.split_at_checked(length) else {
            return Err(truncated(FRAME_HEADER.saturating_add(length)));
        };
        records.push(get(index, kind, version, body)?);
        bytes = rest;
    }
    Ok(records)
}
