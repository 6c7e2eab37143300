//! Does a consumer group become a classic one again when only classic members are left (KIP-848)?

use config::MigrationPolicy;
use types::ErrorCode;

use super::fixture::{Fixture, client};
use super::members::{Classic, SESSION_MS, cooperative, eager, of};
use super::migration::{check_shared, indexes, kind, leave, mixed, with_policy};
use crate::group::request::GroupKind;
use crate::group::{GroupConfig, GroupRecord, GroupState};

#[test]
fn the_last_one_of_the_consumer_protocol_leaves_a_classic_group_that_rebalances() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    let generation = a.generation;
    leave(&mut f, &c);
    assert_eq!(
        kind(&f),
        (GroupKind::Classic, GroupState::PreparingRebalance)
    );
    f.check_replay();
    let last = f.log.last().unwrap();
    let GroupRecord::Group {
        value: Some(group), ..
    } = last
    else {
        panic!("{last:?}");
    };
    assert_eq!(
        (group.generation, &*group.protocol_type),
        (generation, "consumer")
    );
    assert_eq!(group.protocol.as_deref(), Some("cooperative-sticky"));
    for one in [&a, &b] {
        let member = group
            .members
            .iter()
            .find(|m| m.member_id == one.id)
            .unwrap();
        let owned: Vec<i32> = one.owned.iter().copied().collect();
        assert_eq!(member.assignment, of(&owned));
        assert_eq!(i64::from(member.session_timeout_ms), SESSION_MS);
    }
    share_as_classic(&mut f, &mut a, &mut b, generation);
}

/// Both join the next generation of a classic group that rebalances, and share all four partitions.
fn share_as_classic(f: &mut Fixture, a: &mut Classic, b: &mut Classic, generation: i32) {
    assert_eq!(f.heartbeat(a), ErrorCode::RebalanceInProgress);
    assert_eq!(f.heartbeat(b), ErrorCode::RebalanceInProgress);
    let first = f.send_join(&a.request());
    let second = f.send_join(&b.request());
    let replies = [f.join_reply(first), f.join_reply(second)];
    for (one, reply) in [&mut *a, &mut *b].into_iter().zip(&replies) {
        assert_eq!(reply.generation, Some(generation + 1));
        one.generation = generation + 1;
    }
    let (leads, other): (_, &mut Classic) = if replies[0].leader == a.id {
        (a, b)
    } else {
        (b, a)
    };
    f.lead(&mut [(leads, &[0, 1]), (other, &[2, 3])]);
    assert_eq!(kind(f), (GroupKind::Classic, GroupState::Stable));
    f.check_replay();
}

#[test]
fn a_coordinator_that_takes_over_goes_on_with_the_rebalance_of_a_downgrade() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    leave(&mut f, &c);
    f.reload();
    let generation = a.generation;
    share_as_classic(&mut f, &mut a, &mut b, generation);
}

#[test]
fn the_last_one_of_the_consumer_protocol_is_given_up() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (eager("a"), eager("b"));
    mixed(&mut f, &mut a, &mut b);
    for _ in 0..9 {
        assert_eq!(kind(&f).0, GroupKind::Consumer);
        f.advance(5_000);
        f.heartbeat(&a);
        f.heartbeat(&b);
    }
    assert_eq!(
        kind(&f),
        (GroupKind::Classic, GroupState::PreparingRebalance)
    );
    let generation = a.generation;
    share_as_classic(&mut f, &mut a, &mut b, generation);
}

#[test]
fn an_administrator_takes_the_last_one_of_the_consumer_protocol_out() {
    let mut f = Fixture::new(4);
    let mut a = eager("a");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    f.joined(client("c").instance("9"));
    assert_eq!(f.leave("", Some("8")), ErrorCode::UnknownMemberId);
    assert_eq!(f.leave("x", Some("9")), ErrorCode::FencedInstanceId);
    assert_eq!(f.leave("", Some("9")), ErrorCode::None);
    assert_eq!(
        kind(&f),
        (GroupKind::Classic, GroupState::PreparingRebalance)
    );
    f.check_replay();
}

#[test]
fn a_group_goes_up_and_down_and_up_again() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    leave(&mut f, &c);
    let generation = a.generation;
    share_as_classic(&mut f, &mut a, &mut b, generation);
    let mut d = f.joined(client("d"));
    f.check_replay();
    for _ in 0..4 {
        f.pulse_all(&mut [&mut a, &mut b]);
        f.beat(&mut d);
    }
    check_shared(4, &[&a.owned, &b.owned, &indexes(&d)]);
    f.check_replay();
}

#[test]
fn the_last_one_of_the_consumer_protocol_comes_back_as_a_classic_one_without_a_rebalance() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    f.classic_group(&mut [(&mut a, &[0, 1]), (&mut b, &[2, 3])]);
    let mut c = f.joined(client("c").instance("1"));
    for _ in 0..4 {
        f.pulse_all(&mut [&mut a, &mut b]);
        f.beat(&mut c);
    }
    let mut back = cooperative("c").instance("1");
    let reply = f.ask_join(&back.request());
    assert_eq!(kind(&f), (GroupKind::Classic, GroupState::Stable));
    (back.id, back.generation) = (reply.member_id, reply.generation.unwrap());
    assert_eq!(back.generation, a.generation);
    let synced = f.ask_sync(&back);
    let owned: Vec<i32> = indexes(&c).into_iter().collect();
    assert_eq!(synced.assignment, of(&owned), "what it had");
    for one in [&a, &b, &back] {
        assert_eq!(f.heartbeat(one), ErrorCode::None);
    }
    f.check_replay();
}

#[test]
fn a_static_member_that_comes_back_into_an_unsettled_group_waits_for_all_others() {
    let mut f = Fixture::new(4);
    let mut a = cooperative("a");
    f.classic_group(&mut [(&mut a, &[0, 1, 2, 3])]);
    f.joined(client("c").instance("1"));
    let token = f.send_join(&cooperative("c").instance("1").request());
    assert_eq!(
        kind(&f),
        (GroupKind::Classic, GroupState::PreparingRebalance)
    );
    f.check_replay();
    assert!(
        !f.replies.contains_key(&token),
        "a has all partitions still"
    );
    assert_eq!(
        f.heartbeat(&a),
        ErrorCode::IllegalGeneration,
        "a is an epoch behind"
    );
    let other = f.send_join(&a.request());
    let generations = [f.join_reply(token), f.join_reply(other)].map(|reply| reply.generation);
    assert_eq!(generations, [Some(3), Some(3)]);
}

#[test]
fn a_group_that_may_not_go_down_stays_a_consumer_group() {
    let mut f = with_policy(MigrationPolicy::Upgrade, 4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    leave(&mut f, &c);
    assert_eq!(kind(&f).0, GroupKind::Consumer);
    for _ in 0..3 {
        f.pulse_all(&mut [&mut a, &mut b]);
    }
    check_shared(4, &[&a.owned, &b.owned]);
    f.check_replay();
    assert_eq!(f.leave(&a.id, None), ErrorCode::None);
    assert_eq!(f.leave(&b.id, None), ErrorCode::None);
    assert_eq!(kind(&f), (GroupKind::Consumer, GroupState::Empty));
}

#[test]
fn a_group_that_may_only_go_down_takes_classic_members_in() {
    let mut f = with_policy(MigrationPolicy::Downgrade, 4);
    let c = f.joined(client("c"));
    let mut a = eager("a");
    f.rejoin(&mut a);
    assert_eq!(kind(&f).0, GroupKind::Consumer);
    leave(&mut f, &c);
    assert_eq!(kind(&f).0, GroupKind::Classic);
    assert_eq!(f.error(client("d").full()), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_classic_group_that_is_too_small_for_all_members_does_not_come_back() {
    let mut f = Fixture::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        max_size: 1,
        ..GroupConfig::default()
    });
    f.topic("t", 4);
    let c = f.joined(client("c"));
    let (mut a, mut b) = (eager("a"), eager("b"));
    f.rejoin(&mut a);
    f.rejoin(&mut b);
    leave(&mut f, &c);
    assert_eq!(kind(&f).0, GroupKind::Consumer);
    assert_eq!(f.leave(&b.id, None), ErrorCode::None);
    assert_eq!(kind(&f).0, GroupKind::Classic, "now it is large enough");
}

/// A consumer group of two classic members, which say that much, and of `c`.
fn talkative(f: &mut Fixture, bytes: usize) -> [Classic; 2] {
    f.joined(client("c"));
    ["a", "b"].map(|name| {
        let mut one = cooperative(name);
        one.user_data = bytes;
        f.rejoin(&mut one);
        one
    })
}

/// The members that are left share all four partitions in a consumer group.
fn check_stays(f: &mut Fixture, a: &mut Classic, b: &mut Classic) {
    let group = f.describe().expect("is a consumer group");
    let ids: Vec<&str> = group.members.iter().map(|one| &*one.member_id).collect();
    assert_eq!(ids, [&*a.id, &*b.id]);
    for _ in 0..3 {
        f.pulse_all(&mut [&mut *a, &mut *b]);
    }
    check_shared(4, &[&a.owned, &b.owned]);
    assert_eq!(kind(f), (GroupKind::Consumer, GroupState::Stable));
    f.check_replay();
}

#[test]
fn a_group_whose_downgrade_is_larger_than_a_batch_stays_a_consumer_group() {
    let mut f = Fixture::new(4);
    let [mut a, mut b] = talkative(&mut f, 5 << 20);
    assert_eq!(f.leave("c", None), ErrorCode::None);
    check_stays(&mut f, &mut a, &mut b);
    assert_eq!(f.leave(&b.id, None), ErrorCode::None);
    assert_eq!(kind(&f).0, GroupKind::Classic, "now it is small enough");
    f.check_replay();
}

#[test]
fn a_downgrade_that_the_log_does_not_take_takes_the_last_one_out_all_the_same() {
    let mut f = Fixture::new(4);
    let [mut a, mut b] = talkative(&mut f, 1);
    f.hold = true;
    assert_eq!(f.leave("c", None), ErrorCode::None);
    f.release(Err(ErrorCode::InvalidCommitOffsetSize));
    f.release(Ok(()));
    f.hold = false;
    check_stays(&mut f, &mut a, &mut b);
    assert_eq!(f.leave(&b.id, None), ErrorCode::None);
    assert_eq!(kind(&f).0, GroupKind::Classic, "a smaller one is tried");
}

#[test]
fn who_leaves_hears_of_it_although_the_log_does_not_take_the_downgrade() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let mut c = mixed(&mut f, &mut a, &mut b);
    f.hold = true;
    c.epoch = -1;
    let token = f.send(c.short());
    f.release(Err(ErrorCode::InvalidCommitOffsetSize));
    assert_eq!(f.answer(token), None, "it is not out yet");
    f.release(Ok(()));
    f.hold = false;
    assert_eq!(f.answer(token).unwrap().unwrap().member_epoch, -1);
    check_stays(&mut f, &mut a, &mut b);
}

#[test]
fn a_downgrade_that_is_not_written_is_tried_again() {
    let mut f = Fixture::new(4);
    let (mut a, mut b) = (cooperative("a"), cooperative("b"));
    let c = mixed(&mut f, &mut a, &mut b);
    f.hold = true;
    assert_eq!(f.leave("c", None), ErrorCode::None);
    f.release(Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(kind(&f).0, GroupKind::Consumer);
    assert_eq!(f.error(c.full()), ErrorCode::None, "still a member");
    f.advance(1_000);
    let waiting = f.send_join(&a.request());
    f.hold = false;
    f.release(Ok(()));
    assert_eq!(
        kind(&f),
        (GroupKind::Classic, GroupState::PreparingRebalance)
    );
    assert!(!f.replies.contains_key(&waiting), "waits for the other one");
    f.check_replay();
    let other = f.send_join(&b.request());
    assert_eq!(f.join_reply(waiting).error, ErrorCode::None);
    assert_eq!(f.join_reply(other).error, ErrorCode::None);
}
