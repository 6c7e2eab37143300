//! How do requests, timers and the log come together in one consumer group?
//!
//! One change at a time: its records are in the log before the next one is thought about, and members hear of nothing
//! else. Requests that come meanwhile wait in a queue. So a record that is lost takes nothing with it that was built upon.
//! A heartbeat that changes nothing costs the same in a large group as in a small one.

use std::collections::{BTreeSet, VecDeque};

use types::ErrorCode;

use super::change::{Change, Part};
use super::classic;
use super::deadlines::Deadlines;
use super::downgrade::Downgrade;
use super::heartbeat::{Checked, Step, View, advance, heartbeat};
use super::identify::remove;
use super::leave::{dissolve, leave, remove_all};
use super::pattern::Pattern;
use super::queue::{Answer, Request};
use super::record::{ConsumerRecord, Fact, MemberState};
use super::request::{
    ConsumerConfig, ConsumerGroupDescription, ConsumerMemberDescription, LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH, ValidHeartbeat,
};
use super::state::State;
use super::target::preferred;
use crate::group::request::{Reply, Token};
use crate::group::{GroupRecord, GroupState, Now};

/// The most requests that wait for the log. A client has one under way; beyond that it is told to come again.
const MAX_WAITING: usize = 10_000;
/// When members are given up again whose removal could not be written.
const RETRY_MS: i64 = 500;
/// The heartbeats that a member has time for, at least, after one that could not be written.
const RETRIED_HEARTBEATS: i64 = 2;

/// What follows from a call.
#[derive(Debug, Default)]
pub(in crate::group) struct Effects {
    pub(in crate::group) replies: Vec<(Token, Reply)>,
    /// To be written as one batch, the result of which [`ConsumerGroup::written`] is told.
    pub(in crate::group) records: Vec<GroupRecord>,
    /// The group is a classic one from now on.
    pub(in crate::group) downgrade: Option<Box<Downgrade>>,
}

/// A request that came while a change was being written.
#[derive(Debug)]
struct Waiting {
    token: Token,
    request: Request,
}

/// A change whose records are on their way into the log.
#[derive(Debug)]
struct Writing {
    part: Part,
    /// What follows; after a downgrade, what is written instead if it is larger than the log takes.
    rest: VecDeque<Part>,
    end: End,
}

/// What to do when a change is in the log.
#[derive(Debug)]
struct End {
    checked: Checked,
    reply: Option<(Token, Answer)>,
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
    /// Monotonic ms until which classic members may take to join after they were told to.
    pub(super) joins: Deadlines,
    /// Monotonic ms until which they may take to ask for their assignment after they joined.
    pub(super) syncs: Deadlines,
    /// Who said by the classic protocol that it leaves, and is not taken out yet.
    pub(super) leaving: BTreeSet<String>,
    /// Monotonic ms until which nobody is given up, after that could not be written.
    paused_until_ms: i64,
    /// The least members with which the classic group that this one would be was larger than the log takes.
    too_large: usize,
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
            joins: Deadlines::default(),
            syncs: Deadlines::default(),
            leaving: BTreeSet::new(),
            paused_until_ms: i64::MIN,
            too_large: usize::MAX,
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

    /// `ConsumerGroupHeartbeat`, and `JoinGroup` of classic members.
    pub(in crate::group) fn ask(
        &mut self,
        view: View<'_>,
        token: Token,
        request: Request,
    ) -> Effects {
        let mut effects = Effects::default();
        if self.waiting.len() >= MAX_WAITING {
            let error = ErrorCode::CoordinatorNotAvailable;
            let busy = request.refused(error, "too many requests");
            effects.replies.push((token, busy));
        } else {
            self.waiting.push_back(Waiting { token, request });
            self.go_on(view, &mut effects);
        }
        effects
    }

    /// Makes a group of what there is of a classic one, and lets somebody in that speaks the consumer protocol. Without
    /// records nothing comes of it.
    pub(in crate::group) fn upgrade(
        &mut self,
        view: View<'_>,
        facts: Vec<Fact>,
        (token, heartbeat): (Token, ValidHeartbeat),
    ) -> Effects {
        let mut effects = Effects::default();
        let request = Request::Heartbeat(heartbeat);
        let change = Change::converting(&self.id, facts);
        self.answer(change, view, Waiting { token, request }, &mut effects);
        effects
    }

    /// The group did not come to be: whoever made it hears why, and all others come again.
    pub(in crate::group) fn upgrade_failed(
        &mut self,
        view: View<'_>,
        error: ErrorCode,
    ) -> Vec<(Token, Reply)> {
        let mut effects = Effects::default();
        if let Some(writing) = self.writing.take() {
            self.not_written(view, writing.end, error, &mut effects);
        }
        effects
            .replies
            .extend(self.abandon(ErrorCode::CoordinatorNotAvailable));
        effects.replies
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
        let downgrade = writing.part.downgrade.as_ref();
        let members = downgrade.map(|downgrade| downgrade.group.members.len());
        match (result, members) {
            (Err(ErrorCode::InvalidCommitOffsetSize), Some(members)) => {
                // The log takes less than it does by default.
                self.too_large = members;
                self.write(view, writing.rest, writing.end, &mut effects);
            }
            (Ok(()), _) => {
                let mut part = writing.part;
                if let Some(downgrade) = part.downgrade.take() {
                    effects.downgrade = Some(downgrade);
                    self.end(writing.end, &mut effects);
                    return effects;
                }
                self.take(view, part);
                self.write(view, writing.rest, writing.end, &mut effects);
            }
            (Err(error), _) => self.not_written(view, writing.end, error, &mut effects),
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
        let leaving = (!self.leaving.is_empty()).then_some(0); // at once
        let first = leaving.or(self.first_deadline());
        first.map(|at| at.max(self.paused_until_ms))
    }

    fn first_deadline(&self) -> Option<i64> {
        let all = [&self.sessions, &self.revocations, &self.joins, &self.syncs];
        all.into_iter().filter_map(Deadlines::first).min()
    }

    /// Refuses everybody who waits; the group is of no use any more.
    pub(in crate::group) fn abandon(&mut self, error: ErrorCode) -> Vec<(Token, Reply)> {
        let message = "this broker does not coordinate the group";
        let writing = self.writing.take().and_then(|writing| writing.end.reply);
        let written = writing.map(|(token, answer)| (token, answer.refused(error, message)));
        let waiting = (self.waiting.drain(..))
            .map(|waiting| (waiting.token, waiting.request.refused(error, message)));
        written.into_iter().chain(waiting).collect()
    }

    /// The tombstones of all that there is of the group.
    pub(in crate::group) fn tombstones(&self) -> Vec<ConsumerRecord> {
        let mut change = Change::of(&self.id, &self.state);
        for id in self.state.members.keys() {
            remove(&mut change, id);
        }
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
        let change = Change::of(&self.id, &self.state);
        self.answer(change, view, waiting, effects);
    }

    fn answer(
        &mut self,
        mut change: Change,
        view: View<'_>,
        Waiting { token, request }: Waiting,
        effects: &mut Effects,
    ) {
        match step(&mut change, view, self.checked, &request) {
            Err(refusal) => effects.replies.push((token, refusal)),
            Ok((answer, checked)) => {
                let reply = Some((token, answer));
                self.conclude(change, view, End { checked, reply }, effects);
            }
        }
    }

    /// Writes a change, or what the group becomes by it.
    fn conclude(&mut self, change: Change, view: View<'_>, end: End, effects: &mut Effects) {
        let joins = matches!(end.reply, Some((_, Answer::Join(_))));
        let changes = !change.records.is_empty();
        let downgrade = changes.then(|| self.downgrade(view, &change.state, joins));
        let mut parts = change.into_parts(&self.state);
        if let Some(last) = downgrade.flatten() {
            parts.push_front(last);
        }
        self.write(view, parts, end, effects);
    }

    /// The batch that makes a classic group of this one, if it becomes one and a batch holds that. It is not tried again
    /// before members are gone: whoever is given up would stay, as would all others who wait for that.
    fn downgrade(&mut self, view: View<'_>, after: &State, joins: bool) -> Option<Part> {
        let members = after.members.len();
        if members >= self.too_large {
            return None;
        }
        let downgrade = Downgrade::of(&self.id, view, (&self.state, after), joins)?;
        let record = downgrade.record(view);
        let last = Part::last(self.tombstones(), downgrade);
        if !last.fits_with(&record) {
            self.too_large = members;
            return None;
        }
        Some(last)
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
            let records = std::mem::take(&mut part.records).into_iter();
            effects.records = records.map(GroupRecord::Consumer).collect();
            let downgrade = part.downgrade.iter();
            (effects.records).extend(downgrade.map(|downgrade| downgrade.record(view)));
            self.writing = Some(Writing {
                part,
                rest: parts,
                end,
            });
            return;
        }
        self.checked = end.checked;
        if let Some((token, answer)) = end.reply {
            match &answer {
                // Who left for a while has what remains of its session to come back.
                Answer::Heartbeat(answer) if answer.member_epoch < 0 => {}
                Answer::Heartbeat(answer) => {
                    self.heard(view.config, view.now, &answer.member_id);
                }
                Answer::Join(reply) => self.joined(view, &reply.member_id),
            }
            effects.replies.push((token, answer.into_reply()));
        }
    }

    /// The group is a classic one, which goes on with what is not answered.
    fn end(&mut self, end: End, effects: &mut Effects) {
        let leaving = self.leavers();
        let Some(downgrade) = &mut effects.downgrade else {
            return;
        };
        downgrade.leaving = leaving;
        let waiting = self.waiting.drain(..);
        downgrade.waiting = waiting.map(|one| (one.token, one.request)).collect();
        match end.reply {
            Some((token, Answer::Join(reply))) if downgrade.rebalances => {
                downgrade.joining = Some((reply.member_id, token));
            }
            Some((token, Answer::Join(mut reply))) => {
                // It asks for its assignment in the name of the protocol that all have.
                reply.protocol.clone_from(&downgrade.group.protocol);
                effects.replies.push((token, Reply::Join(reply)));
            }
            Some((token, answer)) => effects.replies.push((token, answer.into_reply())),
            None => {}
        }
    }

    /// Takes the part of a change that is in the log.
    fn take(&mut self, view: View<'_>, part: Part) {
        let before = std::mem::replace(&mut self.state, part.state);
        for id in part.touched {
            let Some(member) = self.state.member(&id) else {
                self.sessions.remove(&id);
                self.revocations.remove(&id);
                self.leaving.remove(&id);
                self.forget_classic(&id);
                continue;
            };
            let is_classic = member.metadata.classic.is_some();
            let moved = (before.member(&id)).is_none_or(|old| old.current != member.current);
            if self.sessions.get(&id).is_none() {
                self.heard(view.config, view.now, &id);
            }
            if moved {
                self.watch_revocation(view.now, &id);
            }
            if !is_classic {
                self.forget_classic(&id);
            }
        }
    }

    fn forget_classic(&mut self, id: &str) {
        self.joins.remove(id);
        self.syncs.remove(id);
    }

    fn not_written(&mut self, view: View<'_>, end: End, error: ErrorCode, effects: &mut Effects) {
        let Some((token, answer)) = end.reply else {
            self.paused_until_ms = view.now.monotonic_ms + RETRY_MS;
            return;
        };
        // The member spoke in time, and may say it again.
        let id = answer.member_id();
        self.heard(view.config, view.now, id);
        let again = RETRIED_HEARTBEATS * i64::from(view.config.heartbeat_interval_ms);
        let again = view.now.monotonic_ms.saturating_add(again);
        for deadlines in [&mut self.revocations, &mut self.joins] {
            if deadlines.get(id).is_some_and(|at| at < again) {
                deadlines.set(id, again);
            }
        }
        let refusal = match error {
            ErrorCode::InvalidCommitOffsetSize => answer.refused(
                ErrorCode::UnknownServerError,
                "a record of the group is larger than the log takes",
            ),
            error => answer.refused(error, "the change of the group was not written"),
        };
        effects.replies.push((token, refusal));
    }

    pub(super) fn heard(&mut self, config: &ConsumerConfig, now: Now, member_id: &str) {
        if let Some(member) = self.state.members.get(member_id) {
            let classic = member.metadata.classic.as_ref();
            let timeout = classic.map_or(config.session_timeout_ms, |one| one.session_timeout_ms);
            let deadline = now.monotonic_ms + i64::from(timeout);
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
        self.conclude(change, view, end, effects);
    }

    /// The members that left by the classic protocol, and those whose time is over; not those whose request came in time
    /// and waits.
    fn due(&self, now_ms: i64) -> BTreeSet<String> {
        let mut due = self.leavers();
        if self.first_deadline().is_none_or(|at| at > now_ms) {
            return due;
        }
        let waiting = || self.waiting.iter().map(|waiting| &waiting.request);
        let spoke: BTreeSet<&str> = waiting().map(Request::member_id).collect();
        let confirmed = waiting().filter(|request| request.may_confirm(&self.state));
        let confirmed: BTreeSet<&str> = confirmed.map(Request::member_id).collect();
        let silent = [&self.sessions, &self.joins, &self.syncs];
        let silent = silent.into_iter().flat_map(|all| all.due(now_ms));
        let silent = silent.filter(|id| !spoke.contains(id));
        let holding = (self.revocations.due(now_ms)).filter(|id| !confirmed.contains(id));
        due.extend(silent.chain(holding).map(str::to_owned));
        due
    }

    /// The regular expressions that mean nothing here.
    pub(in crate::group) fn foreign_expressions(&self) -> impl Iterator<Item = &str> {
        let used = self.state.expressions();
        used.filter(|regex| Pattern::compile(regex).is_err())
    }

    /// Whether the topics changed so that the group moves to its next epoch with the next one who joins.
    pub(super) fn is_outdated(&mut self, view: View<'_>) -> bool {
        let known = self.checked == Some((view.topics.version(), self.state.epoch));
        if known || self.is_busy() {
            return false;
        }
        let mut change = Change::of(&self.id, &self.state);
        let checked = advance(&mut change, view, self.checked, false);
        if !change.records.is_empty() {
            return true;
        }
        self.checked = checked;
        false
    }

    /// Whether a member may commit or read offsets in that epoch.
    pub(in crate::group) fn check_member_epoch(
        &self,
        member_id: &str,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self.state.member(member_id) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(member) if member.current.epoch == epoch => Ok(()),
            Some(member) if member.metadata.classic.is_some() => Err(ErrorCode::IllegalGeneration),
            Some(_) => Err(ErrorCode::StaleMemberEpoch),
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

/// What a request changes, and what it is answered when that is in the log.
fn step(
    change: &mut Change,
    view: View<'_>,
    checked: Checked,
    request: &Request,
) -> Result<(Answer, Checked), Reply> {
    match request {
        Request::Heartbeat(h) => {
            let leaves = matches!(h.request.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH);
            let step = if leaves {
                leave(change, &h.request).map(|answer| Step { answer, checked })
            } else {
                heartbeat(change, view, checked, h)
            };
            step.map(|step| (Answer::Heartbeat(step.answer), step.checked))
                .map_err(|rejection| Reply::ConsumerHeartbeat(Err(rejection)))
        }
        Request::Join(request) => classic::join(change, view, checked, request)
            .map(|(reply, checked)| (Answer::Join(reply), checked))
            .map_err(Reply::Join),
    }
}
