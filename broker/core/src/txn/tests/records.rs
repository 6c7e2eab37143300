//! Are records what Kafka writes and reads?

use types::{ProducerEpoch, ProducerId, TopicPartition};

use super::fixture::metadata;
use crate::txn::{TransactionMetadata, TransactionRecord, TransactionState, TransactionVersion};

fn record(value: Option<TransactionMetadata>) -> TransactionRecord {
    TransactionRecord {
        transactional_id: "ab".into(),
        value,
    }
}

#[test]
fn an_empty_id_has_these_bytes() {
    let value = TransactionMetadata {
        producer_epoch: ProducerEpoch(2),
        ..metadata(TransactionState::Empty)
    };
    let (key, bytes) = record(Some(value)).encode();
    assert_eq!(&key[..], b"\0\0\0\x02ab");
    let want = [
        &[0, 1][..],               // version
        &[0, 0, 0, 0, 0, 0, 0, 7], // producer id
        &[0, 2],                   // epoch
        &[0, 0, 0xea, 0x60],       // timeout
        &[0],                      // Empty
        &[0],                      // null: no partitions
        &[0, 0, 0, 0, 0, 0, 0, 5], // last update
        &[0xff; 8],                // start
        &[0],                      // no tags
    ];
    assert_eq!(bytes.unwrap(), want.concat());
}

#[test]
fn every_state_comes_back() {
    for state in TransactionState::ALL {
        let mut value = metadata(state);
        value.previous_producer_id = Some(ProducerId(6));
        value.next_producer_id = Some(ProducerId(8));
        value.version = TransactionVersion::V2;
        value.start_ms = Some(3);
        if state != TransactionState::Empty {
            let named = [("t", 0), ("t", 5), ("u", 1)];
            value.partitions = named.map(|(t, p)| TopicPartition::new(t, p)).into();
        }
        let written = record(Some(value));
        let (key, bytes) = written.encode();
        assert_eq!(
            TransactionRecord::decode(&key, bytes.as_deref()),
            Ok(written)
        );
    }
    let (key, bytes) = record(None).encode();
    assert_eq!(bytes, None);
    assert_eq!(TransactionRecord::decode(&key, None), Ok(record(None)));
}

#[test]
fn version_0_is_read() {
    let bytes = [
        &[0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[0, 2],
        &[0, 0, 0xea, 0x60],
        &[1],                      // Ongoing
        &[0, 0, 0, 1, 0, 1, b't'], // one topic
        &[0, 0, 0, 1, 0, 0, 0, 9], // one partition
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[0, 0, 0, 0, 0, 0, 0, 4],
    ]
    .concat();
    let read = TransactionRecord::decode(b"\0\0\0\x02ab", Some(&bytes)).unwrap();
    let value = TransactionMetadata {
        producer_epoch: ProducerEpoch(2),
        partitions: [TopicPartition::new("t", 9)].into(),
        start_ms: Some(4),
        ..metadata(TransactionState::Ongoing)
    };
    assert_eq!(read, record(Some(value)));
}

#[test]
fn no_prefix_of_a_record_is_read_as_one() {
    let mut value = metadata(TransactionState::Ongoing);
    value.partitions = [TopicPartition::new("t", 9)].into();
    value.version = TransactionVersion::V2;
    let (key, bytes) = record(Some(value)).encode();
    let bytes = bytes.unwrap();
    for end in 0..bytes.len() {
        assert!(
            TransactionRecord::decode(&key, Some(&bytes[..end])).is_err(),
            "{end}"
        );
    }
    for end in 0..key.len() {
        assert!(
            TransactionRecord::decode(&key[..end], None).is_err(),
            "{end}"
        );
    }
}
