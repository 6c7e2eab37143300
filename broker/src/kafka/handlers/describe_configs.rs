//! DescribeConfigs (key 32): what is the effective configuration, and where does each value come from?

use broker_core::metadata::{ConfigResource, MetadataImage};
use config::layers::{ConfigSource, Described};
use types::ErrorCode;
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::config_resource;
use crate::kafka::context::RequestContext;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let image = cx.image();
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.into_iter().map(|resource| {
        let described = describe(&cx, &image, &resource);
        let wanted = resource.configuration_keys;
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            error_message: None,
            ..DescribeConfigsResult::default()
        };
        match described {
            Ok(rows) => {
                result.configs = rows
                    .into_iter()
                    .filter(|row| {
                        (wanted.as_ref()).is_none_or(|keys| keys.iter().any(|k| k == row.name))
                    })
                    .map(|row| row_response(row, synonyms, docs))
                    .collect();
            }
            Err((code, message)) => {
                result.error_code = code.code();
                result.error_message = Some(message);
            }
        }
        result
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..DescribeConfigsResponse::default()
    }
}

fn describe(
    cx: &RequestContext,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let layers = cx.broker.layers(image);
    match config_resource::parse(resource.resource_type, &resource.resource_name)? {
        ConfigResource::Topic(name) => {
            config::topic_name::check(&name)
                .map_err(|reason| (ErrorCode::InvalidTopicException, reason))?;
            if image.topic_by_name(&name).is_none() {
                let message = format!("The topic '{name}' does not exist.");
                return Err((ErrorCode::UnknownTopicOrPartition, message));
            }
            Ok(layers.describe_topic(image.topic_config(&name)))
        }
        ConfigResource::Broker(id) if id == cx.broker.node_id => Ok(layers.describe_broker()),
        ConfigResource::Broker(id) => Err((
            ErrorCode::InvalidRequest,
            format!(
                "Unexpected broker id, expected {} or empty string, but received {id}",
                cx.broker.node_id
            ),
        )),
        // The defaults of all brokers: only what was set on them.
        ConfigResource::DefaultBroker => Ok(layers
            .describe_broker()
            .into_iter()
            .filter_map(only_default_layer)
            .collect()),
    }
}

fn only_default_layer(mut row: Described) -> Option<Described> {
    row.synonyms
        .retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
    let set = row.synonyms.first()?;
    row.value = set.value.clone();
    row.source = set.source;
    Some(row)
}

fn row_response(row: Described, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let shown = |value: Option<String>| value.filter(|_| !row.sensitive);
    DescribeConfigsResourceResult {
        name: row.name.to_owned(),
        value: shown(row.value.clone()),
        read_only: row.read_only,
        config_source: row.source as i8,
        is_sensitive: row.sensitive,
        synonyms: if synonyms {
            let all = row.synonyms.into_iter();
            all.map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.to_owned(),
                value: shown(synonym.value),
                source: synonym.source as i8,
                ..DescribeConfigsSynonym::default()
            })
            .collect()
        } else {
            Vec::new()
        },
        config_type: row.kind.code(),
        documentation: docs.then(|| row.doc.trim().to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}
