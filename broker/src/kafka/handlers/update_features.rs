//! UpdateFeatures (key 57): which features are finalized at which level (KIP-584)?

use broker_core::controller::request::{
    ApiError, ControllerRequest, ControllerResponse, FeatureUpdate, UpdateFeaturesRequest as Model,
    UpgradeType,
};
use types::ErrorCode;
use wire::messages::update_features_request::FeatureUpdateKey;
use wire::messages::update_features_response::UpdatableFeatureResult;
use wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::kafka::context::{RequestContext, timeout_of};

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let timeout = timeout_of(request.timeout_ms);
    let version = cx.version;
    let updates = request.feature_updates.iter();
    let updates: Result<Vec<FeatureUpdate>, ApiError> =
        updates.map(|update| model(update, version)).collect();
    let result = match updates {
        Ok(updates) => {
            let model = Model {
                updates: updates.clone(),
                validate_only: request.validate_only,
            };
            let asked = ControllerRequest::UpdateFeatures(model);
            let result = match cx.controller(asked, timeout).await {
                Ok(ControllerResponse::UpdateFeatures(result)) => result,
                other => Err(RequestContext::unanswered(other)),
            };
            if result.is_ok() && !request.validate_only {
                // Whoever asks this broker next finds the levels.
                let applied = cx.broker.until(timeout, |image| {
                    let mut all = updates.iter();
                    all.all(|update| image.feature(&update.feature) == update.level)
                });
                applied.await;
            }
            result
        }
        Err(error) => Err(error),
    };
    response(&request, result.err())
}

/// Version 0 only says whether a lower level is meant.
fn model(update: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, ApiError> {
    let upgrade_type = match (version, update.upgrade_type) {
        (0, _) if update.allow_downgrade => UpgradeType::SafeDowngrade,
        (0, _) | (_, 1) => UpgradeType::Upgrade,
        (_, 2) => UpgradeType::SafeDowngrade,
        (_, 3) => UpgradeType::UnsafeDowngrade,
        (_, other) => {
            let feature = &update.feature;
            return Err(ApiError::new(
                ErrorCode::InvalidUpdateVersion,
                format!("The upgrade type of feature {feature} is 1, 2 or 3, not {other}."),
            ));
        }
    };
    Ok(FeatureUpdate {
        feature: update.feature.clone(),
        level: update.max_version_level,
        upgrade_type,
    })
}

/// The results of the single features, which only versions 0 and 1 have, are all alike: all are changed, or none.
fn response(request: &UpdateFeaturesRequest, error: Option<ApiError>) -> UpdateFeaturesResponse {
    let code = error.as_ref().map_or(0, |error| error.code.code());
    let message = error.map(|error| {
        let why = error.message;
        format!(
            "The update failed for all features since the following feature had an error: {why}"
        )
    });
    let results = request.feature_updates.iter();
    UpdateFeaturesResponse {
        error_code: code,
        error_message: message.clone(),
        results: results
            .map(|update| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code: code,
                error_message: message.clone(),
                ..UpdatableFeatureResult::default()
            })
            .collect(),
        ..UpdateFeaturesResponse::default()
    }
}
