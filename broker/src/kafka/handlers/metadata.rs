//! Metadata (key 3): which brokers are there, which topics, and who leads their partitions?
//!
//! A topic that does not exist is created when the client and `auto.create.topics.enable` allow it.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_core::metadata::{BrokerImage, MetadataImage, TopicImage};
use broker_core::partition::PartitionRegistration;
use types::{ErrorCode, NodeId, TopicId};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::messages::{MetadataRequest, MetadataResponse};

use super::authorized;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let everything = match &request.topics {
        None => true,
        Some(topics) => cx.version == 0 && topics.is_empty(),
    };
    let asked = request.topics.unwrap_or_default();
    if request.allow_auto_topic_creation && cx.broker.settings.auto_create_topics_enable {
        create_missing(&cx, &asked).await;
    }
    let dead = if everything {
        BTreeSet::new()
    } else {
        let leaders = |image: &MetadataImage| leaders_of(image, &asked);
        cx.broker.settle_leaders(leaders).await
    };
    let image = cx.image();
    let with_operations = request.include_topic_authorized_operations;
    let topics = if everything {
        image
            .topics()
            .map(|topic| describe(&cx, &image, topic, &dead, with_operations))
            .collect()
    } else {
        asked
            .into_iter()
            .map(|asked| one(&cx, &image, asked, &dead, with_operations))
            .collect()
    };
    MetadataResponse {
        brokers: brokers(&cx, &image),
        cluster_id: Some(cx.broker.cluster_id.to_string()),
        // Any broker forwards what a controller has to decide; this one is surely reachable.
        controller_id: cx.broker.node_id.0,
        topics,
        cluster_authorized_operations: if (8..=10).contains(&cx.version) {
            authorized::cluster(request.include_cluster_authorized_operations)
        } else {
            authorized::NOT_ASKED
        },
        ..MetadataResponse::default()
    }
}

async fn create_missing(cx: &RequestContext, asked: &[MetadataRequestTopic]) {
    let image = cx.image();
    let missing: BTreeSet<String> = asked
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.clone())
        .filter(|name| {
            image.topic_by_name(name).is_none() && config::topic_name::check(name).is_ok()
        })
        .collect();
    if !missing.is_empty() {
        let broker = &cx.broker;
        broker.topic_creation.create(broker, missing).await;
    }
}

fn find<'a>(image: &'a MetadataImage, asked: &MetadataRequestTopic) -> Option<&'a Arc<TopicImage>> {
    if asked.topic_id.is_zero() {
        image.topic_by_name(asked.name.as_deref().unwrap_or_default())
    } else {
        image.topic(asked.topic_id)
    }
}

/// Who leads partitions of these topics.
fn leaders_of(image: &MetadataImage, asked: &[MetadataRequestTopic]) -> BTreeSet<NodeId> {
    let topics = asked.iter().filter_map(|asked| find(image, asked));
    let partitions = topics.flat_map(|topic| topic.partitions.iter());
    partitions
        .filter_map(|partition| partition.leader)
        .collect()
}

fn one(
    cx: &RequestContext,
    image: &MetadataImage,
    asked: MetadataRequestTopic,
    dead: &BTreeSet<NodeId>,
    with_operations: bool,
) -> MetadataResponseTopic {
    let by_id = !asked.topic_id.is_zero();
    if let Some(topic) = find(image, &asked) {
        return describe(cx, image, topic, dead, with_operations);
    }
    let name = asked.name.unwrap_or_default();
    let error = if by_id {
        ErrorCode::UnknownTopicId
    } else if config::topic_name::check(&name).is_err() {
        ErrorCode::InvalidTopicException
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name: if by_id && cx.version >= 12 {
            None
        } else {
            Some(name)
        },
        topic_id: if by_id { asked.topic_id } else { TopicId::ZERO },
        ..MetadataResponseTopic::default()
    }
}

fn describe(
    cx: &RequestContext,
    image: &MetadataImage,
    topic: &TopicImage,
    dead: &BTreeSet<NodeId>,
    with_operations: bool,
) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: config::topic_name::is_internal(&topic.name),
        partitions: topic
            .iter()
            .map(|(index, registration)| partition(cx, image, index, registration, dead))
            .collect(),
        topic_authorized_operations: if cx.version >= 8 {
            authorized::topic(with_operations)
        } else {
            authorized::NOT_ASKED
        },
        ..MetadataResponseTopic::default()
    }
}

fn partition(
    cx: &RequestContext,
    image: &MetadataImage,
    partition_index: i32,
    registration: &PartitionRegistration,
    dead: &BTreeSet<NodeId>,
) -> MetadataResponsePartition {
    let leader = leader_of(cx, image, registration, dead);
    let error = match (registration.leader, leader) {
        (_, Some(_)) => ErrorCode::None,
        _ => ErrorCode::LeaderNotAvailable,
    };
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index,
        leader_id: leader.map_or(-1, |leader| leader.0),
        leader_epoch: registration.leader_epoch.0,
        replica_nodes: ids(&registration.replicas),
        isr_nodes: ids(&registration.isr),
        offline_replicas: offline_of(cx, image, registration, dead),
        ..MetadataResponsePartition::default()
    }
}

fn is_reachable(
    cx: &RequestContext,
    image: &MetadataImage,
    node: NodeId,
    dead: &BTreeSet<NodeId>,
) -> bool {
    let serves = |broker: &Arc<BrokerImage>| !broker.fenced && cx.endpoint(broker).is_some();
    image.broker(node).is_some_and(serves) && !dead.contains(&node)
}

/// The leader, if clients of this listener can reach it.
pub(super) fn leader_of(
    cx: &RequestContext,
    image: &MetadataImage,
    registration: &PartitionRegistration,
    dead: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let leader = registration.leader?;
    is_reachable(cx, image, leader, dead).then_some(leader)
}

/// The replicas that clients of this listener cannot reach.
pub(super) fn offline_of(
    cx: &RequestContext,
    image: &MetadataImage,
    registration: &PartitionRegistration,
    dead: &BTreeSet<NodeId>,
) -> Vec<i32> {
    let replicas = registration.replicas.iter();
    let offline = replicas.filter(|node| !is_reachable(cx, image, **node, dead));
    offline.map(|node| node.0).collect()
}

fn brokers(cx: &RequestContext, image: &MetadataImage) -> Vec<MetadataResponseBroker> {
    image
        .brokers()
        .filter(|broker| cx.broker.liveness.is_listed(broker))
        .filter_map(|broker| cx.endpoint(broker))
        .map(|endpoint| MetadataResponseBroker {
            node_id: endpoint.node_id.0,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            ..MetadataResponseBroker::default()
        })
        .collect()
}
