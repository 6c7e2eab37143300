//! Which features are finalized, and at which level (KIP-584, KIP-1022)?
//!
//! A new cluster begins with the newest level of each; from then on somebody has to ask for another one. Eligible leader replicas begin by
//! themselves, as soon as all brokers can read of them, and stay: partitions count on them.

use types::ErrorCode;

use super::request::{ApiError, FeatureUpdate, UpdateFeaturesRequest, UpgradeType};
use super::{Controller, Decision};
use crate::metadata::MetadataRecord;
use crate::metadata::record::FeatureLevel;

/// The feature whose finalized level says which record versions may be written.
pub const METADATA_FEATURE: &str = "tidemark.metadata.version";
/// The newest level this build can finalize.
pub const METADATA_LEVEL: i16 = 1;
/// The feature that says which protocol transactions follow; Kafka's name.
pub const TRANSACTION_FEATURE: &str = "transaction.version";
/// The protocol of KIP-890.
pub const TRANSACTION_LEVEL: i16 = 2;
/// The feature that says whether there are groups of the consumer protocol; Kafka's name.
pub const GROUP_FEATURE: &str = "group.version";
/// Groups of KIP-848.
pub const GROUP_LEVEL: i16 = 1;

/// The feature that says whether eligible leader replicas are kept; Kafka's name.
pub const ELR_FEATURE: &str = "eligible.leader.replicas.version";
/// Eligible leader replicas of KIP-966.
pub const ELR_LEVEL: i16 = 1;

/// A feature and the levels that this build works at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level; 0 is to do without.
    pub min: i16,
    /// The newest level.
    pub max: i16,
}

/// All features of this build.
pub const FEATURES: [SupportedFeature; 4] = [
    SupportedFeature {
        name: METADATA_FEATURE,
        min: 1,
        max: METADATA_LEVEL,
    },
    SupportedFeature {
        name: TRANSACTION_FEATURE,
        min: 0,
        max: TRANSACTION_LEVEL,
    },
    SupportedFeature {
        name: GROUP_FEATURE,
        min: 0,
        max: GROUP_LEVEL,
    },
    SupportedFeature {
        name: ELR_FEATURE,
        min: 0,
        max: ELR_LEVEL,
    },
];

impl Controller {
    /// The levels that a new cluster begins with; none for one that has begun.
    pub(super) fn first_features(&self) -> Vec<MetadataRecord> {
        if self.image.feature(METADATA_FEATURE) != 0 {
            return Vec::new();
        }
        let newest = FEATURES
            .iter()
            .filter(|feature| feature.name != ELR_FEATURE)
            .map(|feature| level(feature.name, feature.max));
        newest.collect()
    }

    /// All updates, or none of them.
    pub(super) fn update_features(
        &self,
        request: &UpdateFeaturesRequest,
    ) -> Decision<Result<(), ApiError>> {
        for (at, update) in request.updates.iter().enumerate() {
            let again = |earlier: &FeatureUpdate| earlier.feature == update.feature;
            let checked = if request.updates[..at].iter().any(again) {
                let message = format!("The feature {} is named twice.", update.feature);
                Err(ApiError::new(ErrorCode::InvalidRequest, message))
            } else {
                self.check_update(update)
            };
            if let Err(error) = checked {
                return Decision::answer(Err(error));
            }
        }
        let changes = request.updates.iter();
        let changes = changes.filter(|update| self.image.feature(&update.feature) != update.level);
        let records = changes.map(|update| level(&update.feature, update.level));
        Decision {
            records: match request.validate_only {
                true => Vec::new(),
                false => records.collect(),
            },
            response: Ok(()),
        }
    }

    fn check_update(&self, update: &FeatureUpdate) -> Result<(), ApiError> {
        let FeatureUpdate {
            feature,
            level,
            upgrade_type,
        } = update;
        let refused = |why: String| {
            let message = format!("Invalid update version {level} for feature {feature}. {why}");
            Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message))
        };
        let Some(supported) = FEATURES.iter().find(|known| known.name == feature) else {
            return refused("This build does not support this feature.".to_owned());
        };
        if !(supported.min..=supported.max).contains(level) {
            let (min, max) = (supported.min, supported.max);
            return refused(format!("This build only supports versions {min}-{max}."));
        }
        let now = self.image.feature(feature);
        if feature == ELR_FEATURE && *level != now {
            return refused(match now {
                0 => "It begins as soon as every broker supports it.".to_owned(),
                _ => "Partitions may count on eligible leader replicas.".to_owned(),
            });
        }
        match upgrade_type {
            UpgradeType::Upgrade if *level < now => refused(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
                    .to_owned(),
            ),
            UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if *level > now => {
                refused(format!("Can't downgrade to a newer version than {now}."))
            }
            _ => Ok(()),
        }
    }
}

fn level(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel(FeatureLevel {
        name: name.to_owned(),
        level,
    })
}
