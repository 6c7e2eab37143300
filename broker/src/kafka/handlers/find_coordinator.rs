//! FindCoordinator (key 10): which broker coordinates a group, or a transactional id? Makes the coordinators' topic when the
//! first client asks.

use broker_core::metadata::MetadataImage;
use types::ErrorCode;
use wire::messages::find_coordinator_response::Coordinator;
use wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::coordinator::{OFFSETS_TOPIC, partition_for};
use crate::kafka::context::{Endpoint, RequestContext};
use crate::transactions::TRANSACTIONS_TOPIC;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let batch = cx.version >= 4;
    let keys = if batch {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = find(&cx, request.key_type, &key).await;
        coordinators.push(coordinator(key, found));
    }
    if batch {
        return FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
    }
    let only = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    }
}

/// The topic that says who coordinates what is asked for.
fn topic_of(key_type: i8) -> Result<&'static str, (ErrorCode, String)> {
    match key_type {
        GROUP => Ok(OFFSETS_TOPIC),
        TRANSACTION => Ok(TRANSACTIONS_TOPIC),
        other => {
            let message = format!("coordinators of type {other} are not supported");
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

async fn find(
    cx: &RequestContext,
    key_type: i8,
    key: &str,
) -> Result<Endpoint, (ErrorCode, String)> {
    let name = topic_of(key_type)?;
    if key_type == TRANSACTION && key.is_empty() {
        let message = "a transactional id is not empty";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    if cx.image().topic_by_name(name).is_none() {
        let broker = &cx.broker;
        let creation = &broker.topic_creation;
        if key_type == TRANSACTION {
            creation.create_transactions_topic(broker).await;
        } else {
            creation.create_offsets_topic(broker).await;
        }
    }
    let leader_of = |image: &MetadataImage| {
        let topic = image.topic_by_name(name)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        topic.partition(partition_for(key, count))?.leader
    };
    let dead = cx
        .broker
        .settle_leaders(|image| leader_of(image).into_iter().collect());
    let dead = dead.await;
    let unavailable = |message: String| (ErrorCode::CoordinatorNotAvailable, message);
    let image = cx.image();
    if image.topic_by_name(name).is_none() {
        return Err(unavailable(format!("{name} is not created yet")));
    }
    let leader = leader_of(&image)
        .and_then(|leader| image.broker(leader))
        .filter(|broker| !broker.fenced && !dead.contains(&broker.node_id))
        .ok_or_else(|| unavailable(format!("the partition of {name} has no leader")))?;
    cx.endpoint(leader)
        .ok_or_else(|| unavailable("the coordinator does not have this listener".to_owned()))
}

fn coordinator(key: String, found: Result<Endpoint, (ErrorCode, String)>) -> Coordinator {
    match found {
        Ok(endpoint) => Coordinator {
            key,
            node_id: endpoint.node_id.0,
            host: endpoint.host,
            port: endpoint.port,
            error_message: None,
            ..Coordinator::default()
        },
        Err((error, message)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(message),
            ..Coordinator::default()
        },
    }
}
