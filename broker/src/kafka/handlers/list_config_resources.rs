//! ListConfigResources (key 74): what has a configuration that may be described (KIP-1142)? Version 0 is the older
//! ListClientMetricsResources, of which there are none.

use std::future::{Ready, ready};

use types::ErrorCode;
use wire::messages::list_config_resources_response::ConfigResource;
use wire::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::config_resource::{BROKER, TOPIC};
use crate::kafka::context::RequestContext;

/// Types that Kafka knows and of which nothing has a configuration here: the loggers of brokers, client metrics, groups.
const WITHOUT_ANY: [i8; 3] = [8, 16, 32];

pub(in crate::kafka) fn handle(
    cx: RequestContext,
    request: ListConfigResourcesRequest,
) -> Ready<ListConfigResourcesResponse> {
    ready(answer(&cx, &request))
}

fn answer(
    cx: &RequestContext,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let mut response = ListConfigResourcesResponse::default();
    if cx.version == 0 {
        return response;
    }
    let asked = &request.resource_types;
    let known = |kind: &i8| [TOPIC, BROKER].contains(kind) || WITHOUT_ANY.contains(kind);
    if !asked.iter().all(known) {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        return response;
    }
    let wants = |kind: i8| asked.is_empty() || asked.contains(&kind);
    let resource = |resource_type: i8, resource_name: String| ConfigResource {
        resource_name,
        resource_type,
        ..ConfigResource::default()
    };
    let image = cx.image();
    if wants(TOPIC) {
        let topics = image.topics();
        let listed = topics.map(|topic| resource(TOPIC, topic.name.to_string()));
        response.config_resources.extend(listed);
    }
    if wants(BROKER) {
        let brokers = image.brokers();
        let listed = brokers.map(|broker| resource(BROKER, broker.node_id.to_string()));
        response.config_resources.extend(listed);
    }
    response
}
