//! ApiVersions (key 18): which APIs does this broker serve? Derived from the table of handlers.

use std::future::{Ready, ready};

use broker_core::controller::FEATURES;
use types::ErrorCode;
use wire::ApiKey;
use wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::kafka::context::RequestContext;
use crate::kafka::dispatch::{APIS, Api};

/// Not an `async fn`, whose type would depend on the table that contains it.
pub(in crate::kafka) fn handle(
    cx: RequestContext,
    request: ApiVersionsRequest,
) -> Ready<ApiVersionsResponse> {
    ready(answer(&cx, &request))
}

fn answer(cx: &RequestContext, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if cx.version >= 3 && !is_valid_software(request) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponse::default()
        };
    }
    let image = cx.image();
    let finalized_features: Vec<FinalizedFeatureKey> = image
        .features()
        .map(|(name, level)| FinalizedFeatureKey {
            name: name.to_owned(),
            max_version_level: level,
            min_version_level: level,
            ..FinalizedFeatureKey::default()
        })
        .collect();
    ApiVersionsResponse {
        api_keys: APIS.iter().map(row).collect(),
        finalized_features_epoch: i64::try_from(image.offset()).unwrap_or(i64::MAX),
        finalized_features,
        supported_features: supported_features(cx.version),
        ..ApiVersionsResponse::default()
    }
}

/// Features that start at 0 are left out where clients take that for an error (KAFKA-17011).
fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let shown = FEATURES
        .iter()
        .filter(|feature| feature.min > 0 || version >= 4);
    shown
        .map(|feature| SupportedFeatureKey {
            name: feature.name.to_owned(),
            min_version: feature.min,
            max_version: feature.max,
            ..SupportedFeatureKey::default()
        })
        .collect()
}

/// The answer, in version 0, to a version that is not served (KIP-511).
pub(in crate::kafka) fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: (APIS.iter())
            .filter(|api| api.key == ApiKey::ApiVersions)
            .map(row)
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

fn row(api: &Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key.as_i16(),
        min_version: api.advertised_min,
        max_version: api.versions.1,
        ..ApiVersion::default()
    }
}

/// Name and version of the client's software: letters, digits, `-` and `.`, alphanumeric at both ends (KIP-511).
fn is_valid_software(request: &ApiVersionsRequest) -> bool {
    [
        &request.client_software_name,
        &request.client_software_version,
    ]
    .into_iter()
    .all(|text| {
        let end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let bytes = text.bytes();
        end(bytes.clone().next())
            && end(bytes.clone().next_back())
            && bytes
                .into_iter()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.')
    })
}
