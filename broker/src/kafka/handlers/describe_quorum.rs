//! DescribeQuorum (key 55): how far are the controllers with the metadata (KIP-595, KIP-836)?

use types::{ErrorCode, TopicId};
use wire::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse, describe_quorum_request};

use crate::broker::{QuorumMember, QuorumView};
use crate::kafka::context::RequestContext;

/// Kafka's name of the metadata's log, which has one partition. Here it is no topic, but tools know it by that name.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let broker = &cx.broker;
    match broker.controller.quorum(broker.request_timeout()).await {
        Ok(view) => answer(&request, &view, cx.version),
        Err(reason) => DescribeQuorumResponse {
            error_code: ErrorCode::RequestTimedOut.code(),
            error_message: Some(reason),
            ..DescribeQuorumResponse::default()
        },
    }
}

fn answer(
    request: &DescribeQuorumRequest,
    view: &QuorumView,
    version: i16,
) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| partition(&topic.topic_name, asked, view, version))
            .collect(),
        ..TopicData::default()
    });
    let nodes = view.members.iter().map(|member| Node {
        node_id: member.node_id.0,
        listeners: vec![Listener {
            name: "CONTROLLER".to_owned(),
            host: member.host.clone(),
            port: member.rpc_port,
            ..Listener::default()
        }],
        ..Node::default()
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: if version >= 2 {
            nodes.collect()
        } else {
            Vec::new()
        },
        ..DescribeQuorumResponse::default()
    }
}

fn partition(
    topic: &str,
    asked: &describe_quorum_request::PartitionData,
    view: &QuorumView,
    version: i16,
) -> PartitionData {
    let partition_index = asked.partition_index;
    if topic != METADATA_TOPIC || partition_index != 0 {
        return PartitionData {
            partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            error_message: Some(format!("only {METADATA_TOPIC}-0 has a quorum")),
            ..PartitionData::default()
        };
    }
    let states = |voters: bool| {
        let members = view.members.iter();
        let wanted = members.filter(move |member| member.is_voter == voters);
        wanted.map(|member| state(member, version)).collect()
    };
    PartitionData {
        partition_index,
        leader_id: view.leader.0,
        leader_epoch: i32::try_from(view.term).unwrap_or(i32::MAX),
        // Kafka counts from the end, Raft from the last entry.
        high_watermark: offset_after(view.committed_index),
        current_voters: states(true),
        observers: states(false),
        ..PartitionData::default()
    }
}

fn state(member: &QuorumMember, version: i16) -> ReplicaState {
    ReplicaState {
        replica_id: member.node_id.0,
        replica_directory_id: if version >= 2 {
            TopicId(member.disk)
        } else {
            TopicId::ZERO
        },
        log_end_offset: member.last_log_index.map_or(-1, offset_after),
        // The leader sends, nobody fetches: there are no such times.
        last_fetch_timestamp: -1,
        last_caught_up_timestamp: -1,
        ..ReplicaState::default()
    }
}

fn offset_after(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX - 1) + 1
}
