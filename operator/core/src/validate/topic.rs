//! Is a KafkaTopic sensible, and what is it with defaults filled in?

use std::collections::BTreeMap;

use super::{FieldError, Invalid, config_keys};
use crate::api::v1alpha1::{DeletionPolicy, KafkaTopic};

/// A KafkaTopic that can be made true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedTopic {
    /// Name of the topic in the Kafka cluster.
    pub topic: String,
    /// Name of the KafkaCluster.
    pub cluster: String,
    /// Namespace of the KafkaCluster.
    pub cluster_namespace: String,
    /// Wanted partitions; `None` leaves it to the cluster.
    pub partitions: Option<i32>,
    /// Wanted replicas of each partition; `None` leaves it to the cluster.
    pub replication_factor: Option<i32>,
    /// Wanted topic configuration; keys that are not here have their default.
    pub config: BTreeMap<String, String>,
    /// What happens to the topic when the KafkaTopic is deleted.
    pub deletion_policy: DeletionPolicy,
}

/// Checks a KafkaTopic.
pub fn topic(object: &KafkaTopic) -> Result<ValidatedTopic, Invalid> {
    let spec = &object.spec;
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let topic = topic_name(object);
    let mut errors = Vec::new();
    let path = if spec.topic_name.is_some() {
        "spec.topicName"
    } else {
        "metadata.name"
    };
    check_name(path, &topic, &mut errors);
    for (field, value, max) in [
        ("partitions", spec.partitions, 10_000),
        ("replicationFactor", spec.replication_factor, 32),
    ] {
        if value.is_some_and(|value| !(1..=max).contains(&value)) {
            errors.push(FieldError::new(
                format!("spec.{field}"),
                format!("{} is out of range", value.unwrap_or_default()),
                format!("1 to {max}"),
            ));
        }
    }
    config_keys::check_topic("spec.config", &spec.config, &mut errors);
    Invalid::check(errors)?;
    Ok(ValidatedTopic {
        topic,
        cluster: spec.cluster_ref.name.clone(),
        cluster_namespace: spec.cluster_ref.namespace.clone().unwrap_or(namespace),
        partitions: spec.partitions,
        replication_factor: spec.replication_factor,
        config: spec.config.clone(),
        deletion_policy: spec.deletion_policy,
    })
}

/// The name of the topic in the Kafka cluster.
#[must_use]
pub fn topic_name(object: &KafkaTopic) -> String {
    object
        .spec
        .topic_name
        .clone()
        .or_else(|| object.metadata.name.clone())
        .unwrap_or_default()
}

/// Kafka's own rule for topic names, and its reserved prefix.
fn check_name(path: &str, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() || name.len() > 249 {
        errors.push(FieldError::new(
            path,
            format!("{} characters", name.len()),
            "1 to 249 characters",
        ));
    }
    if name == "." || name == ".." {
        errors.push(FieldError::new(
            path,
            format!("a topic cannot be called {name:?}"),
            "any other name",
        ));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        errors.push(FieldError::new(
            path,
            format!("character {bad:?} in {name:?}"),
            "only letters, digits, '.', '_' and '-'",
        ));
    }
    if name.starts_with("__") {
        errors.push(FieldError::new(
            path,
            format!("{name:?} begins with '__'"),
            "another name: those belong to Kafka itself",
        ));
    }
}
