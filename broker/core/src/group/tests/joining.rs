//! Do generations form, and fall apart, as members come and go?

use bytes::Bytes;
use types::ErrorCode;

use super::fixture::{Fixture, GROUP, subscription};
use crate::group::{GroupConfig, GroupState};

#[test]
fn the_first_member_becomes_leader_of_generation_one_and_gets_its_assignment() {
    let mut f = Fixture::new();
    let token = f.join("", "c");
    let reply = f.joined(token);
    assert_eq!(reply.error, ErrorCode::None);
    assert_eq!(reply.generation, Some(1));
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.protocol.as_deref(), Some("range"));
    assert_eq!(reply.members.len(), 1);
    assert!(reply.member_id.starts_with("c-"), "{}", reply.member_id);
    assert_eq!(f.state(), GroupState::CompletingRebalance);

    let id = reply.member_id;
    let token = f.sync(&id, 1, &[(&id, "all of it")]);
    assert_eq!(f.synced(token).assignment, Bytes::from("all of it"));
    assert_eq!(f.state(), GroupState::Stable);
    assert_eq!(f.heartbeat(&id, 1), ErrorCode::None);
}

#[test]
fn a_subscription_that_no_record_holds_is_refused() {
    let mut f = Fixture::new();
    let mut request = f.request("", "c");
    let other = Bytes::from(vec![0; (8 << 20) + 1]);
    request.protocols.push(("other".to_owned(), other));
    let token = f.send_join(&request);
    assert_eq!(f.joined(token).error, ErrorCode::UnknownServerError);
    assert_eq!(f.coordinator.list().count(), 0);
}

#[test]
fn a_new_member_of_v4_is_sent_away_with_an_id_and_joins_with_it() {
    let mut f = Fixture::new();
    let mut request = f.request("", "c");
    request.require_known_member_id = true;
    let token = f.send_join(&request);
    let reply = f.joined(token);
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    assert_eq!(f.state(), GroupState::Empty);

    request.member_id.clone_from(&reply.member_id);
    let token = f.send_join(&request);
    let joined = f.joined(token);
    assert_eq!(joined.error, ErrorCode::None);
    assert_eq!(joined.member_id, reply.member_id);
}

#[test]
fn an_id_that_is_not_used_within_the_session_timeout_is_forgotten() {
    let mut f = Fixture::new();
    let mut request = f.request("", "c");
    request.require_known_member_id = true;
    let token = f.send_join(&request);
    request.member_id = f.joined(token).member_id;
    f.advance(10_001);
    let token = f.send_join(&request);
    assert_eq!(f.joined(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_second_member_makes_the_first_rejoin_and_both_share_generation_two() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    let joining = f.join("", "b");
    assert!(f.waits(joining), "the first member has not rejoined");
    assert_eq!(f.heartbeat(&a, 1), ErrorCode::RebalanceInProgress);
    let token = f.sync(&a, 1, &[]);
    assert_eq!(f.synced(token).error, ErrorCode::RebalanceInProgress);

    let rejoin = f.join(&a, "a");
    let (leader, follower) = (f.joined(rejoin), f.joined(joining));
    assert_eq!(leader.generation, Some(2));
    assert_eq!(follower.generation, Some(2));
    assert_eq!(leader.leader, a);
    assert_eq!(follower.leader, a);
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty(), "only the leader sees members");

    let b = follower.member_id;
    let waiting = f.sync(&b, 2, &[]);
    assert!(f.waits(waiting), "the leader has not synced");
    let token = f.sync(&a, 2, &[(&a, "one"), (&b, "two")]);
    assert_eq!(f.synced(token).assignment, Bytes::from("one"));
    assert_eq!(f.synced(waiting).assignment, Bytes::from("two"));
}

#[test]
fn an_assignment_is_handed_out_only_when_its_record_is_committed() {
    let mut f = Fixture::new();
    let token = f.join("", "a");
    let a = f.joined(token).member_id;
    f.hold = true;
    let token = f.sync(&a, 1, &[(&a, "x")]);
    assert!(f.waits(token));
    assert_eq!(f.state(), GroupState::CompletingRebalance);
    f.release(Ok(()));
    assert_eq!(f.synced(token).assignment, Bytes::from("x"));
}

#[test]
fn a_failed_append_of_the_assignment_starts_another_rebalance() {
    let mut f = Fixture::new();
    let token = f.join("", "a");
    let a = f.joined(token).member_id;
    f.hold = true;
    let token = f.sync(&a, 1, &[(&a, "x")]);
    f.release(Err(ErrorCode::NotCoordinator));
    assert_eq!(f.synced(token).error, ErrorCode::NotCoordinator);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
}

#[test]
fn members_that_do_not_rejoin_in_the_longest_rebalance_timeout_are_dropped() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    let mut request = f.request("", "b");
    request.rebalance_timeout_ms = 60_000;
    let joining = f.send_join(&request);
    for _ in 0..10 {
        f.advance(5_900);
        assert_eq!(f.heartbeat(&a, 1), ErrorCode::RebalanceInProgress);
    }
    assert!(f.waits(joining), "60 s of the second member are not over");
    f.advance(1_100);
    let reply = f.joined(joining);
    assert_eq!(reply.generation, Some(2));
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(f.heartbeat(&a, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_expired_and_the_rest_rebalance() {
    let mut f = Fixture::new();
    let ids = f.stable(&["a", "b"]);
    f.advance(6_000);
    assert_eq!(f.heartbeat(&ids[1], 2), ErrorCode::None);
    f.advance(4_500);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert_eq!(f.heartbeat(&ids[0], 2), ErrorCode::UnknownMemberId);
    let token = f.join(&ids[1], "b");
    let reply = f.joined(token);
    assert_eq!(reply.generation, Some(3));
    assert_eq!(reply.members.len(), 1);
}

#[test]
fn the_last_member_leaving_empties_the_group_and_writes_it_down() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    assert_eq!(f.leave(&a, None), ErrorCode::None);
    assert_eq!(f.state(), GroupState::Empty);
    assert_eq!(f.leave(&a, None), ErrorCode::UnknownMemberId);
    f.reload();
    assert_eq!(f.state(), GroupState::Empty);
    let token = f.join("", "b");
    assert_eq!(f.joined(token).generation, Some(3), "generations go on");
}

#[test]
fn a_member_that_never_syncs_is_dropped_after_the_rebalance_timeout() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    let joining = f.join("", "b");
    let rejoin = f.join(&a, "a");
    f.joined(rejoin);
    let b = f.joined(joining).member_id;
    f.sync(&a, 2, &[]);
    assert_eq!(f.state(), GroupState::Stable);
    for _ in 0..5 {
        f.advance(5_990);
        f.heartbeat(&a, 2);
        f.heartbeat(&b, 2);
    }
    f.advance(100);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert_eq!(f.heartbeat(&b, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn the_initial_delay_collects_members_and_is_extended_by_each() {
    let mut f = Fixture::with(GroupConfig::default());
    let first = f.join("", "a");
    f.advance(2_000);
    let second = f.join("", "b");
    f.advance(2_000);
    assert!(f.waits(first) && f.waits(second), "extended by the second");
    f.advance(2_001);
    assert_eq!(f.joined(first).generation, Some(1));
    assert_eq!(f.joined(second).generation, Some(1));
}

#[test]
fn the_protocol_most_members_prefer_wins_among_those_all_support() {
    let mut f = Fixture::with(GroupConfig::default());
    let mut tokens = Vec::new();
    for protocols in [
        ["range", "sticky", "old"],
        ["sticky", "range", "new"],
        ["sticky", "new", "range"],
    ] {
        let mut request = f.request("", "c");
        request.protocols = protocols
            .map(|name| (name.to_owned(), subscription(&["t"])))
            .to_vec();
        tokens.push(f.send_join(&request));
    }
    f.advance(10_000);
    for token in tokens {
        assert_eq!(f.joined(token).protocol.as_deref(), Some("sticky"));
    }
}

#[test]
fn what_cannot_join_is_refused_with_kafkas_code() {
    type Change = fn(&mut crate::group::request::JoinRequest);
    let cases: [(&str, Change, ErrorCode); 6] = [
        (
            "no group",
            |r| r.group_id.clear(),
            ErrorCode::InvalidGroupId,
        ),
        (
            "session too short",
            |r| r.session_timeout_ms = 5_999,
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            "session too long",
            |r| r.session_timeout_ms = 1_800_001,
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            "unknown member",
            |r| r.member_id = "ghost".to_owned(),
            ErrorCode::UnknownMemberId,
        ),
        (
            "other protocol type",
            |r| r.protocol_type = "connect".to_owned(),
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no common protocol",
            |r| r.protocols[0].0 = "mine".to_owned(),
            ErrorCode::InconsistentGroupProtocol,
        ),
    ];
    for (name, change, want) in cases {
        let mut f = Fixture::new();
        f.stable(&["a"]);
        let mut request = f.request("", "b");
        change(&mut request);
        let token = f.send_join(&request);
        assert_eq!(f.joined(token).error, want, "{name}");
        assert_eq!(f.state(), GroupState::Stable, "{name}");
    }
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut f = Fixture::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        max_size: 1,
        ..GroupConfig::default()
    });
    f.stable(&["a"]);
    let token = f.join("", "b");
    assert_eq!(f.joined(token).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_follower_that_repeats_its_join_is_told_the_current_generation_again() {
    let mut f = Fixture::new();
    let ids = f.stable(&["a", "b"]);
    let token = f.join(&ids[1], "b");
    assert_eq!(f.joined(token).generation, Some(2));
    assert_eq!(f.state(), GroupState::Stable);
    let mut changed = f.request(&ids[1], "b");
    changed.protocols[0].1 = subscription(&["t", "u"]);
    let token = f.send_join(&changed);
    assert!(f.waits(token), "a new subscription rebalances");
    assert_eq!(f.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_wrong_generation_is_illegal_everywhere() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    assert_eq!(f.heartbeat(&a, 2), ErrorCode::IllegalGeneration);
    let token = f.sync(&a, 0, &[]);
    assert_eq!(f.synced(token).error, ErrorCode::IllegalGeneration);
    let token = f.commit(&a, Some(7), 1);
    assert_eq!(f.committed(token), [ErrorCode::IllegalGeneration]);
}

#[test]
fn losing_the_partition_answers_everybody_with_not_coordinator() {
    let mut f = Fixture::new();
    f.stable(&["a"]);
    let joining = f.join("", "b");
    f.hold = true;
    let commit = f.commit("", None, 5);
    assert_eq!(f.committed(commit), [ErrorCode::UnknownMemberId]);
    let outcome = f.coordinator.unload(f.now);
    f.take(outcome);
    assert_eq!(f.joined(joining).error, ErrorCode::NotCoordinator);
    assert_eq!(f.coordinator.next_deadline(), None);
    assert!(f.coordinator.describe(GROUP).is_none());
}

#[test]
fn a_cooperative_member_that_rejoins_at_once_starts_the_second_round() {
    let mut f = Fixture::new();
    let ids = f.stable(&["a", "b"]);
    // The leader rejoins with the partitions it still owns: metadata differs, everybody has to come again.
    let mut request = f.request(&ids[0], "a");
    request.protocols[0].1 = Bytes::from_static(b"\0\x01\0\0\0\0owned");
    let leader = f.send_join(&request);
    assert_eq!(f.heartbeat(&ids[1], 2), ErrorCode::RebalanceInProgress);
    let follower = f.join(&ids[1], "b");
    assert_eq!(f.joined(leader).generation, Some(3));
    assert_eq!(f.joined(follower).generation, Some(3));
}
