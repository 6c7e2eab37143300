//! SaslHandshake (key 17): which SASL mechanisms are there? None: no listener has SASL yet.

use types::ErrorCode;
use wire::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    _cx: RequestContext,
    _request: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    // Kafka's answer on a listener without SASL.
    SaslHandshakeResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        ..SaslHandshakeResponse::default()
    }
}
