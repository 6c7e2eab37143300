//! ListOffsets (key 2): where does a partition begin and end, and where does a time lie in it?

use std::collections::HashSet;

use broker_core::metadata::MetadataImage;
use types::{ErrorCode, LeaderEpoch};
use wire::messages::list_offsets_request::ListOffsetsPartition;
use wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::topics::partition_of;
use crate::replication::{Isolation, ListedOffset, OffsetSpec};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let image = cx.image();
    let isolation = if request.isolation_level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut seen = HashSet::new();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let result = if seen.insert(index) {
                list(&cx, &image, &topic.name, &partition, isolation)
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            partitions.push(partition_response(&cx, index, result));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..ListOffsetsTopicResponse::default()
        });
    }
    ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }
}

fn list(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    partition: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<ListedOffset, ErrorCode> {
    let spec = match partition.timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST => OffsetSpec::Earliest,
        MAX_TIMESTAMP if cx.version >= 7 => OffsetSpec::MaxTimestamp,
        EARLIEST_LOCAL if cx.version >= 8 => OffsetSpec::Earliest,
        // Nothing is tiered: there is no such offset.
        LATEST_TIERED if cx.version >= 9 => {
            return Ok(ListedOffset {
                offset: None,
                timestamp_ms: None,
                leader_epoch: None,
            });
        }
        timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    let topic = (image.topic_by_name(topic)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let epoch = partition.current_leader_epoch;
    cx.broker
        .replicas
        .list_offsets(
            &partition_of(topic, partition.partition_index),
            spec,
            isolation,
            (epoch >= 0).then_some(LeaderEpoch(epoch)),
        )
        .map_err(|error| error.code)
}

fn partition_response(
    cx: &RequestContext,
    partition_index: i32,
    result: Result<ListedOffset, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    match result {
        Ok(listed) => {
            response.offset = listed.offset.map_or(-1, |offset| offset.0);
            response.timestamp = listed.timestamp_ms.unwrap_or(-1);
            if cx.version >= 4 {
                response.leader_epoch = listed.leader_epoch.map_or(-1, |epoch| epoch.0);
            }
        }
        Err(error) => response.error_code = error.code(),
    }
    response
}
