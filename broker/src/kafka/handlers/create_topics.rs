//! CreateTopics (key 19): which topics come into being, or would (`validate_only`)?

use std::collections::{BTreeMap, BTreeSet};

use broker_core::controller::request::{
    ApiError, ControllerRequest, ControllerResponse, CreatableTopic, CreateTopicsRequest as Model,
    CreatedTopicDetail, ReplicaAssignment,
};
use types::{ErrorCode, NodeId};
use wire::messages::create_topics_request::CreatableTopic as WireTopic;
use wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use wire::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let names: Vec<String> = request.topics.iter().map(|t| t.name.clone()).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let topics: Vec<CreatableTopic> = request
        .topics
        .into_iter()
        .filter(|topic| counts.get(topic.name.as_str()) == Some(&1))
        .map(model)
        .collect();
    let timeout = timeout_of(request.timeout_ms);
    let validate_only = request.validate_only;
    let asked = ControllerRequest::CreateTopics(Model {
        topics,
        validate_only,
    });
    let mut results: BTreeMap<String, Result<CreatedTopicDetail, ApiError>> =
        match cx.controller(asked, timeout).await {
            Ok(ControllerResponse::CreateTopics(created)) => {
                created.into_iter().map(|t| (t.name, t.result)).collect()
            }
            other => {
                let error = RequestContext::unanswered(other);
                names
                    .iter()
                    .map(|n| (n.clone(), Err(error.clone())))
                    .collect()
            }
        };
    for (name, _) in counts.iter().filter(|(_, count)| **count > 1) {
        let error = ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        results.insert((*name).to_owned(), Err(error));
    }
    if !validate_only {
        let created: BTreeSet<&str> = (results.iter())
            .filter(|(_, result)| result.is_ok())
            .map(|(name, _)| name.as_str())
            .collect();
        // So that the client finds on this broker what it was told exists.
        let applied = cx.broker.until(timeout, |image| {
            created
                .iter()
                .all(|name| image.topic_by_name(name).is_some())
        });
        applied.await;
    }
    let topics = results
        .into_iter()
        .map(|(name, result)| topic_result(&cx, name, result));
    CreateTopicsResponse {
        topics: topics.collect(),
        ..CreateTopicsResponse::default()
    }
}

fn model(topic: WireTopic) -> CreatableTopic {
    CreatableTopic {
        name: topic.name,
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| ReplicaAssignment {
                partition: assignment.partition_index,
                replicas: assignment.broker_ids.into_iter().map(NodeId).collect(),
            })
            .collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|config| (config.name, config.value))
            .collect(),
    }
}

fn topic_result(
    cx: &RequestContext,
    name: String,
    result: Result<CreatedTopicDetail, ApiError>,
) -> CreatableTopicResult {
    match result {
        Err(error) => CreatableTopicResult {
            name,
            error_code: error.code.code(),
            error_message: Some(error.message),
            configs: (cx.version >= 5).then(Vec::new),
            ..CreatableTopicResult::default()
        },
        Ok(detail) => CreatableTopicResult {
            name,
            topic_id: detail.topic_id,
            error_message: None,
            num_partitions: detail.num_partitions,
            replication_factor: detail.replication_factor,
            configs: (cx.version >= 5).then(|| configs(cx, &detail)),
            ..CreatableTopicResult::default()
        },
    }
}

fn configs(cx: &RequestContext, detail: &CreatedTopicDetail) -> Vec<CreatableTopicConfigs> {
    let image = cx.image();
    let layers = cx.broker.layers(&image);
    layers
        .describe_topic(&detail.configs)
        .into_iter()
        .map(|row| CreatableTopicConfigs {
            name: row.name.to_owned(),
            value: row.value,
            read_only: row.read_only,
            config_source: row.source as i8,
            is_sensitive: row.sensitive,
            ..CreatableTopicConfigs::default()
        })
        .collect()
}
