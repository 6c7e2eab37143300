//! How do requests, timers and the log come together in one consumer group?
//!
//! One change at a time: its records are in the log before the next one is thought about, and members hear of nothing
//! else. Requests that come meanwhile wait in a queue. So a record that is lost takes nothing with it that was built upon.
//! A heartbeat that changes nothing costs the same in a large group as in a small one.

use std::collections::{BTreeSet, VecDeque};

use types::ErrorCode;

use super::change::{Change, Part};
use super::deadlines::Deadlines;
use super::heartbeat::{Checked, Step, View, heartbeat};
use super::leave::{dissolve, leave, remove_all};
use super::pattern::Pattern;
use super::reconcile::confirms;
use super::record::{ConsumerRecord, Fact, MemberState};
use super::request::{
    ConsumerConfig, ConsumerGroupDescription, ConsumerMemberDescription, HeartbeatAnswer,
    LEAVE_EPOCH, Rejection, STATIC_LEAVE_EPOCH, ValidHeartbeat,
};
use super::state::State;
use super::target::preferred;
use crate::group::request::Token;
use crate::group::{GroupState, Now};

/// The most requests that wait for the log. A client has one under way; beyond that it is told to come again.
const MAX_WAITING: usize = 10_000;
/// When members are given up again whose removal could not be written.
const RETRY_MS: i64 = 500;
/// The heartbeats that a member has time for, at least, after one that could not be written.
const RETRIED_HEARTBEATS: i64 = 2;

/// Answer to a heartbeat.
pub(in crate::group) type Answer = Result<HeartbeatAnswer, Rejection>;

/// What follows from a call.
#[derive(Debug, Default)]
pub(in crate::group) struct Effects {
    pub(in crate::group) replies: Vec<(Token, Answer)>,
    /// To be written as one batch, the result of which [`ConsumerGroup::written`] is told.
    pub(in crate::group) records: Vec<ConsumerRecord>,
}

/// A heartbeat that came while a change was being written.
#[derive(Debug)]
struct Waiting {
    token: Token,
    heartbeat: ValidHeartbeat,
}

/// A change whose records are on their way into the log.
#[derive(Debug)]
struct Writing {
    part: Part,
    rest: VecDeque<Part>,
    end: End,
}

/// What to do when a change is in the log.
#[derive(Debug)]
struct End {
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
    sessions: Deadlines,
    /// Monotonic ms until which members may take to give partitions back.
    revocations: Deadlines,
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
            sessions: Deadlines::default(),
            revocations: Deadlines::default(),
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
            self.watch_revocation(now, &id);
        }
    }

    /// `ConsumerGroupHeartbeat`.
    pub(in crate::group) fn heartbeat(
        &mut self,
        view: View<'_>,
        token: Token,
        heartbeat: ValidHeartbeat,
    ) -> Effects {
        let mut effects = Effects::default();
        if self.waiting.len() >= MAX_WAITING {
            let busy = Rejection::new(ErrorCode::CoordinatorNotAvailable, "too many requests");
            effects.replies.push((token, Err(busy)));
        } else {
            self.waiting.push_back(Waiting { token, heartbeat });
            self.go_on(view, &mut effects);
        }
        effects
    }

    /// The records of the last effects are below the high watermark, or will never be.
    pub(in crate::group) fn written(
        &mut self,
        view: View<'_>,
        result: Result<(), ErrorCode>,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(writing) = self.writing.take() else {
            return effects;
        };
        match result {
            Ok(()) => {
                self.take(view, writing.part);
                self.write(view, writing.rest, writing.end, &mut effects);
            }
            Err(error) => self.not_written(view, writing.end, error, &mut effects),
        }
        self.go_on(view, &mut effects);
        effects
    }

    /// Gives up the members whose time is over.
    pub(in crate::group) fn tick(&mut self, view: View<'_>) -> Effects {
        let mut effects = Effects::default();
        self.go_on(view, &mut effects);
        effects
    }

    /// The earliest monotonic ms at which [`ConsumerGroup::tick`] has something to do.
    pub(in crate::group) fn deadline_ms(&self) -> Option<i64> {
        if self.is_busy() {
            return None; // looked at when the records are written
        }
        let first = [self.sessions.first(), self.revocations.first()];
        let first = first.into_iter().flatten().min();
        first.map(|at| at.max(self.paused_until_ms))
    }

    /// Everybody who waits; the group is of no use any more.
    pub(in crate::group) fn abandon(&mut self) -> Vec<Token> {
        let writing = self.writing.take().and_then(|writing| writing.end.reply);
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
    fn go_on(&mut self, view: View<'_>, effects: &mut Effects) {
        self.expire(view, effects);
        while self.writing.is_none()
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.process(view, waiting, effects);
        }
    }

    fn process(&mut self, view: View<'_>, waiting: Waiting, effects: &mut Effects) {
        let Waiting {
            token,
            heartbeat: h,
        } = waiting;
        let mut change = Change::of(&self.id, &self.state);
        let step = if matches!(h.request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH) {
            leave(&mut change, &h.request).map(|answer| Step {
                answer,
                checked: self.checked,
            })
        } else {
            heartbeat(&mut change, view, self.checked, &h)
        };
        match step {
            Err(rejection) => effects.replies.push((token, Err(rejection))),
            Ok(Step { answer, checked }) => {
                let end = End {
                    checked,
                    reply: Some((token, answer)),
                };
                self.write(view, change.into_parts(&self.state), end, effects);
            }
        }
    }

    /// Writes the next part of a change, or ends it.
    fn write(
        &mut self,
        view: View<'_>,
        mut parts: VecDeque<Part>,
        end: End,
        effects: &mut Effects,
    ) {
        if let Some(mut part) = parts.pop_front() {
            effects.records = std::mem::take(&mut part.records);
            self.writing = Some(Writing {
                part,
                rest: parts,
                end,
            });
            return;
        }
        self.checked = end.checked;
        if let Some((token, answer)) = end.reply {
            // Who left for a while has what remains of its session to come back.
            if answer.member_epoch >= 0 {
                self.heard(view.config, view.now, &answer.member_id);
            }
            effects.replies.push((token, Ok(answer)));
        }
    }

    /// Takes the part of a change that is in the log.
    fn take(&mut self, view: View<'_>, part: Part) {
        let before = std::mem::replace(&mut self.state, part.state);
        for id in part.touched {
            let Some(member) = self.state.member(&id) else {
                self.sessions.remove(&id);
                self.revocations.remove(&id);
                continue;
            };
            let moved = (before.member(&id)).is_none_or(|old| old.current != member.current);
            if self.sessions.get(&id).is_none() {
                self.heard(view.config, view.now, &id);
            }
            if moved {
                self.watch_revocation(view.now, &id);
            }
        }
    }

    fn not_written(&mut self, view: View<'_>, end: End, error: ErrorCode, effects: &mut Effects) {
        let Some((token, answer)) = end.reply else {
            self.paused_until_ms = view.now.monotonic_ms + RETRY_MS;
            return;
        };
        // The member spoke in time, and may say it again.
        let id = answer.member_id.as_str();
        self.heard(view.config, view.now, id);
        let again = RETRIED_HEARTBEATS * i64::from(view.config.heartbeat_interval_ms);
        let again = view.now.monotonic_ms.saturating_add(again);
        if self.revocations.get(id).is_some_and(|at| at < again) {
            self.revocations.set(id, again);
        }
        let rejection = match error {
            ErrorCode::InvalidCommitOffsetSize => Rejection::new(
                ErrorCode::UnknownServerError,
                "a record of the group is larger than the log takes",
            ),
            error => Rejection::new(error, "the change of the group was not written"),
        };
        effects.replies.push((token, Err(rejection)));
    }

    fn heard(&mut self, config: &ConsumerConfig, now: Now, member_id: &str) {
        if self.state.members.contains_key(member_id) {
            let deadline = now.monotonic_ms + i64::from(config.session_timeout_ms);
            self.sessions.set(member_id, deadline);
        }
    }

    /// Starts the time that a member has to give partitions back, or ends it.
    fn watch_revocation(&mut self, now: Now, member_id: &str) {
        let member = self.state.member(member_id);
        match member.filter(|member| member.current.state == MemberState::UnrevokedPartitions) {
            None => self.revocations.remove(member_id),
            Some(member) => {
                let timeout = i64::from(member.metadata.rebalance_timeout_ms);
                let deadline = now.monotonic_ms.saturating_add(timeout);
                self.revocations.set(member_id, deadline);
            }
        }
    }

    /// Removes members whose time is over.
    fn expire(&mut self, view: View<'_>, effects: &mut Effects) {
        if self.writing.is_some() || view.now.monotonic_ms < self.paused_until_ms {
            return;
        }
        let due = self.due(view.now.monotonic_ms);
        if due.is_empty() {
            return;
        }
        let mut change = Change::of(&self.id, &self.state);
        remove_all(&mut change, &due);
        let end = End {
            checked: self.checked,
            reply: None,
        };
        self.write(view, change.into_parts(&self.state), end, effects);
    }

    /// The members whose time is over; not those whose request came in time and waits.
    fn due(&self, now_ms: i64) -> BTreeSet<String> {
        let first = [self.sessions.first(), self.revocations.first()];
        if first.into_iter().flatten().all(|at| at > now_ms) {
            return BTreeSet::new();
        }
        let waiting = || {
            self.waiting
                .iter()
                .map(|waiting| &waiting.heartbeat.request)
        };
        let spoke: BTreeSet<&str> = waiting().map(|r| r.member_id.as_str()).collect();
        let confirmed = waiting().filter(|request| {
            let member = self.state.member(&request.member_id);
            member.is_some_and(|member| confirms(request, &member.current))
        });
        let confirmed: BTreeSet<&str> = confirmed.map(|r| r.member_id.as_str()).collect();
        let silent = self.sessions.due(now_ms).filter(|id| !spoke.contains(id));
        let holding = (self.revocations.due(now_ms)).filter(|id| !confirmed.contains(id));
        silent.chain(holding).map(str::to_owned).collect()
    }

    /// The regular expressions that mean nothing here.
    pub(in crate::group) fn foreign_expressions(&self) -> impl Iterator<Item = &str> {
        let used = self.state.expressions();
        used.filter(|regex| Pattern::compile(regex).is_err())
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
        if state.members.is_empty() {
            GroupState::Empty
        } else if state.epoch > state.assignment_epoch {
            GroupState::Assigning
        } else if state.is_reconciled() {
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
