//! How do groups of the consumer protocol live beside classic ones, under one name and with the same offsets?
//!
//! Without members a group becomes what the next one who joins needs; one with members may change its protocol
//! ([`super::migration`]), and has members of both then.

use std::sync::Arc;

use types::ErrorCode;

use super::classic::{Context, Group, PendingAppend};
use super::consumer::request::{ConsumerGroupDescription, JOIN_EPOCH, Rejection, ValidHeartbeat};
use super::consumer::topics::Topics;
use super::consumer::{ConsumerGroup, Effects, Request, View};
use super::coordinator::Coordinator;
use super::record::GroupRecord;
use super::request::{CommitRequest, JoinRequest, LeavingMember, Reply, Token};
use super::{GroupState, Now, Outcome};

impl Coordinator {
    /// `ConsumerGroupHeartbeat`, with the topics as they were when it came; another one may have brought newer ones.
    pub fn consumer_heartbeat(
        &mut self,
        now: Now,
        token: Token,
        topics: Arc<dyn Topics>,
        heartbeat: ValidHeartbeat,
    ) -> Outcome {
        self.see_topics(topics);
        let group_id = heartbeat.request.group_id.clone();
        let create = heartbeat.request.member_epoch == JOIN_EPOCH;
        self.on_group(now, &group_id, create, |group, cx| {
            group.consumer_heartbeat(cx, token, heartbeat);
        })
        .unwrap_or_else(|| Outcome {
            replies: vec![(token, Reply::ConsumerHeartbeat(Err(not_there(&group_id))))],
            ..Outcome::default()
        })
    }

    /// Every regular expression in the log that means nothing here, with its group: another coordinator wrote it. The
    /// topics of its members stay those that were found there.
    pub fn foreign_expressions(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.groups.values().flat_map(|group| {
            let consumer = group.consumer.iter();
            let foreign = consumer.flat_map(|consumer| consumer.foreign_expressions());
            foreign.map(|regex| (&*group.id, regex))
        })
    }

    /// `ConsumerGroupDescribe`; `None` for an unknown group and for one that is not of this kind.
    #[must_use]
    pub fn describe_consumer_group(&self, group_id: &str) -> Option<ConsumerGroupDescription> {
        let consumer = self.groups.get(group_id)?.consumer.as_ref()?;
        Some(consumer.describe(&self.config().consumer))
    }

    /// Whether a member may read the offsets of its group (`OffsetFetch` from version 9 on).
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` and `STALE_MEMBER_EPOCH`; of classic groups nothing is asked.
    pub fn check_fetch(
        &self,
        group_id: &str,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get(group_id);
        match group.and_then(|group| group.consumer.as_ref()) {
            // An administrator, or a consumer that assigns its own partitions.
            Some(_) if member_id.is_none() && epoch < 0 => Ok(()),
            Some(consumer) => consumer.check_member_epoch(member_id.unwrap_or_default(), epoch),
            None => Ok(()),
        }
    }

    /// Answers everybody who waits for a consumer group with `error`.
    pub(super) fn abandon_consumer_groups(&mut self, out: &mut Outcome, error: ErrorCode) {
        let groups = self.groups.values_mut();
        let consumers =
            groups.flat_map(|group| group.consumer.iter_mut().chain(&mut group.upgrading));
        let refused = consumers.flat_map(|consumer| consumer.abandon(error));
        out.replies.extend(refused);
    }
}

fn not_there(group_id: &str) -> Rejection {
    let message = format!("{group_id} is not a group of the consumer protocol");
    Rejection::new(ErrorCode::GroupIdNotFound, message)
}

pub(super) fn view<'a>(cx: &Context<'a>) -> View<'a> {
    View {
        config: &cx.config.consumer,
        classic_max_size: cx.config.max_size,
        now: cx.now,
        topics: cx.topics,
    }
}

impl Group {
    /// Where the group is in its life, of whichever kind it is.
    pub(super) fn current_state(&self) -> GroupState {
        match &self.consumer {
            Some(consumer) if self.state != GroupState::Dead => consumer.group_state(),
            _ => self.state,
        }
    }

    /// Whether the group has no members, and will have none by what is on its way into the log.
    pub(super) fn is_vacant(&self) -> bool {
        let busy = self
            .consumer
            .as_ref()
            .is_some_and(|consumer| consumer.is_busy());
        self.current_state() == GroupState::Empty && !busy
    }

    pub(super) fn consumer_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        heartbeat: ValidHeartbeat,
    ) {
        let there = self.consumer.is_some() || self.upgrading.is_some();
        if !there && heartbeat.request.member_epoch != JOIN_EPOCH {
            let rejection = not_there(&self.id);
            return cx.reply(token, Reply::ConsumerHeartbeat(Err(rejection)));
        }
        if !there && self.state != GroupState::Empty {
            return self.upgrade(cx, token, heartbeat);
        }
        if !there {
            self.consumer = Some(Box::new(ConsumerGroup::new(&self.id)));
        }
        self.ask_consumer_group(cx, token, Request::Heartbeat(heartbeat));
    }

    /// Asks the consumer group, or the one that the group is about to be.
    fn ask_consumer_group(&mut self, cx: &mut Context<'_>, token: Token, request: Request) {
        let consumer = self.upgrading.as_mut().or(self.consumer.as_mut());
        if let Some(consumer) = consumer {
            let effects = consumer.ask(view(cx), token, request);
            self.carry_out(cx, effects);
        }
    }

    /// Whether the group is a consumer group with members, or about to be one: who joins becomes one of them.
    pub(super) fn is_occupied_consumer_group(&self) -> bool {
        let occupied = |consumer: &ConsumerGroup| {
            consumer.is_busy() || consumer.group_state() != GroupState::Empty
        };
        self.upgrading.is_some() || self.consumer.as_deref().is_some_and(occupied)
    }

    /// A member of the classic protocol joins a consumer group.
    pub(super) fn join_consumer_group(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: &JoinRequest,
    ) {
        self.ask_consumer_group(cx, token, Request::Join(request.clone()));
    }

    /// Members leave a consumer group by the classic protocol.
    pub(super) fn leave_consumer_group(
        &mut self,
        cx: &mut Context<'_>,
        members: &[LeavingMember],
    ) -> Vec<ErrorCode> {
        let Some(consumer) = &mut self.consumer else {
            return Vec::new();
        };
        let errors = consumer.mark_leaving(members);
        let effects = consumer.tick(view(cx));
        self.carry_out(cx, effects);
        errors
    }

    /// The records of the group are below the high watermark, or will never be.
    pub(super) fn consumer_written(&mut self, cx: &mut Context<'_>, result: Result<(), ErrorCode>) {
        if let Some(consumer) = self.upgrading.take() {
            return self.upgrade_written(cx, consumer, result);
        }
        let Some(consumer) = &mut self.consumer else {
            return; // given up meanwhile, with all who waited
        };
        let effects = consumer.written(view(cx), result);
        if let Some(downgrade) = effects.downgrade {
            for (token, reply) in effects.replies {
                cx.reply(token, reply);
            }
            return self.downgraded(cx, *downgrade);
        }
        if !consumer.state().is_blank() {
            self.forget_generation();
        }
        self.carry_out(cx, effects);
    }

    pub(super) fn consumer_tick(&mut self, cx: &mut Context<'_>) {
        if let Some(consumer) = &mut self.consumer {
            let effects = consumer.tick(view(cx));
            self.carry_out(cx, effects);
        }
    }

    fn carry_out(&mut self, cx: &mut Context<'_>, effects: Effects) {
        for (token, reply) in effects.replies {
            cx.reply(token, reply);
        }
        let Some(consumer) = &self.consumer else {
            return;
        };
        if !effects.records.is_empty() {
            let mut records = Vec::with_capacity(effects.records.len() + 1);
            if self.generation > 0 {
                // An empty classic group becomes one of this kind, or the log still holds what was left of one.
                records.push(self.tombstone());
            }
            records.extend(effects.records);
            let group_id = self.id.clone();
            cx.append(records, PendingAppend::Consumer { group_id });
        } else if consumer.state().is_blank() && !consumer.is_busy() {
            // Nobody got in.
            self.consumer = None;
            self.die_if_unused(cx.now);
        }
    }

    /// Makes an empty consumer group a classic one, now that somebody gets in.
    pub(super) fn become_classic(&mut self, cx: &mut Context<'_>) {
        let records = self.consumer_tombstones();
        self.consumer = None;
        if !records.is_empty() {
            cx.append(records, PendingAppend::Unwatched);
        }
    }

    pub(super) fn consumer_tombstones(&self) -> Vec<GroupRecord> {
        let consumer = self.consumer.iter();
        let records = consumer.flat_map(|consumer| consumer.tombstones());
        records.map(GroupRecord::Consumer).collect()
    }

    /// The tombstone of the classic group.
    pub(super) fn tombstone(&self) -> GroupRecord {
        GroupRecord::Group {
            group_id: self.id.to_string(),
            value: None,
        }
    }

    /// The group is not a classic one any more.
    fn forget_generation(&mut self) {
        self.generation = 0;
        self.forget_members();
    }

    /// The log says that the group is a consumer group. What it said of a classic one before is over; the generation
    /// stays known, so that its record is taken back.
    pub(super) fn forget_members(&mut self) {
        self.state = GroupState::Empty;
        self.members.clear();
        self.static_members.clear();
        self.protocol_type = None;
        self.protocol = None;
        self.leader = None;
        self.pending_members.clear();
    }

    fn die_if_unused(&mut self, now: Now) {
        let unused = self.holds_nothing()
            && self.commits_in_flight == 0
            && self.generation == 0
            && self.pending_members.is_empty();
        if self.state == GroupState::Empty && unused {
            self.transition(now, GroupState::Dead);
        }
    }

    /// Whether a commit may be taken into a consumer group; `None` for a group of the other kind.
    pub(super) fn check_consumer_commit(
        &self,
        request: &CommitRequest,
    ) -> Option<Result<(), ErrorCode>> {
        let consumer = self.consumer.as_ref()?;
        let result = match request.generation {
            None if consumer.group_state() == GroupState::Empty => Ok(()),
            generation => {
                let epoch = generation.unwrap_or(-1);
                let result = consumer.check_member_epoch(&request.member_id, epoch);
                let knows = request.knows_epochs || consumer.state().is_classic(&request.member_id);
                match result {
                    // Older clients know neither the protocol nor the error.
                    Ok(()) | Err(ErrorCode::StaleMemberEpoch) if !knows => {
                        Err(ErrorCode::UnsupportedVersion)
                    }
                    result => result,
                }
            }
        };
        Some(result)
    }

    /// The same for a commit in a transaction, whose clients do not know the error of a stale epoch.
    pub(super) fn check_transactional_consumer_commit(
        &self,
        request: &CommitRequest,
    ) -> Option<Result<(), ErrorCode>> {
        let consumer = self.consumer.as_ref()?;
        if request.generation.is_none() && consumer.group_state() == GroupState::Empty {
            return Some(Ok(()));
        }
        let epoch = request.generation.unwrap_or(-1);
        let result = consumer.check_member_epoch(&request.member_id, epoch);
        Some(result.map_err(|error| match error {
            ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
            other => other,
        }))
    }
}
