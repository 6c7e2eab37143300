//! Does a coordinator that reloads know what the old one had acknowledged?

use types::ErrorCode;

use super::fixture::Fixture;
use crate::group::GroupState;

#[test]
fn a_stable_group_goes_on_after_a_reload() {
    let mut f = Fixture::new();
    let ids = f.stable(&["a", "b"]);
    f.commit(&ids[0], Some(2), 7);
    f.reload();
    assert_eq!(f.state(), GroupState::Stable);
    assert_eq!(f.committed_offset(), Some(7));
    for id in &ids {
        assert_eq!(f.heartbeat(id, 2), ErrorCode::None);
    }
    let token = f.join(&ids[1], "b");
    assert_eq!(f.joined(token).generation, Some(2), "nothing changed");
}

#[test]
fn members_that_died_with_the_old_coordinator_are_expired_by_the_new_one() {
    let mut f = Fixture::new();
    f.stable(&["a"]);
    f.reload();
    f.advance(9_999);
    assert_eq!(f.state(), GroupState::Stable);
    f.advance(2);
    assert_eq!(f.state(), GroupState::Empty);
}

#[test]
fn the_last_of_several_commits_wins_and_a_tombstone_removes_it() {
    let mut f = Fixture::new();
    for offset in [1, 2, 3] {
        f.commit("", None, offset);
    }
    f.reload();
    assert_eq!(f.committed_offset(), Some(3));
    f.now.wall_ms += f.config.offsets_retention_ms;
    let outcome = f.coordinator.expire(f.now);
    f.take(outcome);
    f.reload();
    assert_eq!(f.committed_offset(), None);
}
