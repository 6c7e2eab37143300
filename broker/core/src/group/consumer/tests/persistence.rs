//! Does a coordinator that reloads know what the old one had told its members?

use types::ErrorCode;

use super::fixture::{Fixture, client};
use crate::group::GroupState;

#[test]
fn a_stable_group_goes_on_after_a_reload() {
    let mut f = Fixture::new(4);
    let mut a = f.joined(client("a").instance("1"));
    let mut b = f.joined(client("b").regex("t"));
    f.converge(&mut [&mut a, &mut b]);
    let before = f.describe();
    f.reload();
    assert_eq!(f.describe(), before);
    assert_eq!(f.state(), GroupState::Stable);
    for one in [&a, &b] {
        assert_eq!(f.ask(one.short()).unwrap().member_epoch, one.epoch);
    }
    assert_eq!(f.describe(), before, "no rebalance");
}

#[test]
fn a_revocation_goes_on_after_a_reload() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    let mut b = f.joined(client("b"));
    f.beat(&mut a);
    f.reload();
    f.beat(&mut b);
    assert_eq!(b.owned.len(), 0, "a has not confirmed");
    f.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (1, 1));
}

#[test]
fn timers_start_anew_with_the_new_coordinator() {
    let mut f = Fixture::new(2);
    let mut a = f.joined(client("a"));
    f.joined(client("b"));
    f.beat(&mut a);
    f.reload();
    f.advance(29_999);
    assert_eq!(f.describe().unwrap().members.len(), 2);
    f.advance(1);
    assert_eq!(
        f.describe().unwrap().members.len(),
        1,
        "did not give back in time"
    );
    f.advance(15_000);
    assert_eq!(f.state(), GroupState::Empty, "the other one was silent");
    assert_eq!(f.error(a.full()), ErrorCode::UnknownMemberId);
}
