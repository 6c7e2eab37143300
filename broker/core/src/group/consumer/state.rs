//! What do the records of a group amount to?
//!
//! The state changes only by applying a record, so that what is replayed from the log is what the coordinator had. Copies
//! are cheap: maps share what did not change.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use types::TopicId;

use super::partitions::Partitions;
use super::record::{
    CurrentAssignment, Fact, GroupEpoch, MemberMetadata, MemberState, ResolvedRegex,
};

/// A member as the records describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::group) struct Member {
    pub(in crate::group) metadata: MemberMetadata,
    pub(in crate::group) current: CurrentAssignment,
}

/// A group as the records describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::group) struct State {
    pub(in crate::group) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(in crate::group) members: OrdMap<String, Arc<Member>>,
    pub(in crate::group) assignment_epoch: i32,
    pub(super) targets: OrdMap<String, Arc<Partitions>>,
    pub(super) regexes: OrdMap<String, Arc<ResolvedRegex>>,
    /// The log holds a record of Kafka 4.0's kind, which this one does not write.
    pub(super) has_partition_metadata: bool,
    /// Member id by `group.instance.id`.
    statics: OrdMap<String, String>,
    /// Who has each partition, or was told to give it back and did not confirm yet.
    owners: OrdMap<(TopicId, i32), String>,
    /// How many members are where they shall be, by the epoch they are in.
    stable: OrdMap<i32, usize>,
    /// How many members want the topic of a name.
    named: OrdMap<String, usize>,
    /// How many members want the topics of a regular expression.
    expressions: OrdMap<String, usize>,
}

impl State {
    /// Whether no record was ever applied, or all were taken back.
    pub(in crate::group) fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    pub(in crate::group) fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// The id of the member with that `group.instance.id`.
    pub(super) fn static_member(&self, instance_id: &str) -> Option<&str> {
        self.statics.get(instance_id).map(String::as_str)
    }

    pub(super) fn is_owned_by_another(&self, id: &str, topic: TopicId, partition: i32) -> bool {
        (self.owners.get(&(topic, partition))).is_some_and(|owner| owner != id)
    }

    /// What a member shall have.
    pub(in crate::group) fn target(&self, member_id: &str) -> Partitions {
        let target = self.targets.get(member_id);
        target.map(|target| (**target).clone()).unwrap_or_default()
    }

    /// The names of the topics that one member wants.
    pub(super) fn topics_of(&self, metadata: &MemberMetadata) -> BTreeSet<String> {
        let mut names = metadata.topic_names.clone();
        let regex = metadata.topic_regex.as_ref();
        if let Some(resolved) = regex.and_then(|regex| self.regexes.get(regex)) {
            names.extend(resolved.topics.iter().cloned());
        }
        names
    }

    /// The names of the topics that anybody wants.
    pub(in crate::group) fn subscribed_topics(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.named.keys().cloned().collect();
        for resolved in self.regexes.values() {
            names.extend(resolved.topics.iter().cloned());
        }
        names
    }

    /// The regular expressions that members use.
    pub(in crate::group) fn expressions(&self) -> impl Iterator<Item = &str> {
        self.expressions.keys().map(String::as_str)
    }

    /// Whether a member wants the topics of a regular expression.
    pub(super) fn is_used(&self, regex: &str) -> bool {
        self.expressions.contains_key(regex)
    }

    /// Whether every member is where it shall be in the epoch of the target assignment.
    pub(super) fn is_reconciled(&self) -> bool {
        let there = self.stable.get(&self.assignment_epoch);
        there.copied().unwrap_or(0) == self.members.len()
    }

    pub(in crate::group) fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Epoch(value) => {
                let value = value.unwrap_or(GroupEpoch {
                    epoch: 0,
                    metadata_hash: 0,
                });
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Fact::PartitionMetadata(value) => self.has_partition_metadata = value.is_some(),
            Fact::TargetEpoch(epoch) => self.assignment_epoch = epoch.unwrap_or(0),
            Fact::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), Arc::new(target.clone()));
            }
            Fact::Target(id, None) => drop(self.targets.remove(id)),
            Fact::Regex(regex, Some(resolved)) => {
                (self.regexes).insert(regex.clone(), Arc::new(resolved.clone()));
            }
            Fact::Regex(regex, None) => drop(self.regexes.remove(regex)),
            Fact::Member(id, Some(metadata)) => self.put_metadata(id, metadata),
            Fact::Member(id, None) => self.remove(id),
            Fact::Current(id, Some(current)) => self.put_current(id, current.clone()),
            Fact::Current(id, None) if self.members.contains_key(id) => {
                self.put_current(id, CurrentAssignment::default());
            }
            // The member went with its other record.
            Fact::Current(_, None) => {}
        }
    }

    fn put_metadata(&mut self, id: &str, metadata: &MemberMetadata) {
        let old = self.take(id);
        self.forget_instance(id, old.metadata.instance_id.as_deref());
        if let Some(instance) = &metadata.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        let member = Member {
            metadata: metadata.clone(),
            current: old.current.clone(),
        };
        self.put(id, member);
    }

    fn put_current(&mut self, id: &str, current: CurrentAssignment) {
        let old = self.take(id);
        self.release(id, &old.current);
        for (topic, one) in current.assigned.iter() {
            self.owners.insert((topic, one), id.to_owned());
        }
        for (topic, one) in current.pending_revocation.iter() {
            self.owners.insert((topic, one), id.to_owned());
        }
        let member = Member {
            metadata: old.metadata.clone(),
            current,
        };
        self.put(id, member);
    }

    fn remove(&mut self, id: &str) {
        let member = self.take(id);
        self.forget_instance(id, member.metadata.instance_id.as_deref());
        self.release(id, &member.current);
    }

    /// Takes a member out, or one as they are at first.
    fn take(&mut self, id: &str) -> Arc<Member> {
        let Some(member) = self.members.remove(id) else {
            return Arc::default();
        };
        self.count(&member, uncounted, uncounted);
        member
    }

    fn put(&mut self, id: &str, member: Member) {
        self.count(&member, counted, counted);
        self.members.insert(id.to_owned(), Arc::new(member));
    }

    fn count(
        &mut self,
        member: &Member,
        text: impl Fn(&mut OrdMap<String, usize>, &String),
        epoch: impl Fn(&mut OrdMap<i32, usize>, &i32),
    ) {
        if member.current.state == MemberState::Stable {
            epoch(&mut self.stable, &member.current.epoch);
        }
        for name in &member.metadata.topic_names {
            text(&mut self.named, name);
        }
        if let Some(regex) = &member.metadata.topic_regex {
            text(&mut self.expressions, regex);
        }
    }

    fn forget_instance(&mut self, id: &str, instance_id: Option<&str>) {
        if let Some(instance) = instance_id
            && self.static_member(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
    }

    /// Takes away what the member had; not what another got by a record that came since.
    fn release(&mut self, id: &str, current: &CurrentAssignment) {
        let had = current.assigned.iter();
        for key in had.chain(current.pending_revocation.iter()) {
            if self.owners.get(&key).is_some_and(|owner| owner == id) {
                self.owners.remove(&key);
            }
        }
    }
}

fn counted<K: Ord + Clone>(counts: &mut OrdMap<K, usize>, key: &K) {
    let count = counts.get(key).copied().unwrap_or(0);
    counts.insert(key.clone(), count + 1);
}

fn uncounted<K: Ord + Clone>(counts: &mut OrdMap<K, usize>, key: &K) {
    match counts.get(key).copied() {
        Some(count) if count > 1 => drop(counts.insert(key.clone(), count - 1)),
        _ => drop(counts.remove(key)),
    }
}
