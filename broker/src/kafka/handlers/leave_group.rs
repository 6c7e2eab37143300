//! LeaveGroup (key 13): which members leave a group (several at once from version 3 on, KIP-345)?

use broker_core::group::request::LeavingMember;
use wire::messages::leave_group_response::MemberResponse;
use wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let batch = cx.version >= 3;
    let members: Vec<LeavingMember> = if batch {
        let members = request.members.into_iter();
        members
            .map(|member| LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
            })
            .collect()
    } else {
        vec![LeavingMember {
            member_id: request.member_id,
            group_instance_id: None,
        }]
    };
    let mut response = LeaveGroupResponse::default();
    match (cx.broker.groups).leave(cx.image(), &request.group_id, &members) {
        Err(error) => response.error_code = error.code(),
        Ok(errors) if batch => {
            response.members = members
                .into_iter()
                .zip(errors)
                .map(|(member, error)| MemberResponse {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error_code: error.code(),
                    ..MemberResponse::default()
                })
                .collect();
        }
        Ok(errors) => response.error_code = errors.first().map_or(0, |error| error.code()),
    }
    response
}
