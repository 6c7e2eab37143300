//! Do static members (KIP-345) keep their place, and fence their former selves?

use bytes::Bytes;
use types::ErrorCode;

use super::fixture::Fixture;
use crate::group::GroupState;

fn static_join(f: &mut Fixture, member_id: &str, skip: bool) -> crate::group::Token {
    let mut request = f.request(member_id, "c");
    request.group_instance_id = Some("one".to_owned());
    request.require_known_member_id = true;
    request.supports_skip_assignment = skip;
    f.send_join(&request)
}

fn stable(f: &mut Fixture) -> String {
    let token = static_join(f, "", true);
    let id = f.joined(token).member_id;
    assert!(id.starts_with("one-"), "{id}");
    let token = f.sync_as(&id, Some("one"), 1, &[(&id, "mine")]);
    assert_eq!(f.synced(token).assignment, Bytes::from("mine"));
    id
}

#[test]
fn a_static_member_joins_without_the_detour_for_an_id() {
    let mut f = Fixture::new();
    stable(&mut f);
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_restarted_static_member_keeps_generation_and_assignment() {
    let mut f = Fixture::new();
    let old = stable(&mut f);
    let token = static_join(&mut f, "", true);
    let reply = f.joined(token);
    assert_eq!(reply.error, ErrorCode::None);
    assert_eq!(reply.generation, Some(1), "no rebalance");
    assert!(reply.skip_assignment);
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.members.len(), 1);
    assert_ne!(reply.member_id, old);
    let token = f.sync_as(&reply.member_id, Some("one"), 1, &[]);
    assert_eq!(f.synced(token).assignment, Bytes::from("mine"));
    // The former self is fenced.
    let token = f.sync_as(&old, Some("one"), 1, &[]);
    assert_eq!(f.synced(token).error, ErrorCode::FencedInstanceId);
    assert_eq!(f.heartbeat(&old, 1), ErrorCode::UnknownMemberId);
    f.reload();
    assert_eq!(f.heartbeat(&reply.member_id, 1), ErrorCode::None);
}

#[test]
fn an_older_client_is_told_of_another_leader_so_that_it_does_not_assign() {
    let mut f = Fixture::new();
    let old = stable(&mut f);
    let token = static_join(&mut f, "", false);
    let reply = f.joined(token);
    assert_eq!(reply.leader, old);
    assert!(reply.members.is_empty() && !reply.skip_assignment);
}

#[test]
fn a_static_rejoin_that_cannot_be_written_leaves_the_former_self_in_place() {
    let mut f = Fixture::new();
    let old = stable(&mut f);
    f.hold = true;
    let token = static_join(&mut f, "", true);
    assert!(f.waits(token));
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(f.joined(token).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(f.heartbeat(&old, 1), ErrorCode::None);
}

#[test]
fn a_former_self_that_waits_is_told_that_it_is_fenced() {
    let mut f = Fixture::new();
    let a = f.stable(&["a"]).remove(0);
    let first = static_join(&mut f, "", true);
    assert!(f.waits(first));
    let second = static_join(&mut f, "", true);
    assert_eq!(f.joined(first).error, ErrorCode::FencedInstanceId);
    let rejoin = f.join(&a, "a");
    assert_eq!(f.joined(rejoin).members.len(), 2);
    assert_eq!(f.joined(second).error, ErrorCode::None);
}

#[test]
fn a_static_member_that_misses_a_rebalance_stays_until_its_session_ends() {
    let mut f = Fixture::new();
    let old = stable(&mut f);
    let mut request = f.request("", "b");
    request.rebalance_timeout_ms = 20_000;
    request.session_timeout_ms = 60_000;
    let joining = f.send_join(&request);
    // The static member keeps heartbeating but never rejoins.
    for _ in 0..4 {
        f.advance(8_000);
        if !f.waits(joining) {
            break;
        }
        assert_eq!(f.heartbeat(&old, 1), ErrorCode::RebalanceInProgress);
    }
    let reply = f.joined(joining);
    assert_eq!(reply.members.len(), 2, "its place is kept");
    f.advance(10_001);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut f = Fixture::new();
    stable(&mut f);
    assert_eq!(f.leave("", Some("two")), ErrorCode::UnknownMemberId);
    assert_eq!(f.leave("ghost", Some("one")), ErrorCode::FencedInstanceId);
    assert_eq!(f.leave("", Some("one")), ErrorCode::None);
    assert_eq!(f.state(), GroupState::Empty);
}
