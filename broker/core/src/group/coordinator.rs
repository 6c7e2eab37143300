//! How do requests, timers and append results reach the groups of one partition of `__consumer_offsets`?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::{ErrorCode, ProducerId, TopicPartition, TransactionResult};

use super::classic::{Appends, Context, Group, PendingAppend, StaticRejoin, refuse_waiting};
use super::consumer::topics::{NoTopics, Topics};
use super::join::{MAX_TEXT, check_request};
use super::offsets::refuse_commit;
use super::record::{CommittedOffset, GroupRecord};
use super::replay::replay;
use super::request::{
    CommitReply, CommitRequest, FetchedOffset, GroupDescription, HeartbeatRequest, JoinReply,
    JoinRequest, LeavingMember, ListedGroup, Reply, SyncReply, SyncRequest, Token,
};
use super::{AppendId, GroupConfig, GroupState, Now, Outcome};

/// The groups of one partition of `__consumer_offsets`, while this broker leads it.
///
/// # Assumptions
/// - [`Coordinator::load`] was given every record up to the high watermark, in order, before the first request.
/// - Appends go to the log in the order of the outcomes, and [`Coordinator::appended`] is called once for each, in that
///   order, when its batch is below the high watermark or can never get there.
/// - When leadership is lost, [`Coordinator::unload`] gives the last replies and the value is dropped.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) appends: Appends,
    /// The newest that a heartbeat of a consumer group came with.
    pub(super) topics: Arc<dyn Topics>,
    /// When each group has to be looked at, at the latest; never later than the group's own deadline.
    wakes: BTreeSet<(i64, Arc<str>)>,
    wake_of: BTreeMap<Arc<str>, i64>,
    /// The groups that producers commit offsets of in their open transactions.
    pub(super) transactions: BTreeMap<ProducerId, BTreeSet<Arc<str>>>,
}

impl Coordinator {
    /// No groups.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            appends: Appends::default(),
            topics: Arc::new(NoTopics),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            transactions: BTreeMap::new(),
        }
    }

    /// Applies one record of the log while loading.
    pub fn load(&mut self, now: Now, record: GroupRecord) {
        replay(&mut self.groups, now, record);
    }

    /// Applies one record of a transactional batch while loading.
    pub fn load_in_transaction(&mut self, now: Now, producer: ProducerId, record: GroupRecord) {
        let GroupRecord::Offset {
            group_id,
            partition,
            value: Some(value),
        } = record
        else {
            return; // nothing else is ever written in a transaction
        };
        let id: Arc<str> = group_id.into();
        self.note_transaction(producer, &id);
        let group = (self.groups.entry(id.clone())).or_insert_with(|| Group::new(id, now));
        group.wait_for_transaction(producer, partition, value);
    }

    /// Applies a transaction marker while loading.
    pub fn load_marker(&mut self, now: Now, producer: ProducerId, result: TransactionResult) {
        self.transaction_ended(now, producer, result);
    }

    /// Ends loading: sessions of loaded members start now.
    pub fn loaded(&mut self, now: Now) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                for member in group.members.values_mut() {
                    member.heard(now);
                }
                if let Some(consumer) = &mut group.consumer {
                    consumer.loaded(&self.config.consumer, now);
                }
            }
            // It was loaded just now, so it is there.
            let _ = self.on_group(now, &id, false, |group, cx| {
                if group.goes_on_rebalancing() {
                    group.prepare_rebalance(cx); // nobody waits yet who could be answered
                }
            });
        }
    }

    /// The topics as they are now; what came with another request may be newer.
    pub fn see_topics(&mut self, topics: Arc<dyn Topics>) {
        if topics.version() >= self.topics.version() {
            self.topics = topics;
        }
    }

    /// Answers everything that waits with `NOT_COORDINATOR`: leadership of the partition is lost.
    pub fn unload(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let error = ErrorCode::NotCoordinator;
        self.abandon_consumer_groups(&mut out, error);
        let pending = std::mem::take(&mut self.appends.pending);
        for (_, append) in pending {
            self.settle(now, &mut out, append, Err(error));
        }
        let mut scratch = Appends::default();
        let mut cx = Context {
            now,
            config: &self.config,
            topics: &*self.topics,
            appends: &mut scratch,
            out: &mut out,
        };
        for group in self.groups.values() {
            for member in group.members.values() {
                refuse_waiting(&mut cx, member, error);
            }
        }
        self.groups.clear();
        self.wakes.clear();
        self.wake_of.clear();
        self.transactions.clear();
        self.appends.pending.clear();
        out.appends.clear();
        out
    }

    /// `JoinGroup`.
    pub fn join(&mut self, now: Now, token: Token, request: &JoinRequest) -> Outcome {
        let refuse = |error| Outcome {
            replies: vec![(
                token,
                Reply::Join(JoinReply::error(error, request.member_id.as_str())),
            )],
            ..Outcome::default()
        };
        if let Err(error) = check_request(&self.config, request) {
            return refuse(error);
        }
        let create = request.member_id.is_empty();
        self.on_group(now, &request.group_id, create, |group, cx| {
            group.join(cx, token, request);
        })
        .unwrap_or_else(|| refuse(ErrorCode::UnknownMemberId))
    }

    /// `SyncGroup`.
    pub fn sync(&mut self, now: Now, token: Token, request: SyncRequest) -> Outcome {
        let group_id = request.group_id.clone();
        self.on_group(now, &group_id, false, |group, cx| {
            group.sync(cx, token, request);
        })
        .unwrap_or_else(|| Outcome {
            replies: vec![(
                token,
                Reply::Sync(SyncReply::error(ErrorCode::UnknownMemberId)),
            )],
            ..Outcome::default()
        })
    }

    /// `Heartbeat`.
    ///
    /// # Errors
    /// What the member has to know: `REBALANCE_IN_PROGRESS`, `ILLEGAL_GENERATION`, `UNKNOWN_MEMBER_ID`,
    /// `FENCED_INSTANCE_ID`.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let mut result = Err(ErrorCode::UnknownMemberId);
        self.on_group(now, &request.group_id, false, |group, cx| {
            result = group.heartbeat(cx, request);
        });
        result
    }

    /// `LeaveGroup`: the error of each member, and what follows for the others.
    pub fn leave(
        &mut self,
        now: Now,
        group_id: &str,
        members: &[LeavingMember],
    ) -> (Vec<ErrorCode>, Outcome) {
        let mut errors = Vec::with_capacity(members.len());
        let outcome = self.on_group(now, group_id, false, |group, cx| {
            errors.extend(group.leave_all(cx, members));
        });
        errors.resize(members.len(), ErrorCode::UnknownMemberId);
        (errors, outcome.unwrap_or_default())
    }

    /// `OffsetCommit`.
    pub fn commit(&mut self, now: Now, token: Token, request: CommitRequest) -> Outcome {
        let topic_too_long = request
            .partitions
            .iter()
            .any(|commit| commit.partition.topic.len() > MAX_TEXT);
        if request.group_id.len() > MAX_TEXT || topic_too_long {
            return self.refused_commit(now, token, request, ErrorCode::InvalidGroupId);
        }
        let create = request.generation.is_none();
        let group_id = request.group_id.clone();
        if !create && !self.groups.contains_key(group_id.as_str()) {
            let error = if request.knows_epochs {
                ErrorCode::GroupIdNotFound
            } else {
                ErrorCode::IllegalGeneration
            };
            return self.refused_commit(now, token, request, error);
        }
        self.on_group(now, &group_id, create, |group, cx| {
            group.commit(cx, token, request);
        })
        .unwrap_or_default()
    }

    pub(super) fn refused_commit(
        &mut self,
        now: Now,
        token: Token,
        request: CommitRequest,
        error: ErrorCode,
    ) -> Outcome {
        let mut out = Outcome::default();
        let mut cx = Context {
            now,
            config: &self.config,
            topics: &*self.topics,
            appends: &mut self.appends,
            out: &mut out,
        };
        refuse_commit(&mut cx, token, request, error);
        out
    }

    /// `OffsetFetch`: the offsets of `partitions`, or of all that are committed.
    #[must_use]
    pub fn fetch(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Vec<FetchedOffset> {
        match self.groups.get(group_id) {
            Some(group) => group.fetch(partitions),
            None => partitions
                .unwrap_or_default()
                .iter()
                .map(|partition| (partition.clone(), None))
                .collect(),
        }
    }

    /// `DescribeGroups`; `None` for an unknown group and for one that is not classic.
    #[must_use]
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        let group = self.groups.get(group_id);
        let classic = group.filter(|group| group.consumer.is_none());
        classic.map(Group::describe)
    }

    pub(super) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// `ListGroups`: every group.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> + '_ {
        self.groups.values().map(Group::list)
    }

    /// Every committed offset with its group, for the lag gauges.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, &TopicPartition, &CommittedOffset)> + '_ {
        self.groups.values().flat_map(|group| {
            (group.offsets.iter()).map(|(partition, value)| (&*group.id, partition, value))
        })
    }

    /// `DeleteGroups`, one group.
    pub fn delete_group(&mut self, now: Now, token: Token, group_id: &str) -> Outcome {
        let refuse = |error| Outcome {
            replies: vec![(token, Reply::DeleteGroup(error))],
            ..Outcome::default()
        };
        match self.groups.get(group_id).map(Group::current_state) {
            None | Some(GroupState::Dead) => refuse(ErrorCode::GroupIdNotFound),
            // Its offsets would come back with the end of the transaction.
            Some(GroupState::Empty) if self.in_a_transaction(group_id) => {
                refuse(ErrorCode::NonEmptyGroup)
            }
            // Somebody is joining or leaving.
            Some(GroupState::Empty) if !self.groups[group_id].is_vacant() => {
                refuse(ErrorCode::NonEmptyGroup)
            }
            Some(GroupState::Empty) => self
                .on_group(now, group_id, false, |group, cx| {
                    delete_empty(group, cx, token);
                })
                .unwrap_or_default(),
            Some(
                GroupState::PreparingRebalance
                | GroupState::CompletingRebalance
                | GroupState::Assigning
                | GroupState::Reconciling
                | GroupState::Stable,
            ) => refuse(ErrorCode::NonEmptyGroup),
        }
    }

    /// `OffsetDelete`.
    pub fn delete_offsets(
        &mut self,
        now: Now,
        token: Token,
        group_id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Outcome {
        self.on_group(now, group_id, false, |group, cx| {
            group.delete_offsets(cx, token, partitions);
        })
        .unwrap_or_else(|| Outcome {
            replies: vec![(token, Reply::DeleteOffsets(Err(ErrorCode::GroupIdNotFound)))],
            ..Outcome::default()
        })
    }

    /// Removes expired offsets and unused groups; called every `offsets.retention.check.interval.ms`.
    pub fn expire(&mut self, now: Now) -> Outcome {
        self.on_all(now, Group::expire)
    }

    /// Removes the offsets of deleted topics, also those whose commit is in flight.
    pub fn topics_deleted(&mut self, now: Now, topics: &BTreeSet<String>) -> Outcome {
        let mut late = Vec::new();
        for pending in self.appends.pending.values_mut() {
            if let PendingAppend::Commit {
                group_id, offsets, ..
            } = pending
            {
                offsets.retain(|(partition, _)| {
                    let gone = topics.contains(&*partition.topic);
                    if gone {
                        late.push(GroupRecord::Offset {
                            group_id: group_id.to_string(),
                            partition: partition.clone(),
                            value: None,
                        });
                    }
                    !gone
                });
            }
        }
        let mut out = self.on_all(now, |group, cx| group.forget_topics(cx, topics));
        if !late.is_empty() {
            let id = self.appends.begin(PendingAppend::Unwatched);
            out.appends.push(super::Append {
                id,
                kind: super::AppendKind::Plain,
                records: late,
            });
        }
        out
    }

    /// The monotonic ms at which [`Coordinator::tick`] has to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Fires the timers that are due.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let due: Vec<Arc<str>> = self
            .wakes
            .iter()
            .take_while(|(at, _)| *at <= now.monotonic_ms)
            .map(|(_, id)| id.clone())
            .collect();
        for id in due {
            if let Some(at) = self.wake_of.remove(&id) {
                self.wakes.remove(&(at, id.clone()));
            }
            if let Some(mut more) = self.on_group(now, &id, false, Group::tick) {
                out.replies.append(&mut more.replies);
                out.appends.append(&mut more.appends);
            }
        }
        out
    }

    /// The result of an append: committed at the high watermark, or failed with `error`.
    pub fn appended(&mut self, now: Now, id: AppendId, result: Result<(), ErrorCode>) -> Outcome {
        let mut out = Outcome::default();
        if let Some(pending) = self.appends.pending.remove(&id) {
            self.settle(now, &mut out, pending, result);
        }
        out
    }

    fn settle(
        &mut self,
        now: Now,
        out: &mut Outcome,
        pending: PendingAppend,
        result: Result<(), ErrorCode>,
    ) {
        let code = result.err().unwrap_or(ErrorCode::None);
        match pending {
            PendingAppend::Unwatched => {}
            PendingAppend::Consumer { group_id } => {
                self.settle_in(now, out, &group_id, |group, cx| {
                    group.consumer_written(cx, result);
                });
            }
            PendingAppend::Assignment {
                group_id,
                generation,
                assignments,
            } => self.settle_in(now, out, &group_id, |group, cx| {
                group.assignment_appended(cx, generation, assignments, result);
            }),
            PendingAppend::StaticRejoin(rejoin) => {
                self.settle_static_rejoin(now, out, *rejoin, result);
            }
            PendingAppend::Commit {
                group_id,
                token,
                producer,
                offsets,
                partitions,
            } => {
                if let (Some(producer), true) = (producer, result.is_ok()) {
                    self.note_transaction(producer, &group_id);
                }
                self.settle_in(now, out, &group_id, |group, _| {
                    group.commit_appended(producer, offsets, result);
                });
                out.replies.push((token, commit_reply(partitions, code)));
            }
            PendingAppend::Marker {
                token,
                producer,
                result: outcome,
            } => {
                if result.is_ok() {
                    self.transaction_ended(now, producer, outcome);
                }
                out.replies.push((token, Reply::TransactionEnded(code)));
            }
            PendingAppend::DeleteGroup { token, group } => {
                if result.is_err() {
                    self.restore_deleted(*group);
                }
                out.replies.push((token, Reply::DeleteGroup(code)));
            }
            PendingAppend::DeleteOffsets {
                group_id,
                token,
                partitions,
            } => {
                if result.is_ok() {
                    let deleted = partitions.iter().filter(|(_, e)| e.is_none());
                    self.forget_offsets(&group_id, deleted.map(|(one, _)| one));
                }
                let reply = result.map(|()| partitions);
                out.replies.push((token, Reply::DeleteOffsets(reply)));
            }
        }
    }

    fn forget_offsets<'a>(
        &mut self,
        group_id: &str,
        deleted: impl Iterator<Item = &'a TopicPartition>,
    ) {
        if let Some(group) = self.groups.get_mut(group_id) {
            deleted.for_each(|one| drop(group.offsets.remove(one)));
        }
    }

    fn settle_static_rejoin(
        &mut self,
        now: Now,
        out: &mut Outcome,
        rejoin: StaticRejoin,
        result: Result<(), ErrorCode>,
    ) {
        let group_id = rejoin.group_id.clone();
        if self.groups.contains_key(&group_id) {
            self.settle_in(now, out, &group_id, |group, cx| {
                group.static_rejoin_appended(cx, rejoin, result);
            });
        } else {
            let reply = JoinReply::error(ErrorCode::UnknownMemberId, rejoin.new_id);
            out.replies.push((rejoin.token, Reply::Join(reply)));
        }
    }

    /// The tombstones of a deleted group were not written: it is there again, behind what came since.
    fn restore_deleted(&mut self, mut group: Group) {
        group.state = GroupState::Empty;
        let id = group.id.clone();
        match self.groups.get_mut(&id) {
            None => {
                self.groups.insert(id, group);
            }
            Some(newer) => {
                for (partition, value) in group.offsets {
                    newer.offsets.entry(partition).or_insert(value);
                }
            }
        }
    }

    fn settle_in(
        &mut self,
        now: Now,
        out: &mut Outcome,
        id: &Arc<str>,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        if let Some(mut more) = self.on_group(now, id, false, act) {
            out.replies.append(&mut more.replies);
            out.appends.append(&mut more.appends);
        }
    }

    fn on_all(&mut self, now: Now, mut act: impl FnMut(&mut Group, &mut Context<'_>)) -> Outcome {
        let mut out = Outcome::default();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.settle_in(now, &mut out, &id, &mut act);
        }
        out
    }

    /// Lets `act` work on a group (made if `create`), then forgets it if it died and keeps its timer right.
    pub(super) fn on_group(
        &mut self,
        now: Now,
        id: &str,
        create: bool,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) -> Option<Outcome> {
        if !self.groups.contains_key(id) {
            if !create {
                return None;
            }
            let id: Arc<str> = id.into();
            self.groups.insert(id.clone(), Group::new(id, now));
        }
        let group = self.groups.get_mut(id)?;
        let mut out = Outcome::default();
        let mut cx = Context {
            now,
            config: &self.config,
            topics: &*self.topics,
            appends: &mut self.appends,
            out: &mut out,
        };
        act(group, &mut cx);
        let id = group.id.clone();
        if group.state == GroupState::Dead {
            self.groups.remove(&id);
        }
        self.reschedule(&id);
        Some(out)
    }

    /// Keeps the wake of a group no later than its deadline; an earlier wake stays and is looked at when it fires.
    fn reschedule(&mut self, id: &Arc<str>) {
        let deadline = self.groups.get(id).and_then(Group::deadline_ms);
        match (deadline, self.wake_of.get(id).copied()) {
            (Some(deadline), Some(wake)) if wake <= deadline => {}
            (Some(deadline), wake) => {
                if let Some(wake) = wake {
                    self.wakes.remove(&(wake, id.clone()));
                }
                self.wakes.insert((deadline, id.clone()));
                self.wake_of.insert(id.clone(), deadline);
            }
            (None, Some(wake)) => {
                self.wakes.remove(&(wake, id.clone()));
                self.wake_of.remove(id);
            }
            (None, None) => {}
        }
    }
}

/// The result of a commit: that of the append, for each partition that was not refused before.
fn commit_reply(mut partitions: Vec<(TopicPartition, ErrorCode)>, code: ErrorCode) -> Reply {
    for (_, error) in partitions.iter_mut().filter(|(_, error)| error.is_none()) {
        *error = code;
    }
    Reply::Commit(CommitReply { partitions })
}

/// Takes an empty group away and appends the tombstones of all it ever held, also of commits in flight.
fn delete_empty(group: &mut Group, cx: &mut Context<'_>, token: Token) {
    let mut partitions: BTreeSet<TopicPartition> = group.offsets.keys().cloned().collect();
    for pending in cx.appends.pending.values() {
        if let PendingAppend::Commit {
            group_id, offsets, ..
        } = pending
            && *group_id == group.id
        {
            partitions.extend(offsets.iter().map(|(partition, _)| partition.clone()));
        }
    }
    let mut records: Vec<GroupRecord> = partitions
        .iter()
        .map(|partition| group.offset_tombstone(partition))
        .collect();
    records.push(group.tombstone());
    records.extend(group.consumer_tombstones());
    let deleted = std::mem::replace(group, Group::new(group.id.clone(), cx.now));
    group.transition(cx.now, GroupState::Dead);
    cx.append(
        records,
        PendingAppend::DeleteGroup {
            token,
            group: Box::new(deleted),
        },
    );
}
