//! What is the state of one group of the classic protocol, and which questions can be answered from it alone?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use types::{ErrorCode, ProducerId, TopicPartition, TransactionResult};

use super::consumer::ConsumerGroup;
use super::consumer::topics::Topics;
use super::member::Member;
use super::record::{CommittedOffset, GroupMetadata, GroupRecord, MemberMetadata};
use super::request::{JoinReply, JoinedMember, Reply, Token};
use super::{Append, AppendId, AppendKind, GroupConfig, GroupState, Now, Outcome};

/// What a method of a group needs beside the group.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupConfig,
    pub(super) topics: &'a dyn Topics,
    pub(super) appends: &'a mut Appends,
    pub(super) out: &'a mut Outcome,
}

impl Context<'_> {
    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.out.replies.push((token, reply));
    }

    pub(super) fn append(&mut self, records: Vec<GroupRecord>, pending: PendingAppend) {
        self.append_as(AppendKind::Plain, records, pending);
    }

    pub(super) fn append_as(
        &mut self,
        kind: AppendKind,
        records: Vec<GroupRecord>,
        pending: PendingAppend,
    ) {
        let id = self.appends.begin(pending);
        self.out.appends.push(Append { id, kind, records });
    }
}

/// Appends whose result is not known yet.
#[derive(Debug, Default)]
pub(super) struct Appends {
    next: u64,
    pub(super) pending: BTreeMap<AppendId, PendingAppend>,
}

impl Appends {
    pub(super) fn begin(&mut self, pending: PendingAppend) -> AppendId {
        self.next += 1;
        let id = AppendId(self.next);
        self.pending.insert(id, pending);
        id
    }
}

/// What to do when the result of an append is known.
#[derive(Debug)]
pub(super) enum PendingAppend {
    /// The leader's assignment of a generation.
    Assignment {
        group_id: Arc<str>,
        generation: i32,
        assignments: BTreeMap<String, Bytes>,
    },
    /// A static member that came back under a new id into a stable group.
    StaticRejoin(Box<StaticRejoin>),
    /// Offsets; `partitions` has the result of each so far. With a producer they wait for the end of its transaction.
    Commit {
        group_id: Arc<str>,
        token: Token,
        producer: Option<ProducerId>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        partitions: Vec<(TopicPartition, ErrorCode)>,
    },
    /// The end of a transaction.
    Marker {
        token: Token,
        producer: ProducerId,
        result: TransactionResult,
    },
    /// A deleted group, kept to be restored if the append fails.
    DeleteGroup { token: Token, group: Box<Group> },
    /// Deleted offsets.
    DeleteOffsets {
        group_id: Arc<str>,
        token: Token,
        partitions: Vec<(TopicPartition, ErrorCode)>,
    },
    /// A change of a consumer group.
    Consumer { group_id: Arc<str> },
    /// Records nobody waits for: an emptied generation, expired offsets, offsets of deleted topics.
    Unwatched,
}

/// What has to be answered or undone once the record of a static rejoin is committed or not.
#[derive(Debug)]
pub(super) struct StaticRejoin {
    pub(super) group_id: Arc<str>,
    pub(super) token: Token,
    pub(super) reply: JoinReply,
    pub(super) old: Member,
    pub(super) new_id: String,
    pub(super) was_leader: bool,
}

/// While a group waits for its members to join.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinPhase {
    /// Monotonic ms at which the wait ends.
    pub(super) deadline_ms: i64,
    /// In the initial delay of an empty group: how much longer it may be extended, ms.
    pub(super) initial_remaining_ms: Option<i64>,
    /// A member came during the current slice of the initial delay.
    pub(super) new_member: bool,
}

/// One classic consumer group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    pub(super) state: GroupState,
    /// Wall clock of the last change of state, ms; unknown for what old records describe.
    pub(super) state_since_ms: Option<i64>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Member id by `group.instance.id`.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given out (KIP-394) that did not join yet, with the monotonic ms until which they may.
    pub(super) pending_members: BTreeMap<String, i64>,
    /// Set exactly in `PreparingRebalance`.
    pub(super) join_phase: Option<JoinPhase>,
    /// Members of this generation that did not sync yet.
    pub(super) pending_sync: BTreeSet<String>,
    /// Monotonic ms until which they may; set while there are any.
    pub(super) sync_deadline_ms: Option<i64>,
    pub(super) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Offsets that count when the transaction of the producer is committed, with their place in the log's order.
    pub(super) in_transactions:
        BTreeMap<ProducerId, BTreeMap<TopicPartition, (u64, CommittedOffset)>>,
    /// Counts the offsets that came, in the log's order.
    pub(super) commits: u64,
    /// Commits that are appended but not known to be committed.
    pub(super) commits_in_flight: usize,
    /// Set in a group of the consumer protocol, which has no state, generation and members of the classic kind.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
    /// The consumer group that this one is about to be; until it is in the log the group stands still.
    pub(super) upgrading: Option<Box<ConsumerGroup>>,
}

impl Group {
    pub(super) fn new(id: Arc<str>, now: Now) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since_ms: Some(now.wall_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            join_phase: None,
            pending_sync: BTreeSet::new(),
            sync_deadline_ms: None,
            offsets: BTreeMap::new(),
            in_transactions: BTreeMap::new(),
            commits: 0,
            commits_in_flight: 0,
            consumer: None,
            upgrading: None,
        }
    }

    pub(super) fn transition(&mut self, now: Now, state: GroupState) {
        self.state = state;
        self.state_since_ms = Some(now.wall_ms);
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn add(&mut self, member: Member) {
        if self.members.is_empty() {
            self.leader = Some(member.id.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(instance.clone(), member.id.clone());
        }
        self.pending_members.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Forgets a member; who waits for a reply of it gets `error`.
    pub(super) fn remove(&mut self, cx: &mut Context<'_>, member_id: &str, error: ErrorCode) {
        self.pending_sync.remove(member_id);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance).map(String::as_str) == Some(member_id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        refuse_waiting(cx, &member, error);
    }

    /// Checks that the member may speak for itself: known, and not fenced by a newer instance (KIP-345).
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Whether a member with these protocols can be in one generation with the others.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    /// The protocol that all members support and most prefer; ties go to the leader's order.
    pub(super) fn vote(&self) -> Option<String> {
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader))
            .or_else(|| self.members.values().next())?;
        let candidates: Vec<&str> = leader
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let mut votes = vec![0usize; candidates.len()];
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find_map(|(name, _)| candidates.iter().position(|candidate| candidate == name));
            if let Some(choice) = choice {
                votes[choice] += 1;
            }
        }
        let most = *votes.iter().max()?;
        let winner = votes.iter().position(|count| *count == most)?;
        Some(candidates[winner].to_owned())
    }

    /// The longest rebalance timeout of a member, ms.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// The reply that tells a member of the current generation how things stand.
    pub(super) fn join_reply(&self, member_id: &str) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            generation: Some(self.generation),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) {
                self.joined_members()
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinedMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    /// The record of the current generation, with `assignments` in place of the members' own when given.
    pub(super) fn metadata_record(
        &self,
        now: Now,
        assignments: Option<&BTreeMap<String, Bytes>>,
    ) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupRecord::Group {
            group_id: self.id.to_string(),
            value: Some(GroupMetadata {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                current_state_timestamp_ms: Some(now.wall_ms),
                members: members.collect(),
            }),
        }
    }

    /// Topics of the members' subscriptions; `None` when they are not consumers or cannot be read.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if let Some(consumer) = &self.consumer {
            return Some(consumer.state().subscribed_topics());
        }
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// The earliest monotonic ms at which [`Group::tick`] has something to do.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        if self.upgrading.is_some() {
            return None; // looked at when the records are written
        }
        let sessions = self.members.values().filter_map(Member::expires_at);
        let pending = self.pending_members.values().copied();
        let phase = self.join_phase.map(|phase| phase.deadline_ms);
        sessions
            .chain(pending)
            .chain(phase)
            .chain(self.sync_deadline_ms)
            .chain(self.consumer.as_ref().and_then(|group| group.deadline_ms()))
            .min()
    }
}

/// Answers whatever the member waits for with `error`.
pub(super) fn refuse_waiting(cx: &mut Context<'_>, member: &Member, error: ErrorCode) {
    if let Some(token) = member.awaiting_join {
        let reply = JoinReply::error(error, member.id.as_str());
        cx.reply(token, Reply::Join(reply));
    }
    if let Some(token) = member.awaiting_sync {
        cx.reply(token, Reply::Sync(super::request::SyncReply::error(error)));
    }
}

/// Topics in a consumer's subscription metadata (`ConsumerProtocolSubscription`: version, then an array of names).
fn subscription_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut rest = metadata.get(2..)?;
    let mut take = |count: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = i16::from_be_bytes(take(2)?.try_into().ok()?);
        let name = take(usize::try_from(length).ok()?)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
    }
    Some(topics)
}
