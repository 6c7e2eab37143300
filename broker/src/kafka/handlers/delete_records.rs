//! DeleteRecords (key 21): from which offset on does a partition go on (KIP-107)?

use broker_core::metadata::MetadataImage;
use types::{ErrorCode, Offset};
use wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::kafka::context::{RequestContext, timeout_of};
use crate::kafka::topics::partition_of;
use crate::replication::{DeleteBefore, TopicIdPartition};

/// Stands for everything that is replicated.
const HIGH_WATERMARK: i64 = -1;
/// Of a partition that could not be done.
const NO_LOW_WATERMARK: i64 = -1;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let image = cx.image();
    let mut wanted = Vec::new();
    let checked: Vec<Vec<Result<(), ErrorCode>>> = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let (index, offset) = (partition.partition_index, partition.offset);
                let one = check(&image, &topic.name, index, offset)?;
                wanted.push(one);
                Ok(())
            });
            partitions.collect()
        })
        .collect();
    let replicas = &cx.broker.replicas;
    let deleted = replicas.delete_records(wanted, timeout_of(request.timeout_ms));
    let mut deleted = deleted.await.into_iter();
    let topics = request.topics.into_iter().zip(checked);
    DeleteRecordsResponse {
        topics: topics
            .map(|(topic, checked)| DeleteRecordsTopicResult {
                partitions: (topic.partitions.iter().zip(checked))
                    .map(|(partition, checked)| {
                        let result = checked.and_then(|()| {
                            deleted.next().unwrap_or(Err(ErrorCode::UnknownServerError))
                        });
                        partition_result(partition.partition_index, result)
                    })
                    .collect(),
                name: topic.name,
                ..DeleteRecordsTopicResult::default()
            })
            .collect(),
        ..DeleteRecordsResponse::default()
    }
}

fn check(
    image: &MetadataImage,
    name: &str,
    index: i32,
    offset: i64,
) -> Result<(TopicIdPartition, DeleteBefore), ErrorCode> {
    let topic = (image.topic_by_name(name)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.partition(index).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if config::topic_name::is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let before = match offset {
        HIGH_WATERMARK => DeleteBefore::HighWatermark,
        offset => DeleteBefore::Offset(Offset(offset)),
    };
    Ok((partition_of(topic, index), before))
}

fn partition_result(
    partition_index: i32,
    result: Result<Offset, ErrorCode>,
) -> DeleteRecordsPartitionResult {
    let (low_watermark, error) = match result {
        Ok(low_watermark) => (low_watermark.0, ErrorCode::None),
        Err(error) => (NO_LOW_WATERMARK, error),
    };
    DeleteRecordsPartitionResult {
        partition_index,
        low_watermark,
        error_code: error.code(),
        ..DeleteRecordsPartitionResult::default()
    }
}
