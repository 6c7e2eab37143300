//! ListGroups (key 16): which groups does this broker coordinate?

use wire::messages::list_groups_response::ListedGroup;
use wire::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::kafka::context::RequestContext;

/// The type of all groups there are, as `types_filter` names it (KIP-848).
const CLASSIC: &str = "classic";

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
        Ok(_) if !allowed(&request.types_filter, CLASSIC) => {}
        Ok(groups) => {
            response.groups = groups
                .into_iter()
                .filter(|group| allowed(&request.states_filter, group.state.name()))
                .map(|group| ListedGroup {
                    group_id: group.group_id,
                    protocol_type: group.protocol_type,
                    group_state: group.state.name().to_owned(),
                    group_type: CLASSIC.to_owned(),
                    ..ListedGroup::default()
                })
                .collect();
        }
    }
    response
}
