//! ElectLeaders (key 43): which partitions get their preferred leader back, or any leader at all (KIP-183, KIP-460)?

use broker_core::controller::request::{
    ControllerRequest, ControllerResponse, ElectLeadersRequest as Model, ElectedLeader,
    ElectionKind,
};
use types::ErrorCode;
use wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use wire::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        _ => return refused(cx.version, ErrorCode::InvalidRequest),
    };
    let partitions = request.topic_partitions.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.topic, topic.partitions))
            .collect()
    });
    let asked = ControllerRequest::ElectLeaders(Model { kind, partitions });
    match cx.controller(asked, timeout_of(request.timeout_ms)).await {
        Ok(ControllerResponse::ElectLeaders(elected)) => ElectLeadersResponse {
            replica_election_results: by_topic(elected),
            ..ElectLeadersResponse::default()
        },
        other => refused(cx.version, RequestContext::unanswered(other).code),
    }
}

/// Version 0 has no place for an error of the whole request.
fn refused(version: i16, error: ErrorCode) -> ElectLeadersResponse {
    ElectLeadersResponse {
        error_code: if version >= 1 { error.code() } else { 0 },
        ..ElectLeadersResponse::default()
    }
}

fn by_topic(mut elected: Vec<ElectedLeader>) -> Vec<ReplicaElectionResult> {
    elected.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for leader in elected {
        if topics.last().is_none_or(|last| last.topic != leader.topic) {
            topics.push(ReplicaElectionResult {
                topic: leader.topic,
                ..ReplicaElectionResult::default()
            });
        }
        if let Some(topic) = topics.last_mut() {
            let error = leader.result.err();
            topic.partition_result.push(PartitionResult {
                partition_id: leader.partition,
                error_code: error.as_ref().map_or(0, |error| error.code.code()),
                error_message: error.map(|error| error.message),
                ..PartitionResult::default()
            });
        }
    }
    topics
}
