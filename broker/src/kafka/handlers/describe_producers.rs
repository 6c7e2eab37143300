//! DescribeProducers (key 61): who has written to these partitions, and which transactions are open there (KIP-664)?

use std::future::{Ready, ready};

use types::ErrorCode;
use wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::topics::partition_of;
use crate::replication::ActiveProducer;

pub(in crate::kafka) fn handle(
    cx: RequestContext,
    request: DescribeProducersRequest,
) -> Ready<DescribeProducersResponse> {
    let image = cx.image();
    let topics = request.topics.into_iter().map(|topic| {
        let found = image.topic_by_name(&topic.name);
        let partitions = topic.partition_indexes.iter().map(|index| {
            let producers = match found {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(found) => {
                    let partition = partition_of(found, *index);
                    let active = cx.broker.replicas.active_producers(&partition);
                    active.map_err(|error| match error.code {
                        // It exists, elsewhere: the client asks its leader.
                        ErrorCode::UnknownTopicOrPartition if found.partition(*index).is_some() => {
                            ErrorCode::NotLeaderOrFollower
                        }
                        code => code,
                    })
                }
            };
            partition_response(*index, producers)
        });
        TopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
            ..TopicResponse::default()
        }
    });
    ready(DescribeProducersResponse {
        topics: topics.collect(),
        ..DescribeProducersResponse::default()
    })
}

fn partition_response(
    partition_index: i32,
    producers: Result<Vec<ActiveProducer>, ErrorCode>,
) -> PartitionResponse {
    let (error, producers) = match producers {
        Ok(producers) => (ErrorCode::None, producers),
        Err(error) => (error, Vec::new()),
    };
    PartitionResponse {
        partition_index,
        error_code: error.code(),
        active_producers: producers
            .into_iter()
            .map(|producer| ProducerState {
                producer_id: producer.id.0,
                producer_epoch: i32::from(producer.epoch.0),
                last_sequence: producer.last_sequence,
                last_timestamp: producer.last_timestamp_ms,
                coordinator_epoch: producer.coordinator_epoch,
                current_txn_start_offset: producer.transaction_start.map_or(-1, |start| start.0),
                ..ProducerState::default()
            })
            .collect(),
        ..PartitionResponse::default()
    }
}
