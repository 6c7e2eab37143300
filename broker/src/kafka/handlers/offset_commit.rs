//! OffsetCommit (key 8): how far has a group consumed?

use broker_core::group::request::{CommitPartition, CommitRequest};
use broker_core::metadata::MetadataImage;
use types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};
use wire::messages::offset_commit_request::OffsetCommitRequestTopic;
use wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::topics::resolve;

/// Topics are named by id from this version on.
const IDS_SINCE: i16 = 10;
/// The generation may be the epoch of a member of a consumer group from this version on (KIP-848).
const EPOCHS_SINCE: i16 = 9;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = cx.image();
    let partitions = request
        .topics
        .iter()
        .flat_map(|topic| commits(&cx, &image, topic))
        .collect();
    let generation = request.generation_id_or_member_epoch;
    let reply = cx
        .broker
        .groups
        .commit(CommitRequest {
            group_id: request.group_id,
            generation: (generation >= 0).then_some(generation),
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            knows_epochs: cx.version >= EPOCHS_SINCE,
            retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
            partitions,
        })
        .await;
    let mut errors = reply.partitions.into_iter().map(|(_, error)| error);
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .zip(errors.by_ref())
                .map(|(partition, error)| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                    ..OffsetCommitResponsePartition::default()
                })
                .collect(),
            ..OffsetCommitResponseTopic::default()
        })
        .collect();
    OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    }
}

fn commits(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &OffsetCommitRequestTopic,
) -> Vec<CommitPartition> {
    let found = resolve(image, cx.version >= IDS_SINCE, &topic.name, topic.topic_id);
    topic
        .partitions
        .iter()
        .map(|partition| {
            let index = partition.partition_index;
            let (name, error) = match &found {
                Ok(topic) if topic.partition(index).is_some() => {
                    (topic.name.clone(), ErrorCode::None)
                }
                Ok(topic) => (topic.name.clone(), ErrorCode::UnknownTopicOrPartition),
                Err(error) => (topic.name.as_str().into(), *error),
            };
            let epoch = partition.committed_leader_epoch;
            CommitPartition {
                partition: TopicPartition::new(name, index),
                offset: Offset(partition.committed_offset),
                leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)),
                metadata: partition.committed_metadata.clone().unwrap_or_default(),
                error,
            }
        })
        .collect()
}
