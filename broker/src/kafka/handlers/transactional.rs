//! What do the APIs of transactions have in common?

use std::collections::BTreeMap;

use broker_core::metadata::MetadataImage;
use types::{ErrorCode, TopicPartition};

/// Old clients know a fenced producer by another code.
pub(super) const fn old_fencing(error: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// Whether there is such a partition that clients may write to.
pub(super) fn is_writable(image: &MetadataImage, partition: &TopicPartition) -> bool {
    !config::topic_name::is_internal(&partition.topic)
        && image
            .topic_by_name(&partition.topic)
            .is_some_and(|topic| topic.partition(partition.partition).is_some())
}

/// What a leader tells its client when the coordinator does not confirm the transaction, as Kafka translates it.
/// `bumps` and `abortable`: the client speaks version 2, or knows `TRANSACTION_ABORTABLE`.
pub(super) const fn for_client(code: ErrorCode, bumps: bool, abortable: bool) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if !abortable => ErrorCode::InvalidTxnState,
        // Errors that older clients do not retry here become one that they do, without asking for metadata.
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if !bumps => ErrorCode::NotEnoughReplicas,
        other => other,
    }
}

/// Partitions by topic, in order.
pub(super) fn by_topic<T>(
    partitions: impl IntoIterator<Item = (TopicPartition, T)>,
) -> Vec<(String, Vec<(i32, T)>)> {
    let mut topics: BTreeMap<String, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, value) in partitions {
        let topic = topics.entry(partition.topic.to_string()).or_default();
        topic.push((partition.partition, value));
    }
    topics.into_iter().collect()
}
