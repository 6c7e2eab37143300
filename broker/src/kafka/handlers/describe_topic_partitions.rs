//! DescribeTopicPartitions (key 75): what do topics look like, a page at a time (KIP-966)?

use std::collections::{BTreeMap, BTreeSet};

use broker_core::metadata::{MetadataImage, TopicImage};
use broker_core::partition::PartitionRegistration;
use types::{ErrorCode, NodeId};
use wire::messages::describe_topic_partitions_request::Cursor;
use wire::messages::describe_topic_partitions_response::{
    self as response, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use wire::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::authorized;
use super::metadata::{leader_of, offline_of};
use crate::kafka::context::RequestContext;

/// Partitions in one answer at most (Kafka's default of `max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2000;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    if let Some(refusal) = refused(&request) {
        return refusal;
    }
    let names: BTreeSet<String> = request.topics.into_iter().map(|topic| topic.name).collect();
    let from = request.cursor;
    let dead = if names.is_empty() {
        BTreeSet::new()
    } else {
        let leaders = |image: &MetadataImage| leaders_of(image, &names);
        cx.broker.settle_leaders(leaders).await
    };
    let image = cx.image();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(1);
    let mut page = Page {
        cx: &cx,
        image: &image,
        dead,
        left: limit.clamp(1, PARTITIONS_MAX),
        topics: Vec::new(),
    };
    let found: BTreeMap<&str, Option<&TopicImage>> = if names.is_empty() {
        let topics = image.topics();
        topics.map(|t| (t.name.as_ref(), Some(&**t))).collect()
    } else {
        let topic = |name| image.topic_by_name(name).map(|topic| &**topic);
        names.iter().map(|n| (n.as_str(), topic(n))).collect()
    };
    let next_cursor = page.fill(&found, from.as_ref());
    DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor,
        ..DescribeTopicPartitionsResponse::default()
    }
}

/// The answer to a request that makes no sense: there is room for an error in topics only.
fn refused(request: &DescribeTopicPartitionsRequest) -> Option<DescribeTopicPartitionsResponse> {
    let bad = |cursor: &Cursor| cursor.partition_index < 0;
    if !request.cursor.as_ref().is_some_and(bad) {
        return None;
    }
    let error = |topic: &wire::messages::describe_topic_partitions_request::TopicRequest| {
        failed(&topic.name, ErrorCode::InvalidRequest)
    };
    Some(DescribeTopicPartitionsResponse {
        topics: request.topics.iter().map(error).collect(),
        ..DescribeTopicPartitionsResponse::default()
    })
}

fn leaders_of(image: &MetadataImage, names: &BTreeSet<String>) -> BTreeSet<NodeId> {
    let topics = names.iter().filter_map(|name| image.topic_by_name(name));
    let partitions = topics.flat_map(|topic| topic.partitions.iter());
    partitions.filter_map(|one| one.leader).collect()
}

fn failed(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.to_owned()),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// An answer while it is filled.
struct Page<'a> {
    cx: &'a RequestContext,
    image: &'a MetadataImage,
    dead: BTreeSet<NodeId>,
    /// Partitions that still have room.
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Takes topics in the order of their names, from the cursor on; gives where the next page begins.
    fn fill(
        &mut self,
        found: &BTreeMap<&str, Option<&TopicImage>>,
        from: Option<&Cursor>,
    ) -> Option<response::Cursor> {
        let begin = from.map_or("", |cursor| cursor.topic_name.as_str());
        for (name, topic) in found.range(begin..) {
            let Some(topic) = topic else {
                let error = if config::topic_name::check(name).is_err() {
                    ErrorCode::InvalidTopicException
                } else {
                    ErrorCode::UnknownTopicOrPartition
                };
                self.topics.push(failed(name, error));
                continue;
            };
            let cursor = |partition_index: i32| response::Cursor {
                topic_name: (*name).to_owned(),
                partition_index,
                ..response::Cursor::default()
            };
            let first = from
                .filter(|cursor| cursor.topic_name == *name)
                .map_or(0, |cursor| cursor.partition_index);
            if self.left == 0 {
                return Some(cursor(first));
            }
            if let Some(next) = self.take(topic, first) {
                return Some(cursor(next));
            }
        }
        None
    }

    /// Takes what has room of a topic's partitions; gives the first that has not.
    fn take(&mut self, topic: &TopicImage, first: i32) -> Option<i32> {
        let mut next = None;
        let mut partitions = Vec::new();
        for (index, registration) in topic.iter().filter(|(index, _)| *index >= first) {
            if partitions.len() == self.left {
                next = Some(index);
                break;
            }
            partitions.push(self.partition(index, registration));
        }
        self.left -= partitions.len();
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(topic.name.to_string()),
            topic_id: topic.id,
            is_internal: config::topic_name::is_internal(&topic.name),
            partitions,
            topic_authorized_operations: authorized::topic(true),
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        next
    }

    fn partition(
        &self,
        partition_index: i32,
        registration: &PartitionRegistration,
    ) -> DescribeTopicPartitionsResponsePartition {
        let leader = leader_of(self.cx, self.image, registration, &self.dead);
        let error = if leader.is_some() {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        DescribeTopicPartitionsResponsePartition {
            error_code: error.code(),
            partition_index,
            leader_id: leader.map_or(-1, |leader| leader.0),
            leader_epoch: registration.leader_epoch.0,
            replica_nodes: ids(&registration.replicas),
            isr_nodes: ids(&registration.isr),
            eligible_leader_replicas: Some(ids(&registration.elr)),
            last_known_elr: Some(ids(&registration.last_known_elr)),
            offline_replicas: offline_of(self.cx, self.image, registration, &self.dead),
            ..DescribeTopicPartitionsResponsePartition::default()
        }
    }
}
