//! When does a consumer group become a classic one again, and what is that one like?
//!
//! As Kafka's: when the last member of the consumer protocol is gone and members of the classic one remain, of which a
//! classic group may have that many (`ClassicGroup.fromConsumerGroup`). The generation is the epoch that the group had
//! before. The members have to share anew what the one that is gone had, so the group rebalances at once; only where a
//! static member came back by the other protocol, and all had what they should have, is nothing to share.
//!
//! What differs from Kafka: a member's assignment is what it has, not what it should have, so that a group that is not
//! reconciled hands nothing out twice; and the record of a group that has to rebalance names no leader, so that a
//! coordinator that takes over knows that it has to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::heartbeat::View;
use super::queue::Request;
use super::state::{Member, State};
use super::topics::Topics;
use crate::group::GroupRecord;
use crate::group::classic::Group;
use crate::group::member::Member as ClassicMember;
use crate::group::protocol::{CONSUMER, Named, encode_assignment};
use crate::group::request::Token;

/// A classic group that takes the place of a consumer group.
#[derive(Debug)]
pub(in crate::group) struct Downgrade {
    pub(in crate::group) group: Group,
    /// Whether its members have to join anew.
    pub(in crate::group) rebalances: bool,
    /// A member whose join brought it about, and waits for all others.
    pub(in crate::group) joining: Option<(String, Token)>,
    /// What was asked meanwhile.
    pub(in crate::group) waiting: Vec<(Token, Request)>,
    /// Who left meanwhile.
    pub(in crate::group) leaving: BTreeSet<String>,
}

impl Downgrade {
    /// The classic group that the group becomes if it changes so, if it does. Whoever `joins` asked for the change.
    pub(super) fn of(
        group_id: &str,
        view: View<'_>,
        (before, after): (&State, &State),
        joins: bool,
    ) -> Option<Self> {
        let members = &after.members;
        let allowed = view.config.migration.downgrades()
            && !members.is_empty()
            && members.len() <= view.classic_max_size
            && (members.values()).all(|member| member.metadata.classic.is_some());
        if !allowed {
            return None;
        }
        let mut group = Group::new(Arc::from(group_id), view.now);
        for (id, member) in members {
            group.add(classic(id, member)?);
        }
        group.protocol_type = Some(CONSUMER.to_owned());
        group.protocol = Some(group.vote()?);
        group.generation = before.epoch;
        for (id, member) in members {
            assign(&mut group, id, has(member, view.topics));
        }
        let settled = after.epoch == before.epoch
            && after.assignment_epoch == after.epoch
            && after.is_reconciled();
        let rebalances = !joins || !settled;
        if rebalances {
            group.leader = None;
        }
        Some(Self {
            group,
            rebalances,
            joining: None,
            waiting: Vec::new(),
            leaving: BTreeSet::new(),
        })
    }

    /// The record of the classic group.
    pub(super) fn record(&self, view: View<'_>) -> GroupRecord {
        self.group.metadata_record(view.now, None)
    }
}

fn classic(id: &str, member: &Member) -> Option<ClassicMember> {
    let metadata = &member.metadata;
    let classic = metadata.classic.as_ref()?;
    Some(ClassicMember {
        id: id.to_owned(),
        instance_id: metadata.instance_id.clone(),
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: metadata.rebalance_timeout_ms,
        protocols: classic.protocols.clone(),
        assignment: bytes::Bytes::new(),
        awaiting_join: None,
        awaiting_sync: None,
        session_deadline_ms: 0,
        is_new: false,
    })
}

/// What the member consumes, or may still consume until it gave it back.
fn has(member: &Member, topics: &dyn Topics) -> Named {
    let current = &member.current;
    let all = current.assigned.iter();
    named(all.chain(current.pending_revocation.iter()), topics)
}

/// Partitions by the names of their topics; those of deleted topics have none any more and are left out.
pub(super) fn named(
    partitions: impl Iterator<Item = (types::TopicId, i32)>,
    topics: &dyn Topics,
) -> Named {
    let mut named = Named::new();
    for (topic, partition) in partitions {
        if let Some(name) = topics.name_of(topic) {
            let indexes = named.entry(name.to_owned()).or_default();
            indexes.insert(partition);
        }
    }
    named
}

fn assign(group: &mut Group, id: &str, has: Named) {
    let protocol = group.protocol.clone().unwrap_or_default();
    if let Some(member) = group.members.get_mut(id) {
        member.assignment = encode_assignment(&has, &member.metadata(&protocol));
    }
}
