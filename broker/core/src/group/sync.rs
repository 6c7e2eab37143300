//! What do members get that ask for their assignment, or say that they are alive?

use std::collections::BTreeMap;

use bytes::Bytes;
use types::ErrorCode;

use super::GroupState;
use super::classic::{Context, Group, PendingAppend};
use super::consumer_groups::view;
use super::request::{HeartbeatRequest, Reply, SyncReply, SyncRequest, Token};

impl Group {
    pub(super) fn sync(&mut self, cx: &mut Context<'_>, token: Token, request: SyncRequest) {
        if let Some(consumer) = &mut self.consumer {
            let reply = consumer.classic_sync(view(cx), &request);
            return cx.reply(token, Reply::Sync(reply.unwrap_or_else(SyncReply::error)));
        }
        let member_id = request.member_id.clone();
        match self.check_sync(&request) {
            Err(error) => cx.reply(token, Reply::Sync(SyncReply::error(error))),
            Ok(()) if self.state == GroupState::Stable => {
                self.synced(&member_id);
                let reply = self.sync_reply(&member_id);
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.heard(cx.now);
                }
                cx.reply(token, Reply::Sync(reply));
            }
            Ok(()) => self.await_assignment(cx, token, request),
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |given: &Option<String>, own: &Option<String>| {
            given.is_some() && own.is_some() && given != own
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            // No assignment comes any more.
            GroupState::CompletingRebalance if self.upgrading.is_some() => {
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn await_assignment(&mut self, cx: &mut Context<'_>, token: Token, request: SyncRequest) {
        self.synced(&request.member_id);
        if let Some(member) = self.members.get_mut(&request.member_id)
            && let Some(abandoned) = member.awaiting_sync.replace(token)
        {
            let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
            cx.reply(abandoned, Reply::Sync(reply));
        }
        if self.is_leader(&request.member_id) {
            let assignments: BTreeMap<String, Bytes> = request.assignments.into_iter().collect();
            let record = self.metadata_record(cx.now, Some(&assignments));
            let pending = PendingAppend::Assignment {
                group_id: self.id.clone(),
                generation: self.generation,
                assignments,
            };
            cx.append(vec![record], pending);
        }
    }

    fn synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    fn sync_reply(&self, member_id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The leader's assignment is committed, or not: then the members have to rebalance again.
    pub(super) fn assignment_appended(
        &mut self,
        cx: &mut Context<'_>,
        generation: i32,
        mut assignments: BTreeMap<String, Bytes>,
        result: Result<(), ErrorCode>,
    ) {
        let goes_on = self.upgrading.is_none()
            && self.state == GroupState::CompletingRebalance
            && self.generation == generation;
        if !goes_on {
            return; // The group went on meanwhile; who waited was answered then.
        }
        if let Err(error) = result {
            self.refuse_syncs(cx, error);
            self.prepare_rebalance(cx);
            return;
        }
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.transition(cx.now, GroupState::Stable);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.sync_reply(&id);
            if let Some(member) = self.members.get_mut(&id)
                && let Some(token) = member.awaiting_sync.take()
            {
                member.heard(cx.now);
                cx.reply(token, Reply::Sync(reply));
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        cx: &Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(consumer) = &mut self.consumer {
            return consumer.classic_heartbeat(view(cx), request);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.heard(cx.now);
        }
        match self.state {
            // A consumer may heartbeat between its join and its sync.
            GroupState::Stable | GroupState::CompletingRebalance => Ok(()),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }
}
