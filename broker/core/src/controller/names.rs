//! Which names may new topics have?

use std::collections::{BTreeMap, BTreeSet};

use config::topic_name;
use types::ErrorCode;

use super::request::{ApiError, CreateTopicsRequest};
use super::topics::refuse;
use crate::metadata::MetadataImage;

/// The name of Kafka's own metadata log, which is no topic here or there.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The names of topics that exist, and of those that a request has created so far.
pub(super) struct NewNames<'a> {
    image: &'a MetadataImage,
    duplicates: BTreeSet<&'a str>,
    /// By what metrics make of them, for those that can collide at all.
    by_collision_key: BTreeMap<String, String>,
}

impl<'a> NewNames<'a> {
    pub(super) fn new(image: &'a MetadataImage, request: &'a CreateTopicsRequest) -> Self {
        let mut seen = BTreeSet::new();
        let duplicates = request
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .filter(|name| !seen.insert(*name))
            .collect();
        let by_collision_key = image
            .topics()
            .map(|topic| topic.name.as_ref())
            .filter(|name| topic_name::has_collision_chars(name))
            .map(|name| (topic_name::collision_key(name), name.to_owned()))
            .collect();
        Self {
            image,
            duplicates,
            by_collision_key,
        }
    }

    /// Whether a topic may be created under this name.
    pub(super) fn check(&self, name: &str) -> Result<(), ApiError> {
        if self.duplicates.contains(name) {
            return refuse(ErrorCode::InvalidRequest, "Duplicate topic name.");
        }
        if name == METADATA_TOPIC {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Creation of internal topic {METADATA_TOPIC} is prohibited."),
            );
        }
        if let Err(problem) = topic_name::check(name) {
            return refuse(ErrorCode::InvalidTopicException, problem);
        }
        if self.image.topic_by_name(name).is_some() {
            return refuse(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            );
        }
        if topic_name::has_collision_chars(name)
            && let Some(other) = self.by_collision_key.get(&topic_name::collision_key(name))
        {
            return refuse(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            );
        }
        Ok(())
    }

    /// The request has created a topic of this name.
    pub(super) fn take(&mut self, name: &str) {
        if topic_name::has_collision_chars(name) {
            self.by_collision_key
                .insert(topic_name::collision_key(name), name.to_owned());
        }
    }
}
