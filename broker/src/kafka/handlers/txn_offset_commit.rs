//! TxnOffsetCommit (key 28): how far has a group consumed, if the transaction is committed?

use broker_core::group::TransactionalCommit;
use broker_core::group::request::{CommitPartition, CommitRequest};
use broker_core::metadata::MetadataImage;
use types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use wire::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::transactional::for_client;
use crate::coordinator::OFFSETS_TOPIC;
use crate::kafka::context::RequestContext;
use crate::replication::{TopicIdPartition, Verification};
use crate::transactions::{Membership, ask_coordinator};

/// The commit itself adds the group to the transaction, from this version on (KIP-890).
const VERSION_2_SINCE: i16 = 5;
/// `TRANSACTION_ABORTABLE` is known from this version on.
const ABORTABLE_SINCE: i16 = 4;
/// Older clients die of `COORDINATOR_LOAD_IN_PROGRESS`.
const LOADING_SINCE: i16 = 2;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    mut request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let image = cx.image();
    let topics = std::mem::take(&mut request.topics);
    let partitions: Vec<CommitPartition> = (topics.iter())
        .flat_map(|topic| commits(&image, topic))
        .collect();
    let count = partitions.len();
    let codes = match commit(&cx, request, partitions).await {
        Ok(codes) => codes,
        Err(code) => vec![code; count],
    };
    let mut codes = codes.into_iter().map(|code| match code {
        ErrorCode::CoordinatorLoadInProgress if cx.version < LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        other => other,
    });
    TxnOffsetCommitResponse {
        topics: topics
            .into_iter()
            .map(|topic| TxnOffsetCommitResponseTopic {
                name: topic.name,
                partitions: (topic.partitions.iter())
                    .zip(codes.by_ref())
                    .map(|(partition, code)| TxnOffsetCommitResponsePartition {
                        partition_index: partition.partition_index,
                        error_code: code.code(),
                        ..TxnOffsetCommitResponsePartition::default()
                    })
                    .collect(),
                ..TxnOffsetCommitResponseTopic::default()
            })
            .collect(),
        ..TxnOffsetCommitResponse::default()
    }
}

fn commits(image: &MetadataImage, topic: &TxnOffsetCommitRequestTopic) -> Vec<CommitPartition> {
    let found = image.topic_by_name(&topic.name);
    topic
        .partitions
        .iter()
        .map(|partition| {
            let index = partition.partition_index;
            let known = found.is_some_and(|topic| topic.partition(index).is_some());
            let epoch = partition.committed_leader_epoch;
            CommitPartition {
                partition: TopicPartition::new(topic.name.as_str(), index),
                offset: Offset(partition.committed_offset),
                leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)),
                metadata: partition.committed_metadata.clone().unwrap_or_default(),
                error: if known {
                    ErrorCode::None
                } else {
                    ErrorCode::UnknownTopicOrPartition
                },
            }
        })
        .collect()
}

/// How often the coordinator is asked again when its answer was out of date at the append.
const ASKED_AGAIN: usize = 3;

async fn commit(
    cx: &RequestContext,
    request: TxnOffsetCommitRequest,
    partitions: Vec<CommitPartition>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let producer = (
        ProducerId(request.producer_id),
        ProducerEpoch(request.producer_epoch),
    );
    let groups = &cx.broker.groups;
    let partition = groups.partition_of(&request.group_id);
    let partition = partition.ok_or(ErrorCode::NotCoordinator)?;
    let transactional_id = request.transactional_id;
    let generation = request.generation_id;
    let request = CommitRequest {
        group_id: request.group_id,
        generation: (generation >= 0).then_some(generation),
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        knows_epochs: false,
        retention_ms: None,
        partitions,
    };
    let mut again = ASKED_AGAIN;
    loop {
        let guard = verified(cx, transactional_id.clone(), producer, partition).await?;
        let transaction = TransactionalCommit { producer, guard };
        let reply = groups.commit_in_transaction(request.clone(), transaction);
        let partitions = reply.await.partitions.into_iter();
        let codes: Vec<ErrorCode> = partitions.map(|(_, code)| code).collect();
        if again == 0 || !codes.contains(&ErrorCode::InvalidTxnState) {
            return Ok(codes);
        }
        // The end of the transaction before came between the coordinator's answer and the append.
        again -= 1;
    }
}

/// The guard for the append, once the coordinator of the transaction knows that the group's partition is in it.
async fn verified(
    cx: &RequestContext,
    transactional_id: String,
    producer: (ProducerId, ProducerEpoch),
    partition: i32,
) -> Result<Option<u64>, ErrorCode> {
    let target = TopicIdPartition::new(TopicId::ZERO, OFFSETS_TOPIC, partition);
    if cx.broker.replicas.verification(&target, producer, None) == Verification::Open {
        return Ok(None);
    }
    let bumps = cx.version >= VERSION_2_SINCE;
    let membership = Membership {
        transactional_id,
        producer,
        verify_only: !bumps,
        partitions: [target.topic_partition()].into(),
    };
    let answers = ask_coordinator(&cx.broker, &membership).await;
    match answers.first().map(|(_, answer)| *answer) {
        Some(Ok(guard)) => Ok(guard),
        Some(Err(code)) => match for_client(code, bumps, cx.version >= ABORTABLE_SINCE) {
            // The group's coordinator is this one; it is the transaction's that cannot be asked.
            ErrorCode::NotEnoughReplicas => Err(ErrorCode::CoordinatorLoadInProgress),
            code => Err(code),
        },
        None => Err(ErrorCode::UnknownServerError),
    }
}
