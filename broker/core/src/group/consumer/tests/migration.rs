//! Does a group change its protocol while it has members, and do members of both live in one (KIP-848)?

use std::collections::BTreeSet;

use bytes::Bytes;
use config::MigrationPolicy;
use types::ErrorCode;

use super::fixture::{Client, Fixture, GROUP, client, of_t};
use super::members::{Classic, REBALANCE_MS, SESSION_MS, cooperative, eager, of};
use crate::group::consumer::record::{Fact, MemberState};
use crate::group::consumer::request::ConsumerHeartbeat;
use crate::group::request::{GroupKind, JoinRequest};
use crate::group::{GroupConfig, GroupRecord, GroupState};

pub(super) fn with_policy(migration: MigrationPolicy, partitions: i32) -> Fixture {
    let mut config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    };
    config.consumer.migration = migration;
    let mut f = Fixture::with(config);
    f.topic("t", partitions);
    f
}

pub(super) fn kind(f: &Fixture) -> (GroupKind, GroupState) {
    let group = f.coordinator.list().next().expect("is there");
    (group.kind, group.state)
}

pub(super) fn indexes(client: &Client) -> BTreeSet<i32> {
    client.owned.iter().map(|(_, one)| one).collect()
}

/// All partitions of `t` are shared, none of them twice.
pub(super) fn check_shared(partitions: i32, all: &[&BTreeSet<i32>]) {
    let shared: Vec<i32> = all.iter().flat_map(|one| one.iter().copied()).collect();
    let different: BTreeSet<i32> = shared.iter().copied().collect();
    assert_eq!(shared.len(), different.len(), "{all:?}");
    assert_eq!(different, (0..partitions).collect());
}

pub(super) fn leave(f: &mut Fixture, one: &Client) {
    let leave = ConsumerHeartbeat {
        member_epoch: -1,
        ..one.short()
    };
    f.ask(leave).expect("is a member");
}

/// Two members of the classic protocol, and one of the other, that share four partitions.
pub(super) fn mixed(f: &mut Fixture, a: &mut Classic, b: &mut Classic) -> Client {
    f.classic_group(&mut [(a, &[0, 1]), (b, &[2, 3])]);
    let mut c = f.joined(client("c"));
    for _ in 0..4 {
        f.pulse(a);
        f.pulse(b);
        f.beat(&mut c);
    }
    assert_eq!(kind(f), (GroupKind::Consumer, GroupState::Stable));
    check_shared(4, &[&a.owned, &b.owned, &indexes(&c)]);
    c
}

#[test]
fn a_classic_group_becomes_a_consumer_group_in_one_batch() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b").instance("1"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    let written = f.log.len();
    let c = f.joined(client("c"));
    assert_eq!((c.epoch, indexes(&c).len()), (a.generation + 1, 0));
    let facts: Vec<&Fact> = f.log[written + 1..]
        .iter()
        .map(|record| match record {
            GroupRecord::Consumer(record) => &record.fact,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        matches!(&f.log[written], GroupRecord::Group { value: None, .. }),
        "the classic group is taken back first"
    );
    let order = |fact: &Fact| match fact {
        Fact::Member(id, _) => format!("member {}", &id[..1]),
        Fact::Epoch(epoch) => format!("epoch {}", epoch.unwrap().epoch),
        Fact::Target(id, _) => format!("target {}", &id[..1]),
        Fact::TargetEpoch(epoch) => format!("target epoch {}", epoch.unwrap()),
        Fact::Current(id, _) => format!("current {}", &id[..1]),
        Fact::PartitionMetadata(_) | Fact::Regex(..) => panic!("{fact:?}"),
    };
    let order: Vec<String> = facts.into_iter().map(order).collect();
    let kafkas = [
        "member 1",
        "member a",
        "epoch 2",
        "target 1",
        "target a",
        "target epoch 2",
        "current 1",
        "current a",
    ];
    assert_eq!(order[..8], kafkas, "{order:?}");
    assert_eq!(order[8..10], ["epoch 3", "member c"], "{order:?}");
    let state = f.state_of_group().unwrap();
    let member = &state.members[&b.id];
    assert_eq!(member.metadata.instance_id.as_deref(), Some("1"));
    let classic = member.metadata.classic.as_ref().unwrap();
    assert_eq!(i64::from(classic.session_timeout_ms), SESSION_MS);
    assert_eq!(classic.protocols[0].0, "cooperative-sticky");
    assert_eq!(member.current.assigned, of_t(&[2, 3]));
    assert_eq!(member.current.epoch, 2);
    f.check_replay();
}

#[test]
fn cooperative_members_give_back_before_others_take() {
    let mut f = Fixture::new(6);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    f.classic_group(&mut [(&mut a, &[0, 1, 2]), (&mut b, &[3, 4, 5])]);
    let mut c = f.joined(client("c"));
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    let reply = f.ask_join(&a.request());
    assert_eq!(reply.generation, Some(2), "the epoch it is in");
    assert_eq!(reply.protocol.as_deref(), Some("cooperative-sticky"));
    assert!(reply.leader.is_empty() && reply.members.is_empty());
    f.beat(&mut c);
    assert!(c.owned.is_empty(), "a did not give anything back yet");
    f.rejoin(&mut a);
    f.rejoin(&mut b);
    f.beat(&mut c);
    check_shared(6, &[&a.owned, &b.owned, &indexes(&c)]);
    assert_eq!((a.generation, c.epoch), (3, 3));
    assert_eq!(f.heartbeat(&a), ErrorCode::None);
    f.check_replay();
}

#[test]
fn eager_members_join_once_for_the_new_epoch() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (eager("a"), eager("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    let mut c = f.joined(client("c"));
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    a.owned.clear();
    assert_eq!(f.ask_join(&a.request()).generation, Some(3));
    f.rejoin(&mut a);
    f.rejoin(&mut b);
    f.beat(&mut c);
    check_shared(4, &[&a.owned, &b.owned, &indexes(&c)]);
    f.check_replay();
}

#[test]
fn a_join_that_is_late_gives_nothing_back() {
    let mut f = Fixture::new(2);
    let mut a = cooperative("a");
    f.classic_group(&mut [(&mut a, &[0, 1])]);
    let mut c = f.joined(client("c"));
    let late = Classic {
        owned: BTreeSet::new(),
        generation: 0,
        ..a.clone()
    };
    f.ask_join(&late.request());
    f.ask_join(&late.request());
    f.beat(&mut c);
    assert!(c.owned.is_empty());
    f.rejoin(&mut a);
    f.beat(&mut c);
    check_shared(2, &[&a.owned, &indexes(&c)]);
}

#[test]
fn members_that_come_and_go_share_anew() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), eager("b"));
    a.protocol = Some("range");
    let mut c = mixed(&mut f, &mut a, &mut b);
    let mut d = f.joined(client("d"));
    let mut e = eager("e");
    f.rejoin(&mut e);
    for _ in 0..4 {
        f.pulse_all(&mut [&mut a, &mut b, &mut e]);
        f.beat(&mut c);
        f.beat(&mut d);
    }
    let owned = [&a.owned, &b.owned, &e.owned, &indexes(&c), &indexes(&d)];
    check_shared(4, &owned);
    f.check_replay();
    assert_eq!(f.leave(&a.id, None), ErrorCode::None);
    leave(&mut f, &d);
    f.check_replay();
    for _ in 0..4 {
        f.pulse_all(&mut [&mut b, &mut e]);
        f.beat(&mut c);
    }
    check_shared(4, &[&b.owned, &e.owned, &indexes(&c)]);
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
    f.check_replay();
}

#[test]
fn a_topic_that_grows_is_noticed_by_classic_members() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let mut c = mixed(&mut f, &mut a, &mut b);
    f.topic("t", 6);
    f.rejoin(&mut a);
    for _ in 0..4 {
        f.pulse_all(&mut [&mut a, &mut b]);
        f.beat(&mut c);
    }
    check_shared(6, &[&a.owned, &b.owned, &indexes(&c)]);
}

#[test]
fn a_topic_that_grows_is_noticed_where_all_members_are_classic() {
    let mut f = with_policy(MigrationPolicy::Upgrade, 4);
    let (mut a, mut b) = (cooperative("a"), eager("b"));
    (a.protocol, b.protocol) = (Some("both"), Some("both"));
    let c = mixed(&mut f, &mut a, &mut b);
    leave(&mut f, &c);
    for _ in 0..3 {
        f.pulse_all(&mut [&mut a, &mut b]);
    }
    check_shared(4, &[&a.owned, &b.owned]);
    f.topic("of no one", 1);
    assert_eq!(f.heartbeat(&a), ErrorCode::None);
    f.topic("t", 6);
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    for _ in 0..3 {
        f.pulse_all(&mut [&mut a, &mut b]);
    }
    check_shared(6, &[&a.owned, &b.owned]);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Stable));
    f.check_replay();
}

#[test]
fn who_was_told_to_join_and_need_not_any_more_is_not_given_up() {
    let mut f = with_policy(MigrationPolicy::Upgrade, 4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    leave(&mut f, &c);
    for _ in 0..3 {
        f.pulse_all(&mut [&mut a, &mut b]);
    }
    f.topic("t", 6);
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    f.topic("t", 4); // deleted and made anew
    for _ in 0..=REBALANCE_MS / 5_000 {
        assert_eq!(f.heartbeat(&a), ErrorCode::None);
        f.advance(5_000);
        f.heartbeat(&b);
    }
    assert_eq!(f.heartbeat(&a), ErrorCode::None);
}

#[test]
fn a_new_classic_member_is_given_an_id_first() {
    let mut f = Fixture::new(2);
    let mut c = f.joined(client("c"));
    let mut a = eager("a");
    let asked = JoinRequest {
        require_known_member_id: true,
        ..a.request()
    };
    let reply = f.ask_join(&asked);
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    a.id = reply.member_id;
    f.rejoin(&mut a);
    f.beat(&mut c);
    f.beat(&mut c);
    f.pulse(&mut a);
    check_shared(2, &[&a.owned, &indexes(&c)]);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Stable));
}

#[test]
fn classic_members_need_a_protocol_that_all_of_them_have() {
    let mut f = Fixture::new(2);
    f.joined(client("c"));
    let mut a = eager("a");
    f.rejoin(&mut a);
    let other = cooperative("b").request();
    assert_eq!(
        f.ask_join(&other).error,
        ErrorCode::InconsistentGroupProtocol
    );
    let connect = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..eager("b").request()
    };
    assert_eq!(
        f.ask_join(&connect).error,
        ErrorCode::InconsistentGroupProtocol
    );
    let broken = JoinRequest {
        protocols: vec![("range".to_owned(), Bytes::from_static(b"\0"))],
        ..eager("b").request()
    };
    assert_eq!(
        f.ask_join(&broken).error,
        ErrorCode::InconsistentGroupProtocol
    );
    let mut again = a.request();
    again.protocols[0].0 = "roundrobin".to_owned();
    assert_eq!(f.ask_join(&again).error, ErrorCode::None, "the only one");
}

#[test]
fn a_classic_member_speaks_in_its_own_epoch_only() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    let generation = a.generation;
    assert_eq!(f.commit(&a, generation), ErrorCode::None);
    assert_eq!(f.commit(&a, generation - 1), ErrorCode::IllegalGeneration);
    let late = Classic {
        generation: generation - 1,
        ..a.clone()
    };
    assert_eq!(f.heartbeat(&late), ErrorCode::IllegalGeneration);
    assert_eq!(f.ask_sync(&late).error, ErrorCode::IllegalGeneration);
    let other = Classic {
        protocol: Some("range"),
        ..a.clone()
    };
    assert_eq!(
        f.ask_sync(&other).error,
        ErrorCode::InconsistentGroupProtocol
    );
    let not_classic = Classic {
        id: "c".to_owned(),
        generation: c.epoch,
        ..a.clone()
    };
    assert_eq!(f.heartbeat(&not_classic), ErrorCode::UnknownMemberId);
    assert_eq!(f.ask_sync(&not_classic).error, ErrorCode::UnknownMemberId);
    f.joined(client("d"));
    assert_eq!(f.ask_sync(&a).error, ErrorCode::RebalanceInProgress);
    assert_eq!(f.commit(&a, generation), ErrorCode::None, "before it joins");
}

#[test]
fn a_classic_member_waits_for_what_others_have_to_give_back() {
    let mut f = Fixture::new(2);
    let mut c = f.joined(client("c"));
    let mut a = cooperative("a");
    f.rejoin(&mut a);
    assert!(a.owned.is_empty());
    assert_eq!(f.heartbeat(&a), ErrorCode::None, "joining would not help");
    let current = &f.state_of_group().unwrap().members[&a.id].current.clone();
    assert_eq!(current.state, MemberState::UnreleasedPartitions);
    f.beat(&mut c);
    f.beat(&mut c);
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    f.rejoin(&mut a);
    check_shared(2, &[&a.owned, &indexes(&c)]);
    f.check_replay();
}

#[test]
fn a_silent_classic_member_is_given_up_after_its_own_session() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let mut c = mixed(&mut f, &mut a, &mut b);
    f.advance(SESSION_MS - 1);
    assert_eq!(f.heartbeat(&b), ErrorCode::None);
    f.advance(1);
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
    for _ in 0..3 {
        f.pulse(&mut b);
        f.beat(&mut c);
    }
    check_shared(4, &[&b.owned, &indexes(&c)]);
    f.check_replay();
}

#[test]
fn a_classic_member_that_was_given_up_learns_of_it_before_it_joins_again() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    mixed(&mut f, &mut a, &mut b);
    f.advance(SESSION_MS);
    let late = f.ask_join(&a.request());
    assert_eq!(late.error, ErrorCode::UnknownMemberId);
    a.owned.clear();
    a.generation = -1;
    assert_eq!(f.ask_join(&a.request()).error, ErrorCode::None);
}

#[test]
fn a_classic_member_that_does_not_join_in_time_is_given_up() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    mixed(&mut f, &mut a, &mut b);
    f.joined(client("d"));
    let mut passed = 0;
    while passed < REBALANCE_MS {
        assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
        f.advance(5_000);
        passed += 5_000;
    }
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
    f.check_replay();
}

#[test]
fn a_classic_member_that_does_not_sync_in_time_is_given_up() {
    let mut f = Fixture::new(4);
    f.topic("u", 1);
    let mut c = f.joined(client("c").topics(&["u"]));
    let mut a = eager("a");
    let reply = f.ask_join(&a.request());
    (a.id, a.generation) = (reply.member_id, reply.generation.unwrap());
    for _ in 0..6 {
        assert_eq!(f.heartbeat(&a), ErrorCode::None);
        f.advance(5_000);
        f.beat(&mut c);
    }
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
}

#[test]
fn a_classic_member_that_does_not_give_back_in_time_is_given_up() {
    let mut f = Fixture::new(4);
    let mut a = cooperative("a");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    let mut c = f.joined(client("c"));
    f.ask_join(&a.request());
    assert_eq!(f.ask_sync(&a).error, ErrorCode::None);
    for _ in 0..6 {
        assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
        f.advance(5_000);
        f.beat(&mut c);
    }
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
    f.beat(&mut c);
    assert_eq!(c.owned, of_t(&[0, 1, 2, 3]));
}

#[test]
fn a_classic_group_that_rebalances_becomes_a_consumer_group() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    let waiting = f.send_join(&cooperative("e").request());
    assert_eq!(kind(&f).1, GroupState::PreparingRebalance);
    let mut c = f.joined(client("c"));
    let refused = f.join_reply(waiting);
    assert_eq!(refused.error, ErrorCode::RebalanceInProgress);
    let mut e = cooperative("e");
    e.id = refused.member_id;
    for _ in 0..4 {
        f.pulse_all(&mut [&mut a, &mut b]);
        f.rejoin(&mut e);
        f.beat(&mut c);
    }
    check_shared(4, &[&a.owned, &b.owned, &e.owned, &indexes(&c)]);
    f.check_replay();
}

#[test]
fn what_a_member_was_just_told_to_give_back_is_its_own_until_it_did() {
    let mut f = Fixture::new(4);
    let mut a = cooperative("a");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    let mut b = cooperative("b");
    let joins = f.send_join(&b.request());
    let again = f.ask_join(&a.request());
    a.generation = again.generation.unwrap();
    b.id = f.join_reply(joins).member_id;
    let told = f.send_sync(&a, &[(a.id.clone(), of(&[0, 1]))]);
    assert_eq!(f.sync_reply(told).assignment, of(&[0, 1]));
    let mut c = f.joined(client("c"));
    assert!(c.owned.is_empty(), "a may still consume 2 and 3");
    for _ in 0..4 {
        f.pulse(&mut a);
        f.rejoin(&mut b);
        f.beat(&mut c);
    }
    check_shared(4, &[&a.owned, &b.owned, &indexes(&c)]);
}

#[test]
fn a_classic_group_that_waits_for_its_leader_becomes_a_consumer_group() {
    let mut f = Fixture::new(4);
    let mut a = eager("a");
    let reply = f.ask_join(&a.request());
    (a.id, a.generation) = (reply.member_id, reply.generation.unwrap());
    let c = f.joined(client("c"));
    assert_eq!(c.epoch, 2);
    assert_eq!(f.heartbeat(&a), ErrorCode::RebalanceInProgress);
    let mut c = c;
    f.rejoin(&mut a);
    f.beat(&mut c);
    f.beat(&mut c);
    f.pulse(&mut a);
    check_shared(4, &[&a.owned, &indexes(&c)]);
}

#[test]
fn a_static_member_of_the_classic_protocol_comes_back_by_the_other_one() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a").instance("1"), cooperative("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    let mut c = f.joined(client("c").instance("1"));
    assert_eq!(indexes(&c), a.owned, "it takes its own place");
    assert_eq!(f.heartbeat(&a), ErrorCode::FencedInstanceId);
    f.check_replay();
    for _ in 0..2 {
        f.pulse(&mut b);
        f.beat(&mut c);
    }
    check_shared(4, &[&b.owned, &indexes(&c)]);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Stable));
}

#[test]
fn a_static_member_of_a_mixed_group_comes_back_by_either_protocol() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a").instance("1"), cooperative("b"));
    let mut c = mixed(&mut f, &mut a, &mut b);
    let epoch = f.epoch();
    let mut again = f.joined(client("a2").instance("1"));
    assert_eq!(indexes(&again), a.owned);
    assert_eq!(f.epoch(), epoch, "nobody else hears of it");
    let mut classic = cooperative("a3").instance("1");
    f.rejoin(&mut classic);
    assert_eq!(classic.owned, a.owned);
    assert_eq!(f.error(again.full()), ErrorCode::FencedInstanceId);
    again.fenced();
    assert_eq!(f.epoch(), epoch);
    assert_eq!(f.pulse(&mut b), ErrorCode::None);
    f.beat(&mut c);
    check_shared(4, &[&classic.owned, &b.owned, &indexes(&c)]);
    f.check_replay();
}

#[test]
fn a_static_member_that_has_to_give_back_comes_back_by_the_other_protocol() {
    let mut f = Fixture::new(4);
    let mut a = cooperative("a").instance("1");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    let mut c = f.joined(client("c"));
    f.ask_join(&a.request());
    let current = f.state_of_group().unwrap().members[&a.id].current.clone();
    assert_eq!(current.state, MemberState::UnrevokedPartitions);
    let pending = current.pending_revocation;
    let mut back = f.joined(client("a2").instance("1"));
    assert_eq!(back.epoch, f.epoch(), "is in the group at once");
    assert!(!back.owned.intersects(&pending));
    assert_eq!(f.heartbeat(&a), ErrorCode::FencedInstanceId);
    f.check_replay();
    f.beat(&mut c);
    assert_eq!(c.owned, pending, "what it had to give back is free");
    f.beat(&mut back);
    check_shared(4, &[&indexes(&back), &indexes(&c)]);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Stable));
    f.check_replay();
}

#[test]
fn a_static_member_that_has_to_give_back_comes_back_by_the_same_protocol() {
    let mut f = Fixture::new(4);
    let mut a = cooperative("a").instance("1");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    let mut c = f.joined(client("c"));
    f.ask_join(&a.request());
    let mut back = cooperative("a2").instance("1");
    f.rejoin(&mut back);
    f.beat(&mut c);
    check_shared(4, &[&back.owned, &indexes(&c)]);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Stable));
    f.check_replay();
}

#[test]
fn groups_that_are_no_consumers_stay_classic() {
    let refused = |change: &dyn Fn(&mut JoinRequest), given: Bytes| {
        let mut f = Fixture::new(4);
        let mut a = eager("a");
        let mut request = a.request();
        change(&mut request);
        let reply = f.ask_join(&request);
        (a.id, a.generation) = (reply.member_id, reply.generation.unwrap());
        if given != Bytes::new() {
            let token = f.token();
            let sync = crate::group::request::SyncRequest {
                group_id: GROUP.to_owned(),
                generation: a.generation,
                member_id: a.id.clone(),
                group_instance_id: None,
                protocol_type: None,
                protocol: None,
                assignments: vec![(a.id.clone(), given)],
            };
            let outcome = f.coordinator.sync(f.now, token, sync);
            f.take(outcome);
        }
        let written = f.log.len();
        let error = f.error(client("c").full());
        assert_eq!((kind(&f).0, f.log.len()), (GroupKind::Classic, written));
        assert_eq!(f.heartbeat(&a), ErrorCode::None, "goes on");
        error
    };
    let connect = |request: &mut JoinRequest| request.protocol_type = "connect".to_owned();
    let broken = |request: &mut JoinRequest| request.protocols[0].1 = Bytes::from_static(b"\0\x01");
    let unchanged = |_: &mut JoinRequest| {};
    let not_found = ErrorCode::GroupIdNotFound;
    assert_eq!(refused(&connect, of(&[0])), not_found);
    assert_eq!(refused(&broken, of(&[0])), not_found);
    let unreadable = Bytes::from_static(b"\0\x01\0");
    assert_eq!(refused(&unchanged, unreadable), not_found);
    let with_user_data = Bytes::from_static(b"\0\x01\0\0\0\0\0\0\0\x01x");
    assert_eq!(refused(&unchanged, with_user_data), not_found);
}

#[test]
fn a_group_whose_members_say_more_than_a_batch_holds_stays_classic() {
    let mut f = Fixture::new(2);
    let (mut a, mut b) = (eager("a"), eager("b"));
    (a.user_data, b.user_data) = (5 << 20, 5 << 20);
    f.classic_group(&mut [(&mut a, &[0]), (&mut b, &[1])]);
    let written = f.log.len();
    assert_eq!(f.error(client("c").full()), ErrorCode::GroupIdNotFound);
    assert_eq!(kind(&f), (GroupKind::Classic, GroupState::Stable));
    assert_eq!(f.log.len(), written);
    assert_eq!(f.heartbeat(&a), ErrorCode::None, "goes on");
}

#[test]
fn an_assignor_that_gives_a_partition_to_two_members_keeps_the_group_classic() {
    let mut f = Fixture::new(2);
    let (mut a, mut b) = (eager("a"), eager("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[0, 1])]);
    assert_eq!(f.error(client("c").full()), ErrorCode::GroupIdNotFound);
    assert_eq!(kind(&f), (GroupKind::Classic, GroupState::Stable));
}

#[test]
fn an_upgrade_that_is_not_written_leaves_the_classic_group_as_it_was() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (eager("a"), eager("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    f.hold = true;
    let asked = f.send(client("c").full());
    let also = f.send(client("d").full());
    let joins = f.send_join(&a.request());
    assert_eq!(f.heartbeat(&b), ErrorCode::None, "nothing happened yet");
    f.advance(2 * SESSION_MS);
    f.release(Err(ErrorCode::NotEnoughReplicas));
    f.hold = false;
    let refused = |answer: Option<Result<_, crate::group::consumer::request::Rejection>>| {
        answer.unwrap().err().unwrap().error
    };
    assert_eq!(refused(f.answer(asked)), ErrorCode::NotEnoughReplicas);
    assert_eq!(refused(f.answer(also)), ErrorCode::CoordinatorNotAvailable);
    let error = f.join_reply(joins).error;
    assert_eq!(error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(kind(&f), (GroupKind::Classic, GroupState::Stable));
    assert_eq!(f.heartbeat(&a), ErrorCode::None);
    f.check_replay();
    f.joined(client("c"));
    assert_eq!(
        kind(&f).0,
        GroupKind::Consumer,
        "the next one comes through"
    );
}

#[test]
fn what_comes_while_a_group_is_upgraded_finds_the_new_group() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    f.hold = true;
    f.send(client("c").full());
    let also = f.send(client("d").full());
    let joins = f.send_join(&a.request());
    assert_eq!(f.leave(&b.id, None), ErrorCode::None);
    assert_eq!(f.commit_reply(&a, 2), None, "is on its way");
    f.hold = false;
    while f.holds_something() {
        f.release(Ok(()));
    }
    assert!(f.answer(also).unwrap().is_ok());
    let reply = f.join_reply(joins);
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, Some(5)));
    let state = f.state_of_group().unwrap();
    let ids: Vec<&str> = state.members.keys().map(String::as_str).collect();
    assert_eq!(ids, [&*a.id, "c", "d"], "b left");
    f.check_replay();
}

#[test]
fn a_coordinator_that_ends_refuses_all_that_wait_for_an_upgrade() {
    let mut f = Fixture::new(4);
    let mut a = eager("a");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    f.hold = true;
    let asked = f.send(client("c").full());
    let joins = f.send_join(&a.request());
    let outcome = f.coordinator.unload(f.now);
    f.take(outcome);
    let refused = f.answer(asked).unwrap().err().unwrap();
    assert_eq!(refused.error, ErrorCode::NotCoordinator);
    assert_eq!(f.join_reply(joins).error, ErrorCode::NotCoordinator);
}

#[test]
fn sessions_of_classic_members_start_anew_with_the_new_coordinator() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let mut c = mixed(&mut f, &mut a, &mut b);
    f.reload();
    f.beat(&mut c);
    assert_eq!(f.heartbeat(&a), ErrorCode::None);
    f.advance(SESSION_MS);
    assert_eq!(f.heartbeat(&a), ErrorCode::UnknownMemberId);
}
