//! JoinGroup (key 11): who becomes a member of which generation?

use broker_core::group::request::{JoinReply, JoinRequest};
use uuid::Uuid;
use wire::messages::join_group_response::JoinGroupResponseMember;
use wire::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let model = JoinRequest {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        client_id: cx.client_id.clone().unwrap_or_default(),
        client_host: cx.client_host(),
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata))
            .collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if cx.version >= 1 {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        require_known_member_id: cx.version >= 4,
        supports_skip_assignment: cx.version >= 9,
        fresh_id: Uuid::new_v4().to_string(),
    };
    response(cx.version, cx.broker.groups.join(cx.image(), model).await)
}

fn response(version: i16, reply: JoinReply) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: reply.error.code(),
        generation_id: reply.generation.unwrap_or(-1),
        protocol_type: reply.protocol_type,
        // Null is only allowed from version 7 on.
        protocol_name: if version >= 7 {
            reply.protocol
        } else {
            Some(reply.protocol.unwrap_or_default())
        },
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: reply
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                metadata: member.metadata,
                ..JoinGroupResponseMember::default()
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}
