//! What happens when a member asks to join a group?

use types::ErrorCode;

use super::classic::{Context, Group, JoinPhase, PendingAppend, StaticRejoin, refuse_waiting};
use super::member::Member;
use super::record::MAX_BATCH;
use super::request::{JoinReply, JoinRequest, Reply, Token};
use super::{GroupConfig, GroupState};

/// Longest string a record of the log can hold (its length is an i16).
pub(super) const MAX_TEXT: usize = i16::MAX as usize;
/// How much of a client id goes into a member id.
const MAX_CLIENT_ID_IN_MEMBER_ID: usize = 255;

/// What can be refused without looking at the group.
pub(super) fn check_request(config: &GroupConfig, request: &JoinRequest) -> Result<(), ErrorCode> {
    if request.group_id.is_empty() || request.group_id.len() > MAX_TEXT {
        return Err(ErrorCode::InvalidGroupId);
    }
    let allowed = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if !allowed.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let texts = [
        &request.member_id,
        &request.client_id,
        &request.client_host,
        &request.protocol_type,
    ];
    let names = request.protocols.iter().map(|(name, _)| name);
    let instance = request.group_instance_id.iter();
    if (texts.into_iter().chain(names).chain(instance)).any(|text| text.len() > MAX_TEXT) {
        return Err(ErrorCode::InvalidRequest);
    }
    let mut said = request.protocols.iter().map(|(_, metadata)| metadata.len());
    if said.any(|bytes| bytes > MAX_BATCH) {
        // What Kafka makes of a record that its log does not take.
        return Err(ErrorCode::UnknownServerError);
    }
    Ok(())
}

pub(super) fn new_member_id(request: &JoinRequest) -> String {
    let prefix = request
        .group_instance_id
        .as_deref()
        .unwrap_or(&request.client_id);
    let end = prefix
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at < MAX_CLIENT_ID_IN_MEMBER_ID)
        .last()
        .map_or(0, |at| {
            at + prefix[at..].chars().next().map_or(0, char::len_utf8)
        });
    format!("{}-{}", &prefix[..end], request.fresh_id)
}

impl Group {
    pub(super) fn join(&mut self, cx: &mut Context<'_>, token: Token, request: &JoinRequest) {
        let member_id = request.member_id.as_str();
        if self.state != GroupState::Dead && self.is_occupied_consumer_group() {
            return self.join_consumer_group(cx, token, request);
        }
        if !self.accepts(member_id, cx.config.max_size) {
            self.remove(cx, member_id, ErrorCode::GroupMaxSizeReached);
            refuse(cx, token, ErrorCode::GroupMaxSizeReached, "");
        } else if self.state == GroupState::Dead {
            refuse(cx, token, ErrorCode::CoordinatorNotAvailable, member_id);
        } else if !self.supports(&request.protocol_type, &request.protocols) {
            refuse(cx, token, ErrorCode::InconsistentGroupProtocol, member_id);
        } else if member_id.is_empty() {
            self.join_as_new(cx, token, request);
        } else {
            self.join_as_known(cx, token, request);
        }
        self.complete_join_if_all_joined(cx);
    }

    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let awaiting = self.members.values().filter(|m| m.awaiting_join.is_some());
                self.members
                    .get(member_id)
                    .is_some_and(|member| member.awaiting_join.is_some())
                    || awaiting.count() < max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    fn join_as_new(&mut self, cx: &mut Context<'_>, token: Token, request: &JoinRequest) {
        let new_id = new_member_id(request);
        if let Some(instance) = &request.group_instance_id {
            match self.static_members.get(instance).cloned() {
                Some(old_id) => self.rejoin_static(cx, token, request, &old_id, new_id),
                None => self.add_and_rebalance(cx, token, request, new_id),
            }
        } else if request.require_known_member_id {
            let until = cx.now.monotonic_ms + i64::from(request.session_timeout_ms);
            self.pending_members.insert(new_id.clone(), until);
            refuse(cx, token, ErrorCode::MemberIdRequired, &new_id);
        } else {
            self.add_and_rebalance(cx, token, request, new_id);
        }
    }

    fn join_as_known(&mut self, cx: &mut Context<'_>, token: Token, request: &JoinRequest) {
        let member_id = request.member_id.as_str();
        if self.pending_members.contains_key(member_id) && request.group_instance_id.is_none() {
            return self.add_and_rebalance(cx, token, request, member_id.to_owned());
        }
        if let Err(error) = self.check_member(member_id, request.group_instance_id.as_deref()) {
            return refuse(cx, token, error, member_id);
        }
        let unchanged = self
            .members
            .get(member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        let repeat = match self.state {
            GroupState::PreparingRebalance => false,
            // The reply was lost: the same member asks again for the generation it is already in.
            GroupState::CompletingRebalance => unchanged,
            // The leader rejoins to start a rebalance (a topic grew); a follower only with new metadata.
            GroupState::Stable => unchanged && !self.is_leader(member_id),
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => {
                return refuse(cx, token, ErrorCode::UnknownMemberId, member_id);
            }
        };
        if repeat {
            let reply = self.join_reply(member_id);
            if let Some(member) = self.members.get_mut(member_id) {
                member.heard(cx.now);
            }
            cx.reply(token, Reply::Join(reply));
        } else {
            self.update_member(cx, token, request, member_id);
            self.prepare_rebalance(cx);
        }
    }

    fn add_and_rebalance(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: &JoinRequest,
        member_id: String,
    ) {
        self.become_classic(cx);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(JoinPhase { new_member, .. }) = &mut self.join_phase {
            *new_member = true;
        }
        self.add(Member::joining(cx.now, member_id, token, request));
        self.prepare_rebalance(cx);
    }

    fn update_member(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: &JoinRequest,
        member_id: &str,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        // An earlier join of the same member can only be one whose connection is gone.
        if let Some(abandoned) = member.awaiting_join.replace(token) {
            refuse(cx, abandoned, ErrorCode::RebalanceInProgress, member_id);
        }
        member.protocols.clone_from(&request.protocols);
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.client_id.clone_from(&request.client_id);
        member.client_host.clone_from(&request.client_host);
        if !member.is_new {
            member.heard(cx.now);
        }
    }

    /// A static member came back without its member id: it takes over from its former self, who is fenced (KIP-345).
    fn rejoin_static(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: &JoinRequest,
        old_id: &str,
        new_id: String,
    ) {
        let Some(old) = self.members.get(old_id).cloned() else {
            return self.add_and_rebalance(cx, token, request, new_id);
        };
        let old_leader = self.leader.clone().unwrap_or_default();
        let was_leader = self.is_leader(old_id);
        refuse_waiting(cx, &old, ErrorCode::FencedInstanceId);
        self.rename_static(&old, &new_id);
        if let Some(member) = self.members.get_mut(&new_id) {
            member.awaiting_join = None;
            member.awaiting_sync = None;
        }
        self.update_member(cx, token, request, &new_id);
        let same_protocol = self.vote() == self.protocol;
        match self.state {
            GroupState::Stable if same_protocol => {
                if let Some(member) = self.members.get_mut(&new_id) {
                    member.awaiting_join = None;
                }
                let mut reply = self.join_reply(&new_id);
                if request.supports_skip_assignment {
                    reply.skip_assignment = was_leader;
                } else {
                    // Such a client would compute an assignment if it were told that it leads.
                    reply.leader = old_leader;
                    reply.members.clear();
                }
                let record = self.metadata_record(cx.now, None);
                let pending = PendingAppend::StaticRejoin(Box::new(StaticRejoin {
                    group_id: self.id.clone(),
                    token,
                    reply,
                    old,
                    new_id,
                    was_leader,
                }));
                cx.append(vec![record], pending);
            }
            GroupState::Stable
            | GroupState::CompletingRebalance
            | GroupState::PreparingRebalance
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Empty
            | GroupState::Dead => self.prepare_rebalance(cx),
        }
    }

    /// Puts the static member `old` under another member id.
    fn rename_static(&mut self, old: &Member, new_id: &str) {
        let mut member = old.clone();
        new_id.clone_into(&mut member.id);
        self.members.remove(&old.id);
        if self.pending_sync.remove(&old.id) {
            self.pending_sync.insert(new_id.to_owned());
        }
        if let Some(instance) = &old.instance_id {
            self.static_members
                .insert(instance.clone(), new_id.to_owned());
        }
        if self.is_leader(&old.id) {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }

    /// The record of a static rejoin is committed, or not: then the former self is restored.
    pub(super) fn static_rejoin_appended(
        &mut self,
        cx: &mut Context<'_>,
        rejoin: StaticRejoin,
        result: Result<(), ErrorCode>,
    ) {
        let StaticRejoin {
            token,
            mut reply,
            old,
            new_id,
            was_leader,
            ..
        } = rejoin;
        let still_there = self.members.contains_key(&new_id);
        match result {
            Ok(()) if still_there => {}
            Ok(()) => reply = JoinReply::error(ErrorCode::UnknownMemberId, new_id),
            Err(error) => {
                if let (true, Some(current)) = (still_there, self.members.get(&new_id).cloned()) {
                    refuse_waiting(cx, &current, error);
                    self.rename_static(&current, &old.id);
                    if let Some(member) = self.members.get_mut(&old.id) {
                        *member = old;
                        member.awaiting_join = None;
                        member.awaiting_sync = None;
                        member.heard(cx.now);
                    }
                    debug_assert!(!was_leader || !self.is_leader(&new_id), "renamed back");
                }
                reply = JoinReply::error(error, new_id);
            }
        }
        cx.reply(token, Reply::Join(reply));
    }
}

fn refuse(cx: &mut Context<'_>, token: Token, error: ErrorCode, member_id: &str) {
    cx.reply(token, Reply::Join(JoinReply::error(error, member_id)));
}
