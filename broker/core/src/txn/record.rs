//! What does a record of `__transaction_state` say, byte for byte as Kafka writes it?
//!
//! Keys have version 0 and name a transactional id; a null value is a tombstone. Values are read in versions 0 and 1 and
//! written in 1. Source: `TransactionLogKey` and `TransactionLogValue` of the public Kafka documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use types::{ProducerEpoch, ProducerId, TopicPartition};

use super::metadata::{TransactionMetadata, TransactionState, TransactionVersion};

/// The longest transactional id that a key can hold, in bytes.
pub const MAX_ID_LEN: usize = i16::MAX as usize;

/// A record of `__transaction_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The transactional id, at most [`MAX_ID_LEN`] bytes.
    pub transactional_id: Arc<str>,
    /// `None` removes it.
    pub value: Option<TransactionMetadata>,
}

/// Why bytes are not a record of `__transaction_state`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRecordError {
    /// The bytes end inside a field.
    #[error("record ends inside the field {0}")]
    Truncated(&'static str),
    /// A string is not UTF-8.
    #[error("record's field {0} is not UTF-8")]
    Text(&'static str),
    /// A length or a number that cannot be.
    #[error("record's field {0} has the impossible value {1}")]
    Value(&'static str, i64),
    /// A version this build cannot read.
    #[error("record's {0} has version {1}, which is not known")]
    Version(&'static str, i16),
}

type Result<T> = std::result::Result<T, TransactionRecordError>;

const PREVIOUS_ID: u32 = 0;
const NEXT_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;

impl TransactionRecord {
    /// Key and value as they go into the log.
    ///
    /// # Panics
    /// For a transactional id longer than [`MAX_ID_LEN`], which coordinators refuse.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::with_capacity(4 + self.transactional_id.len());
        key.put_i16(0);
        let len = i16::try_from(self.transactional_id.len());
        key.put_i16(len.expect("longer ids are refused at the door"));
        key.put_slice(self.transactional_id.as_bytes());
        (key.freeze(), self.value.as_ref().map(encode_value))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`TransactionRecordError`] for bytes that Kafka would not have written.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self> {
        let mut key = Reader(key);
        let version = key.i16("key version")?;
        if version != 0 {
            return Err(TransactionRecordError::Version("key", version));
        }
        let len = i64::from(key.i16("transactional id")?);
        Ok(Self {
            transactional_id: key.text("transactional id", len)?.into(),
            value: value.map(decode_value).transpose()?,
        })
    }
}

fn encode_value(value: &TransactionMetadata) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(1);
    out.put_i64(value.producer_id.0);
    out.put_i16(value.producer_epoch.0);
    out.put_i32(value.timeout_ms);
    out.put_i8(value.state.code());
    if value.state == TransactionState::Empty {
        put_varint(&mut out, 0); // null
    } else {
        put_partitions(&mut out, &value.partitions);
    }
    out.put_i64(value.last_update_ms);
    out.put_i64(value.start_ms.unwrap_or(-1));
    let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
    if let Some(id) = value.previous_producer_id {
        tags.push((PREVIOUS_ID, id.0.to_be_bytes().to_vec()));
    }
    if let Some(id) = value.next_producer_id {
        tags.push((NEXT_ID, id.0.to_be_bytes().to_vec()));
    }
    if value.version.0 != 0 {
        tags.push((CLIENT_VERSION, value.version.0.to_be_bytes().to_vec()));
    }
    put_len(&mut out, tags.len());
    for (tag, bytes) in tags {
        put_varint(&mut out, tag);
        put_len(&mut out, bytes.len());
        out.put_slice(&bytes);
    }
    out.freeze()
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TopicPartition>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let topic = topics.entry(&partition.topic).or_default();
        topic.push(partition.partition);
    }
    put_len(out, topics.len() + 1);
    for (topic, partitions) in topics {
        put_len(out, topic.len() + 1);
        out.put_slice(topic.as_bytes());
        put_len(out, partitions.len() + 1);
        for partition in partitions {
            out.put_i32(partition);
        }
        put_varint(out, 0); // no tags
    }
}

fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(
        out,
        u32::try_from(len).expect("what a request holds is far below 4 GiB"),
    );
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.put_u8(low & 0x7f);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

fn decode_value(bytes: &[u8]) -> Result<TransactionMetadata> {
    let mut value = Reader(bytes);
    let version = value.i16("value version")?;
    if !(0..=1).contains(&version) {
        return Err(TransactionRecordError::Version("value", version));
    }
    let flexible = version >= 1;
    let producer_id = ProducerId(value.i64("producer id")?);
    let producer_epoch = ProducerEpoch(value.i16("producer epoch")?);
    let timeout_ms = value.i32("timeout")?;
    let code = value.i8("status")?;
    let state = TransactionState::from_code(code)
        .ok_or(TransactionRecordError::Value("status", i64::from(code)))?;
    let mut metadata = TransactionMetadata {
        state,
        producer_epoch,
        partitions: value.partitions(flexible)?,
        ..TransactionMetadata::new(producer_id, timeout_ms, 0)
    };
    metadata.last_update_ms = value.i64("last update")?;
    metadata.start_ms = Some(value.i64("start")?).filter(|start| *start >= 0);
    if flexible {
        value.tags(&mut metadata)?;
    }
    Ok(metadata)
}

/// Reads fields off the front of a record, never past its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(TransactionRecordError::Truncated(field))?;
        self.0 = rest;
        Ok(head)
    }

    fn i8(&mut self, field: &'static str) -> Result<i8> {
        Ok(self.take(field, 1)?.get_i8())
    }

    fn i16(&mut self, field: &'static str) -> Result<i16> {
        Ok(self.take(field, 2)?.get_i16())
    }

    fn i32(&mut self, field: &'static str) -> Result<i32> {
        Ok(self.take(field, 4)?.get_i32())
    }

    fn i64(&mut self, field: &'static str) -> Result<i64> {
        Ok(self.take(field, 8)?.get_i64())
    }

    fn varint(&mut self, field: &'static str) -> Result<i64> {
        let mut value = 0_i64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(field, 1)?[0];
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(TransactionRecordError::Value(field, value))
    }

    fn text(&mut self, field: &'static str, len: i64) -> Result<&'a str> {
        let len = usize::try_from(len).map_err(|_| TransactionRecordError::Value(field, len))?;
        std::str::from_utf8(self.take(field, len)?).map_err(|_| TransactionRecordError::Text(field))
    }

    /// A count of things of at least one byte each; `None` for null.
    fn count(&mut self, field: &'static str, flexible: bool) -> Result<Option<usize>> {
        let count = if flexible {
            self.varint(field)? - 1
        } else {
            i64::from(self.i32(field)?)
        };
        match usize::try_from(count) {
            Ok(count) if count <= self.0.len() => Ok(Some(count)),
            Err(_) if count == -1 => Ok(None),
            _ => Err(TransactionRecordError::Value(field, count)),
        }
    }

    fn partitions(&mut self, flexible: bool) -> Result<BTreeSet<TopicPartition>> {
        let mut all = BTreeSet::new();
        for _ in 0..self.count("partitions", flexible)?.unwrap_or(0) {
            let len = if flexible {
                self.varint("topic")? - 1
            } else {
                i64::from(self.i16("topic")?)
            };
            let topic: Arc<str> = self.text("topic", len)?.into();
            for _ in 0..self.count("partition ids", flexible)?.unwrap_or(0) {
                let partition = self.i32("partition id")?;
                all.insert(TopicPartition::new(topic.clone(), partition));
            }
            if flexible {
                self.each_tag(|_, _| Ok(()))?;
            }
        }
        Ok(all)
    }

    fn tags(&mut self, metadata: &mut TransactionMetadata) -> Result<()> {
        let id = |mut bytes: Reader<'_>| -> Result<Option<ProducerId>> {
            Ok(Some(ProducerId(bytes.i64("producer id")?)).filter(|id| id.0 >= 0))
        };
        self.each_tag(|tag, mut bytes| {
            match tag {
                tag if tag == i64::from(PREVIOUS_ID) => metadata.previous_producer_id = id(bytes)?,
                tag if tag == i64::from(NEXT_ID) => metadata.next_producer_id = id(bytes)?,
                tag if tag == i64::from(CLIENT_VERSION) => {
                    metadata.version = TransactionVersion(bytes.i16("client version")?);
                }
                _ => {} // of a newer version
            }
            Ok(())
        })
    }

    fn each_tag(&mut self, mut act: impl FnMut(i64, Self) -> Result<()>) -> Result<()> {
        for _ in 0..self.varint("tags")? {
            let tag = self.varint("tag")?;
            let len = self.varint("tag size")?;
            let size =
                usize::try_from(len).map_err(|_| TransactionRecordError::Value("tag size", len))?;
            let bytes = self.take("tag value", size)?;
            act(tag, Reader(bytes))?;
        }
        Ok(())
    }
}
