//! How is a set of partitions of several topics held?

use std::collections::{BTreeMap, BTreeSet};

use types::TopicId;

/// Partitions by topic. No topic is held without partitions, so that equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<TopicId, BTreeSet<i32>>);

impl Partitions {
    /// Adds one; `false` if it was there.
    pub fn insert(&mut self, topic: TopicId, partition: i32) -> bool {
        self.0.entry(topic).or_default().insert(partition)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether this one is there.
    #[must_use]
    pub fn contains(&self, topic: TopicId, partition: i32) -> bool {
        (self.0.get(&topic)).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Every one, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        (self.0.iter()).flat_map(|(topic, partitions)| partitions.iter().map(|one| (*topic, *one)))
    }

    /// Each topic with its partitions, in order.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<i32>)> + '_ {
        (self.0.iter()).map(|(topic, partitions)| (*topic, partitions))
    }

    /// Whether every one of these is in `other`, too.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|(topic, one)| other.contains(topic, one))
    }

    /// Whether one of these is in `other`, too.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.iter().any(|(topic, one)| other.contains(topic, one))
    }
}

impl FromIterator<(TopicId, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(all: I) -> Self {
        let mut set = Self::default();
        for (topic, partition) in all {
            set.insert(topic, partition);
        }
        set
    }
}
