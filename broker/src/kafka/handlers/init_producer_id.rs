//! InitProducerId (key 22): which id does an idempotent or transactional producer get?
//!
//! Without a transactional id every request gets an id that nobody had before, from blocks that the controller hands
//! out (KIP-730); with one, its coordinator answers.

use broker_core::txn::request::{InitProducerId, Producer};
use types::{ErrorCode, ProducerEpoch, ProducerId};
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::transactional::old_fencing;
use crate::kafka::context::RequestContext;

/// `PRODUCER_FENCED` is known from this version on.
const FENCED_SINCE: i16 = 4;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(&cx, request).await {
        Ok((id, epoch)) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: epoch.0,
            ..InitProducerIdResponse::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: old_fencing(error, cx.version >= FENCED_SINCE).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn init(cx: &RequestContext, request: InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    let fresh = cx.broker.producer_ids.next(&cx.broker);
    let Some(transactional_id) = request.transactional_id else {
        return Ok((fresh.await?, ProducerEpoch(0)));
    };
    let expected = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (id, epoch) if id >= 0 && epoch >= 0 => Some((ProducerId(id), ProducerEpoch(epoch))),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let init = InitProducerId {
        transactional_id,
        timeout_ms: request.transaction_timeout_ms,
        expected,
    };
    cx.broker.transactions.init_producer_id(&init, fresh).await
}
