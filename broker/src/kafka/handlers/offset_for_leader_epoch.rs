//! OffsetForLeaderEpoch (key 23): where did an epoch end, so that a consumer notices truncation (KIP-320)?

use types::{ErrorCode, LeaderEpoch};
use wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::topics::partition_of;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = cx.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = image.topic_by_name(&topic.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let result = match known {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(topic) => cx
                    .broker
                    .replicas
                    .offset_for_leader_epoch(
                        &partition_of(topic, partition.partition),
                        (partition.current_leader_epoch >= 0)
                            .then_some(LeaderEpoch(partition.current_leader_epoch)),
                        LeaderEpoch(partition.leader_epoch),
                    )
                    .map_err(|error| error.code),
            };
            let mut answer = EpochEndOffset {
                partition: partition.partition,
                ..EpochEndOffset::default()
            };
            match result {
                Ok(end) => {
                    answer.leader_epoch = end.leader_epoch.map_or(-1, |epoch| epoch.0);
                    answer.end_offset = end.end_offset.map_or(-1, |offset| offset.0);
                }
                Err(error) => answer.error_code = error.code(),
            }
            partitions.push(answer);
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
            ..OffsetForLeaderTopicResult::default()
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..OffsetForLeaderEpochResponse::default()
    }
}
