//! Is a partition given out only when its former owner gave it back?

use types::ErrorCode;

use super::fixture::{Client, Fixture, client, of_t};
use crate::group::GroupState;
use crate::group::consumer::partitions::Partitions;
use crate::group::consumer::request::ConsumerHeartbeat;

#[test]
fn a_new_member_waits_until_the_former_owner_confirms_the_revocation() {
    let mut f = Fixture::new(4);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    assert_eq!(
        (b.epoch, b.owned.len()),
        (2, 0),
        "in the new epoch, but with nothing yet"
    );
    assert_eq!(f.state(), GroupState::Reconciling);
    let before = a.clone();
    f.beat(&mut a);
    assert_eq!(
        (a.epoch, a.owned.len()),
        (1, 2),
        "told to give back, in its old epoch"
    );
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 0, "not confirmed yet");
    let silent = ConsumerHeartbeat {
        owned: None,
        ..a.short()
    };
    assert_eq!(
        f.ask(silent).unwrap().member_epoch,
        1,
        "says nothing about what it has"
    );
    let holding = ConsumerHeartbeat {
        owned: Some(before.owned),
        ..a.short()
    };
    assert_eq!(f.ask(holding).unwrap().member_epoch, 1, "still has all");
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 0);
    f.beat(&mut a);
    assert_eq!(a.epoch, 2, "confirmed");
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 2);
    assert!(!a.owned.intersects(&b.owned));
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_heartbeat_from_before_it_had_the_partitions_does_not_give_them_back() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    // On its way since before the answer that gave it both.
    let late = ConsumerHeartbeat {
        owned: Some(Partitions::default()),
        ..a.short()
    };
    let answer = f.ask(late).unwrap();
    assert_eq!(answer.member_epoch, 1, "it was not told of it before");
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 0);
    let answer = f.ask(a.short()).unwrap();
    assert_eq!(
        answer.assignment.as_ref().map(Partitions::len),
        Some(1),
        "it is told, although the first answer went elsewhere"
    );
    a.hear(&answer);
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (1, 1));
}

#[test]
fn a_join_that_comes_twice_gives_nothing_back() {
    let mut f = Fixture::new(2);
    let join = client("a").full();
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    for _ in 0..2 {
        assert_eq!(f.ask(join.clone()).unwrap().member_epoch, 1);
        f.beat(&mut b);
        assert_eq!(
            b.owned.len(),
            0,
            "a consumes both and knows of nothing else"
        );
    }
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (1, 1));
}

/// `a` was told to give one of two partitions back, and has until 30 s from now.
fn one_to_give_back() -> (Fixture, [Client; 2]) {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let b = f.joined(client("b"));
    f.beat(&mut a);
    (f, [a, b])
}

#[test]
fn a_confirmation_that_waits_for_the_log_came_in_time() {
    let (mut f, [mut a, b]) = one_to_give_back();
    f.advance(29_000);
    f.hold = true;
    f.send(b.topics(&["t", "u"]).full());
    let token = f.send(a.full());
    f.advance(5_000);
    f.release(Ok(()));
    f.release(Ok(()));
    let answer = f.answer(token).expect("is answered").expect("is a member");
    a.hear(&answer);
    assert_eq!(f.describe().unwrap().members.len(), 2);
    assert!(a.epoch > 1, "confirmed");
}

#[test]
fn a_heartbeat_that_waits_and_confirms_nothing_does_not_hold_up_the_end_of_the_revocation() {
    let (mut f, [a, b]) = one_to_give_back();
    f.advance(29_000);
    f.hold = true;
    f.send(b.topics(&["t", "u"]).full());
    let token = f.send(a.short());
    f.advance(5_000);
    f.release(Ok(()));
    f.release(Ok(()));
    let rejection = f.answer(token).unwrap().unwrap_err();
    assert_eq!(rejection.error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_confirmation_that_the_log_did_not_take_may_be_repeated() {
    let (mut f, [mut a, mut b]) = one_to_give_back();
    f.advance(29_000);
    f.beat(&mut b);
    f.hold = true;
    let token = f.send(a.full());
    f.advance(5_000);
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert!(f.answer(token).unwrap().is_err());
    assert!(!f.holds_something(), "nobody is given up");
    f.hold = false;
    f.advance(5_000);
    f.beat(&mut a);
    assert_eq!(a.epoch, 2);
    f.advance(60_000);
    assert_eq!(f.state(), GroupState::Empty, "the time is not without end");
}

#[test]
fn a_partition_that_comes_back_while_it_is_given_up_is_not_lost() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let b = f.joined(client("b"));
    f.beat(&mut a);
    assert_eq!(a.owned.len(), 1);
    let leave = ConsumerHeartbeat {
        member_epoch: -1,
        ..b.short()
    };
    f.ask(leave).unwrap();
    f.converge(&mut [&mut a]);
    assert_eq!(a.owned, of_t(&[0, 1]));
}

#[test]
fn who_does_not_give_back_within_its_rebalance_timeout_is_removed() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    f.beat(&mut a);
    for _ in 0..5 {
        f.advance(5_900);
        assert_eq!(
            f.error(a.short()),
            ErrorCode::None,
            "alive, but it does not confirm"
        );
        f.beat(&mut b);
    }
    f.advance(600);
    assert_eq!(f.error(a.short()), ErrorCode::UnknownMemberId);
    f.converge(&mut [&mut b]);
    assert_eq!(b.owned, of_t(&[0, 1]));
}

#[test]
fn the_target_may_change_while_a_member_is_on_its_way() {
    let mut f = Fixture::new(6);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    f.beat(&mut a);
    let mut c = f.joined(client("c"));
    f.beat(&mut a);
    assert_eq!(
        (a.epoch, a.owned.len()),
        (1, 2),
        "has more to give back now, still in its epoch"
    );
    f.converge(&mut [&mut a, &mut b, &mut c]);
    assert_eq!([a.owned.len(), b.owned.len(), c.owned.len()], [2, 2, 2]);
    assert_eq!([a.epoch, b.epoch, c.epoch], [3, 3, 3]);
}

#[test]
fn who_leaves_releases_everything() {
    let mut f = Fixture::new(4);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    f.converge(&mut [&mut a, &mut b]);
    let answer = f
        .ask(ConsumerHeartbeat {
            member_epoch: -1,
            ..a.short()
        })
        .unwrap();
    assert_eq!((answer.member_epoch, answer.assignment), (-1, None));
    f.beat(&mut b);
    assert_eq!(b.owned, of_t(&[0, 1, 2, 3]));
    f.ask(ConsumerHeartbeat {
        member_epoch: -1,
        ..b.short()
    })
    .unwrap();
    assert_eq!(f.state(), GroupState::Empty);
}
