//! EndTxn (key 26): commit or abort? From version 5 on the answer has the producer's next epoch (KIP-890).

use broker_core::txn::TransactionVersion;
use broker_core::txn::request::EndTransaction;
use types::{ProducerEpoch, ProducerId, TransactionResult};
use wire::messages::{EndTxnRequest, EndTxnResponse};

use super::transactional::old_fencing;
use crate::kafka::context::RequestContext;

/// The producer moves to its next epoch, from this version on.
const VERSION_2_SINCE: i16 = 5;
/// `PRODUCER_FENCED` is known from this version on.
const FENCED_SINCE: i16 = 2;

pub(in crate::kafka) async fn handle(cx: RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    let end = EndTransaction {
        transactional_id: request.transactional_id,
        producer: (
            ProducerId(request.producer_id),
            ProducerEpoch(request.producer_epoch),
        ),
        result: if request.committed {
            TransactionResult::Commit
        } else {
            TransactionResult::Abort
        },
        version: if cx.version >= VERSION_2_SINCE {
            TransactionVersion::V2
        } else {
            TransactionVersion::V1
        },
    };
    let fresh = cx.broker.producer_ids.next(&cx.broker);
    match cx.broker.transactions.end(&end, fresh).await {
        Ok((id, epoch)) => EndTxnResponse {
            producer_id: id.0,
            producer_epoch: epoch.0,
            ..EndTxnResponse::default()
        },
        Err(error) => EndTxnResponse {
            error_code: old_fencing(error, cx.version >= FENCED_SINCE).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..EndTxnResponse::default()
        },
    }
}
