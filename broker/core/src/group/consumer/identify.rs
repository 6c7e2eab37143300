//! Who is it that speaks, and may it?

use std::sync::Arc;

use types::ErrorCode;

use super::change::Change;
use super::partitions::Partitions;
use super::record::{CurrentAssignment, Fact, MemberState};
use super::request::{ConsumerHeartbeat, JOIN_EPOCH, Rejection, STATIC_LEAVE_EPOCH};
use super::state::{Member, State};

/// The member as it is, or as a new one starts; a static member that came back takes its former self's place.
pub(super) fn identify(
    change: &mut Change,
    request: &ConsumerHeartbeat,
    member_id: &str,
) -> Result<Arc<Member>, Rejection> {
    let known = change.state.member(member_id).cloned();
    let holder = request.instance_id.as_deref().map(|instance| {
        let holder = change.state.static_member(instance);
        (instance, holder.map(str::to_owned))
    });
    if request.member_epoch != JOIN_EPOCH {
        return member(&change.state, request, member_id);
    }
    match holder {
        Some((instance, Some(holder))) if holder != member_id => {
            replace(change, instance, &holder, member_id)
        }
        // Who joins again under its own id abandoned what it had (KAFKA-19233), or did not hear of its first join.
        _ => Ok(known.unwrap_or_default()),
    }
}

/// A member that is not joining.
fn member(
    state: &State,
    request: &ConsumerHeartbeat,
    member_id: &str,
) -> Result<Arc<Member>, Rejection> {
    let member = holder(state, request.instance_id.as_deref(), member_id)?;
    check_epoch(
        request.member_epoch,
        request.owned.as_ref(),
        &member.current,
    )?;
    Ok(member.clone())
}

/// The member of that id, unless its instance belongs to another one.
pub(super) fn holder<'a>(
    state: &'a State,
    instance_id: Option<&str>,
    member_id: &str,
) -> Result<&'a Arc<Member>, Rejection> {
    if let Some(instance) = instance_id {
        match state.static_member(instance) {
            None => {
                let message = format!("the instance id {instance} is unknown");
                return Err(Rejection::new(ErrorCode::UnknownMemberId, message));
            }
            Some(holder) if holder != member_id => {
                let message = format!("the instance id {instance} is fenced by {holder}");
                return Err(Rejection::new(ErrorCode::FencedInstanceId, message));
            }
            Some(_) => {}
        }
    }
    state.member(member_id).ok_or_else(|| {
        let message = format!("the member {member_id} is not in the group");
        Rejection::new(ErrorCode::UnknownMemberId, message)
    })
}

/// A member speaks in its epoch; in the one before if its answer got lost, and then it has nothing that it may not have.
fn check_epoch(
    epoch: i32,
    owned: Option<&Partitions>,
    current: &CurrentAssignment,
) -> Result<(), Rejection> {
    let lost = epoch == current.previous_epoch
        && owned.is_some_and(|owned| owned.is_subset(&current.assigned));
    if epoch == current.epoch || (epoch < current.epoch && lost) {
        return Ok(());
    }
    let known = current.epoch;
    let message = format!(
        "the member is in epoch {known}, not in {epoch}: it has to give up its partitions and join again"
    );
    Err(Rejection::new(ErrorCode::FencedMemberEpoch, message))
}

/// A static member that had left for a while is back under a new id, or one of the classic protocol, which does not say
/// that it leaves, speaks this one now.
fn replace(
    change: &mut Change,
    instance: &str,
    old_id: &str,
    new_id: &str,
) -> Result<Arc<Member>, Rejection> {
    let unreleased = || {
        let message = format!("the instance id {instance} is still in use by {old_id}");
        Rejection::new(ErrorCode::UnreleasedInstanceId, message)
    };
    let old = change
        .state
        .member(old_id)
        .cloned()
        .ok_or_else(unreleased)?;
    if old.current.epoch != STATIC_LEAVE_EPOCH && old.metadata.classic.is_none() {
        return Err(unreleased());
    }
    replace_with(change, old_id, new_id).ok_or_else(unreleased)
}

/// Puts a member under another id, in which it was not told of any epoch yet. Who starts anew consumes nothing: what its
/// former self did not give back yet is free.
pub(super) fn replace_with(change: &mut Change, old_id: &str, new_id: &str) -> Option<Arc<Member>> {
    let old = change.state.member(old_id).cloned()?;
    let target = change.state.target(old_id);
    let current = CurrentAssignment {
        epoch: JOIN_EPOCH,
        previous_epoch: JOIN_EPOCH,
        state: MemberState::Stable,
        assigned: old.current.assigned.clone(),
        pending_revocation: Partitions::default(),
    };
    // In Kafka's order, which reads no record that gives somebody what another one has still.
    remove(change, old_id);
    change.emit(Fact::Member(new_id.to_owned(), Some(old.metadata.clone())));
    change.emit(Fact::Target(new_id.to_owned(), Some(target)));
    change.emit(Fact::Current(new_id.to_owned(), Some(current.clone())));
    change.keep_whole();
    Some(Arc::new(Member {
        metadata: old.metadata.clone(),
        current,
    }))
}

/// Takes back all that the log says of a member, that it is one last.
pub(super) fn remove(change: &mut Change, member_id: &str) {
    change.emit(Fact::Current(member_id.to_owned(), None));
    change.emit(Fact::Target(member_id.to_owned(), None));
    change.emit(Fact::Member(member_id.to_owned(), None));
}
