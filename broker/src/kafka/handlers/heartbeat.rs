//! Heartbeat (key 12): is the member alive, and does it have to rejoin?

use broker_core::group::request::HeartbeatRequest as Model;
use wire::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let model = Model {
        group_id: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
    };
    let result = cx.broker.groups.heartbeat(cx.image(), &model);
    HeartbeatResponse {
        error_code: result.err().map_or(0, types::ErrorCode::code),
        ..HeartbeatResponse::default()
    }
}
