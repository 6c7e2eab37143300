//! Which features are finalized without anybody asking, and which when somebody does?

use types::ErrorCode;

use super::*;

#[test]
fn the_first_tick_finalizes_what_this_build_can_and_the_next_ones_nothing() {
    let mut cluster = Cluster::new(0);
    let levels: Vec<(String, i16)> = (cluster.committed.features())
        .map(|(name, level)| (name.to_owned(), level))
        .collect();
    for wanted in [
        (METADATA_FEATURE, METADATA_LEVEL),
        (TRANSACTION_FEATURE, TRANSACTION_LEVEL),
        (GROUP_FEATURE, GROUP_LEVEL),
        (ELR_FEATURE, ELR_LEVEL),
    ] {
        assert!(
            levels.contains(&(wanted.0.to_owned(), wanted.1)),
            "{wanted:?}"
        );
    }
    let offset = cluster.committed.offset();
    cluster.tick(1);
    assert_eq!(cluster.committed.offset(), offset);
}

fn update(feature: &str, level: i16, upgrade_type: UpgradeType) -> FeatureUpdate {
    FeatureUpdate {
        feature: feature.to_owned(),
        level,
        upgrade_type,
    }
}

impl Cluster {
    fn update(&mut self, updates: &[FeatureUpdate]) -> Result<(), ApiError> {
        let request = ControllerRequest::UpdateFeatures(UpdateFeaturesRequest {
            updates: updates.to_vec(),
            validate_only: false,
        });
        match self.ask(&request) {
            ControllerResponse::UpdateFeatures(result) => result,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_feature_that_was_taken_away_stays_away_until_somebody_asks_for_it() {
    let mut cluster = Cluster::new(0);
    let down = update(GROUP_FEATURE, 0, UpgradeType::SafeDowngrade);
    assert_eq!(cluster.update(&[down]), Ok(()));
    assert_eq!(cluster.committed.feature(GROUP_FEATURE), 0);
    cluster.tick(1);
    assert_eq!(cluster.committed.feature(GROUP_FEATURE), 0);
    let up = update(GROUP_FEATURE, 1, UpgradeType::Upgrade);
    assert_eq!(cluster.update(&[up]), Ok(()));
    assert_eq!(cluster.committed.feature(GROUP_FEATURE), 1);
}

#[test]
fn one_update_that_is_refused_refuses_all() {
    use UpgradeType::{SafeDowngrade, UnsafeDowngrade, Upgrade};
    let mut cluster = Cluster::new(0);
    let offset = cluster.committed.offset();
    let good = update(GROUP_FEATURE, 0, SafeDowngrade);
    for (bad, why) in [
        (
            update("no.such.feature", 1, Upgrade),
            "does not support this feature",
        ),
        (
            update(TRANSACTION_FEATURE, 3, Upgrade),
            "only supports versions 0-2",
        ),
        (
            update(TRANSACTION_FEATURE, -1, SafeDowngrade),
            "only supports versions 0-2",
        ),
        (
            update(ELR_FEATURE, 0, SafeDowngrade),
            "may count on eligible leader replicas",
        ),
        (
            update(METADATA_FEATURE, 0, UnsafeDowngrade),
            "only supports versions 1-1",
        ),
        (
            update(TRANSACTION_FEATURE, 1, Upgrade),
            "without setting the upgrade type",
        ),
        (update(GROUP_FEATURE, 0, SafeDowngrade), "named twice"),
    ] {
        let error = cluster.update(&[good.clone(), bad.clone()]).unwrap_err();
        assert!(error.message.contains(why), "{bad:?}: {error:?}");
        assert_eq!(cluster.committed.offset(), offset, "{bad:?}");
    }
    let lower = update(TRANSACTION_FEATURE, 1, UnsafeDowngrade);
    assert_eq!(cluster.update(&[lower]), Ok(()));
    let higher = update(TRANSACTION_FEATURE, 2, SafeDowngrade);
    let error = cluster.update(&[higher]).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidUpdateVersion);
}

#[test]
fn what_is_only_validated_or_is_so_already_changes_nothing() {
    let mut cluster = Cluster::new(0);
    let offset = cluster.committed.offset();
    let down = update(GROUP_FEATURE, 0, UpgradeType::SafeDowngrade);
    let request = ControllerRequest::UpdateFeatures(UpdateFeaturesRequest {
        updates: vec![down],
        validate_only: true,
    });
    let answer = cluster.ask(&request);
    assert_eq!(answer, ControllerResponse::UpdateFeatures(Ok(())));
    let same = update(GROUP_FEATURE, GROUP_LEVEL, UpgradeType::Upgrade);
    assert_eq!(cluster.update(&[same]), Ok(()));
    assert_eq!(cluster.committed.offset(), offset);
}
