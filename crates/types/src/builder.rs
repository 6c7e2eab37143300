//! How is a record batch (magic 2) made from records?

use bytes::Bytes;

use crate::batch::{CRC_START, Compression, HEADER_LEN, LOG_OVERHEAD};
use crate::compression::{self, CompressionError};
use crate::record::{EndTransactionMarker, TransactionResult};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, varint};

/// Why a batch could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("failed to build a batch: it has no records")]
    Empty,
    /// The batch or one of its records passes what 32-bit lengths can say.
    #[error("failed to build a batch of {bytes} bytes: more than its length field can say")]
    TooLarge {
        /// Bytes of the whole batch.
        bytes: usize,
    },
    /// The codec failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Collects records and makes one batch of them.
///
/// Offsets are `base_offset` and the following ones; a broker patches the base offset and the leader epoch on append.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    compression: Compression,
    producer: Option<(ProducerId, ProducerEpoch, i32)>,
    attributes: i16,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    count: i32,
    /// The header's space, then the records, not compressed.
    buffer: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch at base offset 0 without leader epoch (-1), producer or compression.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            compression: Compression::None,
            producer: None,
            attributes: 0,
            base_timestamp: None,
            max_timestamp: i64::MIN,
            count: 0,
            buffer: vec![0; HEADER_LEN],
        }
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub const fn base_offset(mut self, offset: Offset) -> Self {
        self.base_offset = offset;
        self
    }

    /// Sets the partition leader epoch.
    #[must_use]
    pub const fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Sets the codec of the records.
    #[must_use]
    pub const fn compression(mut self, codec: Compression) -> Self {
        self.compression = codec;
        self
    }

    /// Sets the idempotent producer and the sequence number of the first record.
    #[must_use]
    pub const fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, sequence: i32) -> Self {
        self.producer = Some((id, epoch, sequence));
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.attributes |= 0x10;
        self
    }

    /// Marks the batch as a control batch.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.attributes |= 0x20;
        self
    }

    /// Appends a record without headers, created at `timestamp` (ms since the epoch).
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> &mut Self {
        self.push_with_headers(timestamp, key, value, &[])
    }

    /// Appends a record; the headers are (name, value) pairs.
    pub fn push_with_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut Self {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(base);
        let offset_delta = i64::from(self.count);
        let headers_len: usize = headers
            .iter()
            .map(|(name, value)| bytes_len(Some(name)) + bytes_len(*value))
            .sum();
        let length = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + bytes_len(key)
            + bytes_len(value)
            + varint::len(as_i64(headers.len()))
            + headers_len;
        let out = &mut self.buffer;
        out.reserve(length + 5);
        varint::put(out, as_i64(length));
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        put_bytes(out, key);
        put_bytes(out, value);
        varint::put(out, as_i64(headers.len()));
        for (name, value) in headers {
            put_bytes(out, Some(name));
            put_bytes(out, *value);
        }
        self.count += 1;
        self
    }

    /// How many records there are.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub const fn uncompressed_len(&self) -> usize {
        self.buffer.len()
    }

    /// Makes the batch.
    ///
    /// # Errors
    /// No records, more than 2 GiB, or a codec's failure.
    pub fn build(self) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let mut batch = match self.compression {
            Compression::None => self.buffer,
            codec => {
                let mut out = vec![0; HEADER_LEN];
                compression::compress(codec, &self.buffer[HEADER_LEN..], &mut out)?;
                out
            }
        };
        // An uncompressed record longer than 2 GiB would have wrapped its own length field, too.
        let length = i32::try_from(batch.len() - LOG_OVERHEAD)
            .map_err(|_| BuildError::TooLarge { bytes: batch.len() })?;
        let (id, epoch, sequence) =
            self.producer
                .unwrap_or((ProducerId(-1), ProducerEpoch(-1), -1));
        let attributes = self.attributes | self.compression.attributes();
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(&self.base_offset.0.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(&self.leader_epoch.0.to_be_bytes());
        header.push(2);
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&attributes.to_be_bytes());
        header.extend_from_slice(&(self.count - 1).to_be_bytes());
        header.extend_from_slice(&self.base_timestamp.unwrap_or(0).to_be_bytes());
        header.extend_from_slice(&self.max_timestamp.to_be_bytes());
        header.extend_from_slice(&id.0.to_be_bytes());
        header.extend_from_slice(&epoch.0.to_be_bytes());
        header.extend_from_slice(&sequence.to_be_bytes());
        header.extend_from_slice(&self.count.to_be_bytes());
        batch[..HEADER_LEN].copy_from_slice(&header);
        let crc = crc32c::crc32c(&batch[CRC_START..]);
        batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        Ok(Bytes::from(batch))
    }
}

/// `batch` (one whole batch whose header was checked) with its records compressed by `codec`; offsets, timestamps,
/// producer and everything else stay. The records may have at most `limit` bytes when they are not compressed, and the
/// new batch at most `most`; what the records decompress to is never held whole.
///
/// # Errors
/// [`BuildError::Compression`] for records that do not decompress, or pass one of the bounds.
pub fn recompress(
    batch: &[u8],
    limit: usize,
    codec: Compression,
    most: usize,
) -> Result<Bytes, BuildError> {
    let attributes = i16::from_be_bytes([batch[CRC_START], batch[CRC_START + 1]]);
    let from = Compression::from_attributes(attributes).unwrap_or_default();
    let mut out = batch[..HEADER_LEN].to_vec();
    compression::transcode((from, limit), &batch[HEADER_LEN..], (codec, most), &mut out)?;
    let length = i32::try_from(out.len() - LOG_OVERHEAD)
        .map_err(|_| BuildError::TooLarge { bytes: out.len() })?;
    out[8..LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
    let attributes = (attributes & !Compression::MASK) | codec.attributes();
    out[CRC_START..CRC_START + 2].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_START..]);
    out[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    Ok(Bytes::from(out))
}

/// The control batch that ends a transaction of `producer` (KIP-98).
///
/// # Errors
/// None in practice; the type is that of [`BatchBuilder::build`].
pub fn end_transaction_batch(
    producer: (ProducerId, ProducerEpoch),
    marker: EndTransactionMarker,
    timestamp: i64,
) -> Result<Bytes, BuildError> {
    let kind: u8 = match marker.result {
        TransactionResult::Abort => 0,
        TransactionResult::Commit => 1,
    };
    let epoch = marker.coordinator_epoch.to_be_bytes();
    let mut builder = BatchBuilder::new()
        .producer(producer.0, producer.1, -1)
        .transactional()
        .control();
    builder.push(
        timestamp,
        Some(&[0, 0, 0, kind]),
        Some(&[0, 0, epoch[0], epoch[1], epoch[2], epoch[3]]),
    );
    builder.build()
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::len(as_i64(bytes.len())) + bytes.len())
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, as_i64(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn as_i64(length: usize) -> i64 {
    i64::try_from(length).expect("a slice is no longer than isize::MAX")
}
