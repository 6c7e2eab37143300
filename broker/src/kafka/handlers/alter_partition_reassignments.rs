//! AlterPartitionReassignments (key 45): which partitions move to which brokers, or stay after all (KIP-455, KIP-860)?

use broker_core::controller::request::{
    AlterPartitionReassignmentsRequest as Model, ControllerRequest, ControllerResponse,
    PartitionResult, ReassignablePartition,
};
use types::NodeId;
use wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use wire::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let (mut topics, mut partitions) = (Vec::new(), Vec::new());
    for topic in request.topics {
        topics.push((topic.name.clone(), topic.partitions.len()));
        partitions.extend(topic.partitions.into_iter().map(|partition| {
            let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
            ReassignablePartition {
                topic: topic.name.clone(),
                partition: partition.partition_index,
                target: partition.replicas.map(nodes),
            }
        }));
    }
    let asked = ControllerRequest::AlterPartitionReassignments(Model {
        partitions,
        allow_replication_factor_change,
    });
    let mut response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change,
        ..AlterPartitionReassignmentsResponse::default()
    };
    match cx.controller(asked, timeout_of(request.timeout_ms)).await {
        Ok(ControllerResponse::AlterPartitionReassignments(results)) => {
            let mut results = results.into_iter();
            let topics = topics.into_iter();
            response.responses = topics
                .map(|(name, partitions)| ReassignableTopicResponse {
                    name,
                    partitions: results.by_ref().take(partitions).map(told).collect(),
                    ..ReassignableTopicResponse::default()
                })
                .collect();
        }
        other => {
            let error = RequestContext::unanswered(other);
            response.error_code = error.code.code();
            response.error_message = Some(error.message);
        }
    }
    response
}

fn told(result: PartitionResult) -> ReassignablePartitionResponse {
    let error = result.result.err();
    ReassignablePartitionResponse {
        partition_index: result.partition,
        error_code: error.as_ref().map_or(0, |error| error.code.code()),
        error_message: error.map(|error| error.message),
        ..ReassignablePartitionResponse::default()
    }
}
