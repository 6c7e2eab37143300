//! DeleteTopics (key 20): which topics go, by name or (from version 6 on) by id?

use std::time::Duration;

use broker_core::controller::request::{
    ApiError, ControllerRequest, ControllerResponse, DeleteTopicsRequest as Model, DeletedTopic,
    TopicRef,
};
use types::{ErrorCode, TopicId};
use wire::messages::delete_topics_response::DeletableTopicResult;
use wire::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let mut topics: Vec<TopicRef> = if cx.version >= 6 {
        let topics = request.topics.into_iter();
        topics
            .map(|topic| match topic.name {
                Some(name) => TopicRef::Name(name),
                None => TopicRef::Id(topic.topic_id),
            })
            .collect()
    } else {
        let names = request.topic_names.into_iter();
        names.map(TopicRef::Name).collect()
    };
    topics.sort();
    topics.dedup();
    let deleted = if cx.broker.settings.delete_topic_enable {
        delete(&cx, topics, timeout_of(request.timeout_ms)).await
    } else {
        let message = "Topic deletion is disabled (delete.topic.enable=false).";
        let error = ApiError::new(ErrorCode::TopicDeletionDisabled, message);
        refuse_all(topics, &error)
    };
    DeleteTopicsResponse {
        responses: deleted.into_iter().map(response).collect(),
        ..DeleteTopicsResponse::default()
    }
}

async fn delete(
    cx: &RequestContext,
    topics: Vec<TopicRef>,
    timeout: Duration,
) -> Vec<DeletedTopic> {
    let asked = ControllerRequest::DeleteTopics(Model {
        topics: topics.clone(),
    });
    match cx.controller(asked, timeout).await {
        Ok(ControllerResponse::DeleteTopics(deleted)) => {
            let gone: Vec<TopicId> = deleted
                .iter()
                .filter_map(|topic| Some(topic.result.as_ref().ok()?.1))
                .collect();
            let applied = cx.broker.until(timeout, |image| {
                gone.iter().all(|id| image.topic(*id).is_none())
            });
            applied.await;
            deleted
        }
        other => refuse_all(topics, &RequestContext::unanswered(other)),
    }
}

fn refuse_all(topics: Vec<TopicRef>, error: &ApiError) -> Vec<DeletedTopic> {
    topics
        .into_iter()
        .map(|topic| DeletedTopic {
            topic,
            result: Err(error.clone()),
        })
        .collect()
}

fn response(deleted: DeletedTopic) -> DeletableTopicResult {
    match deleted.result {
        Ok((name, topic_id)) => DeletableTopicResult {
            name: Some(name),
            topic_id,
            error_message: None,
            ..DeletableTopicResult::default()
        },
        Err(error) => {
            let (name, topic_id) = match deleted.topic {
                TopicRef::Name(name) => (Some(name), TopicId::ZERO),
                TopicRef::Id(id) => (None, id),
            };
            DeletableTopicResult {
                name,
                topic_id,
                error_code: error.code.code(),
                error_message: Some(error.message),
                ..DeletableTopicResult::default()
            }
        }
    }
}
