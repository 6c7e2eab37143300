//! Can the records of a produced batch be read, and what do they say together?
//!
//! What a broker has to know before it stores a batch that it did not make. The records are decompressed as a stream:
//! keys and values are passed over, never held, so a batch costs one small buffer whatever it decompresses to (a block
//! of raw snappy, which has to be whole, costs its own size).

use std::io::{BufRead, BufReader};

use crate::batch::{BatchError, BatchHeader, Compression, HEADER_LEN};
use crate::compression::{self, CompressionError};
use crate::record::RecordError;
use crate::varint;

/// Buffer between a codec and the scan.
const BUFFER: usize = 16 * 1024;
/// The "no timestamp" of the wire.
const NO_TIMESTAMP: i64 = -1;

/// What the records of one batch say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSummary {
    /// The first record with the earliest timestamp; `None` when no record has one.
    pub earliest: Option<Dated>,
    /// The first record with the latest timestamp; `None` when no record has one.
    pub latest: Option<Dated>,
    /// The first record with a null key, from 0.
    pub first_without_key: Option<i32>,
}

/// A record with its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Which record of the batch, from 0.
    pub record: i32,
}

impl RecordSummary {
    /// The latest timestamp as a batch's header says it: -1 when no record has one.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        // Nor does one before 1969 count there.
        self.latest
            .map_or(NO_TIMESTAMP, |latest| latest.timestamp.max(NO_TIMESTAMP))
    }
}

/// Reads all records of `batch` (one whole batch with `header`), which may decompress to `limit` bytes. Beside what
/// [`crate::RecordIter`] asks of a record, the offsets have to be `base offset + 0, 1, 2, ...`: what compaction may
/// leave out is there when a batch is produced. The CRC is not checked here.
///
/// # Errors
/// The first malformed record, records that do not decompress or to more than `limit` bytes, an unknown codec.
pub fn scan(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
) -> Result<RecordSummary, RecordError> {
    let records = batch
        .get(HEADER_LEN..header.size())
        .ok_or(BatchError::Truncated {
            have: batch.len(),
            need: header.size(),
        })?;
    match header.compression() {
        None => Err(RecordError::Batch(BatchError::Codec {
            attributes: header.attributes,
        })),
        Some(Compression::None) => {
            Scan::new(header, records, Compression::None, records.len()).all()
        }
        Some(codec) => {
            let reader = compression::reader(codec, records, limit)
                .map_err(|error| CompressionError::reading(codec, limit, error))?;
            Scan::new(
                header,
                BufReader::with_capacity(BUFFER, reader),
                codec,
                limit,
            )
            .all()
        }
    }
}

/// Why a record ended the scan.
enum Stop {
    /// The named part of it is malformed, or the stream ended in it.
    Field(&'static str),
    Codec(CompressionError),
}

/// Longest varint of 32 and of 64 bits.
const INT: usize = 5;
const LONG: usize = 10;

fn number(bytes: &mut &[u8], longest: usize) -> Option<i64> {
    match longest {
        INT => varint::take_i32(bytes).map(i64::from),
        _ => varint::take_i64(bytes),
    }
}

/// What is left of a record.
trait Fields {
    fn left(&self) -> usize;

    /// Takes a zigzag varint of at most `longest` bytes, [`INT`] or [`LONG`].
    fn varint(&mut self, longest: usize, field: &'static str) -> Result<i64, Stop>;

    fn skip(&mut self, length: usize, field: &'static str) -> Result<(), Stop>;

    /// Passes over a nullable field; whether it is there.
    fn bytes(&mut self, field: &'static str) -> Result<bool, Stop> {
        match self.varint(INT, field)? {
            -1 => Ok(false),
            length => {
                let length = usize::try_from(length).map_err(|_| Stop::Field(field))?;
                self.skip(length, field)?;
                Ok(true)
            }
        }
    }
}

/// What a record says.
struct Seen {
    timestamp_delta: i64,
    has_key: bool,
}

/// Reads the record that is the `index`th of its batch.
fn seen(fields: &mut impl Fields, index: i32) -> Result<Seen, Stop> {
    // The record's attributes are unused so far.
    fields.skip(1, "attributes")?;
    let timestamp_delta = fields.varint(LONG, "timestamp delta")?;
    if fields.varint(INT, "offset delta")? != i64::from(index) {
        return Err(Stop::Field("offset delta"));
    }
    let has_key = fields.bytes("key")?;
    fields.bytes("value")?;
    let headers = fields.varint(INT, "header count")?;
    // Each header takes two bytes at least.
    let most = i64::try_from(fields.left() / 2).unwrap_or(i64::MAX);
    if !(0..=most).contains(&headers) {
        return Err(Stop::Field("header count"));
    }
    for _ in 0..headers {
        if !fields.bytes("header key")? {
            return Err(Stop::Field("header key"));
        }
        fields.bytes("header value")?;
    }
    match fields.left() {
        0 => Ok(Seen {
            timestamp_delta,
            has_key,
        }),
        _ => Err(Stop::Field("length")),
    }
}

/// A record that lies in the buffer whole, as nearly all do.
struct Whole<'b>(&'b [u8]);

impl Fields for Whole<'_> {
    fn left(&self) -> usize {
        self.0.len()
    }

    fn varint(&mut self, longest: usize, field: &'static str) -> Result<i64, Stop> {
        // Most numbers are short.
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        number(&mut self.0, longest).ok_or(Stop::Field(field))
    }

    fn skip(&mut self, length: usize, field: &'static str) -> Result<(), Stop> {
        self.0 = self.0.get(length..).ok_or(Stop::Field(field))?;
        Ok(())
    }
}

/// A record across ends of the buffer.
struct Parts<'s, 'a, R> {
    scan: &'s mut Scan<'a, R>,
    left: usize,
}

impl<R: BufRead> Parts<'_, '_, R> {
    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.left -= bytes;
        self.scan.consume(bytes)
    }
}

impl<R: BufRead> Fields for Parts<'_, '_, R> {
    fn left(&self) -> usize {
        self.left
    }

    fn varint(&mut self, longest: usize, field: &'static str) -> Result<i64, Stop> {
        let mut bytes = [0_u8; LONG];
        for at in 0..longest.min(self.left) {
            let Some(&byte) = self.scan.fill()?.first() else {
                break;
            };
            bytes[at] = byte;
            self.take(1)?;
            if byte & 0x80 == 0 {
                return number(&mut &bytes[..=at], longest).ok_or(Stop::Field(field));
            }
        }
        Err(Stop::Field(field))
    }

    fn skip(&mut self, length: usize, field: &'static str) -> Result<(), Stop> {
        if length > self.left {
            return Err(Stop::Field(field));
        }
        let mut rest = length;
        while rest > 0 {
            let step = self.scan.fill()?.len().min(rest);
            if step == 0 {
                return Err(Stop::Field(field));
            }
            self.take(step)?;
            rest -= step;
        }
        Ok(())
    }
}

struct Scan<'a, R> {
    header: &'a BatchHeader,
    input: R,
    codec: Compression,
    limit: usize,
    /// Bytes taken so far.
    taken: usize,
    index: i32,
}

impl<'a, R: BufRead> Scan<'a, R> {
    const fn new(header: &'a BatchHeader, input: R, codec: Compression, limit: usize) -> Self {
        Self {
            header,
            input,
            codec,
            limit,
            taken: 0,
            index: 0,
        }
    }

    fn all(mut self) -> Result<RecordSummary, RecordError> {
        let mut summary = RecordSummary {
            earliest: None,
            latest: None,
            first_without_key: None,
        };
        while self.index < self.header.record_count {
            let seen = self.record().map_err(|stop| self.error(stop))?;
            self.add(&mut summary, seen)?;
            self.index += 1;
        }
        match self.rest().map_err(|stop| self.error(stop))? {
            0 => Ok(summary),
            extra => Err(RecordError::Trailing {
                base_offset: self.header.base_offset.0,
                count: self.header.record_count,
                extra,
            }),
        }
    }

    fn add(&self, summary: &mut RecordSummary, seen: Seen) -> Result<(), RecordError> {
        let record = self.index;
        let base = self.header.base_timestamp;
        let timestamp = base
            .checked_add(seen.timestamp_delta)
            .ok_or_else(|| self.error(Stop::Field("timestamp delta")))?;
        if timestamp != NO_TIMESTAMP {
            let this = Dated { timestamp, record };
            let earliest = summary.earliest.get_or_insert(this);
            if timestamp < earliest.timestamp {
                *earliest = this;
            }
            let latest = summary.latest.get_or_insert(this);
            if timestamp > latest.timestamp {
                *latest = this;
            }
        }
        if !seen.has_key && summary.first_without_key.is_none() {
            summary.first_without_key = Some(record);
        }
        Ok(())
    }

    fn error(&self, stop: Stop) -> RecordError {
        match stop {
            Stop::Field(field) => RecordError::Malformed {
                base_offset: self.header.base_offset.0,
                index: self.index,
                field,
            },
            Stop::Codec(error) => RecordError::Compression(error),
        }
    }

    fn record(&mut self) -> Result<Seen, Stop> {
        let index = self.index;
        let buffer = self.fill()?;
        let mut rest = buffer;
        let length = varint::take_i32(&mut rest).and_then(|length| usize::try_from(length).ok());
        if let Some(body) = length.and_then(|length| rest.get(..length)) {
            let size = buffer.len() - rest.len() + body.len();
            let seen = seen(&mut Whole(body), index)?;
            self.consume(size)?;
            return Ok(seen);
        }
        let mut parts = Parts {
            scan: self,
            left: usize::MAX,
        };
        let length = parts.varint(INT, "length")?;
        parts.left = usize::try_from(length).map_err(|_| Stop::Field("length"))?;
        seen(&mut parts, index)
    }

    fn fill(&mut self) -> Result<&[u8], Stop> {
        let (codec, limit) = (self.codec, self.limit);
        let filled = self.input.fill_buf();
        filled.map_err(|error| Stop::Codec(CompressionError::reading(codec, limit, error)))
    }

    fn consume(&mut self, bytes: usize) -> Result<(), Stop> {
        self.input.consume(bytes);
        self.taken += bytes;
        if self.taken > self.limit {
            return Err(Stop::Codec(CompressionError::TooLarge {
                codec: self.codec,
                limit: self.limit,
            }));
        }
        Ok(())
    }

    /// How many bytes follow the last record.
    fn rest(&mut self) -> Result<usize, Stop> {
        let mut extra = 0;
        loop {
            let step = self.fill()?.len();
            if step == 0 {
                return Ok(extra);
            }
            self.consume(step)?;
            extra += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::batch;
    use crate::builder::{BatchBuilder, recompress};
    use crate::record::RecordIter;

    const fn dated(timestamp: i64, record: i32) -> Option<Dated> {
        Some(Dated { timestamp, record })
    }

    fn scanned(batch: &[u8], limit: usize) -> Result<RecordSummary, RecordError> {
        scan(&batch::verify_produced(batch)?, batch, limit)
    }

    /// A batch around `records` as they are, with a right checksum.
    fn around(records: &[u8], count: i32, codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new().compression(codec);
        for _ in 0..count {
            builder.push(1000, Some(b"k"), Some(b"v"));
        }
        let mut out = builder.build().expect("builds")[..HEADER_LEN].to_vec();
        compression::compress(codec, records, &mut out).expect("compresses");
        let length = i32::try_from(out.len() - batch::LOG_OVERHEAD).expect("is short");
        out[8..batch::LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
        batch::set_max_timestamp(&mut out, 1000);
        out.into()
    }

    #[test]
    fn the_records_are_summed_up_with_every_codec() {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new().compression(codec);
            // Larger than the buffer, so that fields lie across its ends.
            for n in 0..5000 {
                let value = vec![b'v'; n % 97];
                builder.push_with_headers(
                    10_000 + (n as i64 * 31) % 977,
                    (n < 4000).then_some(&b"key"[..]),
                    Some(&value),
                    &[(b"h", None), (b"i", Some(b"x"))],
                );
            }
            let batch = builder.build().expect("builds");
            let want = RecordSummary {
                earliest: dated(10_000, 0),
                latest: dated(10_976, 63),
                first_without_key: Some(4000),
            };
            assert_eq!(scanned(&batch, 1 << 20).expect("reads"), want, "{codec:?}");
        }
    }

    #[test]
    fn records_without_timestamps_have_none() {
        let mut builder = BatchBuilder::new();
        builder
            .push(-1, Some(b"k"), None)
            .push(-1, Some(b"k"), None);
        let summary = scanned(&builder.build().expect("builds"), 100).expect("reads");
        assert_eq!((summary.earliest, summary.latest), (None, None));
        assert_eq!(summary.max_timestamp(), -1);
    }

    #[test]
    fn the_first_fault_is_named_with_its_record_and_field() {
        // Length, attributes, timestamp delta, offset delta, key, value, header count.
        let good = [14, 0, 0, 0, 1, 2, b'v', 0];
        let second = [14, 0, 0, 2, 1, 2, b'v', 0];
        let cases: [(&[u8], &str); 9] = [
            (&[], "length"),
            (&[13], "length"),
            (&[16, 0, 0, 2, 1, 2, b'v', 0, 0], "length"),
            (&[2, 0], "timestamp delta"),
            (&[14, 0, 0, 0, 1, 2, b'v', 0], "offset delta"),
            (&[14, 0, 0, 2, 90, 2, b'v', 0], "key"),
            (&[14, 0, 0, 2, 1, 3, b'v', 0], "value"),
            (&[14, 0, 0, 2, 1, 2, b'v', 2], "header count"),
            (&[18, 0, 0, 2, 1, 2, b'v', 2, 1, 1], "header key"),
        ];
        for codec in Compression::ALL {
            assert!(scanned(&around(&[good, second].concat(), 2, codec), 100).is_ok());
            for (bad, field) in cases {
                let records = [&good, bad].concat();
                match scanned(&around(&records, 2, codec), 100) {
                    Err(RecordError::Malformed {
                        index: 1, field: f, ..
                    }) => assert_eq!(f, field, "{codec:?}"),
                    other => panic!("{codec:?} {field}: {other:?}"),
                }
            }
            let extra = [&good[..], &[0; 3]].concat();
            assert!(
                matches!(
                    scanned(&around(&extra, 1, codec), 100),
                    Err(RecordError::Trailing { extra: 3, .. })
                ),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn what_does_not_decompress_is_refused() {
        for codec in Compression::ALL.into_iter().skip(1) {
            let good = around(&[14, 0, 0, 0, 1, 2, b'v', 0], 1, codec);
            let mut noise = good[..HEADER_LEN].to_vec();
            noise.extend([0xa5; 20]);
            let length = i32::try_from(noise.len() - batch::LOG_OVERHEAD).expect("is short");
            noise[8..batch::LOG_OVERHEAD].copy_from_slice(&length.to_be_bytes());
            batch::set_max_timestamp(&mut noise, 1000);
            assert!(
                matches!(
                    scanned(&noise, 1 << 20),
                    Err(RecordError::Compression(CompressionError::Malformed { .. }))
                ),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new().compression(codec);
            builder.push(1, Some(b"k"), Some(&vec![0; 1 << 20]));
            let batch = builder.build().expect("builds");
            assert!(scanned(&batch, 2 << 20).is_ok(), "{codec:?}");
            if codec != Compression::None {
                assert!(
                    matches!(
                        scanned(&batch, 1 << 20),
                        Err(RecordError::Compression(CompressionError::TooLarge { .. }))
                    ),
                    "{codec:?}"
                );
            }
        }
    }

    proptest! {
        /// Whatever the bytes, the scan and the reader say the same of them.
        #[test]
        fn the_scan_agrees_with_the_reader(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
            which in 0..5_usize, at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut builder = BatchBuilder::new();
            for (n, value) in values.iter().enumerate() {
                builder.push(500 + n as i64, Some(b"key"), Some(value));
            }
            let mut bytes = builder.build().expect("builds").to_vec();
            let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
            bytes[at] = to;
            batch::set_max_timestamp(&mut bytes, 1000);
            let batch = recompress(&bytes, 1 << 20, Compression::ALL[which], 1 << 20).expect("compresses");
            let read: Result<Vec<_>, _> =
                RecordIter::new(&batch, 1 << 20).expect("opens").collect();
            let is_dense = |read: &Vec<crate::Record>| {
                read.iter().zip(0..).all(|(record, n)| record.offset.0 == n)
            };
            let header = batch::verify_produced(&batch).expect("the header is right");
            let scanned = scan(&header, &batch, 1 << 20);
            prop_assert_eq!(scanned.is_ok(), read.as_ref().is_ok_and(is_dense));
            if let (Ok(scanned), Ok(read)) = (scanned, read) {
                let max = read.iter().map(|record| record.timestamp).max();
                prop_assert_eq!(Some(scanned.max_timestamp()), max);
            }
        }
    }
}
