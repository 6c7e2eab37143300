//! Is a partition given out only when its former owner gave it back?

use types::ErrorCode;

use super::fixture::{Fixture, client, of_t};
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
fn who_has_to_give_back_and_has_already_moves_on_at_once() {
    let mut f = Fixture::new(2);
    let a = f.joined(client("a"));
    f.joined(client("b"));
    let dropped = ConsumerHeartbeat {
        owned: Some(Partitions::default()),
        ..a.short()
    };
    let answer = f.ask(dropped).unwrap();
    assert_eq!(answer.member_epoch, 2);
    assert_eq!(answer.assignment.unwrap().len(), 1);
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
