//! How does a group change its protocol while it has members (KIP-848, `group.consumer.migration.policy`)?
//!
//! ```text
//!            somebody joins by the consumer protocol: all classic members are in the group, as they are
//!   classic ----------------------------------------------------------------------------------------> consumer
//!      ^                                                                                                 |
//!      '------------ the last one of the consumer protocol is gone, classic members remain --------------'
//! ```
//! Both ways are one batch of the log: what was, is taken back, and what is, follows. Until it is below the high watermark the
//! group is what it was, and what is asked of the new one waits. On the way to the consumer protocol the classic group stands
//! still meanwhile: who waits for it is told to join again, and no timer runs.

use std::collections::BTreeMap;

use types::ErrorCode;

use super::classic::{Context, Group, PendingAppend};
use super::consumer::record::{
    ClassicMember, CurrentAssignment, Fact, GroupEpoch, MemberMetadata, MemberState,
};
use super::consumer::request::{Rejection, ValidHeartbeat};
use super::consumer::topics::Topics;
use super::consumer::{ConsumerGroup, Downgrade, Request, partitions::Partitions, with_ids};
use super::consumer_groups::view;
use super::member::Member;
use super::protocol::{Assignment, CONSUMER, Subscription};
use super::record::MAX_BATCH;
use super::request::{JoinReply, LeavingMember, Reply, SyncReply, Token};
use super::{GroupConfig, GroupState};

impl Group {
    /// Makes a consumer group of a classic one that has members, if it can be one.
    pub(super) fn upgrade(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        heartbeat: ValidHeartbeat,
    ) {
        let facts = match self.facts(cx.config, cx.topics) {
            Ok(facts) => facts,
            Err(why) => {
                let message = format!("the classic group {} stays what it is: {why}", self.id);
                let rejection = Rejection::new(ErrorCode::GroupIdNotFound, message);
                return cx.reply(token, Reply::ConsumerHeartbeat(Err(rejection)));
            }
        };
        let mut consumer = Box::new(ConsumerGroup::new(&self.id));
        let effects = consumer.upgrade(view(cx), facts, (token, heartbeat));
        for (token, reply) in effects.replies {
            cx.reply(token, reply);
        }
        if effects.records.is_empty() {
            return; // whoever asked does not get in
        }
        self.refuse_all_waiting(cx, ErrorCode::RebalanceInProgress);
        let mut records = vec![self.tombstone()];
        records.extend(effects.records);
        let group_id = self.id.clone();
        cx.append(records, PendingAppend::Consumer { group_id });
        self.upgrading = Some(consumer);
    }

    /// The records of the consumer group that this one would be, in Kafka's order; or why it cannot be one.
    fn facts(&self, config: &GroupConfig, topics: &dyn Topics) -> Result<Vec<Fact>, &'static str> {
        if !config.consumer.migration.upgrades() {
            return Err(
                "`group.consumer.migration.policy` does not let it become a consumer group",
            );
        }
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Err("its members are not consumers");
        }
        if self.members.len() > config.consumer.max_size {
            return Err("it has more members than a consumer group may have");
        }
        let mut subscriptions = self.subscriptions()?;
        let (mut metadata, mut targets, mut current) = (Vec::new(), Vec::new(), Vec::new());
        let mut owned = owned(&self.members, &subscriptions, topics)?;
        for (id, member) in &self.members {
            let assigned = owned.remove(id.as_str()).unwrap_or_default();
            let subscription = subscriptions.remove(id.as_str()).unwrap_or_default();
            metadata.push(Fact::Member(
                id.clone(),
                Some(describe(member, subscription)),
            ));
            targets.push(Fact::Target(id.clone(), Some(assigned.clone())));
            let has = CurrentAssignment {
                epoch: self.generation,
                previous_epoch: self.generation,
                state: MemberState::Stable,
                assigned,
                pending_revocation: Partitions::default(),
            };
            current.push(Fact::Current(id.clone(), Some(has)));
        }
        let epoch = GroupEpoch {
            epoch: self.generation,
            metadata_hash: 0, // whoever asks for the change looks at the topics
        };
        let mut facts = metadata;
        facts.push(Fact::Epoch(Some(epoch)));
        facts.extend(targets);
        facts.push(Fact::TargetEpoch(Some(self.generation)));
        facts.extend(current);
        Ok(facts)
    }

    /// What the members say of themselves; not more than can be written, since all of it is read for each who asks.
    fn subscriptions(&self) -> Result<BTreeMap<&str, Subscription>, &'static str> {
        let protocols = self.members.values().flat_map(|member| &member.protocols);
        let said: usize = protocols.map(|(_, metadata)| metadata.len()).sum();
        if said > MAX_BATCH {
            return Err("its members say more of themselves than a batch of the log holds");
        }
        let protocol = self.vote().unwrap_or_default();
        let members = self.members.iter();
        let read = members.map(|(id, member)| {
            let subscription = Subscription::decode(&member.metadata(&protocol));
            subscription.map(|subscription| (id.as_str(), subscription))
        });
        read.collect::<Result<_, _>>()
            .map_err(|_| "the subscription of a member cannot be read")
    }

    fn refuse_all_waiting(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            if let Some(token) = member.awaiting_join.take() {
                cx.reply(token, Reply::Join(JoinReply::error(error, &*member.id)));
            }
            if let Some(token) = member.awaiting_sync.take() {
                cx.reply(token, Reply::Sync(SyncReply::error(error)));
            }
        }
    }

    /// The consumer group is in the log, or this one goes on.
    pub(super) fn upgrade_written(
        &mut self,
        cx: &mut Context<'_>,
        mut consumer: Box<ConsumerGroup>,
        result: Result<(), ErrorCode>,
    ) {
        if let Err(error) = result {
            let leaving = consumer.leavers_of(|id| self.members.contains_key(id));
            for (token, reply) in consumer.upgrade_failed(view(cx), error) {
                cx.reply(token, reply);
            }
            self.members
                .values_mut()
                .for_each(|member| member.heard(cx.now));
            if self.state == GroupState::CompletingRebalance {
                self.prepare_rebalance(cx); // whoever waited for an assignment was sent away
            }
            for id in leaving {
                self.member_gone(cx, &id, ErrorCode::UnknownMemberId);
            }
            return;
        }
        self.join_phase = None;
        self.pending_sync.clear();
        self.sync_deadline_ms = None;
        self.consumer = Some(consumer);
        self.consumer_written(cx, Ok(()));
    }

    /// Who leaves a group that becomes a consumer group goes when it is one.
    pub(super) fn leave_while_upgrading(&mut self, leaving: &LeavingMember) -> ErrorCode {
        let instance = leaving.group_instance_id.as_deref();
        let holder = instance.and_then(|instance| self.static_members.get(instance));
        let id = match holder {
            Some(holder) if leaving.member_id.is_empty() => holder.clone(),
            _ => leaving.member_id.clone(),
        };
        if let Err(error) = self.check_member(&id, instance) {
            return error;
        }
        if let Some(consumer) = &mut self.upgrading {
            consumer.will_leave(id);
        }
        ErrorCode::None
    }

    /// The consumer group is a classic one now.
    pub(super) fn downgraded(&mut self, cx: &mut Context<'_>, downgrade: Downgrade) {
        let Downgrade {
            group,
            rebalances,
            joining,
            waiting,
            leaving,
        } = downgrade;
        self.consumer = None;
        self.forget_members();
        self.generation = group.generation;
        self.protocol_type = group.protocol_type;
        self.protocol = group.protocol;
        self.leader = group.leader;
        self.members = group.members;
        self.static_members = group.static_members;
        self.members
            .values_mut()
            .for_each(|member| member.heard(cx.now));
        self.transition(cx.now, GroupState::Stable);
        if rebalances {
            self.prepare_rebalance(cx);
        }
        if let Some((id, token)) = joining
            && let Some(member) = self.members.get_mut(&id)
        {
            member.awaiting_join = Some(token);
        }
        for id in leaving {
            if self.members.contains_key(&id) {
                self.member_gone(cx, &id, ErrorCode::UnknownMemberId);
            }
        }
        self.complete_join_if_all_joined(cx);
        for (token, request) in waiting {
            match request {
                Request::Heartbeat(heartbeat) => self.consumer_heartbeat(cx, token, heartbeat),
                Request::Join(request) => self.join(cx, token, &request),
            }
        }
    }

    /// A group that was on its way to its next generation when its coordinator ended: only [`Downgrade`] writes one
    /// with members and without a leader.
    pub(super) fn goes_on_rebalancing(&self) -> bool {
        self.state == GroupState::Stable && !self.members.is_empty() && self.leader.is_none()
    }
}

/// What each member has: what it got by the last assignment, and what it said it had when it joined, if nobody else got it.
/// Kafka takes the last assignment only, but a cooperative member may consume more: what it was told to give back just now,
/// and everything while the group has no assignment.
fn owned<'a>(
    members: &'a BTreeMap<String, Member>,
    subscriptions: &BTreeMap<&'a str, Subscription>,
    topics: &dyn Topics,
) -> Result<BTreeMap<&'a str, Partitions>, &'static str> {
    let mut owned = BTreeMap::new();
    let mut given = Partitions::default();
    for (id, member) in members {
        owned.insert(id.as_str(), assigned(member, topics, &mut given)?);
    }
    // The newest claim counts.
    let mut claims: Vec<(&str, &Subscription)> =
        subscriptions.iter().map(|(id, one)| (*id, one)).collect();
    claims.sort_by_key(|(_, subscription)| std::cmp::Reverse(subscription.generation));
    for (id, subscription) in claims {
        let has = owned.entry(id).or_default();
        for (topic, partition) in with_ids(&subscription.owned, topics).iter() {
            if given.insert(topic, partition) {
                has.insert(topic, partition);
            }
        }
    }
    Ok(owned)
}

/// What the member has by the last assignment; nothing of it may be another one's.
fn assigned(
    member: &Member,
    topics: &dyn Topics,
    given: &mut Partitions,
) -> Result<Partitions, &'static str> {
    let assignment = Assignment::decode(&member.assignment)
        .map_err(|_| "the assignment of a member cannot be read")?;
    if assignment.has_user_data {
        return Err("its assignor tells members more than their partitions");
    }
    let assigned = with_ids(&assignment.partitions, topics);
    for (topic, partition) in assigned.iter() {
        if !given.insert(topic, partition) {
            return Err("its assignor gives a partition to two members");
        }
    }
    Ok(assigned)
}

fn describe(member: &Member, subscription: Subscription) -> MemberMetadata {
    MemberMetadata {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topic_names: subscription.topics,
        topic_regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    }
}
