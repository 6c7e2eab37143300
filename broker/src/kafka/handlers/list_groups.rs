//! ListGroups (key 16): which groups does this broker coordinate?

use wire::messages::list_groups_response::ListedGroup;
use wire::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let allowed = |filter: &[String], name: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let mut response = ListGroupsResponse::default();
    match cx.broker.groups.list() {
        Err(error) => response.error_code = error.code(),
        Ok(groups) => {
            response.groups = groups
                .into_iter()
                .filter(|group| allowed(&request.states_filter, group.state.name()))
                .filter(|group| allowed(&request.types_filter, group.kind.name()))
                .map(|group| ListedGroup {
                    group_id: group.group_id,
                    protocol_type: group.protocol_type,
                    group_state: group.state.name().to_owned(),
                    group_type: group.kind.name().to_owned(),
                    ..ListedGroup::default()
                })
                .collect();
        }
    }
    response
}
