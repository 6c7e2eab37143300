//! Do groups of both protocols live under one name space?

use bytes::Bytes;
use config::MigrationPolicy;
use types::ErrorCode;

use super::fixture::{Fixture, GROUP, client};
use crate::group::consumer::request::ConsumerHeartbeat;
use crate::group::record::{GroupMetadata, MemberMetadata};
use crate::group::request::{GroupKind, JoinReply, JoinRequest, LeavingMember, Reply};
use crate::group::{GroupConfig, GroupRecord, GroupState};

fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        require_known_member_id: false,
        supports_skip_assignment: false,
        fresh_id: "uuid".to_owned(),
    }
}

fn join(f: &mut Fixture, member_id: &str) -> JoinReply {
    send_join(f, &request(member_id))
}

fn send_join(f: &mut Fixture, request: &JoinRequest) -> JoinReply {
    let token = f.token();
    let outcome = f.coordinator.join(f.now, token, request);
    f.take(outcome);
    match f.replies.remove(&token) {
        Some(Reply::Join(reply)) => reply,
        other => panic!("want the reply to a join, got {other:?}"),
    }
}

fn leave_consumer(f: &mut Fixture, id: &str) {
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..client(id).short()
    })
    .unwrap();
}

fn kinds(f: &Fixture) -> Vec<(GroupKind, GroupState)> {
    f.coordinator
        .list()
        .map(|group| (group.kind, group.state))
        .collect()
}

fn without_migration() -> Fixture {
    let mut config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    };
    config.consumer.migration = MigrationPolicy::Disabled;
    let mut f = Fixture::with(config);
    f.topic("t", 1);
    f
}

#[test]
fn a_classic_member_does_not_get_into_a_consumer_group_that_has_members_if_the_policy_is_against_it()
 {
    let mut f = without_migration();
    f.joined(client("a"));
    assert_eq!(join(&mut f, "").error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(kinds(&f), [(GroupKind::Consumer, GroupState::Stable)]);
}

#[test]
fn a_consumer_member_does_not_get_into_a_classic_group_that_has_members_if_the_policy_is_against_it()
 {
    let mut f = without_migration();
    assert_eq!(join(&mut f, "").error, ErrorCode::None);
    assert_eq!(f.error(client("a").full()), ErrorCode::GroupIdNotFound);
}

#[test]
fn an_empty_consumer_group_becomes_classic_and_its_records_go() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    leave_consumer(&mut f, "a");
    assert_eq!(kinds(&f), [(GroupKind::Consumer, GroupState::Empty)]);
    assert_eq!(join(&mut f, "").error, ErrorCode::None);
    assert_eq!(f.describe(), None);
    assert_eq!(kinds(&f)[0].0, GroupKind::Classic);
    f.reload();
    assert_eq!(
        f.coordinator.list().count(),
        0,
        "the classic group had no assignment yet"
    );
}

#[test]
fn a_classic_member_that_does_not_get_in_leaves_an_empty_consumer_group_as_it_is() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    leave_consumer(&mut f, "a");
    let written = f.log.len();
    assert_eq!(join(&mut f, "stranger").error, ErrorCode::UnknownMemberId);
    let asked = JoinRequest {
        require_known_member_id: true,
        ..request("")
    };
    let reply = send_join(&mut f, &asked);
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    assert_eq!(f.log.len(), written, "nothing is taken back");
    assert_eq!(kinds(&f), [(GroupKind::Consumer, GroupState::Empty)]);
    assert_eq!(join(&mut f, &reply.member_id).error, ErrorCode::None);
    assert_eq!(kinds(&f)[0].0, GroupKind::Classic);
}

#[test]
fn what_the_log_has_left_of_a_classic_group_is_no_part_of_the_consumer_group() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let leftover = GroupRecord::Group {
        group_id: GROUP.to_owned(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: Some("range".to_owned()),
            leader: Some("old".to_owned()),
            current_state_timestamp_ms: None,
            members: vec![MemberMetadata {
                member_id: "old".to_owned(),
                group_instance_id: Some("1".to_owned()),
                client_id: "c".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                rebalance_timeout_ms: 30_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::new(),
                assignment: Bytes::new(),
            }],
        }),
    };
    let log: Vec<_> = std::iter::once(leftover).chain(f.log.clone()).collect();
    f.log.clone_from(&log);
    f.reload_from(&log);
    let group = &f.coordinator.groups[GROUP];
    assert!(group.members.is_empty() && group.static_members.is_empty());
    assert_eq!(kinds(&f), [(GroupKind::Consumer, GroupState::Stable)]);
    assert_eq!(
        f.coordinator.next_deadline(),
        Some(46_000),
        "only a's session"
    );
    f.joined(client("b"));
    let last = f
        .log
        .iter()
        .rfind(|r| matches!(r, GroupRecord::Group { .. }));
    assert!(
        matches!(last, Some(GroupRecord::Group { value: None, .. })),
        "its record is taken back"
    );
}

#[test]
fn a_classic_member_comes_again_while_the_last_member_is_leaving() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    f.hold = true;
    f.send(ConsumerHeartbeat {
        member_epoch: -1,
        ..client("a").short()
    });
    let token = f.token();
    let outcome = f.coordinator.join(f.now, token, &request(""));
    f.take(outcome);
    assert!(f.replies.is_empty(), "waits until it is known who is there");
    f.hold = false;
    f.release(Ok(()));
    match f.replies.remove(&token) {
        Some(Reply::Join(reply)) => assert_eq!(reply.error, ErrorCode::CoordinatorNotAvailable),
        other => panic!("want the reply to a join, got {other:?}"),
    }
    assert_eq!(join(&mut f, "").error, ErrorCode::None);
}

#[test]
fn an_empty_classic_group_becomes_a_consumer_group() {
    let mut f = Fixture::new(1);
    let member = join(&mut f, "").member_id;
    let leaving = [LeavingMember {
        member_id: member,
        group_instance_id: None,
    }];
    let (_, outcome) = f.coordinator.leave(f.now, GROUP, &leaving);
    f.take(outcome);
    assert!(
        f.log
            .iter()
            .any(|r| matches!(r, GroupRecord::Group { value: Some(_), .. }))
    );
    let a = f.joined(client("a"));
    assert_eq!(a.owned.len(), 1);
    f.reload();
    assert_eq!(kinds(&f), [(GroupKind::Consumer, GroupState::Stable)]);
    assert!(
        f.coordinator.describe(GROUP).is_none(),
        "not a classic group"
    );
}

#[test]
fn a_consumer_group_is_deleted_when_it_is_empty() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let delete = |f: &mut Fixture| {
        let token = f.token();
        let outcome = f.coordinator.delete_group(f.now, token, GROUP);
        f.take(outcome);
        match f.replies.remove(&token) {
            Some(Reply::DeleteGroup(error)) => error,
            other => panic!("want the reply to a deletion, got {other:?}"),
        }
    };
    assert_eq!(delete(&mut f), ErrorCode::NonEmptyGroup);
    leave_consumer(&mut f, "a");
    assert_eq!(delete(&mut f), ErrorCode::None);
    f.reload();
    assert_eq!(f.coordinator.list().count(), 0);
}

#[test]
fn an_empty_consumer_group_without_offsets_goes_by_itself() {
    let mut f = Fixture::new(1);
    f.joined(client("a"));
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    assert_eq!(f.coordinator.list().count(), 1, "has a member");
    leave_consumer(&mut f, "a");
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    assert_eq!(f.coordinator.list().count(), 0);
    f.reload();
    assert_eq!(f.coordinator.list().count(), 0);
}
