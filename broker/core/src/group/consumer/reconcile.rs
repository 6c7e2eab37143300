//! How does a member get from what it has to what it shall have?
//!
//! ```text
//!            has something it shall not have                 another one still has something it shall have
//!   Stable ----------------------------------> Unrevoked ---------------------------------> Unreleased
//!     ^                                            |                                            |
//!     '-------- confirmed, and nothing missing ----+-------- everything was released -----------'
//! ```
//! Guarantee: a partition is given out only when the former owner was told to give it back and confirmed it, by a later
//! heartbeat that says what the member has, or is not a member any more. The member stays in its epoch until it gave
//! everything back. A member of the classic protocol joins to take a step, and says with that what it still has: what it
//! gave back before it was told to needs no step of its own.

use super::change::Change;
use super::partitions::Partitions;
use super::record::{CurrentAssignment, Fact, MemberState};
use super::request::{ConsumerHeartbeat, JOIN_EPOCH};
use super::state::State;

/// Whether a heartbeat says that the member gave back what it was told to. A join says nothing of it: it may be one that
/// was sent before, and is late. Nor does who speaks in the epoch before, who does not know what to give back in this one.
pub(super) fn confirms(request: &ConsumerHeartbeat, current: &CurrentAssignment) -> bool {
    let owned = request.owned.as_ref();
    current.state == MemberState::UnrevokedPartitions
        && request.member_epoch != JOIN_EPOCH
        && request.member_epoch == current.epoch
        && owned.is_some_and(|owned| !owned.intersects(&current.pending_revocation))
}

/// Takes the member one step further, if there is one. What it `owned` when it asked is only known of classic ones.
pub(super) fn reconcile(
    change: &mut Change,
    member_id: &str,
    confirmed: bool,
    owned: Option<&Partitions>,
) {
    let state = &change.state;
    let Some(member) = state.member(member_id) else {
        return;
    };
    let current = &member.current;
    let next = match current.state {
        MemberState::Stable if current.epoch == state.assignment_epoch => return,
        MemberState::UnrevokedPartitions if !confirmed => return,
        MemberState::Stable
        | MemberState::UnrevokedPartitions
        | MemberState::UnreleasedPartitions => next(state, member_id, current, owned),
    };
    if next != *current {
        change.emit(Fact::Current(member_id.to_owned(), Some(next)));
    }
}

fn next(
    state: &State,
    member_id: &str,
    current: &CurrentAssignment,
    owned: Option<&Partitions>,
) -> CurrentAssignment {
    let target = state.target(member_id);
    let kept = |key: &(_, i32)| target.contains(key.0, key.1);
    let (mut assigned, revoked): (Vec<_>, Vec<_>) = current.assigned.iter().partition(kept);
    let revoked: Partitions = revoked.into_iter().collect();
    // Who was not told of any epoch yet, or left for a while, consumes nothing.
    let still_has = owned.is_none_or(|owned| owned.intersects(&revoked));
    if !revoked.is_empty() && still_has && current.epoch > JOIN_EPOCH {
        return CurrentAssignment {
            epoch: current.epoch,
            previous_epoch: current.previous_epoch,
            state: MemberState::UnrevokedPartitions,
            assigned: assigned.into_iter().collect(),
            pending_revocation: revoked,
        };
    }
    let mut waits = false;
    for (topic, partition) in target.iter() {
        if current.assigned.contains(topic, partition) {
            continue;
        }
        if state.is_owned_by_another(member_id, topic, partition) {
            waits = true;
        } else {
            assigned.push((topic, partition));
        }
    }
    let epoch = state.assignment_epoch;
    CurrentAssignment {
        epoch,
        // An answer that stays within the epoch may get lost, too: the epoch before is still one to speak in.
        previous_epoch: if epoch == current.epoch {
            current.previous_epoch
        } else {
            current.epoch
        },
        state: if waits {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        },
        assigned: assigned.into_iter().collect(),
        pending_revocation: Partitions::default(),
    }
}
