//! What becomes of a batch of which compaction keeps only some records?
//!
//! Base offset, last offset delta, producer and sequence number stay what they were even if the first or the last record
//! goes: they are what the log's offsets and the producer's state are told from. Records are never moved between
//! batches. Tombstones (and markers of transactions without records) get a delete horizon, which lies in the base
//! timestamp with an attribute bit that says so (KIP-534).

use bytes::Bytes;

use crate::batch::{BatchHeader, CRC_START, Compression, HEADER_LEN, LOG_OVERHEAD};
use crate::builder::BuildError;
use crate::compression;
use crate::record::{Record, RecordError, RecordIter};
use crate::varint;

const DELETE_HORIZON: i16 = 0x40;
/// What an empty batch keeps of its attributes: timestamp type, transactional, control.
const KEPT_WHEN_EMPTY: i16 = 0x08 | 0x10 | 0x20;

/// The records of one batch that stay.
#[derive(Debug, Clone)]
pub struct Retained {
    header: BatchHeader,
    records: Vec<RetainedRecord>,
    read: usize,
    tombstones: bool,
}

#[derive(Debug, Clone)]
struct RetainedRecord {
    timestamp: i64,
    /// With its length in front.
    bytes: Bytes,
}

impl Retained {
    /// The records of `batch` for which `keep` holds; they may decompress to at most `limit` bytes.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn of(
        batch: &Bytes,
        limit: usize,
        mut keep: impl FnMut(&Record) -> bool,
    ) -> Result<Self, RecordError> {
        let mut iter = RecordIter::new(batch, limit)?;
        let mut this = Self {
            header: *iter.header(),
            records: Vec::new(),
            read: 0,
            tombstones: false,
        };
        while let Some(step) = iter.next_with_bytes() {
            let (record, bytes) = step?;
            this.read += 1;
            if keep(&record) {
                this.tombstones |= record.value.is_none();
                this.records.push(RetainedRecord {
                    timestamp: record.timestamp,
                    bytes,
                });
            }
        }
        Ok(this)
    }

    /// Whether nothing stays.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records stay.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// How many records there were.
    #[must_use]
    pub const fn records_read(&self) -> usize {
        self.read
    }

    /// Whether all records stay.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.records.len() == self.read
    }

    /// Whether a record that stays is a tombstone.
    #[must_use]
    pub const fn has_tombstones(&self) -> bool {
        self.tombstones
    }

    /// The batch of the records that stay, compressed as it was, with a new delete horizon (ms since the epoch) if one is
    /// given. A horizon that cannot be written beside the records' timestamps is left out.
    ///
    /// # Errors
    /// The codec's.
    pub fn build(&self, delete_horizon_ms: Option<i64>) -> Result<Bytes, BuildError> {
        let mut header = self.header;
        let expressible = |horizon: &i64| {
            let mut records = self.records.iter();
            records.all(|record| record.timestamp.checked_sub(*horizon).is_some())
        };
        let horizon = delete_horizon_ms.filter(expressible);
        let mut records = Vec::new();
        for record in &self.records {
            match horizon {
                None => records.extend_from_slice(&record.bytes),
                Some(horizon) => put_with_base(&mut records, record, horizon),
            }
        }
        if let Some(horizon) = horizon {
            header.base_timestamp = horizon;
            header.attributes |= DELETE_HORIZON;
        }
        if !header.is_log_append_time() {
            let largest = self.records.iter().map(|record| record.timestamp).max();
            header.max_timestamp = largest.unwrap_or(header.max_timestamp);
        }
        // Not more than the header's count, which is an i32.
        header.record_count = i32::try_from(self.records.len()).unwrap_or(header.record_count);
        let codec = header.compression().unwrap_or(Compression::None);
        let mut out = vec![0; HEADER_LEN];
        compression::compress(codec, &records, &mut out)?;
        finish(&header, out)
    }
}

/// `header`'s batch without records: it still tells of its offsets, its producer and its largest timestamp.
///
/// # Errors
/// None in practice; the type is that of [`Retained::build`].
pub fn empty_batch(header: &BatchHeader) -> Result<Bytes, BuildError> {
    let header = BatchHeader {
        attributes: header.attributes & KEPT_WHEN_EMPTY,
        base_timestamp: -1,
        record_count: 0,
        ..*header
    };
    finish(&header, vec![0; HEADER_LEN])
}

/// Appends the record with its timestamp told from another base.
fn put_with_base(out: &mut Vec<u8>, record: &RetainedRecord, base: i64) {
    let mut rest = &record.bytes[..];
    let parsed = varint::take_i32(&mut rest).and_then(|_| {
        let (attributes, after) = rest.split_first()?;
        rest = after;
        varint::take_i64(&mut rest)?;
        Some(*attributes)
    });
    let attributes = parsed.expect("the record was read before");
    let delta = record.timestamp.wrapping_sub(base);
    let length = 1 + varint::len(delta) + rest.len();
    varint::put(
        out,
        i64::try_from(length).expect("a slice is no longer than isize::MAX"),
    );
    out.push(attributes);
    varint::put(out, delta);
    out.extend_from_slice(rest);
}

/// Writes the header, with length and CRC of what is in `batch`, into the space in front.
fn finish(header: &BatchHeader, mut batch: Vec<u8>) -> Result<Bytes, BuildError> {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD)
        .map_err(|_| BuildError::TooLarge { bytes: batch.len() })?;
    let mut out = Vec::with_capacity(HEADER_LEN);
    out.extend_from_slice(&header.base_offset.0.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&header.partition_leader_epoch.0.to_be_bytes());
    out.push(2);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.attributes.to_be_bytes());
    out.extend_from_slice(&header.last_offset_delta.to_be_bytes());
    out.extend_from_slice(&header.base_timestamp.to_be_bytes());
    out.extend_from_slice(&header.max_timestamp.to_be_bytes());
    out.extend_from_slice(&header.producer_id.to_be_bytes());
    out.extend_from_slice(&header.producer_epoch.to_be_bytes());
    out.extend_from_slice(&header.base_sequence.to_be_bytes());
    out.extend_from_slice(&header.record_count.to_be_bytes());
    batch[..HEADER_LEN].copy_from_slice(&out);
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    Ok(Bytes::from(batch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::verify;
    use crate::{BatchBuilder, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Record `n` has key `n` and, if even, a value.
    fn batch(codec: Compression, timestamps: &[i64]) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(100))
            .leader_epoch(LeaderEpoch(7))
            .producer(ProducerId(5), ProducerEpoch(1), 40)
            .compression(codec);
        for (n, timestamp) in timestamps.iter().enumerate() {
            let key = n.to_string();
            let value = (n % 2 == 0).then_some(&b"value"[..]);
            let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"v"))];
            builder.push_with_headers(*timestamp, Some(key.as_bytes()), value, &headers);
        }
        builder.build().expect("builds")
    }

    fn records(batch: &Bytes) -> Vec<Record> {
        let iter = RecordIter::new(batch, 1 << 20).expect("opens");
        iter.map(|record| record.expect("sound")).collect()
    }

    #[test]
    fn offsets_producer_and_sequence_stay_when_first_and_last_record_go() {
        for codec in CODECS {
            let before = batch(codec, &[50, 70, 60, 40]);
            let kept = Retained::of(&before, 1 << 20, |record| {
                (101..103).contains(&record.offset.0)
            });
            let kept = kept.expect("reads");
            assert!(!kept.is_whole() && kept.has_tombstones() && kept.len() == 2);
            let after = kept.build(None).expect("builds");
            let header = verify(&after).expect("sound");
            let old = verify(&before).expect("sound");
            assert_eq!(header.compression(), Some(codec));
            assert_eq!(header.max_timestamp, 70);
            assert_eq!(header.record_count, 2);
            let same = |header: &BatchHeader| {
                (
                    header.base_offset,
                    header.last_offset(),
                    header.last_sequence(),
                    header.producer(),
                    header.partition_leader_epoch,
                    header.base_timestamp,
                )
            };
            assert_eq!(same(&header), same(&old));
            assert_eq!(records(&after), records(&before)[1..3]);
        }
    }

    #[test]
    fn a_delete_horizon_changes_no_record() {
        for codec in CODECS {
            let before = batch(codec, &[50, 70, 60]);
            let kept = Retained::of(&before, 1 << 20, |_| true).expect("reads");
            assert!(kept.is_whole());
            let after = kept.build(Some(1_000_000_000_000)).expect("builds");
            let header = verify(&after).expect("sound");
            assert_eq!(header.delete_horizon_ms(), Some(1_000_000_000_000));
            assert_eq!(header.max_timestamp, 70);
            assert_eq!(records(&after), records(&before));
            // Another cleaning keeps it.
            let again = Retained::of(&after, 1 << 20, |record| record.offset.0 > 100);
            let again = again.expect("reads").build(None).expect("builds");
            let header = verify(&again).expect("sound");
            assert_eq!(header.delete_horizon_ms(), Some(1_000_000_000_000));
            assert_eq!(records(&again), records(&before)[1..]);
        }
    }

    #[test]
    fn a_horizon_that_no_delta_can_tell_is_left_out() {
        let before = batch(Compression::None, &[i64::MIN]);
        let kept = Retained::of(&before, 1 << 20, |record| record.offset.0 == 100);
        let after = kept.expect("reads").build(Some(5)).expect("builds");
        assert_eq!(verify(&after).expect("sound").delete_horizon_ms(), None);
        assert_eq!(records(&after), records(&before)[..1]);
    }

    #[test]
    fn an_empty_batch_tells_of_its_producer_and_its_last_offset() {
        let before = batch(Compression::Zstd, &[50, 70]);
        let old = verify(&before).expect("sound");
        let after = empty_batch(&old).expect("builds");
        let header = verify(&after).expect("sound");
        assert_eq!(after.len(), HEADER_LEN);
        assert_eq!(header.next_offset(), old.next_offset());
        assert_eq!(header.last_sequence(), old.last_sequence());
        assert_eq!(header.max_timestamp, 70);
        assert_eq!(header.compression(), Some(Compression::None));
        assert!(records(&after).is_empty());
    }

    proptest! {
        #[test]
        fn what_stays_is_what_was_asked_for(
            timestamps in prop::collection::vec(-10_i64..2_000_000_000_000, 1..40),
            wanted in prop::collection::vec(any::<bool>(), 40),
            codec in 0..5_usize,
            horizon in prop::option::of(0..2_000_000_000_000_i64),
        ) {
            let before = batch(CODECS[codec], &timestamps);
            let wants = |record: &Record| {
                usize::try_from(record.offset.0 - 100).is_ok_and(|n| wanted[n])
            };
            let kept = Retained::of(&before, 1 << 20, wants).expect("reads");
            let want: Vec<_> = records(&before).into_iter().filter(wants).collect();
            prop_assert_eq!(kept.is_empty(), want.is_empty());
            let after = kept.build(horizon).expect("builds");
            let header = verify(&after).expect("sound");
            prop_assert_eq!(header.delete_horizon_ms(), horizon);
            prop_assert_eq!(records(&after), want);
        }
    }
}
