//! What does one heartbeat change in its group?
//!
//! 1. The member is identified, or made.
//! 2. What it says about itself is noted.
//! 3. If what the group wants changed, or the topics did, the group moves to its next epoch.
//! 4. The target assignment follows the epoch.
//! 5. The member goes one step towards its target, and hears of it.

use types::ErrorCode;

use super::change::Change;
use super::identify::identify;
use super::reconcile::{confirms, reconcile};
use super::record::{Fact, GroupEpoch, MemberMetadata, MemberState};
use super::request::{
    ConsumerConfig, ConsumerHeartbeat, HeartbeatAnswer, JOIN_EPOCH, Rejection, ValidHeartbeat,
};
use super::subscription::{hash, refresh, replace_regex};
use super::target;
use super::topics::Topics;
use crate::group::Now;

/// What the steps may look at beside the group.
#[derive(Debug, Clone, Copy)]
pub(in crate::group) struct View<'a> {
    pub(in crate::group) config: &'a ConsumerConfig,
    /// The most members of a classic group.
    pub(in crate::group) classic_max_size: usize,
    pub(in crate::group) now: Now,
    /// The newest that anybody has seen.
    pub(in crate::group) topics: &'a dyn Topics,
}

/// The topics' version and the group's epoch when it was last looked whether the topics changed.
pub(super) type Checked = Option<(u64, i32)>;

/// The answer, and what is known of the topics now.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) answer: HeartbeatAnswer,
    pub(super) checked: Checked,
}

pub(super) fn heartbeat(
    change: &mut Change,
    view: View<'_>,
    checked: Checked,
    heartbeat: &ValidHeartbeat,
) -> Result<Step, Rejection> {
    let request = &heartbeat.request;
    let member_id = member_id(request);
    let joins = request.member_epoch == JOIN_EPOCH;
    if change.state.is_blank() && !joins {
        let message = format!("the group {} is not there", request.group_id);
        return Err(Rejection::new(ErrorCode::GroupIdNotFound, message));
    }
    let before = identify(change, request, &member_id)?;
    if is_full(change, view.config, &member_id) {
        let message = format!(
            "the group has {} members already",
            change.state.members.len()
        );
        return Err(Rejection::new(ErrorCode::GroupMaxSizeReached, message));
    }
    let wants_else = describe(change, view, heartbeat, &member_id, &before.metadata)?;
    let checked = advance(change, view, checked, wants_else);
    target::update(change, view.config, view.topics);
    let confirmed = confirms(request, &before.current);
    reconcile(change, &member_id, confirmed, None);
    let after = change.state.member(&member_id).cloned().unwrap_or_default();
    let tells_all = request.rebalance_timeout_ms.is_some()
        && (request.topic_names.is_some() || request.topic_regex.is_some())
        && request.owned.is_some();
    // An answer that says what to give back may have gone to a request that the client gave up.
    let revokes = after.current.state == MemberState::UnrevokedPartitions;
    let moved = after.current.assigned != before.current.assigned;
    let news = joins || tells_all || revokes || moved;
    let answer = HeartbeatAnswer {
        member_id,
        member_epoch: after.current.epoch,
        heartbeat_interval_ms: view.config.heartbeat_interval_ms,
        assignment: news.then(|| after.current.assigned.clone()),
    };
    Ok(Step { answer, checked })
}

fn member_id(request: &ConsumerHeartbeat) -> String {
    match &request.fresh_id {
        Some(fresh) if request.member_id.is_empty() => fresh.clone(),
        _ => request.member_id.clone(),
    }
}

/// Whether the group has no room for that member.
pub(super) fn is_full(change: &Change, config: &ConsumerConfig, member_id: &str) -> bool {
    let members = &change.state.members;
    members.len() >= config.max_size && !members.contains_key(member_id)
}

/// Notes what the member says about itself; whether it wants other topics than before.
fn describe(
    change: &mut Change,
    view: View<'_>,
    ValidHeartbeat { request, pattern }: &ValidHeartbeat,
    member_id: &str,
    before: &MemberMetadata,
) -> Result<bool, Rejection> {
    let or = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
    let names = request.topic_names.as_ref().unwrap_or(&before.topic_names);
    let after = MemberMetadata {
        instance_id: or(&request.instance_id, &before.instance_id),
        rack_id: or(&request.rack_id, &before.rack_id),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topic_names: names.clone(),
        topic_regex: or(&request.topic_regex, &before.topic_regex).filter(|r| !r.is_empty()),
        rebalance_timeout_ms: (request.rebalance_timeout_ms).unwrap_or(before.rebalance_timeout_ms),
        server_assignor: or(&request.server_assignor, &before.server_assignor),
        classic: None,
    };
    let is_new = change.state.member(member_id).is_none();
    let other_names = after.topic_names != before.topic_names;
    let regexes = (before.topic_regex.as_deref(), after.topic_regex.as_deref());
    if is_new || after != *before {
        change.emit(Fact::Member(member_id.to_owned(), Some(after.clone())));
    }
    let other_regex = replace_regex(change, view, regexes, pattern.as_ref())?;
    Ok(other_names || other_regex)
}

/// Moves the group to its next epoch if it has to.
pub(super) fn advance(
    change: &mut Change,
    view: View<'_>,
    checked: Checked,
    wants_else: bool,
) -> Checked {
    let mut bump = wants_else || change.state.epoch == 0 || change.converts();
    let version = view.topics.version();
    if !bump && checked == Some((version, change.state.epoch)) {
        return checked;
    }
    if checked.is_none_or(|(known, _)| known != version) {
        bump |= refresh(change, view);
    }
    let metadata_hash = hash(&change.state.subscribed_topics(), view.topics);
    bump |= metadata_hash != change.state.metadata_hash;
    if bump {
        if change.state.has_partition_metadata {
            change.emit(Fact::PartitionMetadata(None));
        }
        change.emit_first(Fact::Epoch(Some(GroupEpoch {
            epoch: change.state.epoch + 1,
            metadata_hash,
        })));
    }
    Some((version, change.state.epoch))
}
