//! Produce (key 0): where do record batches go, and what is acknowledged?

use std::time::Duration;

use broker_core::partition::SentBatch;
use bytes::Bytes;
use futures::future::join_all;
use types::{BatchHeader, ErrorCode, TopicId};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use wire::messages::{ProduceRequest, ProduceResponse};

use crate::kafka::context::{RequestContext, timeout_of};
use crate::kafka::dispatch::Reply;
use crate::kafka::topics::{partition_of, resolve};
use crate::replication::{LeaderHint, ProduceError, ProduceOk, TopicIdPartition};

mod guards;

pub(in crate::kafka) use guards::is_transactional;

use guards::Guards;

/// Topics are named by id from this version on.
const IDS_SINCE: i16 = 13;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ProduceRequest,
) -> Reply<ProduceResponse> {
    let acks = request.acks;
    let refusal = if (-1..=1).contains(&acks) {
        None
    } else {
        Some(ErrorCode::InvalidRequiredAcks)
    };
    let guards = match &request.transactional_id {
        Some(id) if refusal.is_none() => guards::ask(&cx, id, &request.topic_data).await,
        Some(_) | None => Guards::default(),
    };
    let timeout = timeout_of(request.timeout_ms);
    // Futures in the request's order; `join_all` starts them in it, which is the order of the appends.
    let topics = request.topic_data.into_iter().map(|topic| {
        let (cx, guards) = (&cx, &guards);
        async move { topic_response(cx, topic, (acks, guards), timeout, refusal).await }
    });
    let answered: Vec<(TopicProduceResponse, Vec<LeaderHint>)> = join_all(topics).await;
    let (responses, hints): (Vec<_>, Vec<_>) = answered.into_iter().unzip();
    if acks == 0 {
        let failed = responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .any(|partition| partition.error_code != 0);
        // The only way to tell the client: it reconnects and looks up the leaders again.
        return if failed { Reply::Close } else { Reply::Silent };
    }
    Reply::Send(ProduceResponse {
        responses,
        node_endpoints: node_endpoints(&cx, &hints.concat()),
        ..ProduceResponse::default()
    })
}

async fn topic_response(
    cx: &RequestContext,
    topic: TopicProduceData,
    (acks, guards): (i16, &Guards),
    timeout: Duration,
    refusal: Option<ErrorCode>,
) -> (TopicProduceResponse, Vec<LeaderHint>) {
    let image = cx.image();
    let target = match refusal {
        Some(code) => Err(code),
        None => resolve(&image, cx.version >= IDS_SINCE, &topic.name, topic.topic_id),
    };
    let name = (topic.name.as_str(), topic.topic_id);
    let partitions = topic.partition_data.into_iter().map(|data| {
        let index = data.index;
        let target = target.map(|topic| partition_of(topic, index));
        async move {
            (
                index,
                in_order(cx, name, target, data, (acks, guards), timeout).await,
            )
        }
    });
    let mut hints = Vec::new();
    let partition_responses = join_all(partitions)
        .await
        .into_iter()
        .map(|(index, result)| {
            hints.extend(result.as_ref().err().and_then(|error| error.leader_hint));
            partition_response(index, result)
        })
        .collect();
    let response = TopicProduceResponse {
        name: topic.name,
        topic_id: if cx.version >= IDS_SINCE {
            topic.topic_id
        } else {
            TopicId::ZERO
        },
        partition_responses,
        ..TopicProduceResponse::default()
    };
    (response, hints)
}

/// Lets no batch of an idempotent producer pass one before it that was refused on this connection. What is asked and noted here
/// happens before the first wait, or after the append: in the order of the requests.
async fn in_order(
    cx: &RequestContext,
    topic: (&str, TopicId),
    target: Result<TopicIdPartition, ErrorCode>,
    data: PartitionProduceData,
    (acks, guards): (i16, &Guards),
    timeout: Duration,
) -> Result<ProduceOk, ProduceError> {
    let records = data.records.as_ref();
    let header = records.and_then(|records| BatchHeader::parse(records).ok());
    let sent = header.and_then(|header| SentBatch::new(topic, data.index, &header));
    let Some(sent) = sent else {
        return partition_result(cx, target, data, (acks, false), guards, timeout).await;
    };
    let refused = &cx.peer.refused;
    let is_behind = refused.lock().is_behind_refused(&sent);
    let result = partition_result(cx, target, data, (acks, is_behind), guards, timeout).await;
    match &result {
        Ok(_) => refused.lock().on_appended(&sent),
        Err(error) if error.code.is_retriable() => refused.lock().on_refused(&sent),
        // The client does not send it again.
        Err(_) => {}
    }
    result
}

async fn partition_result(
    cx: &RequestContext,
    target: Result<TopicIdPartition, ErrorCode>,
    data: PartitionProduceData,
    acks: (i16, bool),
    guards: &Guards,
    timeout: Duration,
) -> Result<ProduceOk, ProduceError> {
    let target = target.map_err(|code| ProduceError::new(code, code.name()))?;
    if config::topic_name::is_internal(&target.name) {
        let message = format!("{} is written by brokers only", target.name);
        return Err(ProduceError::new(ErrorCode::InvalidTopicException, message));
    }
    let records: Bytes = data.records.unwrap_or_default();
    if records.is_empty() {
        let message = "the partition has no record batch";
        return Err(ProduceError::new(ErrorCode::InvalidRecord, message));
    }
    cx.broker.metrics.topics.produced(records.len());
    guards.append(cx, &target, records, acks, timeout).await
}

fn partition_response(
    index: i32,
    result: Result<ProduceOk, ProduceError>,
) -> PartitionProduceResponse {
    match result {
        Ok(ok) => PartitionProduceResponse {
            index,
            base_offset: ok.base_offset.0,
            log_append_time_ms: ok.log_append_time_ms.unwrap_or(-1),
            log_start_offset: ok.log_start_offset.0,
            ..PartitionProduceResponse::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: error.code.code(),
            record_errors: error
                .record
                .map(|index| BatchIndexAndErrorMessage {
                    batch_index: index,
                    batch_index_error_message: Some(error.message.clone()),
                    ..BatchIndexAndErrorMessage::default()
                })
                .into_iter()
                .collect(),
            error_message: Some(error.message),
            base_offset: -1,
            current_leader: error
                .leader_hint
                .map(|hint| LeaderIdAndEpoch {
                    leader_id: hint.leader.map_or(-1, |leader| leader.0),
                    leader_epoch: hint.leader_epoch.0,
                    ..LeaderIdAndEpoch::default()
                })
                .unwrap_or_default(),
            ..PartitionProduceResponse::default()
        },
    }
}

/// Where the leaders are that the errors name (KIP-951).
fn node_endpoints(cx: &RequestContext, hints: &[LeaderHint]) -> Vec<NodeEndpoint> {
    cx.leaders(hints)
        .into_iter()
        .map(|endpoint| NodeEndpoint {
            node_id: endpoint.node_id.0,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            ..NodeEndpoint::default()
        })
        .collect()
}
