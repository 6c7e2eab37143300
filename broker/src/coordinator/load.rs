//! How is a partition of `__consumer_offsets` read when this broker becomes its leader?

use broker_core::group::{Coordinator, GroupRecord, Now};
use bytes::Bytes;
use tracing::warn;
use types::{BatchIter, EndTransactionMarker, ErrorCode, Offset, RecordIter};

use super::log::OffsetsLog;

/// Most a batch of offsets may unpack to. Kafka's own are a few KiB; a group of thousands of members takes megabytes.
const MAX_BATCH: usize = 64 * 1024 * 1024;

/// Reads every record up to the log end of this moment, waiting until the high watermark has passed it: what the former
/// leader acknowledged may lie beyond the high watermark that this broker knew as a follower.
///
/// # Errors
/// The code of the log, when leadership is lost meanwhile or the disk fails.
pub(super) async fn load(
    log: &dyn OffsetsLog,
    partition: i32,
    now: impl Fn() -> Now,
    coordinator: &mut Coordinator,
) -> Result<u64, ErrorCode> {
    let (mut next, end) = log.bounds(partition)?;
    let mut records = 0;
    while next < end {
        for chunk in log.read(partition, next).await? {
            let (after, count) = replay(partition, &chunk, next, now(), coordinator)?;
            next = next.max(after);
            records += count;
        }
    }
    coordinator.loaded(now());
    Ok(records)
}

fn replay(
    partition: i32,
    chunk: &Bytes,
    from: Offset,
    now: Now,
    coordinator: &mut Coordinator,
) -> Result<(Offset, u64), ErrorCode> {
    let corrupt = |error: &dyn std::fmt::Display| {
        warn!(partition, %error, "failed to read the offsets topic");
        ErrorCode::CorruptMessage
    };
    let mut next = from;
    let mut count = 0;
    for batch in BatchIter::new(chunk) {
        let (header, bytes) = batch.map_err(|error| corrupt(&error))?;
        next = header.next_offset();
        if header.record_count == 0 {
            continue;
        }
        let records =
            RecordIter::new(&chunk.slice_ref(bytes), MAX_BATCH).map_err(|error| corrupt(&error))?;
        let producer = header.producer().map(|(id, _)| id);
        let in_transaction = producer.filter(|_| header.is_transactional());
        for record in records {
            let record = record.map_err(|error| corrupt(&error))?;
            if record.offset < from {
                continue; // the batch began before the offset asked for
            }
            if header.is_control() {
                let marker = EndTransactionMarker::from_record(&record);
                if let (Some(marker), Some(producer)) = (marker, producer) {
                    coordinator.load_marker(now, producer, marker.result);
                }
                continue;
            }
            count += 1;
            let key = record.key.unwrap_or_default();
            match GroupRecord::decode(&key, record.value.as_deref()) {
                Ok(Some(decoded)) => match in_transaction {
                    Some(producer) => coordinator.load_in_transaction(now, producer, decoded),
                    None => coordinator.load(now, decoded),
                },
                Ok(None) => {} // of a kind of group this version does not have: left alone
                Err(error) => {
                    // One bad record must not take the other groups of the partition down with it.
                    warn!(partition, offset = %record.offset, %error, "skipped a record");
                }
            }
        }
    }
    Ok((next, count))
}
