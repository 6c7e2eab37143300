//! What shall every member have in the group's epoch?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::TopicId;

use super::assignor::{Assignor, Subscription, Subscriptions};
use super::change::Change;
use super::partitions::Partitions;
use super::record::Fact;
use super::request::ConsumerConfig;
use super::state::State;
use super::topics::Topics;

/// The assignor that most members prefer, the first by name of several; the broker's default if nobody prefers one.
pub(super) fn preferred(config: &ConsumerConfig, state: &State) -> Assignor {
    let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
    for member in state.members.values() {
        let name = member.metadata.server_assignor.as_deref();
        if let Some(assignor) = name.and_then(|name| config.assignor(name)) {
            *votes.entry(assignor).or_default() += 1;
        }
    }
    let most = votes.values().copied().max();
    let mut winners = votes.iter().filter(|(_, count)| Some(**count) == most);
    winners.next().map_or(config.assignors.0, |(one, _)| *one)
}

/// Brings the target assignment to the group's epoch; records are only written for those whose target changes.
pub(super) fn update(change: &mut Change, config: &ConsumerConfig, topics: &dyn Topics) {
    if change.state.epoch <= change.state.assignment_epoch {
        return;
    }
    let before = change.state.clone();
    let group = subscriptions(&before, topics);
    let targets = preferred(config, &before).assign(&group);
    for id in before
        .targets
        .keys()
        .filter(|id| !targets.contains_key(*id))
    {
        change.emit(Fact::Target(id.clone(), None));
    }
    for (id, target) in targets {
        if before.targets.get(&id).map(|old| &**old) != Some(&target) {
            change.emit(Fact::Target(id, Some(target)));
        }
    }
    change.emit(Fact::TargetEpoch(Some(before.epoch)));
}

fn subscriptions<'a>(state: &'a State, topics: &dyn Topics) -> Subscriptions<'a> {
    let mut group = Subscriptions::default();
    // Most members want the same topics: looked up once.
    let mut known: BTreeMap<BTreeSet<String>, BTreeSet<TopicId>> = BTreeMap::new();
    for (id, member) in &state.members {
        let names = state.topics_of(&member.metadata);
        let ids = known.entry(names).or_insert_with_key(|names| {
            let found: Vec<_> = names.iter().filter_map(|name| topics.find(name)).collect();
            (group.topics).extend(found.iter().map(|topic| (topic.id, topic.partitions)));
            found.iter().map(|topic| topic.id).collect()
        });
        let subscription = Subscription {
            instance_id: member.metadata.instance_id.as_deref(),
            topics: ids.clone(),
            previous: previous(state, id),
        };
        group.members.insert(id, subscription);
    }
    group
}

fn previous(state: &State, member_id: &str) -> Partitions {
    let target: Option<&Arc<Partitions>> = state.targets.get(member_id);
    target.map(|target| (**target).clone()).unwrap_or_default()
}
