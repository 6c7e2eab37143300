//! Which records does a batch hold?
//!
//! Keys, values and headers are slices of the batch (or of its decompressed records): nothing is copied. Whatever a
//! hostile producer wrote, reading it gives an error at worst, and allocates no more than the caller's limit.

use bytes::Bytes;

use crate::batch::{BatchError, BatchHeader, HEADER_LEN};
use crate::compression::{self, CompressionError};
use crate::{Offset, varint};

/// Why the records of a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The batch's header or length is wrong.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records do not decompress, or to more than the limit.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A field of a record is cut short, negative where it must not be, or contradicts the record's length.
    #[error("record {index} of the batch at offset {base_offset} has a malformed {field}")]
    Malformed {
        /// Base offset of the batch.
        base_offset: i64,
        /// Which record, from 0.
        index: i32,
        /// Which part of it.
        field: &'static str,
    },
    /// Bytes remain after the number of records that the header promises.
    #[error("batch at offset {base_offset} has {extra} bytes after its {count} records")]
    Trailing {
        /// Base offset of the batch.
        base_offset: i64,
        /// The header's record count.
        count: i32,
        /// How many bytes remain.
        extra: usize,
    },
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The header's name; UTF-8 by convention, not checked.
    pub key: Bytes,
    /// The header's value.
    pub value: Option<Bytes>,
}

/// A record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's position in the log.
    pub offset: Offset,
    /// When it was created, or appended if the batch says so; ms since the epoch.
    pub timestamp: i64,
    /// The key, if not null.
    pub key: Option<Bytes>,
    /// The value, if not null (a null value is a tombstone in a compacted topic).
    pub value: Option<Bytes>,
    /// The headers in the producer's order.
    pub headers: Vec<RecordHeader>,
}

/// Walks the records of one batch in order; ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordIter {
    header: BatchHeader,
    records: Bytes,
    at: usize,
    index: i32,
}

impl RecordIter {
    /// Walks the batch at the start of `batch`, whose records may decompress to at most `limit` bytes. The CRC is not
    /// checked here.
    ///
    /// # Errors
    /// A malformed header, an unknown codec, and what [`compression::decompress`] refuses.
    pub fn new(batch: &Bytes, limit: usize) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(batch)?;
        let size = header.size();
        if batch.len() < size {
            return Err(RecordError::Batch(BatchError::Truncated {
                have: batch.len(),
                need: size,
            }));
        }
        let codec = header.compression().ok_or(BatchError::Codec {
            attributes: header.attributes,
        })?;
        let records = match codec {
            crate::batch::Compression::None => batch.slice(HEADER_LEN..size),
            codec => Bytes::from(compression::decompress(
                codec,
                &batch[HEADER_LEN..size],
                limit,
            )?),
        };
        Ok(Self {
            header,
            records,
            at: 0,
            index: 0,
        })
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn malformed(&self, field: &'static str) -> RecordError {
        RecordError::Malformed {
            base_offset: self.header.base_offset.0,
            index: self.index,
            field,
        }
    }

    /// As [`Iterator::next`], with the record's own bytes, its length in front.
    pub(crate) fn next_with_bytes(&mut self) -> Option<Result<(Record, Bytes), RecordError>> {
        let start = self.at;
        let step = self.next()?;
        Some(step.map(|record| (record, self.records.slice(start..self.at))))
    }

    fn parse(&mut self) -> Result<Record, RecordError> {
        let mut rest = &self.records[self.at..];
        let length = varint::take_i32(&mut rest)
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length <= rest.len())
            .ok_or_else(|| self.malformed("length"))?;
        let start = self.records.len() - rest.len();
        let mut fields = Fields {
            records: &self.records,
            rest: &self.records[start..start + length],
            end: start + length,
        };
        let record = fields
            .record(&self.header)
            .map_err(|field| self.malformed(field))?;
        if !fields.rest.is_empty() {
            return Err(self.malformed("length"));
        }
        self.at = start + length;
        Ok(record)
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.header.record_count;
        if self.index >= count {
            let extra = self.records.len() - self.at;
            if extra == 0 {
                return None;
            }
            self.at = self.records.len();
            return Some(Err(RecordError::Trailing {
                base_offset: self.header.base_offset.0,
                count,
                extra,
            }));
        }
        let step = self.parse();
        match &step {
            Ok(_) => self.index += 1,
            Err(_) => {
                self.index = count;
                self.at = self.records.len();
            }
        }
        Some(step)
    }
}

/// The bytes of one record while they are taken apart; errors are the name of the field.
struct Fields<'a> {
    records: &'a Bytes,
    rest: &'a [u8],
    /// Where `rest` ends in `records`.
    end: usize,
}

impl Fields<'_> {
    fn record(&mut self, header: &BatchHeader) -> Result<Record, &'static str> {
        // The record's attributes are unused so far.
        let (_, rest) = self.rest.split_first().ok_or("attributes")?;
        self.rest = rest;
        let timestamp_delta = varint::take_i64(&mut self.rest).ok_or("timestamp delta")?;
        let offset_delta = varint::take_i32(&mut self.rest).ok_or("offset delta")?;
        let key = self.bytes("key")?;
        let value = self.bytes("value")?;
        let headers = self.headers()?;
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header
                .base_timestamp
                .checked_add(timestamp_delta)
                .ok_or("timestamp delta")?
        };
        let offset = header
            .base_offset
            .0
            .checked_add(i64::from(offset_delta))
            .filter(|_| (0..=header.last_offset_delta).contains(&offset_delta))
            .ok_or("offset delta")?;
        Ok(Record {
            offset: Offset(offset),
            timestamp,
            key,
            value,
            headers,
        })
    }

    fn headers(&mut self) -> Result<Vec<RecordHeader>, &'static str> {
        let count = varint::take_i32(&mut self.rest)
            .and_then(|count| usize::try_from(count).ok())
            // Each header takes two bytes at least.
            .filter(|&count| count <= self.rest.len() / 2)
            .ok_or("header count")?;
        let mut headers = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let key = self.bytes("header key")?.ok_or("header key")?;
            let value = self.bytes("header value")?;
            headers.push(RecordHeader { key, value });
        }
        Ok(headers)
    }

    fn bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, &'static str> {
        let length = varint::take_i32(&mut self.rest).ok_or(field)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| field)?;
        let rest = self.rest.get(length..).ok_or(field)?;
        let start = self.end - self.rest.len();
        self.rest = rest;
        Ok(Some(self.records.slice(start..start + length)))
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionResult {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// The content of a transaction marker (KIP-98): the one record of a control batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// How the transaction ended.
    pub result: TransactionResult,
    /// Epoch of the coordinator that ended it; a lower one than the last is stale.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The marker in a control record; `None` for other control records (of Raft, say) and for malformed ones.
    #[must_use]
    pub fn from_record(record: &Record) -> Option<Self> {
        let (version, rest) = record.key.as_deref()?.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        if i16::from_be_bytes(*version) < 0 {
            return None;
        }
        let result = match i16::from_be_bytes(*kind) {
            0 => TransactionResult::Abort,
            1 => TransactionResult::Commit,
            _ => return None,
        };
        let (version, rest) = record.value.as_deref()?.split_first_chunk::<2>()?;
        let (epoch, _) = rest.split_first_chunk::<4>()?;
        (i16::from_be_bytes(*version) >= 0).then_some(Self {
            result,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        })
    }
}
