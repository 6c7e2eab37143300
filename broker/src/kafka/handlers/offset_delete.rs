//! OffsetDelete (key 47): which committed offsets of a group go, of topics it does not consume any more (KIP-496)?

use types::TopicPartition;
use wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let partitions = request
        .topics
        .iter()
        .flat_map(|topic| {
            (topic.partitions.iter())
                .map(|p| TopicPartition::new(topic.name.as_str(), p.partition_index))
        })
        .collect();
    let groups = &cx.broker.groups;
    let deleted = match groups.delete_offsets(&request.group_id, partitions).await {
        Ok(deleted) => deleted,
        Err(error) => {
            return OffsetDeleteResponse {
                error_code: error.code(),
                ..OffsetDeleteResponse::default()
            };
        }
    };
    let mut errors = deleted.into_iter().map(|(_, error)| error);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().zip(errors.by_ref());
        OffsetDeleteResponseTopic {
            partitions: partitions
                .map(|(partition, error)| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                })
                .collect(),
            name: topic.name,
        }
    });
    OffsetDeleteResponse {
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    }
}
