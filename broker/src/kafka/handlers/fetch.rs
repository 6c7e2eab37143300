//! Fetch (key 1): which records does a consumer get, in full or through a fetch session (KIP-227)?

use std::sync::Arc;

use broker_core::metadata::{BrokerImage, MetadataImage};
use config::ReplicaSelector;
use types::{ErrorCode, LeaderEpoch, Offset, TopicId};
use wire::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use wire::messages::{FetchRequest, FetchResponse};

use crate::kafka::context::{RequestContext, timeout_of};
use crate::kafka::fetch_session::{Fetch, FetchState, SessionPartition, Told};
use crate::kafka::topics::{partition_of, resolve};
use crate::replication::{
    FetchPartition, FetchPartitionData, FetchRequestModel, Isolation, LeaderHint, Reader,
};

/// Topics are named by id from this version on.
const IDS_SINCE: i16 = 13;
/// The isolation level that hides what is not committed.
const READ_COMMITTED: i8 = 1;

/// One partition of the answer with what it answers.
struct Answered {
    partition: SessionPartition,
    state: FetchState,
    data: FetchPartitionData,
}

pub(in crate::kafka) async fn handle(cx: RequestContext, request: FetchRequest) -> FetchResponse {
    let by_id = cx.version >= IDS_SINCE;
    let asked = asked(&request);
    let forgotten: Vec<SessionPartition> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let name: Arc<str> = topic.topic.as_str().into();
            topic
                .partitions
                .iter()
                .map(move |partition| SessionPartition {
                    topic: name.clone(),
                    topic_id: topic.topic_id,
                    partition: *partition,
                })
        })
        .collect();
    // Before version 7 there are no sessions; the fields have their defaults then, 0 and -1.
    let session = (request.session_id, request.session_epoch);
    let sessions = &cx.broker.fetch_sessions;
    let fetch = match sessions.begin(session, by_id, &asked, &forgotten) {
        Ok(fetch) => fetch,
        Err(error) => {
            return FetchResponse {
                error_code: error.code(),
                ..FetchResponse::default()
            };
        }
    };
    let (wanted, session_id) = match &fetch {
        Fetch::Sessionless | Fetch::Full => (asked, 0),
        Fetch::Incremental { session_id, wanted } => (wanted.clone(), *session_id),
    };
    let answered = read(&cx, &request, wanted).await;
    let (answered, session_id) = match fetch {
        Fetch::Sessionless => (answered, 0),
        Fetch::Full => {
            let partitions = answered
                .iter()
                .map(|a| (a.partition.clone(), a.state, told(&a.data)));
            let session_id = sessions.open(by_id, partitions.collect());
            (answered, session_id)
        }
        Fetch::Incremental { .. } => (only_news(&cx, session_id, answered), session_id),
    };
    response(&cx, &request, session_id, answered)
}

fn asked(request: &FetchRequest) -> Vec<(SessionPartition, FetchState)> {
    let mut asked = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = topic.topic.as_str().into();
        for partition in &topic.partitions {
            let key = SessionPartition {
                topic: name.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
            };
            let state = FetchState {
                fetch_offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            asked.push((key, state));
        }
    }
    asked
}

/// Reads all partitions; those of unknown topics are answered with their error, in their place.
async fn read(
    cx: &RequestContext,
    request: &FetchRequest,
    wanted: Vec<(SessionPartition, FetchState)>,
) -> Vec<Answered> {
    let image = cx.image();
    let mut partitions = Vec::new();
    let mut unknown = Vec::with_capacity(wanted.len());
    for (partition, state) in &wanted {
        match fetch_partition(cx, &image, partition, *state) {
            Ok(fetch) => {
                partitions.push(fetch);
                unknown.push(None);
            }
            Err(error) => unknown.push(Some(error)),
        }
    }
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let any_unknown = unknown.iter().any(Option::is_some);
    let model = FetchRequestModel {
        // An error has to be told at once.
        max_wait: timeout_of(if any_unknown { 0 } else { request.max_wait_ms }),
        min_bytes: size(request.min_bytes),
        max_bytes: size(request.max_bytes).min(size(cx.broker.settings.fetch_max_bytes)),
        isolation: if request.isolation_level == READ_COMMITTED {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        reader: reader(cx, request, &image),
        partitions,
    };
    let mut data = if model.partitions.is_empty() {
        Vec::new().into_iter()
    } else {
        cx.broker.replicas.fetch(&model).await.into_iter()
    };
    wanted
        .into_iter()
        .zip(unknown)
        .map(|((partition, state), unknown)| {
            let data = match unknown {
                Some(error) => FetchPartitionData::failed(error, None),
                None => data.next().unwrap_or_else(|| {
                    FetchPartitionData::failed(ErrorCode::UnknownServerError, None)
                }),
            };
            cx.broker.metrics.topics.fetched(data.bytes());
            Answered {
                partition,
                state,
                data,
            }
        })
        .collect()
}

/// Where a client of this rack may read (KIP-392). Who does not name a rack is answered by leaders only.
fn reader(cx: &RequestContext, request: &FetchRequest, image: &MetadataImage) -> Reader {
    let rack = request.rack_id.as_str();
    if rack.is_empty() {
        return Reader::default();
    }
    let is_here = |broker: &BrokerImage| broker.rack.as_deref() == Some(rack);
    let me = cx.broker.node_id;
    let is_near = image.broker(me).is_some_and(|broker| is_here(broker));
    let selects = cx.broker.settings.replica_selector_class == Some(ReplicaSelector::RackAware);
    let near = if selects && !is_near {
        let brokers = image
            .brokers()
            .filter(|broker| is_here(broker) && !broker.fenced);
        brokers.map(|broker| broker.node_id).collect()
    } else {
        Vec::new()
    };
    Reader {
        may_read_followers: true,
        near,
    }
}

fn fetch_partition(
    cx: &RequestContext,
    image: &MetadataImage,
    partition: &SessionPartition,
    state: FetchState,
) -> Result<FetchPartition, ErrorCode> {
    let by_id = cx.version >= IDS_SINCE;
    let topic = resolve(image, by_id, &partition.topic, partition.topic_id)?;
    let epoch = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
    Ok(FetchPartition {
        partition: partition_of(topic, partition.partition),
        fetch_offset: Offset(state.fetch_offset),
        max_bytes: usize::try_from(state.max_bytes).unwrap_or(0),
        current_leader_epoch: epoch(state.current_leader_epoch),
        last_fetched_epoch: epoch(state.last_fetched_epoch),
    })
}

fn told(data: &FetchPartitionData) -> Told {
    Told {
        high_watermark: data.high_watermark.map_or(-1, |offset| offset.0),
        log_start_offset: data.log_start_offset.map_or(-1, |offset| offset.0),
    }
}

fn only_news(cx: &RequestContext, session_id: i32, answered: Vec<Answered>) -> Vec<Answered> {
    let answers: Vec<(SessionPartition, Told, bool, bool)> = answered
        .iter()
        .map(|a| {
            let has_error = !a.data.error.is_none() || a.data.is_redirect();
            let has_records = a.data.records.iter().any(|chunk| !chunk.is_empty());
            (a.partition.clone(), told(&a.data), has_records, has_error)
        })
        .collect();
    let news = cx.broker.fetch_sessions.news(session_id, &answers);
    answered
        .into_iter()
        .zip(news)
        .filter_map(|(answered, is_news)| is_news.then_some(answered))
        .collect()
}

fn response(
    cx: &RequestContext,
    request: &FetchRequest,
    session_id: i32,
    answered: Vec<Answered>,
) -> FetchResponse {
    let hints: Vec<LeaderHint> = answered.iter().filter_map(|a| a.data.leader_hint).collect();
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for Answered {
        partition, data, ..
    } in answered
    {
        let same = responses.last().is_some_and(|last| {
            last.topic_id == partition.topic_id && *last.topic == *partition.topic
        });
        if !same {
            responses.push(FetchableTopicResponse {
                topic: partition.topic.to_string(),
                topic_id: partition.topic_id,
                ..FetchableTopicResponse::default()
            });
        }
        if let Some(topic) = responses.last_mut() {
            let read_committed = request.isolation_level == READ_COMMITTED;
            let data = partition_data(partition.partition, data, read_committed);
            topic.partitions.push(data);
        }
    }
    debug_assert!(
        cx.version >= IDS_SINCE || responses.iter().all(|r| r.topic_id == TopicId::ZERO),
        "ids are not asked for below version 13"
    );
    let node_endpoints = cx
        .leaders(&hints)
        .into_iter()
        .map(|endpoint| NodeEndpoint {
            node_id: endpoint.node_id.0,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            ..NodeEndpoint::default()
        })
        .collect();
    FetchResponse {
        session_id,
        responses,
        node_endpoints,
        ..FetchResponse::default()
    }
}

fn partition_data(index: i32, data: FetchPartitionData, read_committed: bool) -> PartitionData {
    let offset = |offset: Option<Offset>| offset.map_or(-1, |offset| offset.0);
    PartitionData {
        partition_index: index,
        error_code: data.error.code(),
        high_watermark: offset(data.high_watermark),
        last_stable_offset: offset(data.last_stable_offset),
        log_start_offset: offset(data.log_start_offset),
        diverging_epoch: data
            .diverging_epoch
            .map(|diverging| EpochEndOffset {
                epoch: diverging.epoch.0,
                end_offset: diverging.end_offset.0,
                ..EpochEndOffset::default()
            })
            .unwrap_or_default(),
        current_leader: data
            .leader_hint
            .map(|hint| LeaderIdAndEpoch {
                leader_id: hint.leader.map_or(-1, |leader| leader.0),
                leader_epoch: hint.leader_epoch.0,
                ..LeaderIdAndEpoch::default()
            })
            .unwrap_or_default(),
        aborted_transactions: read_committed.then(|| {
            data.aborted
                .iter()
                .map(|aborted| AbortedTransaction {
                    producer_id: aborted.producer_id.0,
                    first_offset: aborted.first_offset.0,
                    ..AbortedTransaction::default()
                })
                .collect()
        }),
        preferred_read_replica: data.preferred_read_replica.map_or(-1, |node| node.0),
        // Zero bytes, never null: librdkafka takes null for a protocol error.
        records: Some(data.records.into()),
        ..PartitionData::default()
    }
}
