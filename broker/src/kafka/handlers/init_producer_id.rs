//! InitProducerId (key 22): which id does an idempotent producer get?
//!
//! Without a transactional id every request gets an id that nobody had before, from blocks that the controller hands
//! out (KIP-730). Transactions are refused: no broker here coordinates them yet.

use types::ErrorCode;
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |error: ErrorCode| InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::InvalidRequest);
    }
    match cx.broker.producer_ids.next(&cx.broker).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(error) => refused(error),
    }
}
