//! Are offsets committed by those who may, visible when durable, and gone when outlived?

use std::collections::BTreeSet;

use types::ErrorCode;

use super::fixture::{Fixture, GROUP, subscription};
use crate::group::{GroupConfig, GroupRecord, GroupState};

#[test]
fn an_offset_is_answered_and_visible_only_once_it_is_committed_in_the_log() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    f.hold = true;
    let token = f.commit(&a, Some(1), 42);
    assert!(f.waits(token));
    assert_eq!(f.committed_offset(), None);
    f.release(Ok(()));
    assert_eq!(f.committed(token), [ErrorCode::None]);
    assert_eq!(f.committed_offset(), Some(42));
}

#[test]
fn a_failed_append_leaves_the_old_offset() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    f.commit(&a, Some(1), 1);
    f.hold = true;
    let token = f.commit(&a, Some(1), 2);
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(f.committed(token), [ErrorCode::CoordinatorNotAvailable]);
    assert_eq!(f.committed_offset(), Some(1));
}

#[test]
fn a_consumer_without_generation_commits_only_to_an_empty_group() {
    let mut f = Fixture::new();
    let token = f.commit("", None, 3);
    assert_eq!(f.committed(token), [ErrorCode::None]);
    assert_eq!(f.committed_offset(), Some(3));
    f.stable(&["a"]);
    let token = f.commit("", None, 4);
    assert_eq!(f.committed(token), [ErrorCode::UnknownMemberId]);
    assert_eq!(f.committed_offset(), Some(3));
}

#[test]
fn a_generation_of_an_unknown_group_is_illegal() {
    let mut f = Fixture::new();
    let token = f.commit("m", Some(4), 1);
    assert_eq!(f.committed(token), [ErrorCode::IllegalGeneration]);
}

#[test]
fn a_commit_between_join_and_sync_is_told_to_wait_for_the_rebalance() {
    let mut f = Fixture::new();
    let token = f.join("", "a");
    let a = f.joined(token).member_id;
    let token = f.commit(&a, Some(1), 1);
    assert_eq!(f.committed(token), [ErrorCode::RebalanceInProgress]);
}

#[test]
fn a_member_may_commit_its_last_offsets_while_the_group_prepares_a_rebalance() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    f.join("", "b");
    let token = f.commit(&a, Some(1), 9);
    assert_eq!(f.committed(token), [ErrorCode::None]);
}

#[test]
fn metadata_over_the_limit_is_refused() {
    let mut f = Fixture::with(GroupConfig {
        offset_metadata_max_bytes: 0,
        ..GroupConfig::default()
    });
    let token = f.commit("", None, 1);
    assert_eq!(f.committed(token), [ErrorCode::None], "empty is allowed");
}

#[test]
fn offsets_of_an_empty_group_go_after_the_retention_and_the_group_with_them() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    f.commit(&a, Some(1), 5);
    let week = f.config.offsets_retention_ms;
    f.advance(1_000);
    f.leave(&a, None);
    f.now.wall_ms += week - 1;
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    assert_eq!(f.committed_offset(), Some(5), "the group emptied later");
    f.now.wall_ms += 1;
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    assert_eq!(f.state(), GroupState::Dead);
    let tail = &f.log[f.log.len() - 2..];
    assert!(
        matches!(
            tail,
            [
                GroupRecord::Offset { value: None, .. },
                GroupRecord::Group { value: None, .. }
            ]
        ),
        "{tail:?}"
    );
    f.reload();
    assert!(f.coordinator.describe(GROUP).is_none());
}

#[test]
fn a_stable_group_keeps_what_it_subscribes_to_and_loses_what_it_dropped() {
    for (topics, kept) in [(["t"], true), (["u"], false)] {
        let mut f = Fixture::new();
        f.commit("", None, 5);
        let mut request = f.request("", "a");
        request.protocols[0].1 = subscription(&topics);
        let token = f.send_join(&request);
        let a = f.joined(token).member_id;
        f.sync(&a, 1, &[]);
        f.now.wall_ms += f.config.offsets_retention_ms;
        let outcome = f.coordinator.expire(f.now);
        f.take(outcome);
        assert_eq!(f.committed_offset().is_some(), kept, "{topics:?}");
    }
}

#[test]
fn a_deleted_topic_takes_its_offsets_along_even_those_in_flight() {
    let mut f = Fixture::new();
    f.hold = true;
    f.commit("", None, 5);
    let outcome = f
        .coordinator
        .topics_deleted(f.now, &BTreeSet::from(["t".to_owned()]));
    f.take(outcome);
    f.release(Ok(()));
    f.release(Ok(()));
    assert_eq!(f.committed_offset(), None);
    f.reload();
    assert_eq!(f.committed_offset(), None);
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut f = Fixture::new();
    let token = f.token();
    let outcome = f.coordinator.delete_group(f.now, token, GROUP);
    f.take(outcome);
    assert_eq!(f.deleted(token), ErrorCode::GroupIdNotFound);

    let a = f.stable(&["a"]).remove(0);
    f.commit(&a, Some(1), 1);
    let token = f.token();
    let outcome = f.coordinator.delete_group(f.now, token, GROUP);
    f.take(outcome);
    assert_eq!(f.deleted(token), ErrorCode::NonEmptyGroup);

    f.leave(&a, None);
    f.hold = true;
    let token = f.token();
    let outcome = f.coordinator.delete_group(f.now, token, GROUP);
    f.take(outcome);
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(f.deleted(token), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(f.committed_offset(), Some(1), "restored");

    f.hold = false;
    let token = f.token();
    let outcome = f.coordinator.delete_group(f.now, token, GROUP);
    f.take(outcome);
    assert_eq!(f.deleted(token), ErrorCode::None);
    assert_eq!(f.state(), GroupState::Dead);
    f.reload();
    assert_eq!(f.state(), GroupState::Dead);
}
