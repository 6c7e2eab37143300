//! Metadata (key 3): which brokers are there, which topics, and who leads their partitions?
//!
//! A topic that does not exist is created when the client and `auto.create.topics.enable` allow it.

use std::collections::BTreeSet;

use broker_core::metadata::{MetadataImage, TopicImage};
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
    let image = cx.image();
    let with_operations = request.include_topic_authorized_operations;
    let topics = if everything {
        image
            .topics()
            .map(|topic| describe(&cx, &image, topic, with_operations))
            .collect()
    } else {
        asked
            .into_iter()
            .map(|asked| one(&cx, &image, asked, with_operations))
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

fn one(
    cx: &RequestContext,
    image: &MetadataImage,
    asked: MetadataRequestTopic,
    with_operations: bool,
) -> MetadataResponseTopic {
    let by_id = !asked.topic_id.is_zero();
    let found = if by_id {
        image.topic(asked.topic_id)
    } else {
        image.topic_by_name(asked.name.as_deref().unwrap_or_default())
    };
    if let Some(topic) = found {
        return describe(cx, image, topic, with_operations);
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
    with_operations: bool,
) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: config::topic_name::is_internal(&topic.name),
        partitions: topic
            .iter()
            .map(|(index, registration)| partition(cx, image, index, registration))
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
) -> MetadataResponsePartition {
    let reachable = |node: NodeId| {
        image
            .broker(node)
            .is_some_and(|broker| !broker.fenced && cx.endpoint(broker).is_some())
    };
    let leader = registration.leader.filter(|leader| reachable(*leader));
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
        offline_replicas: registration
            .replicas
            .iter()
            .filter(|node| !reachable(**node))
            .map(|node| node.0)
            .collect(),
        ..MetadataResponsePartition::default()
    }
}

fn brokers(cx: &RequestContext, image: &MetadataImage) -> Vec<MetadataResponseBroker> {
    image
        .brokers()
        .filter(|broker| !broker.fenced)
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
