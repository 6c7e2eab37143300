//! How is a record batch (magic 2) laid out, and which of its bytes may a broker touch?
//!
//! A batch is stored and forwarded verbatim. Only the base offset and the partition leader epoch, which lie
//! before the CRC's range, are ever patched; see the record batch format in the Kafka documentation (KIP-98).

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes of the fixed header in front of the records.
pub const HEADER_LEN: usize = 61;
/// Bytes before the part that `batch_length` counts: base offset (8) and the length itself (4).
pub const LOG_OVERHEAD: usize = 12;
/// The CRC-32C covers everything from here (the attributes) to the end of the batch.
pub const CRC_START: usize = 21;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const ATTRIBUTES_AT: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const TIMESTAMP_TYPE_MASK: i16 = 0x08;
const TRANSACTIONAL_MASK: i16 = 0x10;
const CONTROL_MASK: i16 = 0x20;
const DELETE_HORIZON_MASK: i16 = 0x40;

/// Why bytes are not an acceptable record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header's length asks for.
    #[error("batch is cut short: {have} bytes of {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes the batch needs.
        need: usize,
    },
    /// The length field cannot be that of a batch.
    #[error("batch length {length} is less than the {min} bytes of a header", min = HEADER_LEN - LOG_OVERHEAD)]
    Length {
        /// The length field.
        length: i32,
    },
    /// Not format version 2.
    #[error("batch has magic {magic}, only magic 2 is supported")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The CRC-32C does not match the content.
    #[error(
        "batch at offset {base_offset} has CRC {stored:#010x}, its content has {computed:#010x}"
    )]
    Crc {
        /// Base offset in the header.
        base_offset: i64,
        /// The stored CRC.
        stored: u32,
        /// The CRC of the content.
        computed: u32,
    },
    /// Record count and last offset delta contradict each other.
    #[error("batch claims {count} records but its last offset delta is {last_offset_delta}")]
    Count {
        /// Record count field.
        count: i32,
        /// Last offset delta field.
        last_offset_delta: i32,
    },
    /// Attributes name a compression codec that does not exist.
    #[error("batch attributes {attributes:#06x} name an unknown compression codec")]
    Codec {
        /// The attributes field.
        attributes: i16,
    },
}

/// Codec of a batch's records (attribute bits 0-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, raw or in xerial's framing.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The attribute bits that name the codec.
    pub(crate) const MASK: i16 = COMPRESSION_MASK;

    /// The codec of attribute bits; `None` for 5, 6 and 7.
    #[must_use]
    pub const fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & COMPRESSION_MASK {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The attribute bits of the codec.
    #[must_use]
    pub const fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// The 61-byte header of a batch, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, ms since the epoch (or the delete horizon, see attributes).
    pub base_timestamp: i64,
    /// Largest timestamp of a record, ms since the epoch.
    pub max_timestamp: i64,
    /// The producer's id, -1 without idempotence.
    pub producer_id: i64,
    /// The producer's epoch, -1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 without idempotence.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` (which may go on beyond the batch, or end within it).
    ///
    /// # Errors
    /// [`BatchError::Truncated`] for fewer than [`HEADER_LEN`] bytes, [`BatchError::Length`] and
    /// [`BatchError::Magic`] for what cannot be a version 2 batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > 16 && bytes[16].cast_signed() != 2 {
            return Err(BatchError::Magic {
                magic: bytes[16].cast_signed(),
            });
        }
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::Truncated {
                have: bytes.len(),
                need: HEADER_LEN,
            });
        }
        let batch_length = i32::from_be_bytes(array(bytes, LENGTH_AT));
        if usize::try_from(batch_length).is_ok_and(|length| length >= HEADER_LEN - LOG_OVERHEAD) {
            Ok(Self {
                base_offset: Offset(i64::from_be_bytes(array(bytes, 0))),
                batch_length,
                partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(array(
                    bytes,
                    LEADER_EPOCH_AT,
                ))),
                crc: u32::from_be_bytes(array(bytes, CRC_AT)),
                attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
                last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
                base_timestamp: i64::from_be_bytes(array(bytes, 27)),
                max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
                producer_id: i64::from_be_bytes(array(bytes, 43)),
                producer_epoch: i16::from_be_bytes(array(bytes, 51)),
                base_sequence: i32::from_be_bytes(array(bytes, 53)),
                record_count: i32::from_be_bytes(array(bytes, 57)),
            })
        } else {
            Err(BatchError::Length {
                length: batch_length,
            })
        }
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).expect("parse refuses a negative length")
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        // Saturating: the base offset lies outside the CRC, so it may be anything.
        Offset(
            self.base_offset
                .0
                .saturating_add(self.last_offset_delta as i64),
        )
    }

    /// Offset after the batch.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(self.last_offset_delta as i64 + 1),
        )
    }

    /// Sequence number of the last record, wrapping at 2^31 as Kafka does (KAFKA-5494).
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        ((self.base_sequence as i64 + self.last_offset_delta as i64) % (1 << 31)) as i32
    }

    /// The codec of the records, `None` for an unknown one.
    #[must_use]
    pub const fn compression(&self) -> Option<Compression> {
        Compression::from_attributes(self.attributes)
    }

    /// Whether timestamps are those of the append (`LogAppendTime`).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_MASK != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_MASK != 0
    }

    /// Whether the batch is a control batch (transaction marker).
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_MASK != 0
    }

    /// The delete horizon in ms that compaction left in the base timestamp (KIP-534).
    #[must_use]
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        if self.attributes & DELETE_HORIZON_MASK != 0 {
            Some(self.base_timestamp)
        } else {
            None
        }
    }

    /// The idempotent producer, if the batch has one.
    #[must_use]
    pub const fn producer(&self) -> Option<(ProducerId, ProducerEpoch)> {
        if self.producer_id >= 0 {
            Some((
                ProducerId(self.producer_id),
                ProducerEpoch(self.producer_epoch),
            ))
        } else {
            None
        }
    }
}

/// Reads the header and checks length, codec and CRC of the batch at the start of `bytes`.
///
/// # Errors
/// What [`BatchHeader::parse`] refuses, a batch longer than `bytes`, an unknown codec, a wrong CRC.
pub fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let size = header.size();
    if bytes.len() < size {
        return Err(BatchError::Truncated {
            have: bytes.len(),
            need: size,
        });
    }
    if header.compression().is_none() {
        return Err(BatchError::Codec {
            attributes: header.attributes,
        });
    }
    let computed = crc32c::crc32c(&bytes[CRC_START..size]);
    if computed == header.crc {
        Ok(header)
    } else {
        Err(BatchError::Crc {
            base_offset: header.base_offset.0,
            stored: header.crc,
            computed,
        })
    }
}

/// As [`verify`], and for what a client produces also `record count == last offset delta + 1 >= 1`.
///
/// # Errors
/// What [`verify`] refuses, and [`BatchError::Count`].
pub fn verify_produced(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = verify(bytes)?;
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count >= 1 && last_offset_delta == count - 1 {
        Ok(header)
    } else {
        Err(BatchError::Count {
            count,
            last_offset_delta,
        })
    }
}

/// Writes the base offset; outside the CRC.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    batch[..8].copy_from_slice(&offset.0.to_be_bytes());
}

/// Writes the partition leader epoch; outside the CRC.
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Writes the idempotent producer and the sequence of the first record, and the CRC: a producer does so when a batch
/// that the cluster does not have has to be sent under a new producer epoch.
pub fn set_producer(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, sequence: i32) {
    batch[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].copy_from_slice(&id.0.to_be_bytes());
    batch[PRODUCER_ID_AT + 8..PRODUCER_ID_AT + 10].copy_from_slice(&epoch.0.to_be_bytes());
    batch[PRODUCER_ID_AT + 10..PRODUCER_ID_AT + 14].copy_from_slice(&sequence.to_be_bytes());
    set_crc(batch);
}

/// Turns the batch into one with `LogAppendTime`: max timestamp, attribute bit and CRC; records stay as they are.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) | TIMESTAMP_TYPE_MASK;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    set_max_timestamp(batch, now_ms);
}

/// Writes the largest timestamp of the records, ms since the epoch, and the CRC.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&timestamp_ms.to_be_bytes());
    set_crc(batch);
}

fn set_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Walks whole batches that lie one after another; ends after the first error.
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
}

impl<'a> BatchIter<'a> {
    /// Walks `bytes` from its first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let step = BatchHeader::parse(self.rest).and_then(|header| {
            let size = header.size();
            if self.rest.len() < size {
                return Err(BatchError::Truncated {
                    have: self.rest.len(),
                    need: size,
                });
            }
            Ok((header, size))
        });
        match step {
            Ok((header, size)) => {
                let (batch, rest) = self.rest.split_at(size);
                self.rest = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
