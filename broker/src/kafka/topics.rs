//! Which topic does a request mean, by name in old versions and by id in new ones?

use std::sync::Arc;

use broker_core::metadata::{MetadataImage, TopicImage};
use types::{ErrorCode, TopicId};

use crate::replication::TopicIdPartition;

/// The topic that a request names, by id from `ids_since` on.
///
/// # Errors
/// `UNKNOWN_TOPIC_ID` or `UNKNOWN_TOPIC_OR_PARTITION`.
pub(crate) fn resolve<'a>(
    image: &'a MetadataImage,
    by_id: bool,
    name: &str,
    id: TopicId,
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    if by_id {
        image.topic(id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        (image.topic_by_name(name)).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// A partition of a topic, for the replica manager, which answers for partitions that do not exist.
pub(crate) fn partition_of(topic: &TopicImage, partition: i32) -> TopicIdPartition {
    TopicIdPartition::new(topic.id, topic.name.clone(), partition)
}
