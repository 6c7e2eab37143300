//! AddPartitionsToTxn (key 24): which partitions will a transaction write to?
//!
//! Up to version 3 a client says so before it produces. From version 4 on brokers ask for several transactions at once,
//! some only whether partitions are in them (KIP-890).

use std::collections::BTreeSet;

use broker_core::txn::TransactionVersion;
use broker_core::txn::request::AddPartitions;
use types::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::transactional::{by_topic, is_writable, old_fencing};
use crate::kafka::context::RequestContext;

/// Several transactions in one request, from this version on.
const BATCHED_SINCE: i16 = 4;
/// The producer moves to its next epoch with every transaction, from this version on.
const VERSION_2_SINCE: i16 = 5;
/// `PRODUCER_FENCED` is known from this version on.
const FENCED_SINCE: i16 = 2;

type Results = Vec<(TopicPartition, ErrorCode)>;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if cx.version < BATCHED_SINCE {
        let producer = (
            request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch,
        );
        let id = request.v3_and_below_transactional_id;
        let results = add(&cx, id, producer, &request.v3_and_below_topics, false).await;
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: topics(&cx, results),
            ..AddPartitionsToTxnResponse::default()
        };
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results_by_transaction.push(add_batched(&cx, transaction).await);
    }
    AddPartitionsToTxnResponse {
        results_by_transaction,
        ..AddPartitionsToTxnResponse::default()
    }
}

async fn add_batched(
    cx: &RequestContext,
    transaction: AddPartitionsToTxnTransaction,
) -> AddPartitionsToTxnResult {
    let id = transaction.transactional_id.clone();
    let producer = (transaction.producer_id, transaction.producer_epoch);
    let verify = transaction.verify_only;
    let results = add(cx, id, producer, &transaction.topics, verify).await;
    AddPartitionsToTxnResult {
        transactional_id: transaction.transactional_id,
        topic_results: topics(cx, results),
        ..AddPartitionsToTxnResult::default()
    }
}

async fn add(
    cx: &RequestContext,
    transactional_id: String,
    (producer_id, producer_epoch): (i64, i16),
    topics: &[AddPartitionsToTxnTopic],
    verify_only: bool,
) -> Results {
    let image = cx.image();
    let partitions: BTreeSet<TopicPartition> = topics
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |partition| TopicPartition::new(topic.name.as_str(), *partition))
        })
        .collect();
    let all = |partitions: BTreeSet<TopicPartition>, code: ErrorCode| -> Results {
        partitions.into_iter().map(|one| (one, code)).collect()
    };
    if !verify_only && !partitions.iter().all(|one| is_writable(&image, one)) {
        // All or nothing.
        let judged = partitions.into_iter().map(|one| {
            let code = if is_writable(&image, &one) {
                ErrorCode::OperationNotAttempted
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            (one, code)
        });
        return judged.collect();
    }
    let request = AddPartitions {
        transactional_id,
        producer: (ProducerId(producer_id), ProducerEpoch(producer_epoch)),
        partitions: partitions.clone(),
        version: if cx.version >= VERSION_2_SINCE {
            TransactionVersion::V2
        } else {
            TransactionVersion::V1
        },
    };
    let transactions = &cx.broker.transactions;
    if verify_only {
        let verified = transactions.verify_partitions(&request);
        return verified.unwrap_or_else(|code| all(partitions, code));
    }
    let added = transactions.add_partitions(&request).await;
    all(partitions, added.err().unwrap_or(ErrorCode::None))
}

fn topics(cx: &RequestContext, results: Results) -> Vec<AddPartitionsToTxnTopicResult> {
    by_topic(results)
        .into_iter()
        .map(|(name, partitions)| AddPartitionsToTxnTopicResult {
            name,
            results_by_partition: partitions
                .into_iter()
                .map(
                    |(partition_index, code)| AddPartitionsToTxnPartitionResult {
                        partition_index,
                        partition_error_code: old_fencing(code, cx.version >= FENCED_SINCE).code(),
                        ..AddPartitionsToTxnPartitionResult::default()
                    },
                )
                .collect(),
            ..AddPartitionsToTxnTopicResult::default()
        })
        .collect()
}
