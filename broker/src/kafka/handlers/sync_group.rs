//! SyncGroup (key 14): which assignment does a member get?

use broker_core::group::request::SyncRequest;
use wire::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let model = SyncRequest {
        group_id: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|assignment| (assignment.member_id, assignment.assignment))
            .collect(),
    };
    let reply = cx.broker.groups.sync(cx.image(), model).await;
    SyncGroupResponse {
        error_code: reply.error.code(),
        protocol_type: reply.protocol_type,
        protocol_name: reply.protocol,
        assignment: reply.assignment,
        ..SyncGroupResponse::default()
    }
}
