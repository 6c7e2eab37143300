//! Is what a client produced acceptable to the topic, and what is changed in it before the append?
//!
//! Runs without the partition's lock, before the append. Header, CRC and counts are checked, and all records are read
//! as Apache Kafka does: what nobody could read is never stored. Records are decompressed as a stream.

use bytes::{Bytes, BytesMut};
use config::{CompressionType, TimestampType, TopicSettings};
use types::batch::{self, BatchHeader};
use types::compression::CompressionError;
use types::{BatchError, BuildError, Dated, ErrorCode, RecordError, RecordSummary};

use super::model::ProduceError;
use super::transactions::TransactionRule;

/// What the records of one batch may decompress to. It bounds the time that a decompression bomb costs; memory does not
/// depend on it.
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
    let mut batches = Vec::with_capacity(1);
    // Whether a producer named another largest timestamp than that of its records.
    let mut is_misdated = false;
    let mut at = 0;
    while at < records.len() {
        let mut header = batch::verify_produced(&records[at..]).map_err(|e| malformed(&e))?;
        check_batch(&header, settings, origin)?;
        let next = at + header.size();
        if !header.is_control() {
            let max = check_records(&header, &records[at..next], settings, now_ms)?;
            is_misdated |= header.max_timestamp != max;
            header.max_timestamp = max;
        }
        at = next;
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
    let records = match settings.compression_type {
        CompressionType::Codec(codec) if origin == Origin::Client => {
            recompressed(records, &mut batches, codec, max_message_bytes(settings))?
        }
        // Markers are never compressed; a coordinator's topics have no codec of their own.
        CompressionType::Producer | CompressionType::Codec(_) => records,
    };
    // Only this copy (or the request's own buffer, if nobody else has a part of it) is ever changed.
    let mut bytes = records
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    let log_append_time_ms =
        (settings.message_timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
    if log_append_time_ms.is_some() {
        each_batch(&mut bytes, &batches, |_, batch| {
            batch::set_log_append_time(batch, now_ms);
        });
    } else if is_misdated {
        each_batch(&mut bytes, &batches, |header, batch| {
            batch::set_max_timestamp(batch, header.max_timestamp);
        });
    }
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

fn max_message_bytes(settings: &TopicSettings) -> usize {
    usize::try_from(settings.max_message_bytes).unwrap_or(usize::MAX)
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
) -> Result<(), ProduceError> {
    let limit = max_message_bytes(settings);
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
    if header.is_log_append_time() {
        return Err(ProduceError::new(
            ErrorCode::InvalidTimestamp,
            "the timestamp type LogAppendTime is the broker's to set, not a producer's",
        ));
    }
    Ok(())
}

/// Reads the records, and gives the largest of their timestamps.
fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<i64, ProduceError> {
    let records = types::scan(header, batch, DECOMPRESSED_MAX).map_err(|e| unreadable(&e))?;
    if settings.cleanup_policy.compact
        && let Some(index) = records.first_without_key
    {
        return Err(ProduceError::new(
            ErrorCode::InvalidRecord,
            format!("a compacted topic takes no record without a key, and record {index} has none"),
        )
        .of_record(index));
    }
    if settings.message_timestamp_type == TimestampType::CreateTime {
        check_timestamps(&records, settings, now_ms)?;
    }
    Ok(records.max_timestamp())
}

fn unreadable(error: &RecordError) -> ProduceError {
    match error {
        RecordError::Batch(error) => malformed(error),
        RecordError::Compression(error) => ProduceError::new(compression_code(error), chain(error)),
        RecordError::Malformed { index, .. } => {
            ProduceError::new(ErrorCode::InvalidRecord, error.to_string()).of_record(*index)
        }
        RecordError::Trailing { .. } => {
            ProduceError::new(ErrorCode::InvalidRecord, error.to_string())
        }
    }
}

/// None of these can be mended by sending the same batch again; the Java producer splits one that is too large.
const fn compression_code(error: &CompressionError) -> ErrorCode {
    match error {
        CompressionError::TooLarge { .. } | CompressionError::Larger { .. } => {
            ErrorCode::MessageTooLarge
        }
        CompressionError::Malformed { .. } | CompressionError::Encode { .. } => {
            ErrorCode::InvalidRecord
        }
    }
}

/// KIP-937, for each record as Apache Kafka does.
fn check_timestamps(
    records: &RecordSummary,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<(), ProduceError> {
    let newest = now_ms.saturating_add(settings.message_timestamp_after_max_ms);
    let oldest = now_ms.saturating_sub(settings.message_timestamp_before_max_ms);
    let too_old = records.earliest.filter(|record| record.timestamp < oldest);
    let too_new = records.latest.filter(|record| record.timestamp > newest);
    let Some(Dated { timestamp, record }) = too_old.or(too_new) else {
        return Ok(());
    };
    Err(ProduceError::new(
        ErrorCode::InvalidTimestamp,
        format!(
            "the timestamp {timestamp} of record {record} is outside [{oldest}, {newest}], which \
             message.timestamp.before.max.ms and message.timestamp.after.max.ms allow"
        ),
    )
    .of_record(record))
}

/// The batches with another codec than `codec` compressed anew, each to `most` bytes at most.
fn recompressed(
    records: Bytes,
    batches: &mut [BatchHeader],
    codec: batch::Compression,
    most: usize,
) -> Result<Bytes, ProduceError> {
    if batches
        .iter()
        .all(|header| header.compression() == Some(codec))
    {
        return Ok(records);
    }
    let mut out = BytesMut::new();
    let mut rest = records;
    for header in batches {
        let one = rest.split_to(header.size());
        if header.compression() == Some(codec) {
            out.extend_from_slice(&one);
            continue;
        }
        let batch = types::builder::recompress(&one, DECOMPRESSED_MAX, codec, most)
            .map_err(|error| recompression(&error))?;
        *header = BatchHeader {
            max_timestamp: header.max_timestamp,
            ..BatchHeader::parse(&batch).map_err(|e| malformed(&e))?
        };
        out.extend_from_slice(&batch);
    }
    Ok(out.freeze())
}

fn recompression(error: &BuildError) -> ProduceError {
    let code = match error {
        BuildError::Compression(error) => compression_code(error),
        BuildError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        BuildError::Empty => ErrorCode::InvalidRecord,
    };
    ProduceError::new(code, error.to_string())
}

/// Runs `change` on each of the batches.
fn each_batch(bytes: &mut [u8], batches: &[BatchHeader], change: impl Fn(&BatchHeader, &mut [u8])) {
    let mut at = 0;
    for header in batches {
        change(header, &mut bytes[at..at + header.size()]);
        at += header.size();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use types::batch::{Compression, HEADER_LEN, LOG_OVERHEAD};
    use types::{BatchBuilder, RecordIter};

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn batch_of(records: &[(i64, Option<&[u8]>)], codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new().compression(codec);
        for &(timestamp, key) in records {
            builder.push(timestamp, key, Some(&[7; 500]));
        }
        builder.build().expect("builds")
    }

    /// The batch with other bytes in place of its records, and a right checksum.
    fn with_records(batch: &[u8], records: &[u8]) -> Bytes {
        let mut out = [&batch[..HEADER_LEN], records].concat();
        let length = i32::try_from(out.len() - LOG_OVERHEAD).expect("is short");
        out[8..LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
        let max = BatchHeader::parse(&out).expect("parses").max_timestamp;
        batch::set_max_timestamp(&mut out, max);
        out.into()
    }

    fn prepared(records: Bytes, settings: &TopicSettings) -> Result<Prepared, ProduceError> {
        prepare(records, settings, Origin::Client, NOW_MS)
    }

    fn refusal(records: Bytes, settings: &TopicSettings) -> ProduceError {
        prepared(records, settings).expect_err("is refused")
    }

    #[test]
    fn records_that_nobody_can_read_are_refused_with_every_codec() {
        for codec in Compression::ALL {
            let good = batch_of(&[(NOW_MS, None), (NOW_MS, None)], codec);
            let cut = with_records(&good, &good[HEADER_LEN..good.len() - 5]);
            let error = refusal(cut, &TopicSettings::default());
            assert_eq!(error.code, ErrorCode::InvalidRecord, "{codec:?}: {error}");
            assert!(!error.code.is_retriable(), "the same batch fails again");
        }
        let good = batch_of(&[(NOW_MS, None), (NOW_MS, None)], Compression::None);
        let mut second = good[HEADER_LEN..].to_vec();
        let middle = second.len() / 2;
        // The second record's key has a length of -2.
        second[middle + 6] = 3;
        let error = refusal(with_records(&good, &second), &TopicSettings::default());
        assert_eq!(error.record, Some(1), "{error}");
    }

    #[test]
    fn every_record_has_to_have_an_allowed_timestamp() {
        let settings = TopicSettings {
            message_timestamp_before_max_ms: 1000,
            message_timestamp_after_max_ms: 1000,
            ..TopicSettings::default()
        };
        for outside in [NOW_MS - 1001, NOW_MS + 1001] {
            let records = [(NOW_MS, None), (outside, None), (NOW_MS, None)];
            let error = refusal(batch_of(&records, Compression::Lz4), &settings);
            let got = (error.code, error.record);
            assert_eq!(got, (ErrorCode::InvalidTimestamp, Some(1)), "{error}");
        }
        let none = batch_of(&[(-1, None)], Compression::None);
        assert!(prepared(none, &settings).is_ok(), "-1 is no timestamp");
        let mut stamped = batch_of(&[(NOW_MS, None)], Compression::None).to_vec();
        batch::set_log_append_time(&mut stamped, NOW_MS);
        let error = refusal(stamped.into(), &settings);
        assert_eq!(error.code, ErrorCode::InvalidTimestamp, "{error}");
    }

    #[test]
    fn the_largest_timestamp_is_that_of_the_records_whatever_the_header_says() {
        let mut lying =
            batch_of(&[(500, None), (700, None), (600, None)], Compression::Zstd).to_vec();
        batch::set_max_timestamp(&mut lying, 999_999);
        let prepared = prepared(lying.into(), &TopicSettings::default()).expect("is taken");
        assert_eq!(prepared.batches[0].max_timestamp, 700);
        let header = batch::verify_produced(&prepared.bytes).expect("the checksum is right");
        assert_eq!(header.max_timestamp, 700);
    }

    #[test]
    fn the_topics_codec_is_applied_and_the_result_has_to_fit() {
        let settings = |codec, max_message_bytes| TopicSettings {
            compression_type: CompressionType::Codec(codec),
            max_message_bytes,
            ..TopicSettings::default()
        };
        let zstd = batch_of(&[(500, Some(b"k")), (700, None)], Compression::Zstd);
        for codec in [Compression::None, Compression::Gzip, Compression::Lz4] {
            let prepared = prepared(zstd.clone(), &settings(codec, 2000)).expect("is taken");
            let bytes = prepared.bytes.freeze();
            let header = batch::verify_produced(&bytes).expect("is a batch");
            assert_eq!(header.compression(), Some(codec));
            assert_eq!(prepared.batches[0].size(), bytes.len());
            assert_eq!(prepared.batches[0].max_timestamp, 700);
            let read = RecordIter::new(&bytes, 2000)
                .expect("opens")
                .map(|r| r.expect("reads").timestamp);
            assert_eq!(read.collect::<Vec<_>>(), [500, 700]);
        }
        // Small enough as it came, not as it would be stored.
        let error = refusal(zstd, &settings(Compression::None, 900));
        assert_eq!(error.code, ErrorCode::MessageTooLarge, "{error}");
    }

    #[test]
    fn a_compacted_topic_names_the_record_without_a_key() {
        let settings = TopicSettings {
            cleanup_policy: config::CleanupPolicy {
                delete: false,
                compact: true,
            },
            ..TopicSettings::default()
        };
        let records = [(500, Some(&b"k"[..])), (500, None), (500, Some(b"k"))];
        let error = refusal(batch_of(&records, Compression::Gzip), &settings);
        assert_eq!(
            (error.code, error.record),
            (ErrorCode::InvalidRecord, Some(1)),
            "{error}"
        );
    }
}
