//! What happens when a member leaves or is given up?

use std::collections::BTreeSet;

use super::change::Change;
use super::identify::{holder, remove};
use super::partitions::Partitions;
use super::record::{CurrentAssignment, Fact, GroupEpoch, MemberState};
use super::request::{ConsumerHeartbeat, HeartbeatAnswer, Rejection, STATIC_LEAVE_EPOCH};
use super::subscription::forget_unused;

/// A member says that it leaves; a static one may mean to come back, and keeps its partitions until its session ends.
pub(super) fn leave(
    change: &mut Change,
    request: &ConsumerHeartbeat,
) -> Result<HeartbeatAnswer, Rejection> {
    let id = request.member_id.as_str();
    let member = holder(&change.state, request.instance_id.as_deref(), id)?.clone();
    if request.member_epoch == STATIC_LEAVE_EPOCH {
        let current = CurrentAssignment {
            epoch: STATIC_LEAVE_EPOCH,
            state: MemberState::Stable,
            pending_revocation: Partitions::default(),
            ..member.current.clone()
        };
        if current != member.current {
            change.emit(Fact::Current(id.to_owned(), Some(current)));
        }
    } else {
        remove_all(change, &BTreeSet::from([id.to_owned()]));
    }
    Ok(HeartbeatAnswer {
        member_id: id.to_owned(),
        member_epoch: request.member_epoch,
        heartbeat_interval_ms: 0,
        assignment: None,
    })
}

/// Removes members and moves the group to its next epoch; the next heartbeat shares what they had.
pub(super) fn remove_all(change: &mut Change, ids: &BTreeSet<String>) {
    let mut gone = false;
    for id in ids {
        let Some(member) = change.state.member(id).cloned() else {
            continue;
        };
        remove(change, id);
        if let Some(regex) = &member.metadata.topic_regex {
            forget_unused(change, regex);
        }
        gone = true;
    }
    if gone {
        change.emit_first(Fact::Epoch(Some(GroupEpoch {
            epoch: change.state.epoch + 1,
            // The next heartbeat looks whether the topics are others now.
            metadata_hash: change.state.metadata_hash,
        })));
    }
}

/// Takes back everything that the log says of a group without members.
pub(super) fn dissolve(change: &mut Change) {
    let targets: Vec<String> = change.state.targets.keys().cloned().collect();
    for id in targets {
        change.emit(Fact::Target(id, None));
    }
    let regexes: Vec<String> = change.state.regexes.keys().cloned().collect();
    for regex in regexes {
        change.emit(Fact::Regex(regex, None));
    }
    if change.state.has_partition_metadata {
        change.emit(Fact::PartitionMetadata(None));
    }
    change.emit(Fact::TargetEpoch(None));
    change.emit(Fact::Epoch(None));
}
