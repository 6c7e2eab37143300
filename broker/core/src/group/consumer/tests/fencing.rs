//! Who is believed, and who has to start anew?

use types::ErrorCode;

use super::fixture::{Fixture, client, of_t};
use crate::group::consumer::request::ConsumerHeartbeat;

#[test]
fn an_unknown_group_and_an_unknown_member_are_told_apart() {
    let mut f = Fixture::new(1);
    let mut stranger = client("x");
    stranger.epoch = 1;
    assert_eq!(f.error(stranger.full()), ErrorCode::GroupIdNotFound);
    f.joined(client("a"));
    assert_eq!(f.error(stranger.full()), ErrorCode::UnknownMemberId);
    let leave = ConsumerHeartbeat {
        member_epoch: -1,
        ..stranger.short()
    };
    assert_eq!(f.error(leave), ErrorCode::UnknownMemberId);
}

#[test]
fn an_epoch_ahead_of_the_member_is_fenced() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    a.epoch = 2;
    assert_eq!(f.error(a.full()), ErrorCode::FencedMemberEpoch);
}

#[test]
fn the_epoch_before_is_accepted_from_a_member_that_has_only_what_it_may_have() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    f.converge(&mut [&mut a]);
    f.topic("t", 3);
    let old = a.clone();
    // The answer with epoch 2 gets lost.
    f.ask(a.full()).unwrap();
    assert_eq!(
        f.error(old.short()),
        ErrorCode::FencedMemberEpoch,
        "does not say what it has"
    );
    let too_much = ConsumerHeartbeat {
        owned: Some(of_t(&[0, 5])),
        ..old.full()
    };
    assert_eq!(f.error(too_much), ErrorCode::FencedMemberEpoch);
    let answer = f.ask(old.full()).unwrap();
    assert_eq!(answer.member_epoch, 2);
    assert_eq!(answer.assignment, Some(of_t(&[0, 1, 2])));
}

#[test]
fn an_epoch_before_the_one_before_is_fenced() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let old = a.clone();
    for partitions in [3, 4] {
        f.topic("t", partitions);
        f.beat(&mut a);
    }
    assert_eq!(a.epoch, 3);
    assert_eq!(f.error(old.full()), ErrorCode::FencedMemberEpoch);
}

#[test]
fn what_a_member_says_in_the_epoch_before_confirms_no_revocation() {
    let mut f = Fixture::new(1);
    let mut a = f.joined(client("a"));
    let mut late = a.full();
    late.owned = Some(of_t(&[]));
    f.topic("t", 2);
    f.beat(&mut a);
    let mut b = f.joined(client("b"));
    f.ask(a.full()).unwrap();
    // From before it had anything to give back: it may still consume both.
    assert_eq!(f.ask(late).unwrap().member_epoch, 2);
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 0);
    f.beat(&mut a);
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (1, 1));
}

#[test]
fn a_fenced_member_joins_again_under_its_id_with_epoch_0() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    for partitions in [3, 4] {
        f.topic("t", partitions);
        f.beat(&mut a);
    }
    a.fenced();
    f.beat(&mut a);
    assert_eq!((a.epoch, a.owned.len()), (3, 4));
    assert_eq!(f.describe().unwrap().members.len(), 1);
}

#[test]
fn a_member_that_is_silent_for_the_session_timeout_is_removed() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    f.converge(&mut [&mut a, &mut b]);
    f.advance(30_000);
    f.beat(&mut a);
    f.advance(14_999);
    assert_eq!(f.describe().unwrap().members.len(), 2);
    f.advance(1);
    assert_eq!(f.describe().unwrap().members.len(), 1);
    assert_eq!(f.error(b.full()), ErrorCode::UnknownMemberId);
    f.beat(&mut a);
    assert_eq!(a.owned, of_t(&[0, 1]));
}

#[test]
fn a_removal_that_cannot_be_written_is_tried_again() {
    let mut f = Fixture::new(2);
    f.joined(client("a"));
    f.hold = true;
    f.advance(45_000);
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    assert!(!f.holds_something(), "not at once");
    f.advance(500);
    f.release(Ok(()));
    assert!(f.describe().unwrap().members.is_empty());
}
