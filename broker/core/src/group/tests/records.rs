//! Are records the bytes that Kafka writes, and is anything else refused?

use bytes::Bytes;
use types::{LeaderEpoch, Offset, TopicPartition};

use crate::group::GroupRecord;
use crate::group::record::{CommittedOffset, GroupMetadata, MemberMetadata, RecordError};

fn offset_record() -> GroupRecord {
    GroupRecord::Offset {
        group_id: "g".to_owned(),
        partition: TopicPartition::new("t", 2),
        value: Some(CommittedOffset {
            offset: Offset(5),
            leader_epoch: Some(LeaderEpoch(3)),
            metadata: "m".to_owned(),
            commit_timestamp_ms: 9,
            expire_timestamp_ms: None,
        }),
    }
}

#[test]
fn a_commit_has_key_version_1_and_value_version_3() {
    let (key, value) = offset_record().encode();
    assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x02");
    assert_eq!(
        &value.unwrap()[..],
        b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x09"
    );
}

#[test]
fn group_metadata_has_key_version_2_and_value_version_3() {
    let record = GroupRecord::Group {
        group_id: "g".to_owned(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 1,
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            current_state_timestamp_ms: Some(7),
            members: vec![MemberMetadata {
                member_id: "a".to_owned(),
                group_instance_id: None,
                client_id: "c".to_owned(),
                client_host: "/h".to_owned(),
                rebalance_timeout_ms: 2,
                session_timeout_ms: 1,
                subscription: Bytes::from_static(b"s"),
                assignment: Bytes::from_static(b"xy"),
            }],
        }),
    };
    let (key, value) = record.encode();
    assert_eq!(&key[..], b"\0\x02\0\x01g");
    let value = value.unwrap();
    assert_eq!(
        &value[..],
        b"\0\x03\0\x08consumer\0\0\0\x01\0\x05range\0\x01a\0\0\0\0\0\0\0\x07\0\0\0\x01\
          \0\x01a\xff\xff\0\x01c\0\x02/h\0\0\0\x02\0\0\0\x01\0\0\0\x01s\0\0\0\x02xy"
    );
    assert_eq!(GroupRecord::decode(&key, Some(&value)), Ok(Some(record)));
}

#[test]
fn older_and_flexible_values_of_a_commit_are_read() {
    let (key, _) = offset_record().encode();
    let cases: [(&[u8], Option<i32>, Option<i64>); 4] = [
        (
            b"\0\0\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09",
            None,
            None,
        ),
        (
            b"\0\x01\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x0a",
            None,
            Some(10),
        ),
        (
            b"\0\x02\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09",
            None,
            None,
        ),
        (
            b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x03\x02m\0\0\0\0\0\0\0\x09\0",
            Some(3),
            None,
        ),
    ];
    for (bytes, epoch, expire) in cases {
        let record = GroupRecord::decode(&key, Some(bytes)).unwrap().unwrap();
        let GroupRecord::Offset {
            value: Some(value), ..
        } = record
        else {
            panic!("{record:?}")
        };
        assert_eq!(value.offset, Offset(5));
        assert_eq!(value.metadata, "m");
        assert_eq!(value.commit_timestamp_ms, 9);
        assert_eq!(value.leader_epoch, epoch.map(LeaderEpoch));
        assert_eq!(value.expire_timestamp_ms, expire);
    }
}

#[test]
fn records_of_other_kinds_of_groups_are_left_alone() {
    // 11: of a share group
    assert_eq!(GroupRecord::decode(b"\0\x0b\0\x01g", Some(b"")), Ok(None));
}

#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    let (key, value) = offset_record().encode();
    let value = value.unwrap();
    for end in 0..value.len() {
        assert!(
            GroupRecord::decode(&key, Some(&value[..end])).is_err(),
            "{end}"
        );
    }
    for end in 0..key.len() {
        assert!(GroupRecord::decode(&key[..end], None).is_err(), "{end}");
    }
    assert_eq!(
        GroupRecord::decode(&key, Some(b"\0\x09")),
        Err(RecordError::Version {
            version: 9,
            min: 0,
            max: 4
        })
    );
    let huge = b"\0\x03\0\x01c\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\x07\x7f\xff\xff\xff";
    assert!(GroupRecord::decode(b"\0\x02\0\x01g", Some(huge)).is_err());
}
