//! Are the rules kept that break clients when they are wrong? Bytes written out by hand from the protocol guide.

use bytes::{Bytes, BytesMut};
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse, FinalizedFeatureKey};
use wire::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use wire::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use wire::messages::{
    ApiVersionsRequest, ConsumerProtocolSubscription, GroupMetadataKey, ListOffsetsRequest,
    MetadataRequest, OffsetCommitKey, OffsetCommitValue, ProduceRequest,
};
use wire::{
    ApiKey, DecodeErrorKind, EncodeError, FrameError, Message, RecordKey, Records, RequestFrame,
    decode_response, encode_request, encode_response, encode_response_chunks, record_type,
};

fn encoded<M: Message>(message: &M, version: i16) -> Vec<u8> {
    let mut buf = BytesMut::new();
    message.encode(&mut buf, version).unwrap();
    buf.to_vec()
}

#[test]
fn api_versions_response_has_header_version_0_even_when_flexible() {
    let response = ApiVersionsResponse {
        api_keys: vec![ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 4,
            ..ApiVersion::default()
        }],
        finalized_features: vec![FinalizedFeatureKey {
            name: "tv".into(),
            max_version_level: 2,
            min_version_level: 1,
            ..FinalizedFeatureKey::default()
        }],
        ..ApiVersionsResponse::default()
    };
    let expected: &[u8] = &[
        0, 0, 0, 30, // frame length
        0, 0, 0, 7, // correlation id, and no tagged fields after it
        0, 0, // error code
        2, 0, 18, 0, 0, 0, 4, 0, // one api key: compact count, three int16, its tags
        0, 0, 0, 0, // throttle time
        1, // one tagged field
        2, 9, 2, 3, b't', b'v', 0, 2, 0, 1, 0, // tag 2, nine bytes: one feature
    ];
    let frame = encode_response(7, 3, &response).unwrap();
    assert_eq!(&frame[..], expected);
    let (correlation_id, back) =
        decode_response::<ApiVersionsResponse>(frame.slice(4..), 3).unwrap();
    assert_eq!((correlation_id, back), (7, response));
}

#[test]
fn features_are_dropped_in_versions_without_tags() {
    let response = ApiVersionsResponse {
        finalized_features: vec![FinalizedFeatureKey::default()],
        finalized_features_epoch: 5,
        ..ApiVersionsResponse::default()
    };
    assert_eq!(encoded(&response, 0), [0, 0, 0, 0, 0, 0]);
}

#[test]
fn request_header_version_2_has_a_client_id_that_is_not_compact() {
    let request = ApiVersionsRequest {
        client_software_name: "x".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let expected: &[u8] = &[
        0, 0, 0, 19, // frame length
        0, 18, 0, 3, 0, 0, 0, 9, // api key, version, correlation id
        0, 3, b'a', b'p', b'p', // client id with an int16 length
        0,    // tagged fields of the header
        2, b'x', 2, b'1', 0, // compact strings, tags
    ];
    let frame: Vec<u8> = encode_request(9, Some("app"), 3, &request)
        .unwrap()
        .concat();
    assert_eq!(frame, expected);

    let parsed = RequestFrame::parse(Bytes::from(frame).slice(4..)).unwrap();
    assert_eq!(
        (parsed.api_key, parsed.version, parsed.correlation_id),
        (ApiKey::ApiVersions, 3, 9)
    );
    assert_eq!(parsed.client_id.as_deref(), Some("app"));
    assert_eq!(parsed.decode::<ApiVersionsRequest>().unwrap(), request);
}

#[test]
fn an_unknown_version_of_api_versions_still_gives_a_frame_to_answer() {
    for body in [
        &b""[..],
        b"\x7f\xff\xff\xff\xff",
        b"\0\x03app\0\x01\x02\x03",
    ] {
        let mut frame = vec![0, 18, 0, 99, 0, 0, 0, 1];
        frame.extend_from_slice(body);
        let parsed = RequestFrame::parse(Bytes::from(frame)).unwrap();
        assert_eq!(
            (
                parsed.version,
                parsed.correlation_id,
                parsed.is_known_version()
            ),
            (99, 1, false)
        );
    }
}

#[test]
fn an_unknown_api_names_its_key_and_correlation_id() {
    let error =
        RequestFrame::parse(Bytes::from_static(&[3, 232, 0, 1, 0, 0, 0, 5, 255, 255])).unwrap_err();
    assert_eq!(
        error,
        FrameError::UnknownApiKey {
            api_key: 1000,
            version: 1,
            correlation_id: 5
        }
    );
    let error = RequestFrame::parse(Bytes::from_static(&[0, 18, 0])).unwrap_err();
    assert_eq!(error, FrameError::TooShort(3));
}

#[test]
fn a_nullable_struct_has_a_presence_byte() {
    let mut response = ConsumerGroupHeartbeatResponse {
        member_id: Some("m".into()),
        ..ConsumerGroupHeartbeatResponse::default()
    };
    let head: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2, b'm', 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(encoded(&response, 0), [head, &[255, 0]].concat());
    response.assignment = Some(Assignment {
        topic_partitions: vec![TopicPartitions {
            partitions: vec![3],
            ..TopicPartitions::default()
        }],
        ..Assignment::default()
    });
    let assignment: &[u8] = &[
        1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
    ];
    assert_eq!(encoded(&response, 0), [head, assignment].concat());
}

#[test]
fn a_default_partition_of_a_fetch_response_has_empty_and_not_null_records() {
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![PartitionData::default()],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    assert_eq!(
        encoded(&response, 4)[encoded(&response, 4).len() - 4..],
        [0, 0, 0, 0]
    );
    let flexible = encoded(&response, 13);
    assert_eq!(flexible[flexible.len() - 4..], [1, 0, 0, 0]); // compact zero length, tags of partition, topic, response
}

#[test]
fn large_records_are_spliced_and_the_frame_is_the_same() {
    let batches = [
        Bytes::from(vec![1; 5000]),
        Bytes::from(vec![2; 10]),
        Bytes::from(vec![3; 4096]),
    ];
    let partition = |index| PartitionData {
        partition_index: index,
        records: Some(batches.iter().cloned().collect()),
        current_leader: LeaderIdAndEpoch {
            leader_id: 1,
            leader_epoch: 2,
            ..LeaderIdAndEpoch::default()
        },
        ..PartitionData::default()
    };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![partition(0), partition(1)],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let chunks = encode_response_chunks(3, 16, &response).unwrap();
    assert_eq!(chunks.concat(), encode_response(3, 16, &response).unwrap());
    for batch in batches.iter().filter(|b| b.len() > 4000) {
        let same = chunks
            .iter()
            .filter(|chunk| chunk.as_ptr() == batch.as_ptr() && chunk.len() == batch.len());
        assert_eq!(same.count(), 2, "a large batch is not copied");
    }
    let frame = Bytes::from(chunks.concat());
    assert_eq!(
        decode_response::<FetchResponse>(frame.slice(4..), 16)
            .unwrap()
            .1,
        response
    );
}

#[test]
fn decoded_records_are_a_slice_of_the_frame() {
    let mut frame = BytesMut::new();
    let produce: &[u8] = &[
        0, 0, 255, 255, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 3, 7,
        8, 9,
    ];
    frame.extend_from_slice(produce);
    let frame = frame.freeze();
    let request = ProduceRequest::decode_exact(frame.clone(), 3).unwrap();
    let records = request.topic_data[0].partition_data[0]
        .records
        .clone()
        .unwrap();
    assert_eq!(request.topic_data[0].partition_data[0].index, 4);
    assert_eq!(records.as_ptr(), frame[27..].as_ptr());
    assert_eq!(Records::from(records).into_bytes(), frame.slice(27..));
}

#[test]
fn an_error_names_the_message_the_field_and_the_offset() {
    // Produce v3 with a topic whose second partition ends in the middle of its records
    let bytes: &[u8] = &[
        255, 255, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0,
        0, 0, 5, 0, 0, 0, 9, 1,
    ];
    let error = ProduceRequest::decode_exact(Bytes::from_static(bytes), 3).unwrap_err();
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::Truncated {
            needed: 9,
            remaining: 1
        }
    );
    assert_eq!(
        error.to_string(),
        "failed to decode ProduceRequest v3 at offset 35, field topic_data[0].partition_data[1].records: needs 9 bytes but 1 remain"
    );
    let error = MetadataRequest::decode_exact(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), 0)
        .unwrap_err();
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::Count {
            count: 0x7fff_ffff,
            remaining: 0
        }
    );
    assert_eq!(error.path(), "topics");
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    assert_eq!(
        MetadataRequest::decode_exact(Bytes::from_static(&[255; 4]), 0)
            .unwrap_err()
            .kind(),
        &DecodeErrorKind::Null
    );
    assert_eq!(
        MetadataRequest::decode_exact(Bytes::from_static(&[255; 4]), 1)
            .unwrap()
            .topics,
        None
    );
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let mut buf = BytesMut::from(&b"before"[..]);
    assert_eq!(
        all.encode(&mut buf, 0),
        Err(EncodeError::Null {
            field: "MetadataRequest.topics"
        })
    );
    assert_eq!(
        &buf[..],
        b"before",
        "a failed encode leaves the buffer as it was"
    );
}

#[test]
fn a_field_that_the_version_lacks_is_refused_unless_default_or_ignorable() {
    let request = ListOffsetsRequest {
        isolation_level: 1,
        ..ListOffsetsRequest::default()
    };
    let mut buf = BytesMut::new();
    assert_eq!(
        request.encode(&mut buf, 1),
        Err(EncodeError::NotInVersion {
            field: "ListOffsetsRequest.isolation_level",
            version: 1
        })
    );
    assert_eq!(request.encode(&mut buf, 2), Ok(()));
    assert!(matches!(
        request.encode(&mut buf, 99),
        Err(EncodeError::Version {
            min: 1,
            max: 11,
            ..
        })
    ));
}

#[test]
fn stored_offset_records_have_type_and_version_in_front() {
    let key = OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 2,
    };
    let bytes = key.encode_key().unwrap();
    assert_eq!(&bytes[..], &[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
    assert_eq!(record_type(&bytes), Some(1));
    assert_eq!(OffsetCommitKey::decode_key(bytes.clone()).unwrap(), key);
    let error = GroupMetadataKey::decode_key(bytes).unwrap_err();
    assert_eq!(
        error.kind(),
        &DecodeErrorKind::KeyType { want: 2, found: 1 }
    );

    let value = OffsetCommitValue {
        offset: 5,
        leader_epoch: 1,
        commit_timestamp: 6,
        ..OffsetCommitValue::default()
    };
    let bytes = value.encode_versioned(3).unwrap();
    assert_eq!(
        &bytes[..],
        &[
            0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6
        ]
    );
    assert_eq!(
        OffsetCommitValue::decode_versioned(bytes).unwrap(),
        (3, value)
    );
}

#[test]
fn a_newer_subscription_is_read_as_the_newest_known() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        ..ConsumerProtocolSubscription::default()
    };
    let mut newer = BytesMut::from(&subscription.encode_versioned(3).unwrap()[..]);
    newer[1] = 9;
    newer.extend_from_slice(b"unknown to us");
    let (version, read) =
        ConsumerProtocolSubscription::decode_versioned_lenient(newer.freeze()).unwrap();
    assert_eq!((version, read), (9, subscription));
}

#[test]
fn join_group_keeps_versions_that_old_clients_ask_about() {
    assert_eq!(ApiKey::JoinGroup.valid_versions(), 0..=9);
    assert_eq!(ApiKey::Produce.valid_versions(), 3..=13);
    assert!(ApiKey::ALL.is_sorted());
}

#[test]
fn metadata_request_v13_of_librdkafka_2_16_for_all_topics_has_bytes_after_its_end() {
    let captured =
        b"\x00\x03\x00\x0d\x00\x00\x00\x03\x00\x07rdkafka\x00\x00\x00\x00\x00\x00\x01\x00\x00";
    let frame = RequestFrame::parse(Bytes::from_static(captured)).unwrap();
    let request: MetadataRequest = frame.decode().unwrap();
    assert_eq!(request.topics, None, "all topics");
}
