//! What do members of the classic protocol ask of a consumer group, and what are they told?
//!
//! Such a member does not know that the group is of another kind. Its generation is its own epoch, and its group never has
//! another leader than the coordinator:
//!
//! 1. A heartbeat is answered `REBALANCE_IN_PROGRESS` when the member has to take a step towards its target.
//! 2. It joins, and is answered at once: the subscription says what it still has, so that is the step.
//! 3. It syncs, and gets what it may consume now. If it has to give something back, it does so and joins again (the
//!    cooperative ones); the eager ones gave back everything before they joined.
//!
//! As Kafka does (KIP-848, `GroupMetadataManager.classicGroup*ToConsumerGroup`).

use std::collections::BTreeSet;
use std::sync::Arc;

use types::ErrorCode;

use super::change::Change;
use super::downgrade::named;
use super::group::ConsumerGroup;
use super::heartbeat::{Checked, View, advance, is_full};
use super::identify::replace_with;
use super::partitions::Partitions;
use super::reconcile::reconcile;
use super::record::{ClassicMember, CurrentAssignment, Fact, MemberMetadata, MemberState};
use super::state::{Member, State};
use super::subscription::replace_regex;
use super::target;
use super::topics::Topics;
use crate::group::join::new_member_id;
use crate::group::protocol::{CONSUMER, Named, Subscription, encode_assignment};
use crate::group::request::{
    HeartbeatRequest, JoinReply, JoinRequest, LeavingMember, SyncReply, SyncRequest,
};

/// `JoinGroup`: the reply when the change is in the log, and what is known of the topics then.
pub(super) fn join(
    change: &mut Change,
    view: View<'_>,
    checked: Checked,
    request: &JoinRequest,
) -> Result<(JoinReply, Checked), JoinReply> {
    let refused = |error| JoinReply::error(error, request.member_id.as_str());
    let member_id = match request.member_id.as_str() {
        "" => new_member_id(request),
        known => known.to_owned(),
    };
    check(change, view, request, &member_id).map_err(refused)?;
    let dynamic = request.group_instance_id.is_none();
    if request.member_id.is_empty() && dynamic && request.require_known_member_id {
        return Err(JoinReply::error(ErrorCode::MemberIdRequired, member_id));
    }
    let (protocol, subscription) = subscription(request).map_err(refused)?;
    let before = identify(change, request, &member_id, &subscription).map_err(refused)?;
    let wants_else = describe(change, view, request, &member_id, &before, &subscription);
    let checked = advance(change, view, checked, wants_else);
    target::update(change, view.config, view.topics);
    let owned = owned(&subscription, &before.current, view.topics);
    let confirmed =
        (owned.as_ref()).is_some_and(|owned| !owned.intersects(&before.current.pending_revocation));
    reconcile(change, &member_id, confirmed, owned.as_ref());
    let after = change.state.member(&member_id).cloned().unwrap_or_default();
    let reply = JoinReply {
        error: ErrorCode::None,
        generation: Some(after.current.epoch),
        protocol_type: Some(CONSUMER.to_owned()),
        protocol: Some(protocol.to_owned()),
        leader: String::new(),
        skip_assignment: false,
        member_id,
        members: Vec::new(),
    };
    Ok((reply, checked))
}

fn check(
    change: &Change,
    view: View<'_>,
    request: &JoinRequest,
    member_id: &str,
) -> Result<(), ErrorCode> {
    let state = &change.state;
    if state.members.is_empty() {
        // The last one left while this one waited: the group may become what the member needs.
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    if is_full(change, view.config, member_id) {
        return Err(ErrorCode::GroupMaxSizeReached);
    }
    let instance = request.group_instance_id.as_deref();
    let holder = instance.and_then(|instance| state.static_member(instance));
    let is_in = |id: &str| state.is_classic(id);
    let admitted = view.config.migration.admits() || is_in(member_id) || holder.is_some_and(is_in);
    if admitted && supports(state, request, holder.unwrap_or(member_id)) {
        Ok(())
    } else {
        Err(ErrorCode::InconsistentGroupProtocol)
    }
}

/// Whether the member has a protocol that all other classic ones have, too.
fn supports(state: &State, request: &JoinRequest, former_id: &str) -> bool {
    let others = || {
        let others = (state.members.iter()).filter(|(id, _)| id.as_str() != former_id);
        others.filter_map(|(_, member)| member.metadata.classic.as_ref())
    };
    let has = |member: &ClassicMember, name: &String| {
        let mut names = member.protocols.iter().map(|(name, _)| name);
        names.any(|one| one == name)
    };
    let mut names = request.protocols.iter().map(|(name, _)| name);
    request.protocol_type == CONSUMER && names.any(|name| others().all(|other| has(other, name)))
}

/// The protocol that the member prefers, and what it says with it; it says the same with all of them.
fn subscription(request: &JoinRequest) -> Result<(&str, Subscription), ErrorCode> {
    let (name, metadata) =
        (request.protocols.first()).ok_or(ErrorCode::InconsistentGroupProtocol)?;
    let subscription = Subscription::decode(metadata);
    let subscription = subscription.map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
    Ok((name, subscription))
}

/// The member as it is, or as a new one starts. A static one that has no id takes the place of whoever has its instance,
/// also of one that speaks the other protocol and did not leave.
///
/// An unknown id may be one that was given out just now. Kafka takes every such member in; one that says that it was in a
/// generation, or has something, was given up meanwhile: it has to learn that first, before it commits for partitions of others.
fn identify(
    change: &mut Change,
    request: &JoinRequest,
    member_id: &str,
    subscription: &Subscription,
) -> Result<Arc<Member>, ErrorCode> {
    if let Some(instance) = &request.group_instance_id {
        let holder = change.state.static_member(instance).map(str::to_owned);
        match holder {
            Some(holder) if request.member_id.is_empty() => {
                return replace_with(change, &holder, member_id).ok_or(ErrorCode::UnknownMemberId);
            }
            Some(holder) if holder != member_id => return Err(ErrorCode::FencedInstanceId),
            None if !request.member_id.is_empty() => return Err(ErrorCode::UnknownMemberId),
            Some(_) | None => {}
        }
    }
    let was_in = subscription.generation.is_some() || !subscription.owned.is_empty();
    match change.state.member(member_id) {
        Some(known) => Ok(known.clone()),
        None if was_in && !request.member_id.is_empty() => Err(ErrorCode::UnknownMemberId),
        None => Ok(Arc::default()),
    }
}

/// Notes what the member says about itself; whether it wants other topics than before.
fn describe(
    change: &mut Change,
    view: View<'_>,
    request: &JoinRequest,
    member_id: &str,
    before: &Member,
    subscription: &Subscription,
) -> bool {
    let before = &before.metadata;
    let instance_id = &request.group_instance_id;
    let after = MemberMetadata {
        instance_id: instance_id.clone().or_else(|| before.instance_id.clone()),
        rack_id: (subscription.rack_id.clone()).or_else(|| before.rack_id.clone()),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topic_names: subscription.topics.clone(),
        topic_regex: None,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        server_assignor: before.server_assignor.clone(),
        classic: Some(ClassicMember {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        }),
    };
    let is_new = change.state.member(member_id).is_none();
    let other_names = after.topic_names != before.topic_names;
    if is_new || after != *before {
        change.emit(Fact::Member(member_id.to_owned(), Some(after)));
    }
    let regexes = (before.topic_regex.as_deref(), None);
    let other_regex = replace_regex(change, view, regexes, None);
    other_names || other_regex.unwrap_or(false)
}

/// What the member says that it has, if that is said of the epoch it is in: a join that is late may be from before.
fn owned(
    subscription: &Subscription,
    current: &CurrentAssignment,
    topics: &dyn Topics,
) -> Option<Partitions> {
    let known = subscription.generation;
    known
        .is_none_or(|generation| generation == current.epoch)
        .then(|| with_ids(&subscription.owned, topics))
}

/// Partitions with the ids of their topics; those of topics that are not there are left out.
pub(in crate::group) fn with_ids(partitions: &Named, topics: &dyn Topics) -> Partitions {
    let known = (partitions.iter()).filter_map(|(name, all)| Some((topics.find(name)?.id, all)));
    known
        .flat_map(|(id, all)| all.iter().map(move |one| (id, *one)))
        .collect()
}

impl State {
    /// Whether there is such a member, and it speaks the classic protocol.
    pub(in crate::group) fn is_classic(&self, id: &str) -> bool {
        let member = self.member(id);
        member.is_some_and(|member| member.metadata.classic.is_some())
    }

    /// The id and the state of a member that speaks for itself.
    fn speaker(&self, id: &str, instance: Option<&str>) -> Result<&Arc<Member>, ErrorCode> {
        if let Some(instance) = instance {
            match self.static_member(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.member(id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// Whether something that the member shall have, and does not have, is still another one's.
    fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        let assigned = &member.current.assigned;
        let target = self.target(id);
        let mut missing = target
            .iter()
            .filter(|(topic, one)| !assigned.contains(*topic, *one));
        missing.any(|(topic, one)| self.is_owned_by_another(id, topic, one))
    }

    /// Whether a classic member has to join again to get further.
    fn has_to_join(&self, id: &str, member: &Member) -> bool {
        let current = &member.current;
        current.epoch < self.epoch
            || match current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(id, member),
            }
    }
}

impl ConsumerGroup {
    /// The classic member that speaks, in its own epoch.
    fn classic_speaker(
        &self,
        (id, instance): (&str, Option<&str>),
        generation: i32,
    ) -> Result<(Arc<Member>, ClassicMember), ErrorCode> {
        let member = self.state().speaker(id, instance)?;
        let classic = (member.metadata.classic.clone())
            .filter(|_| !self.leaving.contains(id))
            .ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch != generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((member.clone(), classic))
    }

    /// `Heartbeat`.
    pub(in crate::group) fn classic_heartbeat(
        &mut self,
        view: View<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        let id = request.member_id.as_str();
        let who = (id, request.group_instance_id.as_deref());
        let (member, _) = self.classic_speaker(who, request.generation)?;
        self.heard(view.config, view.now, id);
        // Nobody else may look whether the topics changed.
        if self.state().has_to_join(id, &member) || self.is_outdated(view) {
            self.await_join(view, id, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.joins.remove(id);
        Ok(())
    }

    /// `SyncGroup`.
    pub(in crate::group) fn classic_sync(
        &mut self,
        view: View<'_>,
        request: &SyncRequest,
    ) -> Result<SyncReply, ErrorCode> {
        let id = request.member_id.as_str();
        let who = (id, request.group_instance_id.as_deref());
        let (member, classic) = self.classic_speaker(who, request.generation)?;
        let (protocol, metadata) =
            (classic.protocols.first()).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let differs = |given: &Option<String>, own: &str| given.as_ref().is_some_and(|g| g != own);
        if differs(&request.protocol_type, CONSUMER) || differs(&request.protocol, protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // Who has to give something back joined for the new epoch already, and joins again when that is done.
        let current = &member.current;
        if self.state().epoch > current.epoch && current.state != MemberState::UnrevokedPartitions {
            self.await_join(view, id, &member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.syncs.remove(id);
        self.heard(view.config, view.now, id);
        let assigned = named(current.assigned.iter(), view.topics);
        Ok(SyncReply {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignment: encode_assignment(&assigned, metadata),
        })
    }

    /// Who of them leaves, of either protocol; the others get an error. They are taken out as soon as that can be written.
    pub(in crate::group) fn mark_leaving(&mut self, members: &[LeavingMember]) -> Vec<ErrorCode> {
        let leave = |leaving: &LeavingMember| {
            let id = self.leaver(leaving)?;
            self.leaving.insert(id);
            Ok(())
        };
        let results: Vec<Result<(), ErrorCode>> = members.iter().map(leave).collect();
        let errors = results.into_iter();
        errors
            .map(|result| result.err().unwrap_or(ErrorCode::None))
            .collect()
    }

    fn leaver(&self, leaving: &LeavingMember) -> Result<String, ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        let holder = instance.and_then(|instance| self.state().static_member(instance));
        // An administrator names a static member by its instance only.
        let id = match holder {
            Some(holder) if leaving.member_id.is_empty() => holder,
            _ => leaving.member_id.as_str(),
        };
        self.state().speaker(id, instance)?;
        if self.leaving.contains(id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(id.to_owned())
    }

    /// Starts the time that a member has to join, unless it runs.
    fn await_join(&mut self, view: View<'_>, id: &str, member: &Member) {
        if self.joins.get(id).is_none() {
            let timeout = i64::from(member.metadata.rebalance_timeout_ms);
            let deadline = view.now.monotonic_ms.saturating_add(timeout);
            self.joins.set(id, deadline);
        }
    }

    /// A classic member is about to be told the outcome of its join.
    pub(super) fn joined(&mut self, view: View<'_>, id: &str) {
        self.joins.remove(id);
        self.leaving.remove(id);
        self.heard(view.config, view.now, id);
        if let Some(member) = self.state().member(id) {
            let timeout = i64::from(member.metadata.rebalance_timeout_ms);
            let deadline = view.now.monotonic_ms.saturating_add(timeout);
            self.syncs.set(id, deadline);
        }
    }

    /// A member of the classic group that becomes this one leaves.
    pub(in crate::group) fn will_leave(&mut self, id: String) {
        self.leaving.insert(id);
    }

    /// Who of the members that are `there` said that it leaves.
    pub(in crate::group) fn leavers_of(&self, there: impl Fn(&str) -> bool) -> Vec<String> {
        let leaving = self.leaving.iter();
        leaving.filter(|id| there(id)).cloned().collect()
    }

    /// Members that said that they leave, and are not taken out yet.
    pub(super) fn leavers(&self) -> BTreeSet<String> {
        let still_there = |id: &&String| self.state().member(id).is_some();
        self.leaving.iter().filter(still_there).cloned().collect()
    }
}
