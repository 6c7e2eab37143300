//! What does a group have to know of the cluster's topics?

use std::fmt;

use types::TopicId;

use crate::metadata::MetadataImage;

/// A topic that can be consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The topics of the cluster at one moment.
pub trait Topics: fmt::Debug + Send + Sync {
    /// Larger than that of the topics before, whenever one came, went or grew.
    fn version(&self) -> u64;
    /// The topic of that name.
    fn find(&self, name: &str) -> Option<Topic>;
    /// The name of the topic of that id.
    fn name_of(&self, id: TopicId) -> Option<&str>;
    /// The name of every topic.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

/// What is known of the topics before anybody has said.
#[derive(Debug)]
pub(in crate::group) struct NoTopics;

impl Topics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn find(&self, _: &str) -> Option<Topic> {
        None
    }

    fn name_of(&self, _: TopicId) -> Option<&str> {
        None
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
}

impl Topics for MetadataImage {
    fn version(&self) -> u64 {
        self.topics_version()
    }

    fn find(&self, name: &str) -> Option<Topic> {
        let topic = self.topic_by_name(name)?;
        Some(Topic {
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        })
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.topic(id).map(|topic| &*topic.name)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics().map(|topic| &*topic.name))
    }
}
