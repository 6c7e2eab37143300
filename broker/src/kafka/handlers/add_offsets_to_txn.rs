//! AddOffsetsToTxn (key 25): a transaction will commit offsets of a group, whose partition so becomes a part of it.

use broker_core::txn::TransactionVersion;
use broker_core::txn::request::AddPartitions;
use types::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::transactional::old_fencing;
use crate::coordinator::OFFSETS_TOPIC;
use crate::kafka::context::RequestContext;

/// `PRODUCER_FENCED` is known from this version on.
const FENCED_SINCE: i16 = 2;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let error = add(&cx, request).await.err().unwrap_or(ErrorCode::None);
    AddOffsetsToTxnResponse {
        error_code: old_fencing(error, cx.version >= FENCED_SINCE).code(),
        ..AddOffsetsToTxnResponse::default()
    }
}

async fn add(cx: &RequestContext, request: AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let broker = &cx.broker;
    if broker.groups.partition_of(&request.group_id).is_none() {
        broker.topic_creation.create_offsets_topic(broker).await;
    }
    let partition = broker.groups.partition_of(&request.group_id);
    let partition = partition.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let add = AddPartitions {
        transactional_id: request.transactional_id,
        producer: (
            ProducerId(request.producer_id),
            ProducerEpoch(request.producer_epoch),
        ),
        partitions: [TopicPartition::new(OFFSETS_TOPIC, partition)].into(),
        version: TransactionVersion::V1,
    };
    broker.transactions.add_partitions(&add).await
}
