//! How do the replication protocol's messages map to the core's types?

use broker_core::partition::{Diverging, LogPosition, Subscription, SubscriptionAnswer};
use bytes::Bytes;
use rpc::replication::v1 as proto;
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset, TopicId};

/// Version of the frames' shape that this build speaks.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// A partition as the protocol names it.
pub(crate) type PartitionKey = (TopicId, i32);

/// The topic id of a message; `None` if it does not have 16 bytes.
pub(crate) fn topic_id(bytes: &Bytes) -> Option<TopicId> {
    <[u8; 16]>::try_from(bytes.as_ref()).ok().map(TopicId)
}

pub(crate) fn topic_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

pub(crate) fn epoch_option(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

pub(crate) fn epoch_number(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| epoch.0)
}

pub(crate) fn subscription(
    node: NodeId,
    broker_epoch: BrokerEpoch,
    position: &proto::FetchPosition,
) -> Subscription {
    Subscription {
        node,
        broker_epoch,
        session: position.session,
        leader_epoch: LeaderEpoch(position.leader_epoch),
        fetch_offset: Offset(position.fetch_offset),
        last_fetched_epoch: epoch_option(position.last_fetched_epoch),
        log_start: Offset(position.log_start_offset),
    }
}

pub(crate) const fn progress_position(progress: &proto::FollowerProgress) -> LogPosition {
    LogPosition {
        start: Offset(progress.log_start_offset),
        end: Offset(progress.log_end_offset),
    }
}

/// The message of an answer to the start `position`.
pub(crate) fn answer_message(
    position: &proto::FetchPosition,
    answer: &SubscriptionAnswer,
) -> proto::PartitionAnswer {
    let mut message = error_message(position, ErrorCode::None);
    match *answer {
        SubscriptionAnswer::Accepted {
            fetch_offset,
            last_fetched_epoch,
            high_watermark,
            log_start,
            outcome: _,
        } => {
            message.fetch_offset = fetch_offset.0;
            message.last_fetched_epoch = epoch_number(last_fetched_epoch);
            message.high_watermark = high_watermark.0;
            message.log_start_offset = log_start.0;
        }
        SubscriptionAnswer::Diverging(diverging) => {
            message.diverging = Some(proto::DivergingEpoch {
                epoch: diverging.epoch.0,
                end_offset: diverging.end_offset.0,
            });
        }
        SubscriptionAnswer::OutOfRange { log_start, log_end } => {
            message.error_code = ErrorCode::OffsetOutOfRange as i32;
            message.log_start_offset = log_start.0;
            message.log_end_offset = log_end.0;
        }
        SubscriptionAnswer::Fenced(fence) => message.error_code = fence.code() as i32,
        SubscriptionAnswer::NotAReplica => {
            message.error_code = ErrorCode::NotLeaderOrFollower as i32;
        }
    }
    message
}

/// An answer with an error code only.
pub(crate) fn error_message(
    position: &proto::FetchPosition,
    code: ErrorCode,
) -> proto::PartitionAnswer {
    proto::PartitionAnswer {
        topic_id: position.topic_id.clone(),
        partition: position.partition,
        error_code: code as i32,
        leader_epoch: position.leader_epoch,
        session: position.session,
        ..proto::PartitionAnswer::default()
    }
}

/// The answer that a message carries; `None` for an error that only waiting (for metadata) can mend.
pub(crate) fn answer_of(message: &proto::PartitionAnswer) -> Option<SubscriptionAnswer> {
    if let Some(diverging) = &message.diverging {
        return Some(SubscriptionAnswer::Diverging(Diverging {
            epoch: LeaderEpoch(diverging.epoch),
            end_offset: Offset(diverging.end_offset),
        }));
    }
    if message.error_code == ErrorCode::OffsetOutOfRange as i32 {
        return Some(SubscriptionAnswer::OutOfRange {
            log_start: Offset(message.log_start_offset),
            log_end: Offset(message.log_end_offset),
        });
    }
    (message.error_code == 0).then(|| SubscriptionAnswer::Accepted {
        fetch_offset: Offset(message.fetch_offset),
        last_fetched_epoch: epoch_option(message.last_fetched_epoch),
        high_watermark: Offset(message.high_watermark),
        log_start: Offset(message.log_start_offset),
        outcome: broker_core::partition::AckOutcome::default(),
    })
}
