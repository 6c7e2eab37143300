//! OffsetFetch (key 9): what has a group committed (several groups at once from version 8 on, KIP-709)?
//!
//! `require_stable` (KIP-447) asks for offsets that no open transaction may change.

use std::collections::BTreeSet;

use broker_core::group::record::CommittedOffset;
use broker_core::group::request::FetchedOffset;
use broker_core::metadata::MetadataImage;
use types::{ErrorCode, TopicId, TopicPartition};
use wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::messages::{OffsetFetchRequest, OffsetFetchResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::topics::resolve;

/// Topics are named by id from this version on.
const IDS_SINCE: i16 = 10;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let image = cx.image();
    if cx.version >= 8 {
        let groups = request.groups.into_iter();
        return OffsetFetchResponse {
            groups: groups
                .map(|group| fetch(&cx, &image, group, request.require_stable))
                .collect(),
            ..OffsetFetchResponse::default()
        };
    }
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| OffsetFetchRequestTopics {
                    name: topic.name,
                    partition_indexes: topic.partition_indexes,
                    ..OffsetFetchRequestTopics::default()
                })
                .collect()
        }),
        ..OffsetFetchRequestGroup::default()
    };
    single(
        cx.version,
        fetch(&cx, &image, group, request.require_stable),
    )
}

fn fetch(
    cx: &RequestContext,
    image: &MetadataImage,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    // Before the offsets: what becomes stable meanwhile is asked for again, nothing older than it is told.
    let unstable = if require_stable {
        // Without a coordinator there are no offsets either, and the client is told.
        cx.broker
            .groups
            .unstable(&group.group_id)
            .unwrap_or_default()
    } else {
        BTreeSet::new()
    };
    let by_id = cx.version >= IDS_SINCE;
    // The fields of older versions say that no member asks.
    let member_id = group.member_id.as_deref();
    let allowed = (cx.broker.groups).check_fetch(&group.group_id, member_id, group.member_epoch);
    if let Err(error) = allowed {
        return OffsetFetchResponseGroup {
            group_id: group.group_id,
            error_code: error.code(),
            ..OffsetFetchResponseGroup::default()
        };
    }
    let (topics, error) = match group.topics {
        None => match cx.broker.groups.fetch(&group.group_id, None) {
            Ok(fetched) => (everything(image, by_id, fetched), ErrorCode::None),
            Err(error) => (Vec::new(), error),
        },
        Some(topics) => chosen(cx, image, &group.group_id, topics),
    };
    let topics = if unstable.is_empty() {
        topics
    } else {
        without(image, by_id, topics, &unstable)
    };
    OffsetFetchResponseGroup {
        group_id: group.group_id,
        topics,
        error_code: error.code(),
        ..OffsetFetchResponseGroup::default()
    }
}

fn chosen(
    cx: &RequestContext,
    image: &MetadataImage,
    group_id: &str,
    topics: Vec<OffsetFetchRequestTopics>,
) -> (Vec<OffsetFetchResponseTopics>, ErrorCode) {
    let by_id = cx.version >= IDS_SINCE;
    let mut group_error = ErrorCode::None;
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        // By name, offsets of topics that are gone may still be asked for.
        let name: Result<std::sync::Arc<str>, ErrorCode> = if by_id {
            resolve(image, true, &topic.name, topic.topic_id).map(|topic| topic.name.clone())
        } else {
            Ok(topic.name.as_str().into())
        };
        let fetched = name.and_then(|name| {
            let wanted: Vec<TopicPartition> = topic
                .partition_indexes
                .iter()
                .map(|index| TopicPartition::new(name.clone(), *index))
                .collect();
            let fetched = cx.broker.groups.fetch(group_id, Some(&wanted));
            fetched.inspect_err(|error| group_error = *error)
        });
        let partitions = match fetched {
            Ok(fetched) => fetched
                .into_iter()
                .map(|(partition, value)| {
                    partition_response(partition.partition, value, ErrorCode::None)
                })
                .collect(),
            Err(error) => topic
                .partition_indexes
                .iter()
                .map(|index| partition_response(*index, None, error))
                .collect(),
        };
        responses.push(OffsetFetchResponseTopics {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions,
            ..OffsetFetchResponseTopics::default()
        });
    }
    (responses, group_error)
}

/// The offsets that may change are not told.
fn without(
    image: &MetadataImage,
    by_id: bool,
    mut topics: Vec<OffsetFetchResponseTopics>,
    unstable: &BTreeSet<TopicPartition>,
) -> Vec<OffsetFetchResponseTopics> {
    for topic in &mut topics {
        let found = by_id.then(|| image.topic(topic.topic_id)).flatten();
        let name = found.map_or(topic.name.as_str(), |found| &*found.name);
        for partition in &mut topic.partitions {
            let index = partition.partition_index;
            if unstable.contains(&TopicPartition::new(name, index)) {
                *partition = partition_response(index, None, ErrorCode::UnstableOffsetCommit);
            }
        }
    }
    topics
}

/// All offsets, which come sorted by topic; by id, those of topics that are gone are left out.
fn everything(
    image: &MetadataImage,
    by_id: bool,
    fetched: Vec<FetchedOffset>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (partition, value) in fetched {
        if topics
            .last()
            .is_none_or(|last| *last.name != *partition.topic)
        {
            let topic_id = image
                .topic_by_name(&partition.topic)
                .map_or(TopicId::ZERO, |topic| topic.id);
            topics.push(OffsetFetchResponseTopics {
                name: partition.topic.to_string(),
                topic_id,
                ..OffsetFetchResponseTopics::default()
            });
        }
        if let Some(topic) = topics.last_mut() {
            let response = partition_response(partition.partition, value, ErrorCode::None);
            topic.partitions.push(response);
        }
    }
    topics.retain(|topic| !by_id || !topic.topic_id.is_zero());
    topics
}

fn partition_response(
    partition_index: i32,
    value: Option<CommittedOffset>,
    error: ErrorCode,
) -> OffsetFetchResponsePartitions {
    let mut response = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata: Some(String::new()),
        error_code: error.code(),
        ..OffsetFetchResponsePartitions::default()
    };
    if let Some(value) = value {
        response.committed_offset = value.offset.0;
        response.committed_leader_epoch = value.leader_epoch.map_or(-1, |epoch| epoch.0);
        response.metadata = Some(value.metadata);
    }
    response
}

/// The shape of versions 1 to 7: one group.
fn single(version: i16, group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter();
        OffsetFetchResponseTopic {
            name: topic.name,
            partitions: partitions
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    error_code: partition.error_code,
                    ..OffsetFetchResponsePartition::default()
                })
                .collect(),
            ..OffsetFetchResponseTopic::default()
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: if version >= 2 { group.error_code } else { 0 },
        ..OffsetFetchResponse::default()
    }
}
