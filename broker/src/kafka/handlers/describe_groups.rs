//! DescribeGroups (key 15): who is in a group, with which assignment?

use broker_core::group::request::GroupDescription;
use types::ErrorCode;
use wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::authorized;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|group_id| {
        let mut described = match cx.broker.groups.describe(&group_id) {
            Ok(Some(group)) => describe(group),
            Ok(None) => unknown(cx.version, &group_id),
            Err(error) => DescribedGroup {
                error_code: error.code(),
                ..DescribedGroup::default()
            },
        };
        described.group_id = group_id;
        if cx.version >= 3 {
            described.authorized_operations =
                authorized::group(request.include_authorized_operations);
        }
        described
    });
    DescribeGroupsResponse {
        groups: groups.collect(),
        ..DescribeGroupsResponse::default()
    }
}

fn describe(group: GroupDescription) -> DescribedGroup {
    let members = group.members.into_iter();
    DescribedGroup {
        group_state: group.state.name().to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: members
            .map(|member| DescribedGroupMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                member_metadata: member.metadata,
                member_assignment: member.assignment,
                ..DescribedGroupMember::default()
            })
            .collect(),
        ..DescribedGroup::default()
    }
}

/// Up to version 5 an unknown group is described as dead; from 6 on it is an error (KIP-1043).
fn unknown(version: i16, group_id: &str) -> DescribedGroup {
    let mut group = DescribedGroup {
        group_state: "Dead".to_owned(),
        ..DescribedGroup::default()
    };
    if version >= 6 {
        group.error_code = ErrorCode::GroupIdNotFound.code();
        group.error_message = Some(format!("Group {group_id} not found."));
    }
    group
}
