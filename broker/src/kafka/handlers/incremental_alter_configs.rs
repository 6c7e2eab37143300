//! IncrementalAlterConfigs (key 44): which single values change (KIP-339)?

use broker_core::controller::request::{
    ApiError, ConfigChange, ConfigOp, ControllerRequest, ControllerResponse,
    IncrementalAlterConfigsRequest as Model,
};
use broker_core::metadata::ConfigResource;
use types::ErrorCode;
use wire::messages::incremental_alter_configs_request::AlterConfigsResource;
use wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::config_resource;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut resources = Vec::new();
    let mut places = Vec::new();
    for resource in request.resources {
        let mut response = AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            error_message: None,
            ..AlterConfigsResourceResponse::default()
        };
        match changes(resource) {
            Ok(changes) => {
                resources.push(changes);
                places.push(responses.len());
            }
            Err((code, message)) => {
                response.error_code = code.code();
                response.error_message = Some(message);
            }
        }
        responses.push(response);
    }
    let results = alter(&cx, resources, request.validate_only).await;
    for (place, error) in places.into_iter().zip(results) {
        if let (Some(error), Some(response)) = (error, responses.get_mut(place)) {
            response.error_code = error.code.code();
            response.error_message = Some(error.message);
        }
    }
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

type Changes = (ConfigResource, Vec<ConfigChange>);

fn changes(resource: AlterConfigsResource) -> Result<Changes, (ErrorCode, String)> {
    let parsed = config_resource::parse(resource.resource_type, &resource.resource_name)?;
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in resource.configs {
        let op = match config.config_operation {
            0 => ConfigOp::Set,
            1 => ConfigOp::Delete,
            2 => ConfigOp::Append,
            3 => ConfigOp::Subtract,
            other => {
                let message = format!("Unknown config operation {other} for {}", config.name);
                return Err((ErrorCode::InvalidRequest, message));
            }
        };
        changes.push(ConfigChange {
            name: config.name,
            op,
            value: config.value,
        });
    }
    Ok((parsed, changes))
}

/// The error of each resource, in order.
async fn alter(
    cx: &RequestContext,
    resources: Vec<Changes>,
    validate_only: bool,
) -> Vec<Option<ApiError>> {
    let count = resources.len();
    let asked = ControllerRequest::IncrementalAlterConfigs(Model {
        resources,
        validate_only,
    });
    match cx.controller(asked, cx.broker.request_timeout()).await {
        Ok(ControllerResponse::IncrementalAlterConfigs(results)) => {
            results.into_iter().map(|r| r.result.err()).collect()
        }
        other => vec![Some(RequestContext::unanswered(other)); count],
    }
}
