//! Which request frames does the hostile test start from?

use bytes::BytesMut;
use types::builder::BatchBuilder;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::*;
use wire::{ApiKey, Message as _, Request};

/// One frame (without length) per API and version that encodes from defaults, plus a few with content.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    macro_rules! every {
        ($($request:ident)*) => { $( frames.extend(of(&$request::default())); )* };
    }
    every!(
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
        DescribeGroupsRequest ListGroupsRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest
        InitProducerIdRequest OffsetForLeaderEpochRequest DescribeConfigsRequest SaslAuthenticateRequest
        CreatePartitionsRequest DeleteGroupsRequest IncrementalAlterConfigsRequest DescribeClusterRequest
        ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest
    );
    frames.extend(of(&produce()));
    frames
}

fn of<R: Request>(request: &R) -> Vec<Vec<u8>> {
    R::VERSIONS
        .filter_map(|version| wire::encode_request(7, Some("hostile"), version, request).ok())
        .map(|chunks| chunks.concat()[4..].to_vec())
        .collect()
}

fn produce() -> ProduceRequest {
    let mut builder = BatchBuilder::new();
    for n in 0..10_u8 {
        builder.push(i64::from(n), Some(b"key"), Some(&[n; 100]));
    }
    let records = builder.build().expect("ten small records");
    let partition = PartitionProduceData {
        index: 0,
        records: Some(records),
        ..Default::default()
    };
    ProduceRequest {
        acks: 1,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: "orders".into(),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A request header of any version for `key`, followed by `body`.
pub(crate) fn with_header(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: key.as_i16(),
        request_api_version: version,
        correlation_id: 9,
        client_id: Some("hostile".to_owned()),
        ..RequestHeader::default()
    };
    let mut bytes = BytesMut::new();
    header
        .encode(&mut bytes, key.request_header_version(version))
        .unwrap();
    bytes.extend_from_slice(body);
    bytes.to_vec()
}
