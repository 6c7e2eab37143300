//! How do groups come back from the records of a partition of `__consumer_offsets`?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::Group;
use super::consumer::ConsumerGroup;
use super::consumer::record::ConsumerRecord;
use super::member::Member;
use super::record::{GroupMetadata, GroupRecord};
use super::{GroupState, Now};

impl Group {
    /// Takes the generation of a record as the current one.
    fn restore(&mut self, now: Now, metadata: GroupMetadata) {
        self.generation = metadata.generation;
        self.protocol_type = Some(metadata.protocol_type).filter(|text| !text.is_empty());
        self.state = if metadata.members.is_empty() {
            GroupState::Empty
        } else {
            // A generation with members is only written with its assignment.
            GroupState::Stable
        };
        self.state_since_ms = metadata.current_state_timestamp_ms;
        self.members.clear();
        self.static_members.clear();
        for member in metadata.members {
            self.add(Member::loaded(now, metadata.protocol.as_deref(), member));
        }
        self.protocol = metadata.protocol;
        self.leader = metadata.leader;
        // It was an empty consumer group before, the tombstones of which may be missing.
        self.consumer = None;
    }
}

/// Applies one record, in the order of the log, to the groups being loaded.
pub(super) fn replay(groups: &mut BTreeMap<Arc<str>, Group>, now: Now, record: GroupRecord) {
    match record {
        GroupRecord::Offset {
            group_id,
            partition,
            value: Some(value),
        } => {
            let id: Arc<str> = group_id.into();
            let group = groups
                .entry(id.clone())
                .or_insert_with(|| Group::new(id, now));
            group.put_offset(partition, value);
        }
        GroupRecord::Offset {
            group_id,
            partition,
            value: None,
        } => {
            if let Some(group) = groups.get_mut(group_id.as_str()) {
                group.offsets.remove(&partition);
                if group.holds_nothing() && group.generation == 0 && group.consumer.is_none() {
                    groups.remove(group_id.as_str());
                }
            }
        }
        GroupRecord::Group {
            group_id,
            value: Some(metadata),
        } => {
            let id: Arc<str> = group_id.into();
            let group = groups
                .entry(id.clone())
                .or_insert_with(|| Group::new(id, now));
            group.restore(now, metadata);
        }
        GroupRecord::Group {
            group_id,
            value: None,
        } => {
            // Offsets outlive the generation's record: their own tombstones remove them.
            if let Some(group) = groups.get_mut(group_id.as_str()) {
                if group.holds_nothing() && group.consumer.is_none() {
                    groups.remove(group_id.as_str());
                } else {
                    *group = Group {
                        offsets: std::mem::take(&mut group.offsets),
                        in_transactions: std::mem::take(&mut group.in_transactions),
                        commits: group.commits,
                        consumer: group.consumer.take(),
                        ..Group::new(group.id.clone(), now)
                    };
                }
            }
        }
        GroupRecord::Consumer(record) => replay_consumer(groups, now, &record),
    }
}

fn replay_consumer(groups: &mut BTreeMap<Arc<str>, Group>, now: Now, record: &ConsumerRecord) {
    let id: Arc<str> = record.group_id.as_str().into();
    let group = (groups.entry(id.clone())).or_insert_with(|| Group::new(id.clone(), now));
    if !record.fact.is_tombstone() {
        // It was a classic group before, the tombstone of which may be missing.
        group.forget_members();
    }
    let consumer = (group.consumer).get_or_insert_with(|| Box::new(ConsumerGroup::new(&id)));
    consumer.load(&record.fact);
    if consumer.state().is_blank() {
        group.consumer = None;
        if group.holds_nothing() && group.generation == 0 {
            groups.remove(&id);
        }
    }
}
