//! CreatePartitions (key 37): which topics get more partitions?

use broker_core::controller::request::{
    ControllerRequest, ControllerResponse, CreatePartitionsRequest as Model, CreatePartitionsTopic,
    TopicResult,
};
use types::NodeId;
use wire::messages::create_partitions_request::CreatePartitionsTopic as WireTopic;
use wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let wanted: Vec<(String, i32)> = request
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.count))
        .collect();
    let timeout = timeout_of(request.timeout_ms);
    let asked = ControllerRequest::CreatePartitions(Model {
        topics: request.topics.into_iter().map(model).collect(),
        validate_only: request.validate_only,
    });
    let results = match cx.controller(asked, timeout).await {
        Ok(ControllerResponse::CreatePartitions(results)) => results,
        other => {
            let error = RequestContext::unanswered(other);
            let names = wanted.iter();
            names
                .map(|(name, _)| TopicResult {
                    name: name.clone(),
                    result: Err(error.clone()),
                })
                .collect()
        }
    };
    let done = |name: &str| results.iter().any(|r| r.name == name && r.result.is_ok());
    if !request.validate_only {
        let applied = cx.broker.until(timeout, |image| {
            wanted
                .iter()
                .filter(|(name, _)| done(name))
                .all(|(name, count)| {
                    (image.topic_by_name(name)).is_none_or(|t| t.partition(count - 1).is_some())
                })
        });
        applied.await;
    }
    let results = results.into_iter().map(|result| {
        let error = result.result.err();
        CreatePartitionsTopicResult {
            name: result.name,
            error_code: error.as_ref().map_or(0, |error| error.code.code()),
            error_message: error.map(|error| error.message),
            ..CreatePartitionsTopicResult::default()
        }
    });
    CreatePartitionsResponse {
        results: results.collect(),
        ..CreatePartitionsResponse::default()
    }
}

fn model(topic: WireTopic) -> CreatePartitionsTopic {
    CreatePartitionsTopic {
        name: topic.name,
        count: topic.count,
        assignments: topic.assignments.map(|assignments| {
            let assignments = assignments.into_iter();
            assignments
                .map(|assignment| assignment.broker_ids.into_iter().map(NodeId).collect())
                .collect()
        }),
    }
}
