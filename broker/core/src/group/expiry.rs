//! Which committed offsets and groups have outlived their use?
//!
//! KIP-211: an offset goes when its group has been empty for `offsets.retention.minutes`, or when no member of a stable
//! group of consumers is subscribed to its topic any more and the last commit is that old. Offsets of deleted topics go
//! at once. A group without members and offsets goes with its last offset.

use std::collections::BTreeSet;

use types::TopicPartition;

use super::classic::{Context, Group, PendingAppend};
use super::record::{CommittedOffset, GroupRecord};
use super::{GroupConfig, GroupState, Now};

impl Group {
    /// Removes what has expired and appends the tombstones.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        if self.commits_in_flight > 0 {
            return; // A tombstone could land behind the fresh commit.
        }
        let expired = self.expired_offsets(cx.now, cx.config);
        self.forget(cx, &expired);
    }

    /// Removes the offsets of a topic that was deleted.
    pub(super) fn forget_topics(&mut self, cx: &mut Context<'_>, topics: &BTreeSet<String>) {
        for waiting in self.in_transactions.values_mut() {
            waiting.retain(|partition, _| !topics.contains(&*partition.topic));
        }
        self.in_transactions
            .retain(|_, waiting| !waiting.is_empty());
        let gone: Vec<TopicPartition> = self
            .offsets
            .keys()
            .filter(|partition| topics.contains(&*partition.topic))
            .cloned()
            .collect();
        if !gone.is_empty() {
            self.forget(cx, &gone);
        }
    }

    fn forget(&mut self, cx: &mut Context<'_>, partitions: &[TopicPartition]) {
        let mut records: Vec<GroupRecord> = Vec::new();
        for partition in partitions {
            self.offsets.remove(partition);
            records.push(self.offset_tombstone(partition));
        }
        let unused = self.offsets.is_empty()
            && self.in_transactions.is_empty()
            && self.commits_in_flight == 0
            && self.pending_members.is_empty();
        if self.is_vacant() && unused {
            if self.generation > 0 {
                records.push(self.tombstone());
            }
            records.extend(self.consumer_tombstones());
            self.transition(cx.now, GroupState::Dead);
        }
        if !records.is_empty() {
            cx.append(records, PendingAppend::Unwatched);
        }
    }

    fn expired_offsets(&self, now: Now, config: &GroupConfig) -> Vec<TopicPartition> {
        let subscribed = match self.current_state() {
            GroupState::Empty => BTreeSet::new(),
            GroupState::Assigning | GroupState::Reconciling | GroupState::Stable => {
                match self.subscribed_topics() {
                    Some(topics) => topics,
                    None => return Vec::new(),
                }
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Dead => {
                return Vec::new();
            }
        };
        let emptied_ms = self
            .state_since_ms
            .filter(|_| self.state == GroupState::Empty && self.protocol_type.is_some());
        self.offsets
            .iter()
            .filter(|(partition, _)| !subscribed.contains(&*partition.topic))
            .filter(|(partition, _)| !self.is_unstable(partition))
            .filter(|(_, value)| has_expired(value, emptied_ms, now, config))
            .map(|(partition, _)| partition.clone())
            .collect()
    }
}

/// Whether retention is over, counted from when the group became empty (never before the commit) or from the commit.
fn has_expired(
    value: &CommittedOffset,
    emptied_ms: Option<i64>,
    now: Now,
    config: &GroupConfig,
) -> bool {
    if let Some(expire_ms) = value.expire_timestamp_ms {
        return now.wall_ms >= expire_ms;
    }
    let since_ms = emptied_ms.map_or(value.commit_timestamp_ms, |emptied_ms| {
        emptied_ms.max(value.commit_timestamp_ms)
    });
    now.wall_ms.saturating_sub(since_ms) >= config.offsets_retention_ms
}
