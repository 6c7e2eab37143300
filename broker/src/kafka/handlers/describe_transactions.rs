//! DescribeTransactions (key 65): where are these transactions (KIP-664)?

use std::future::{Ready, ready};

use types::ErrorCode;
use wire::messages::describe_transactions_response::{TopicData, TransactionState};
use wire::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};

use super::transactional::by_topic;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) fn handle(
    cx: RequestContext,
    request: DescribeTransactionsRequest,
) -> Ready<DescribeTransactionsResponse> {
    let ids = request.transactional_ids.into_iter();
    ready(DescribeTransactionsResponse {
        transaction_states: ids.map(|id| describe(&cx, id)).collect(),
        ..DescribeTransactionsResponse::default()
    })
}

fn describe(cx: &RequestContext, transactional_id: String) -> TransactionState {
    match cx.broker.transactions.describe(&transactional_id) {
        Ok(described) => TransactionState {
            transactional_id,
            error_code: ErrorCode::None.code(),
            transaction_state: described.state.name().to_owned(),
            transaction_timeout_ms: described.timeout_ms,
            transaction_start_time_ms: described.start_ms.unwrap_or(-1),
            producer_id: described.producer.0.0,
            producer_epoch: described.producer.1.0,
            topics: by_topic(described.partitions.into_iter().map(|one| (one, ())))
                .into_iter()
                .map(|(topic, partitions)| TopicData {
                    topic,
                    partitions: partitions.into_iter().map(|(index, ())| index).collect(),
                    ..TopicData::default()
                })
                .collect(),
            ..TransactionState::default()
        },
        Err(error) => TransactionState {
            transactional_id,
            error_code: error.code(),
            ..TransactionState::default()
        },
    }
}
