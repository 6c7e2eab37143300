//! SaslAuthenticate (key 36): who is the client? Nobody asks: no listener has SASL yet.

use types::ErrorCode;
use wire::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    _cx: RequestContext,
    _request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some("SASL is not enabled on this listener".to_owned()),
        ..SaslAuthenticateResponse::default()
    }
}
