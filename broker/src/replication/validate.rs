//! Is what a client produced acceptable to the topic, and what is changed in it before the append?
//!
//! Runs without the partition's lock. Headers, CRC and counts are checked; records are decoded only for compacted
//! topics (null keys are refused there) and for a `compression.type` other than the producer's.

use bytes::{Bytes, BytesMut};
use config::{CompressionType, TimestampType, TopicSettings};
use types::batch::{self, BatchHeader};
use types::{BatchError, ErrorCode, RecordIter};

use super::model::ProduceError;
use super::transactions::TransactionRule;

/// What the records of one batch may decompress to when they have to be looked at.
const DECOMPRESSED_MAX: usize = 256 << 20;

/// Who made the batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is checked.
    Client,
    /// A coordinator of this broker: control batches are allowed.
    Coordinator,
}

/// Batches that are ready for offsets.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) bytes: BytesMut,
    pub(crate) batches: Vec<BatchHeader>,
    pub(crate) log_append_time_ms: Option<i64>,
    /// What has to be true of the producer's transaction.
    pub(crate) rule: TransactionRule,
    /// A batch before it was refused on its connection ([`broker_core::partition::RefusedBatches`]).
    pub(crate) is_behind_refused: bool,
}

/// Checks `records` against the settings; `now_ms` is the wall clock.
pub(crate) fn prepare(
    records: Bytes,
    settings: &TopicSettings,
    origin: Origin,
    now_ms: i64,
) -> Result<Prepared, ProduceError> {
    let records = match settings.compression_type {
        CompressionType::Codec(codec) if origin == Origin::Client => recompressed(records, codec)?,
        // Markers are never compressed; a coordinator's topics have no codec of their own.
        CompressionType::Producer | CompressionType::Codec(_) => records,
    };
    let mut batches = Vec::with_capacity(1);
    let mut at = 0;
    while at < records.len() {
        let header = batch::verify_produced(&records[at..]).map_err(|e| malformed(&e))?;
        check_batch(&header, settings, origin, now_ms)?;
        if settings.cleanup_policy.compact && !header.is_control() {
            check_keys(&records.slice(at..at + header.size()))?;
        }
        at += header.size();
        batches.push(header);
    }
    if batches.is_empty() {
        return Err(ProduceError::new(
            ErrorCode::InvalidRecord,
            "a produce request carries at least one record batch",
        ));
    }
    if batches.len() > 1 && batches.iter().any(|header| header.producer_id >= 0) {
        return Err(ProduceError::new(
            ErrorCode::InvalidRecord,
            format!(
                "an idempotent producer sends one batch per partition, not {}",
                batches.len()
            ),
        ));
    }
    // Only this copy (or the request's own buffer, if nobody else has a part of it) is ever changed.
    let mut bytes = records
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    let log_append_time_ms = (settings.message_timestamp_type == TimestampType::LogAppendTime)
        .then(|| {
            stamp(&mut bytes, &batches, now_ms);
            now_ms
        });
    Ok(Prepared {
        bytes,
        batches,
        log_append_time_ms,
        rule: match origin {
            Origin::Client => TransactionRule::Produce { guard: None },
            Origin::Coordinator => TransactionRule::Free,
        },
        is_behind_refused: false,
    })
}

fn malformed(error: &BatchError) -> ProduceError {
    let code = match error {
        BatchError::Magic { .. } => ErrorCode::UnsupportedForMessageFormat,
        BatchError::Count { .. } => ErrorCode::InvalidRecord,
        BatchError::Codec { .. } => ErrorCode::UnsupportedCompressionType,
        BatchError::Truncated { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
            ErrorCode::CorruptMessage
        }
    };
    ProduceError::new(code, error.to_string())
}

fn check_batch(
    header: &BatchHeader,
    settings: &TopicSettings,
    origin: Origin,
    now_ms: i64,
) -> Result<(), ProduceError> {
    let limit = usize::try_from(settings.max_message_bytes).unwrap_or(usize::MAX);
    let is_marker = header.is_control() && origin == Origin::Coordinator;
    if header.size() > limit && !is_marker {
        return Err(ProduceError::new(
            ErrorCode::MessageTooLarge,
            format!(
                "the batch has {} bytes, max.message.bytes allows {limit}",
                header.size()
            ),
        ));
    }
    if origin == Origin::Coordinator {
        return Ok(());
    }
    if header.is_control() {
        return Err(ProduceError::new(
            ErrorCode::InvalidRecord,
            "clients cannot write control batches",
        ));
    }
    if header.producer_id >= 0 && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(ProduceError::new(
            ErrorCode::InvalidRecord,
            "a batch with a producer id needs a producer epoch and a sequence number",
        ));
    }
    if settings.message_timestamp_type == TimestampType::CreateTime {
        check_timestamps(header, settings, now_ms)?;
    }
    Ok(())
}

/// KIP-937; the header's first and largest timestamp stand for the records'.
fn check_timestamps(
    header: &BatchHeader,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<(), ProduceError> {
    let too_new = now_ms.saturating_add(settings.message_timestamp_after_max_ms);
    let too_old = now_ms.saturating_sub(settings.message_timestamp_before_max_ms);
    let (first, largest) = (header.base_timestamp, header.max_timestamp);
    // -1 is "no timestamp".
    if largest > too_new || (first >= 0 && first < too_old) {
        return Err(ProduceError::new(
            ErrorCode::InvalidTimestamp,
            format!(
                "timestamps {first} to {largest} are outside [{too_old}, {too_new}], which \
                 message.timestamp.before.max.ms and message.timestamp.after.max.ms allow"
            ),
        ));
    }
    Ok(())
}

fn check_keys(batch: &Bytes) -> Result<(), ProduceError> {
    let corrupt = |error: &dyn std::fmt::Display| {
        ProduceError::new(ErrorCode::CorruptMessage, error.to_string())
    };
    for record in RecordIter::new(batch, DECOMPRESSED_MAX).map_err(|e| corrupt(&e))? {
        if record.map_err(|e| corrupt(&e))?.key.is_none() {
            return Err(ProduceError::new(
                ErrorCode::InvalidRecord,
                "a compacted topic takes no record without a key",
            ));
        }
    }
    Ok(())
}

fn recompressed(records: Bytes, codec: batch::Compression) -> Result<Bytes, ProduceError> {
    let mut out = BytesMut::new();
    let mut at = 0;
    while at < records.len() {
        let header = batch::verify_produced(&records[at..]).map_err(|e| malformed(&e))?;
        let one = &records[at..at + header.size()];
        at += header.size();
        if header.compression() == Some(codec) {
            if at == records.len() && out.is_empty() {
                return Ok(records);
            }
            out.extend_from_slice(one);
        } else {
            let batch = types::builder::recompress(one, codec, DECOMPRESSED_MAX)
                .map_err(|e| ProduceError::new(ErrorCode::CorruptMessage, e.to_string()))?;
            out.extend_from_slice(&batch);
        }
    }
    Ok(out.freeze())
}

fn stamp(bytes: &mut BytesMut, batches: &[BatchHeader], now_ms: i64) {
    let mut at = 0;
    for header in batches {
        batch::set_log_append_time(&mut bytes[at..at + header.size()], now_ms);
        at += header.size();
    }
}
