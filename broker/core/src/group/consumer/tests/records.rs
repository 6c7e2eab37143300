//! Are the records the bytes that Kafka writes?

use bytes::Bytes;
use types::TopicId;

use crate::group::GroupRecord;
use crate::group::consumer::partitions::Partitions;
use crate::group::consumer::record::{
    ClassicMember, ConsumerRecord, CurrentAssignment, Fact, GroupEpoch, MemberMetadata,
    MemberState, ResolvedRegex,
};
use crate::group::record::RecordError;

fn check(fact: Fact, key: &[u8], value: Option<&[u8]>) {
    let record = GroupRecord::Consumer(ConsumerRecord {
        group_id: "g".to_owned(),
        fact,
    });
    let (got_key, got_value) = record.encode();
    assert_eq!(&got_key[..], key);
    assert_eq!(got_value.as_deref(), value);
    assert_eq!(GroupRecord::decode(key, value), Ok(Some(record)));
    for end in 2..value.map_or(0, <[u8]>::len) {
        let cut = value.map(|value| &value[..end]);
        let opaque = key[1] == 4;
        assert!(opaque || GroupRecord::decode(key, cut).is_err(), "{end}");
    }
}

fn partitions() -> Partitions {
    [(TopicId([1; 16]), 0), (TopicId([1; 16]), 2)]
        .into_iter()
        .collect()
}

const ID: &[u8] = &[1; 16];
/// One topic with partitions 0 and 2, as a compact array.
const PARTITIONS: &[u8] = b"\x03\0\0\0\0\0\0\0\x02\0";

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn an_epoch_has_key_version_3_and_its_hash_in_a_tagged_field() {
    let plain = GroupEpoch {
        epoch: 7,
        metadata_hash: 0,
    };
    check(
        Fact::Epoch(Some(plain)),
        b"\0\x03\0\x01g",
        Some(b"\0\0\0\0\0\x07\0"),
    );
    let hashed = GroupEpoch {
        epoch: 7,
        metadata_hash: 5,
    };
    let value = b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\0\x05";
    check(Fact::Epoch(Some(hashed)), b"\0\x03\0\x01g", Some(value));
    check(Fact::Epoch(None), b"\0\x03\0\x01g", None);
}

#[test]
fn partition_metadata_of_older_coordinators_is_kept_as_it_is() {
    let value = Some(Bytes::from_static(b"\0\0\x01\0"));
    check(
        Fact::PartitionMetadata(value),
        b"\0\x04\0\x01g",
        Some(b"\0\0\x01\0"),
    );
    check(Fact::PartitionMetadata(None), b"\0\x04\0\x01g", None);
}

#[test]
fn a_member_has_key_version_5() {
    let member = MemberMetadata {
        instance_id: Some("i".to_owned()),
        rack_id: None,
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topic_names: ["t".to_owned(), "u".to_owned()].into(),
        topic_regex: Some("r".to_owned()),
        rebalance_timeout_ms: 9,
        server_assignor: None,
        classic: None,
    };
    let value = b"\0\0\x02i\0\x02c\x03/h\x03\x02t\x02u\x02r\0\0\0\x09\0\0";
    check(
        Fact::Member("m".to_owned(), Some(member)),
        b"\0\x05\0\x01g\0\x01m",
        Some(value),
    );
    check(
        Fact::Member("m".to_owned(), None),
        b"\0\x05\0\x01g\0\x01m",
        None,
    );
}

#[test]
fn a_member_of_the_classic_protocol_says_so_in_a_tagged_field() {
    let member = MemberMetadata {
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topic_names: ["t".to_owned()].into(),
        rebalance_timeout_ms: 9,
        classic: Some(ClassicMember {
            session_timeout_ms: 7,
            protocols: vec![
                ("r".to_owned(), Bytes::from_static(b"ab")),
                ("s".to_owned(), Bytes::new()),
            ],
        }),
        ..MemberMetadata::default()
    };
    let plain = b"\0\0\0\0\x02c\x03/h\x02\x02t\0\0\0\0\x09\0";
    // One tag, 0, of 17 bytes: not null, the session timeout, two protocols.
    let classic = b"\x01\0\x11\x01\0\0\0\x07\x03\x02r\x03ab\0\x02s\x01\0\0";
    check(
        Fact::Member("m".to_owned(), Some(member)),
        b"\0\x05\0\x01g\0\x01m",
        Some(&bytes(&[plain, classic])),
    );
}

#[test]
fn targets_have_key_versions_6_and_7() {
    check(
        Fact::TargetEpoch(Some(3)),
        b"\0\x06\0\x01g",
        Some(b"\0\0\0\0\0\x03\0"),
    );
    let value = bytes(&[b"\0\0\x02", ID, PARTITIONS, b"\0"]);
    let target = Fact::Target("m".to_owned(), Some(partitions()));
    check(target, b"\0\x07\0\x01g\0\x01m", Some(&value));
    let nothing = Fact::Target("m".to_owned(), Some(Partitions::default()));
    check(nothing, b"\0\x07\0\x01g\0\x01m", Some(b"\0\0\x01\0"));
}

#[test]
fn a_current_assignment_has_key_version_8() {
    let current = CurrentAssignment {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnrevokedPartitions,
        assigned: Partitions::default(),
        pending_revocation: partitions(),
    };
    let value = bytes(&[
        b"\0\0\0\0\0\x04\0\0\0\x03\x01\x01\x02",
        ID,
        PARTITIONS,
        b"\0",
    ]);
    let fact = Fact::Current("m".to_owned(), Some(current));
    check(fact, b"\0\x08\0\x01g\0\x01m", Some(&value));
}

#[test]
fn a_regular_expression_has_key_version_16() {
    let resolved = ResolvedRegex {
        topics: ["t".to_owned()].into(),
        version: 2,
        timestamp_ms: 3,
    };
    let value = b"\0\0\x02\x02t\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0";
    let fact = Fact::Regex("r.*".to_owned(), Some(resolved));
    check(fact, b"\0\x10\0\x01g\0\x03r.*", Some(value));
}

#[test]
fn tagged_fields_of_newer_versions_are_skipped() {
    // The epochs at which the partitions were assigned, tag 0 of a topic in a current assignment.
    let tagged = b"\x03\0\0\0\0\0\0\0\x02\x01\0\x09\x03\0\0\0\x01\0\0\0\x01";
    let value = bytes(&[b"\0\0\0\0\0\x04\0\0\0\x03\0\x02", ID, tagged, b"\x01\0"]);
    let record = GroupRecord::decode(b"\0\x08\0\x01g\0\x01m", Some(&value)).unwrap();
    let Some(GroupRecord::Consumer(ConsumerRecord {
        fact: Fact::Current(_, Some(current)),
        ..
    })) = record
    else {
        panic!("{record:?}")
    };
    assert_eq!(current.assigned, partitions());
}

#[test]
fn a_state_and_a_version_of_the_future_are_errors() {
    let key = b"\0\x08\0\x01g\0\x01m";
    let state = b"\0\0\0\0\0\x04\0\0\0\x03\x07\x01\x01\0";
    let error = RecordError::Value {
        field: "state",
        value: 7,
    };
    assert_eq!(GroupRecord::decode(key, Some(state)), Err(error));
    let version = GroupRecord::decode(b"\0\x06\0\x01g", Some(b"\0\x01\0\0\0\x03\0"));
    assert_eq!(
        version,
        Err(RecordError::Version {
            version: 1,
            min: 0,
            max: 0
        })
    );
}
