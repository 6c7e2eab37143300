//! How do requests, timers and the log come together in one consumer group?
//!
//! One change at a time: its records are in the log before the next one is thought about, and members hear of nothing
//! else. Requests that come meanwhile wait in a queue. So a record that is lost takes nothing with it that was built upon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use types::ErrorCode;

use super::change::Change;
use super::heartbeat::{Checked, Step, View, heartbeat};
use super::leave::{dissolve, leave, remove_all};
use super::record::{ConsumerRecord, Fact, MemberState};
use super::request::{
    ConsumerConfig, ConsumerGroupDescription, ConsumerHeartbeat, ConsumerMemberDescription,
    HeartbeatAnswer, LEAVE_EPOCH, Rejection, STATIC_LEAVE_EPOCH,
};
use super::state::State;
use super::target::preferred;
use super::topics::Topics;
use crate::group::request::Token;
use crate::group::{GroupState, Now};

/// The most requests that wait for the log. A client has one under way; beyond that it is told to come again.
const MAX_WAITING: usize = 10_000;
/// When members are given up again whose removal could not be written.
const RETRY_MS: i64 = 500;

/// Answer to a heartbeat.
pub(in crate::group) type Answer = Result<HeartbeatAnswer, Rejection>;

/// What follows from a call.
#[derive(Debug, Default)]
pub(in crate::group) struct Effects {
    pub(in crate::group) replies: Vec<(Token, Answer)>,
    /// To be written as one batch, the result of which [`ConsumerGroup::written`] is told.
    pub(in crate::group) records: Vec<ConsumerRecord>,
}

/// A heartbeat with the topics as they were when it came.
#[derive(Debug)]
struct Waiting {
    token: Token,
    topics: Arc<dyn Topics>,
    request: ConsumerHeartbeat,
}

/// A change whose records are on their way into the log.
#[derive(Debug)]
struct Writing {
    next: State,
    checked: Checked,
    reply: Option<(Token, HeartbeatAnswer)>,
}

/// A group of the consumer protocol.
#[derive(Debug)]
pub(in crate::group) struct ConsumerGroup {
    id: String,
    state: State,
    checked: Checked,
    /// Monotonic ms at which each member is given up unless it is heard of.
    sessions: BTreeMap<String, i64>,
    /// Monotonic ms until which members may take to give partitions back.
    revocations: BTreeMap<String, i64>,
    /// Monotonic ms until which nobody is given up, after that could not be written.
    paused_until_ms: i64,
    writing: Option<Writing>,
    waiting: VecDeque<Waiting>,
}

impl ConsumerGroup {
    pub(in crate::group) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: State::default(),
            checked: None,
            sessions: BTreeMap::new(),
            revocations: BTreeMap::new(),
            paused_until_ms: i64::MIN,
            writing: None,
            waiting: VecDeque::new(),
        }
    }

    /// What the log says.
    pub(in crate::group) fn state(&self) -> &State {
        &self.state
    }

    pub(in crate::group) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    /// Applies a record while loading.
    pub(in crate::group) fn load(&mut self, fact: &Fact) {
        self.state.apply(fact);
    }

    /// Ends loading: the members' timers start now.
    pub(in crate::group) fn loaded(&mut self, config: &ConsumerConfig, now: Now) {
        let ids: Vec<String> = self.state.members.keys().cloned().collect();
        for id in ids {
            self.heard(config, now, &id);
            self.watch_revocation(now, &id, true);
        }
    }

    /// `ConsumerGroupHeartbeat`, of a valid request.
    pub(in crate::group) fn heartbeat(
        &mut self,
        config: &ConsumerConfig,
        now: Now,
        token: Token,
        topics: Arc<dyn Topics>,
        request: ConsumerHeartbeat,
    ) -> Effects {
        let mut effects = Effects::default();
        if self.waiting.len() >= MAX_WAITING {
            let busy = Rejection::new(ErrorCode::CoordinatorNotAvailable, "too many requests");
            effects.replies.push((token, Err(busy)));
        } else {
            self.waiting.push_back(Waiting {
                token,
                topics,
                request,
            });
            self.go_on(config, now, &mut effects);
        }
        effects
    }

    /// The records of the last effects are below the high watermark, or will never be.
    pub(in crate::group) fn written(
        &mut self,
        config: &ConsumerConfig,
        now: Now,
        result: Result<(), ErrorCode>,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(writing) = self.writing.take() else {
            return effects;
        };
        match result {
            Ok(()) => self.settle(config, now, writing, &mut effects),
            Err(error) => {
                if writing.reply.is_none() {
                    self.paused_until_ms = now.monotonic_ms + RETRY_MS;
                }
                let rejection = Rejection::new(error, "the change of the group was not written");
                let reply = writing.reply.map(|(token, _)| (token, Err(rejection)));
                effects.replies.extend(reply);
            }
        }
        self.go_on(config, now, &mut effects);
        effects
    }

    /// Gives up the members whose time is over.
    pub(in crate::group) fn tick(&mut self, config: &ConsumerConfig, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.go_on(config, now, &mut effects);
        effects
    }

    /// The earliest monotonic ms at which [`ConsumerGroup::tick`] has something to do.
    pub(in crate::group) fn deadline_ms(&self) -> Option<i64> {
        if self.is_busy() {
            return None; // looked at when the records are written
        }
        let sessions = self.sessions.values().copied();
        let first = sessions.chain(self.revocations.values().copied()).min();
        first.map(|at| at.max(self.paused_until_ms))
    }

    /// Everybody who waits; the group is of no use any more.
    pub(in crate::group) fn abandon(&mut self) -> Vec<Token> {
        let writing = self.writing.take().and_then(|writing| writing.reply);
        let written = writing.map(|(token, _)| token);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.token);
        written.into_iter().chain(waiting).collect()
    }

    /// The tombstones of an empty group.
    pub(in crate::group) fn tombstones(&self) -> Vec<ConsumerRecord> {
        let mut change = Change::of(&self.id, &self.state);
        if !self.state.is_blank() {
            dissolve(&mut change);
        }
        change.records
    }

    /// Works on what waits until something has to be written.
    fn go_on(&mut self, config: &ConsumerConfig, now: Now, effects: &mut Effects) {
        self.expire(now, effects);
        while self.writing.is_none()
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.process(config, now, waiting, effects);
        }
    }

    fn process(
        &mut self,
        config: &ConsumerConfig,
        now: Now,
        waiting: Waiting,
        effects: &mut Effects,
    ) {
        let Waiting {
            token,
            topics,
            request,
        } = waiting;
        let mut change = Change::of(&self.id, &self.state);
        let step = if matches!(request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH) {
            leave(&mut change, &request).map(|answer| Step {
                answer,
                checked: self.checked,
            })
        } else {
            let view = View {
                config,
                now,
                topics: &*topics,
            };
            heartbeat(&mut change, view, self.checked, &request)
        };
        match step {
            Err(rejection) => effects.replies.push((token, Err(rejection))),
            Ok(Step { answer, checked }) => {
                let writing = Writing {
                    next: change.state,
                    checked,
                    reply: Some((token, answer)),
                };
                if change.records.is_empty() {
                    self.settle(config, now, writing, effects);
                } else {
                    effects.records = change.records;
                    self.writing = Some(writing);
                }
            }
        }
    }

    /// Takes a change that is in the log.
    fn settle(
        &mut self,
        config: &ConsumerConfig,
        now: Now,
        writing: Writing,
        effects: &mut Effects,
    ) {
        let before = std::mem::replace(&mut self.state, writing.next);
        self.checked = writing.checked;
        let members = &self.state.members;
        self.sessions.retain(|id, _| members.contains_key(id));
        self.revocations.retain(|id, _| members.contains_key(id));
        if let Some((token, answer)) = writing.reply {
            let id = answer.member_id.as_str();
            // Who left for a while has what remains of its session to come back.
            if answer.member_epoch >= 0 {
                self.heard(config, now, id);
            }
            let (old, new) = (before.member(id), self.state.member(id));
            let moved = old.map(|old| &old.current) != new.map(|new| &new.current);
            self.watch_revocation(now, answer.member_id.as_str(), moved);
            effects.replies.push((token, Ok(answer)));
        }
    }

    fn heard(&mut self, config: &ConsumerConfig, now: Now, member_id: &str) {
        if self.state.members.contains_key(member_id) {
            let deadline = now.monotonic_ms + i64::from(config.session_timeout_ms);
            self.sessions.insert(member_id.to_owned(), deadline);
        }
    }

    /// Starts the time a member has to give partitions back, anew if its assignment changed.
    fn watch_revocation(&mut self, now: Now, member_id: &str, moved: bool) {
        let member = self.state.member(member_id);
        let revoking =
            member.filter(|member| member.current.state == MemberState::UnrevokedPartitions);
        match revoking {
            None => drop(self.revocations.remove(member_id)),
            Some(member) if moved => {
                let timeout = i64::from(member.metadata.rebalance_timeout_ms);
                let deadline = now.monotonic_ms.saturating_add(timeout);
                self.revocations.insert(member_id.to_owned(), deadline);
            }
            Some(_) => {}
        }
    }

    /// Removes members whose time is over, all at once; not those whose request is waiting.
    fn expire(&mut self, now: Now, effects: &mut Effects) {
        if self.writing.is_some() || now.monotonic_ms < self.paused_until_ms {
            return;
        }
        let spoke: BTreeSet<&str> = (self.waiting.iter())
            .map(|waiting| waiting.request.member_id.as_str())
            .collect();
        let silent = self
            .sessions
            .iter()
            .filter(|(id, _)| !spoke.contains(id.as_str()));
        let over = |(_, at): &(&String, &i64)| **at <= now.monotonic_ms;
        let due: BTreeSet<String> = (silent.filter(over))
            .chain(self.revocations.iter().filter(over))
            .map(|(id, _)| id.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        let mut change = Change::of(&self.id, &self.state);
        remove_all(&mut change, &due);
        self.writing = Some(Writing {
            next: change.state,
            checked: self.checked,
            reply: None,
        });
        effects.records = change.records;
    }

    /// Whether a member may commit or read offsets in that epoch.
    pub(in crate::group) fn check_member_epoch(
        &self,
        member_id: &str,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self.state.member(member_id) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(member) if member.current.epoch != epoch => Err(ErrorCode::StaleMemberEpoch),
            Some(_) => Ok(()),
        }
    }

    pub(in crate::group) fn group_state(&self) -> GroupState {
        let state = &self.state;
        let reconciled = |epoch: i32, at: MemberState| {
            at == MemberState::Stable && epoch == state.assignment_epoch
        };
        if state.members.is_empty() {
            GroupState::Empty
        } else if state.epoch > state.assignment_epoch {
            GroupState::Assigning
        } else if (state.members.values()).all(|m| reconciled(m.current.epoch, m.current.state)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(in crate::group) fn describe(&self, config: &ConsumerConfig) -> ConsumerGroupDescription {
        let members = self.state.members.iter();
        let described = members.map(|(id, member)| ConsumerMemberDescription {
            member_id: id.clone(),
            metadata: member.metadata.clone(),
            epoch: member.current.epoch,
            assignment: member.current.assigned.clone(),
            target: self.state.target(id),
        });
        ConsumerGroupDescription {
            state: self.group_state(),
            epoch: self.state.epoch,
            assignment_epoch: self.state.assignment_epoch,
            assignor: preferred(config, &self.state),
            members: described.collect(),
        }
    }
}
