//! ConsumerGroupHeartbeat (key 68): is a member alive, and what may it consume (KIP-848)?

use broker_core::controller::{GROUP_FEATURE, GROUP_LEVEL, METADATA_FEATURE};
use broker_core::group::consumer::partitions::Partitions;
use broker_core::group::consumer::request::{ConsumerHeartbeat, HeartbeatAnswer, Rejection};
use broker_core::metadata::MetadataImage;
use types::ErrorCode;
use uuid::Uuid;
use wire::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use crate::kafka::context::RequestContext;

/// Clients bring their member id from this version on (KIP-1082).
const CLIENT_IDS_SINCE: i16 = 1;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    match heartbeat(&cx, request).await {
        Ok(answer) => accepted(answer),
        Err(Rejection { error, message }) => ConsumerGroupHeartbeatResponse {
            error_code: error.code(),
            error_message: Some(message),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    }
}

async fn heartbeat(
    cx: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<HeartbeatAnswer, Rejection> {
    let image = cx.image();
    check_enabled(&image)?;
    let model = model(cx, request);
    cx.broker.groups.consumer_heartbeat(image, model).await
}

/// Whether there may be groups of the consumer protocol: while the feature is not finalized, a broker may coordinate them
/// next that does not know of them.
pub(super) fn check_enabled(image: &MetadataImage) -> Result<(), Rejection> {
    let refused = |error, message: &str| {
        Err(Rejection {
            error,
            message: message.to_owned(),
        })
    };
    if image.feature(GROUP_FEATURE) >= GROUP_LEVEL {
        Ok(())
    } else if image.feature(METADATA_FEATURE) == 0 {
        let message = "the cluster is new and has no features yet";
        refused(ErrorCode::CoordinatorNotAvailable, message)
    } else {
        let message =
            "groups of the consumer protocol need `group.version` 1, which is not finalized";
        refused(ErrorCode::UnsupportedVersion, message)
    }
}

fn model(cx: &RequestContext, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group_id: request.group_id,
        member_id: request.member_id,
        fresh_id: (cx.version < CLIENT_IDS_SINCE).then(|| Uuid::new_v4().to_string()),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        rebalance_timeout_ms: (request.rebalance_timeout_ms != -1)
            .then_some(request.rebalance_timeout_ms),
        topic_names: (request.subscribed_topic_names).map(|names| names.into_iter().collect()),
        topic_regex: request.subscribed_topic_regex,
        server_assignor: request.server_assignor,
        owned: request.topic_partitions.as_deref().map(owned),
        client_id: cx.client_id.clone().unwrap_or_default(),
        client_host: cx.client_host(),
    }
}

fn owned(topics: &[Owned]) -> Partitions {
    let of = |topic: &Owned| {
        let id = topic.topic_id;
        topic
            .partitions
            .clone()
            .into_iter()
            .map(move |one| (id, one))
    };
    topics.iter().flat_map(of).collect()
}

fn accepted(answer: HeartbeatAnswer) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_id: Some(answer.member_id),
        member_epoch: answer.member_epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment: answer.assignment.map(|partitions| Assignment {
            topic_partitions: partitions
                .topics()
                .map(|(topic_id, partitions)| TopicPartitions {
                    topic_id,
                    partitions: partitions.iter().copied().collect(),
                    ..TopicPartitions::default()
                })
                .collect(),
            ..Assignment::default()
        }),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::MetadataRecord;
    use broker_core::metadata::record::FeatureLevel;

    use super::*;

    #[test]
    fn groups_of_the_consumer_protocol_need_their_feature() {
        let mut image = MetadataImage::empty();
        let error = |image: &MetadataImage| check_enabled(image).map_err(|refused| refused.error);
        assert_eq!(
            error(&image),
            Err(ErrorCode::CoordinatorNotAvailable),
            "a new cluster: come again"
        );
        let finalized = |name: &str, level| {
            MetadataRecord::FeatureLevel(FeatureLevel {
                name: name.to_owned(),
                level,
            })
        };
        image.apply(1, &[finalized(METADATA_FEATURE, 1)]).unwrap();
        assert_eq!(error(&image), Err(ErrorCode::UnsupportedVersion));
        image.apply(2, &[finalized(GROUP_FEATURE, 1)]).unwrap();
        assert_eq!(error(&image), Ok(()));
    }
}
