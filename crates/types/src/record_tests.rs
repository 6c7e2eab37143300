//! Do batches come back from their bytes, and do malformed ones give errors?

use bytes::Bytes;
use proptest::prelude::*;

use crate::batch::{self, Compression};
use crate::builder::{BatchBuilder, BuildError, end_transaction_batch};
use crate::record::{EndTransactionMarker, Record, RecordError, RecordIter, TransactionResult};
use crate::{BatchHeader, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

fn read(batch: &Bytes) -> Vec<Record> {
    RecordIter::new(batch, 1 << 20)
        .expect("opens")
        .collect::<Result<_, _>>()
        .expect("reads")
}

#[test]
fn records_come_back_with_every_codec() {
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(100))
            .leader_epoch(LeaderEpoch(7))
            .producer(ProducerId(5), ProducerEpoch(2), 40)
            .compression(codec);
        builder.push(1000, Some(b"k"), Some(b"v"));
        builder.push(990, None, Some(b""));
        builder.push_with_headers(1010, Some(b""), None, &[(b"a", Some(b"1")), (b"b", None)]);
        let batch = builder.build().expect("builds");
        let header = batch::verify_produced(&batch).expect("is sound");
        assert_eq!(header.compression(), Some(codec));
        assert_eq!(
            (header.base_offset, header.next_offset()),
            (Offset(100), Offset(103))
        );
        assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1010));
        assert_eq!(header.partition_leader_epoch, LeaderEpoch(7));
        assert_eq!((header.base_sequence, header.last_sequence()), (40, 42));
        let records = read(&batch);
        let offsets: Vec<_> = records
            .iter()
            .map(|record| (record.offset.0, record.timestamp))
            .collect();
        assert_eq!(offsets, [(100, 1000), (101, 990), (102, 1010)], "{codec:?}");
        assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(records[1].key, None);
        assert_eq!(records[1].value.as_deref(), Some(&b""[..]));
        assert_eq!(records[2].value, None);
        assert_eq!(records[2].headers[0].key, &b"a"[..]);
        assert_eq!(records[2].headers[0].value.as_deref(), Some(&b"1"[..]));
        assert_eq!(records[2].headers[1].value, None);
    }
}

/// A batch written down byte by byte from the format's description (no builder of ours involved but the CRC).
#[test]
fn a_batch_has_exactly_the_bytes_of_the_format() {
    let mut builder = BatchBuilder::new();
    builder.push(0x1234, Some(b"k"), Some(b"val"));
    let batch = builder.build().expect("builds");
    let mut want = Vec::new();
    want.extend([0; 8]); // base offset
    want.extend([0, 0, 0, 60]); // length after this field
    want.extend([0xff; 4]); // leader epoch -1
    want.push(2); // magic
    let mut checked = Vec::new();
    checked.extend([0, 0]); // attributes
    checked.extend([0, 0, 0, 0]); // last offset delta
    checked.extend([0, 0, 0, 0, 0, 0, 0x12, 0x34]); // base timestamp
    checked.extend([0, 0, 0, 0, 0, 0, 0x12, 0x34]); // max timestamp
    checked.extend([0xff; 14]); // no producer id, epoch, sequence
    checked.extend([0, 0, 0, 1]); // one record
    checked.extend([20, 0, 0, 0, 2, b'k', 6, b'v', b'a', b'l', 0]);
    want.extend(crc32c::crc32c(&checked).to_be_bytes());
    want.extend(checked);
    assert_eq!(&batch[..], &want[..]);
}

#[test]
fn log_append_time_overrides_the_records_timestamps() {
    let mut builder = BatchBuilder::new();
    builder.push(10, None, None).push(20, None, None);
    let mut bytes = builder.build().expect("builds").to_vec();
    batch::set_log_append_time(&mut bytes, 5000);
    batch::verify_produced(&bytes).expect("the CRC was set anew");
    let records = read(&Bytes::from(bytes));
    assert!(records.iter().all(|record| record.timestamp == 5000));
}

#[test]
fn a_transaction_marker_is_a_control_batch_of_one_record() {
    for result in [TransactionResult::Abort, TransactionResult::Commit] {
        let marker = EndTransactionMarker {
            result,
            coordinator_epoch: 9,
        };
        let batch =
            end_transaction_batch((ProducerId(4), ProducerEpoch(1)), marker, 77).expect("builds");
        let header = batch::verify(&batch).expect("is sound");
        assert!(header.is_control() && header.is_transactional());
        assert_eq!(header.base_sequence, -1);
        assert_eq!(
            EndTransactionMarker::from_record(&read(&batch)[0]),
            Some(marker)
        );
    }
}

#[test]
fn a_batch_without_records_is_not_built() {
    assert!(matches!(
        BatchBuilder::new().build(),
        Err(BuildError::Empty)
    ));
}

fn check_refused(what: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut builder = BatchBuilder::new();
    builder.push(1, Some(b"key"), Some(b"value"));
    let mut bytes = builder.build().expect("builds").to_vec();
    change(&mut bytes);
    let batch = Bytes::from(bytes);
    let error = match RecordIter::new(&batch, 1 << 20) {
        Err(error) => error,
        Ok(records) => records
            .collect::<Result<Vec<_>, RecordError>>()
            .expect_err(what),
    };
    assert!(error.to_string().contains(what), "{error}");
}

#[test]
fn malformed_records_are_refused_with_the_field() {
    check_refused("cut short", |bytes| {
        bytes.pop();
    });
    check_refused("unknown compression codec", |bytes| bytes[22] = 5);
    check_refused("malformed length", |bytes| bytes[61] = 100);
    check_refused("malformed length", |bytes| bytes[61] = 1);
    check_refused("malformed offset delta", |bytes| bytes[64] = 2);
    check_refused("malformed key", |bytes| bytes[65] = 99);
    check_refused("malformed key", |bytes| bytes[65] = 3); // length -2
    check_refused("malformed value", |bytes| bytes[69] = 98);
    check_refused("malformed header count", |bytes| {
        *bytes.last_mut().expect("bytes") = 2;
    });
    check_refused("malformed length", |bytes| bytes[60] = 2); // one record promised that is not there
    check_refused("after its 0 records", |bytes| bytes[60] = 0);
}

#[test]
fn a_huge_header_count_allocates_nothing() {
    check_refused("malformed header count", |bytes| {
        let last = bytes.len() - 1;
        bytes.truncate(last);
        bytes.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
        bytes[61] += 8;
        let length = u32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    });
}

type Fields = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn fields() -> impl Strategy<Value = Fields> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    (
        0..i64::MAX / 2,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::vec((bytes(), prop::option::of(bytes())), 0..3),
    )
}

proptest! {
    #[test]
    fn any_records_come_back(records in prop::collection::vec(fields(), 1..20), codec in 0..5_usize, base in 0..1_i64 << 50) {
        let mut builder = BatchBuilder::new().base_offset(Offset(base)).compression(Compression::ALL[codec]);
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            builder.push_with_headers(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let batch = builder.build().expect("builds");
        batch::verify_produced(&batch).expect("is sound");
        let back = read(&batch);
        prop_assert_eq!(back.len(), records.len());
        for (n, (record, (timestamp, key, value, headers))) in back.iter().zip(&records).enumerate() {
            prop_assert_eq!(record.offset.0, base + n as i64);
            prop_assert_eq!(record.timestamp, *timestamp);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            let got: Vec<_> = record.headers.iter().map(|header| (header.key.to_vec(), header.value.as_ref().map(|value| value.to_vec()))).collect();
            prop_assert_eq!(&got, headers);
        }
    }

    #[test]
    fn arbitrary_record_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), count in 0..5_u8, codec in 0..8_u8) {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, None);
        let mut bytes = builder.build().expect("builds").to_vec();
        bytes.truncate(61);
        bytes.extend(&tail);
        bytes[22] = codec;
        bytes[60] = count;
        bytes[11] = u8::try_from(bytes.len() - 12).unwrap_or(255);
        let bytes = Bytes::from(bytes);
        prop_assert!(BatchHeader::parse(&bytes).is_ok());
        if let Ok(records) = RecordIter::new(&bytes, 1 << 16) {
            prop_assert!(records.count() <= usize::from(count) + 1);
        }
    }
}
