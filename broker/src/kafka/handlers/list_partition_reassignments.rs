//! ListPartitionReassignments (key 46): which partitions are on their way to other brokers (KIP-455)?
//!
//! The controller is asked, not this broker's image: whoever has just begun a move shall find it, and one that is not
//! found any more has ended.

use broker_core::controller::request::{
    ControllerRequest, ControllerResponse, ListPartitionReassignmentsRequest as Model,
    OngoingReassignment,
};
use types::NodeId;
use wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let partitions = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let asked = ControllerRequest::ListPartitionReassignments(Model { partitions });
    match cx.controller(asked, timeout_of(request.timeout_ms)).await {
        Ok(ControllerResponse::ListPartitionReassignments(found)) => {
            ListPartitionReassignmentsResponse {
                topics: by_topic(found),
                ..ListPartitionReassignmentsResponse::default()
            }
        }
        other => {
            let error = RequestContext::unanswered(other);
            ListPartitionReassignmentsResponse {
                error_code: error.code.code(),
                error_message: Some(error.message),
                ..ListPartitionReassignmentsResponse::default()
            }
        }
    }
}

fn by_topic(found: Vec<OngoingReassignment>) -> Vec<OngoingTopicReassignment> {
    let ids = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect();
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for one in found {
        if topics.last().is_none_or(|last| last.name != one.topic) {
            topics.push(OngoingTopicReassignment {
                name: one.topic,
                ..OngoingTopicReassignment::default()
            });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(OngoingPartitionReassignment {
                partition_index: one.partition,
                replicas: ids(one.replicas),
                adding_replicas: ids(one.adding_replicas),
                removing_replicas: ids(one.removing_replicas),
                ..OngoingPartitionReassignment::default()
            });
        }
    }
    topics
}
