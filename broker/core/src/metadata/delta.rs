//! What is different between two images?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use types::{NodeId, TopicId};

use super::image::{MetadataImage, TopicImage};
use super::record::ConfigResource;

/// Names what changed between two images; the new state itself is in the newer image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataDelta {
    /// The offset of the older image.
    pub from: u64,
    /// The offset of the newer image.
    pub to: u64,
    /// Topics that are only in the newer image. Their partitions are all in `partitions`.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that are only in the older image, as they were last.
    pub topics_deleted: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Partitions of the newer image that are new or changed, by topic.
    pub partitions: BTreeMap<TopicId, BTreeSet<i32>>,
    /// Brokers that were registered, unregistered or changed.
    pub brokers: BTreeSet<NodeId>,
    /// Resources whose configuration changed.
    pub configs: BTreeSet<ConfigResource>,
    /// Whether a finalized feature changed.
    pub features: bool,
}

impl MetadataDelta {
    pub(super) fn new(from: u64, to: u64) -> Self {
        Self {
            from,
            to,
            ..Self::default()
        }
    }

    /// Whether nothing that anybody reacts to changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics_created.is_empty()
            && self.topics_deleted.is_empty()
            && self.partitions.is_empty()
            && self.brokers.is_empty()
            && self.configs.is_empty()
            && !self.features
    }

    /// Every new or changed partition.
    pub fn changed_partitions(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.partitions
            .iter()
            .flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
    }

    /// What is different between `old` and `new`: for an image that came as a snapshot, and for one who lost count.
    #[must_use]
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> Self {
        let mut delta = Self::new(old.offset, new.offset);
        delta.brokers = changed_keys(&old.brokers, &new.brokers);
        delta.configs = changed_keys(&old.configs, &new.configs);
        delta.features = old.features != new.features;
        for item in old.topics.diff(&new.topics) {
            match item {
                DiffItem::Add(id, topic) => {
                    delta.topics_created.insert(*id);
                    delta.partitions_of(topic, None);
                }
                DiffItem::Update {
                    old: (_, before),
                    new: (_, after),
                } => delta.partitions_of(after, Some(before)),
                DiffItem::Remove(id, topic) => delta.topic_deleted(*id, Arc::clone(topic)),
            }
        }
        delta
    }

    /// Makes this the delta from its own older image to `next`'s newer one.
    pub fn merge(&mut self, next: &Self) {
        self.to = next.to;
        for (id, topic) in &next.topics_deleted {
            // A topic that came and went in between is in neither image.
            if self.topics_created.remove(id) {
                self.partitions.remove(id);
            } else {
                self.topic_deleted(*id, Arc::clone(topic));
            }
        }
        self.topics_created.extend(&next.topics_created);
        for (id, indexes) in &next.partitions {
            self.partitions.entry(*id).or_default().extend(indexes);
        }
        self.brokers.extend(&next.brokers);
        self.configs.extend(next.configs.iter().cloned());
        self.features |= next.features;
    }

    pub(super) fn partition_changed(&mut self, topic: TopicId, index: i32) {
        self.partitions.entry(topic).or_default().insert(index);
    }

    /// A topic created within the same delta is in neither image and leaves no trace.
    pub(super) fn topic_deleted(&mut self, id: TopicId, topic: Arc<TopicImage>) {
        self.partitions.remove(&id);
        if !self.topics_created.remove(&id) {
            self.topics_deleted.insert(id, topic);
        }
    }

    fn partitions_of(&mut self, after: &TopicImage, before: Option<&Arc<TopicImage>>) {
        for (index, partition) in after.iter() {
            let same = before
                .and_then(|before| before.partition(index))
                .is_some_and(|known| Arc::ptr_eq(known, partition) || known == partition);
            if !same {
                self.partition_changed(after.id, index);
            }
        }
    }
}

fn changed_keys<K, V>(old: &OrdMap<K, V>, new: &OrdMap<K, V>) -> BTreeSet<K>
where
    K: Ord + Clone,
    V: Clone + PartialEq,
{
    old.diff(new)
        .map(|item| match item {
            DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key.clone(),
            DiffItem::Update { new: (key, _), .. } => key.clone(),
        })
        .collect()
}
