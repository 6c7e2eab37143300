//! AlterConfigs (key 33): which configuration replaces all that was set on a resource?

use broker_core::controller::request::{
    AlterConfigsRequest as Model, ApiError, ControllerRequest, ControllerResponse,
};
use broker_core::metadata::ConfigResource;
use wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use wire::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resource;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut resources = Vec::new();
    let mut places = Vec::new();
    for resource in request.resources {
        let mut response = AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            error_message: None,
            ..AlterConfigsResourceResponse::default()
        };
        match config_resource::parse(resource.resource_type, &resource.resource_name) {
            Ok(parsed) => {
                let configs = resource.configs.into_iter();
                let values = configs.map(|config| (config.name, config.value)).collect();
                resources.push((parsed, values));
                places.push(responses.len());
            }
            Err((code, message)) => {
                response.error_code = code.code();
                response.error_message = Some(message);
            }
        }
        response.resource_name = resource.resource_name;
        responses.push(response);
    }
    let results = alter(&cx, resources, request.validate_only).await;
    for (place, error) in places.into_iter().zip(results) {
        if let (Some(error), Some(response)) = (error, responses.get_mut(place)) {
            response.error_code = error.code.code();
            response.error_message = Some(error.message);
        }
    }
    AlterConfigsResponse {
        responses,
        ..AlterConfigsResponse::default()
    }
}

/// A resource and all the values it shall have.
type Replacement = (ConfigResource, Vec<(String, Option<String>)>);

/// The error of each resource, in order.
async fn alter(
    cx: &RequestContext,
    resources: Vec<Replacement>,
    validate_only: bool,
) -> Vec<Option<ApiError>> {
    let count = resources.len();
    let asked = ControllerRequest::AlterConfigs(Model {
        resources,
        validate_only,
    });
    match cx.controller(asked, cx.broker.request_timeout()).await {
        Ok(ControllerResponse::AlterConfigs(results)) => {
            results.into_iter().map(|r| r.result.err()).collect()
        }
        other => vec![Some(RequestContext::unanswered(other)); count],
    }
}
