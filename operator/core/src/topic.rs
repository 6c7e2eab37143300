//! What must change in the Kafka cluster to make a KafkaTopic true?

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::KafkaTopic;
use crate::validate::ValidatedTopic;

/// A topic as the cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedTopic {
    /// Kafka's topic id in its text form.
    pub topic_id: String,
    /// Partitions, in order; at least one.
    pub partitions: Vec<ObservedPartition>,
    /// Configuration set on the topic itself.
    pub config: BTreeMap<String, String>,
}

/// A partition as the cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPartition {
    /// Number of replicas there have to be; those that a running reassignment adds do not count.
    pub replicas: usize,
    /// Number of them in sync.
    pub in_sync: usize,
    /// Whether it has a leader.
    pub has_leader: bool,
}

impl ObservedTopic {
    /// Number of partitions.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Number of replicas of the first partition, which stands for all unless someone reassigned by hand.
    #[must_use]
    pub fn replication_factor(&self) -> i32 {
        self.partitions.first().map_or(0, |partition| {
            i32::try_from(partition.replicas).unwrap_or(i32::MAX)
        })
    }

    /// Replicas in sync and replicas, over all partitions.
    #[must_use]
    pub fn isr(&self) -> (usize, usize) {
        self.partitions.iter().fold((0, 0), |(in_sync, all), p| {
            (in_sync + p.in_sync, all + p.replicas)
        })
    }

    /// Whether every partition has a leader and all its replicas in sync.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.partitions
            .iter()
            .all(|p| p.has_leader && p.in_sync >= p.replicas)
    }
}

/// The changes that make a topic as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Create the topic first.
    pub create: bool,
    /// Grow to this many partitions.
    pub grow_to: Option<i32>,
    /// Configuration keys to set.
    pub set: BTreeMap<String, String>,
    /// Configuration keys to return to their default.
    pub unset: Vec<String>,
    /// What is wanted and cannot be had.
    pub impossible: Vec<Impossible>,
}

impl Changes {
    /// Whether there is nothing to do (an impossible wish is nothing that can be done).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.create && self.grow_to.is_none() && self.set.is_empty() && self.unset.is_empty()
    }
}

/// A wish that Kafka, or this version, cannot fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// Partitions cannot be removed.
    #[error(
        "spec.partitions: the topic has {have} partitions and Kafka cannot reduce them to {want}: set at least {have}"
    )]
    FewerPartitions {
        /// Partitions the topic has.
        have: i32,
        /// Partitions wanted.
        want: i32,
    },
    /// Replicas cannot be moved yet.
    #[error(
        "spec.replicationFactor: the topic has {have} replicas a partition and this version cannot change them to {want}: set {have}"
    )]
    OtherReplicationFactor {
        /// Replicas the topic has.
        have: i32,
        /// Replicas wanted.
        want: i32,
    },
}

/// Keys that tools set for the time of a reassignment and take away again (KIP-73): no drift.
const OF_TOOLS: &[&str] = &[
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
];

/// Compares the wish with the world. `None` means that the topic does not exist.
#[must_use]
pub fn changes(wanted: &ValidatedTopic, observed: Option<&ObservedTopic>) -> Changes {
    let Some(observed) = observed else {
        return Changes {
            create: true,
            ..Changes::default()
        };
    };
    let mut changes = Changes::default();
    let have = observed.partition_count();
    match wanted.partitions {
        Some(want) if want > have => changes.grow_to = Some(want),
        Some(want) if want < have => changes
            .impossible
            .push(Impossible::FewerPartitions { have, want }),
        _ => {}
    }
    let have = observed.replication_factor();
    if let Some(want) = wanted.replication_factor.filter(|want| *want != have) {
        changes
            .impossible
            .push(Impossible::OtherReplicationFactor { have, want });
    }
    let differs = |(key, value): &(&String, &String)| observed.config.get(*key) != Some(*value);
    changes.set = wanted
        .config
        .iter()
        .filter(differs)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    changes.unset = observed
        .config
        .keys()
        .filter(|key| !wanted.config.contains_key(*key) && !OF_TOOLS.contains(&key.as_str()))
        .cloned()
        .collect();
    changes
}

/// Whether `a` owns a topic that `b` claims as well: the older object does, by creation time, then by uid.
#[must_use]
pub fn owns_before(a: &KafkaTopic, b: &KafkaTopic) -> bool {
    rank(a) < rank(b)
}

fn rank(topic: &KafkaTopic) -> (Option<&Time>, Option<&str>) {
    (
        topic.metadata.creation_timestamp.as_ref(),
        topic.metadata.uid.as_deref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::DeletionPolicy;

    fn wanted(partitions: Option<i32>, config: &[(&str, &str)]) -> ValidatedTopic {
        ValidatedTopic {
            topic: "orders".into(),
            cluster: "shop".into(),
            cluster_namespace: "default".into(),
            partitions,
            replication_factor: Some(3),
            config: config
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            deletion_policy: DeletionPolicy::Retain,
        }
    }

    fn observed(partitions: usize, replicas: usize, config: &[(&str, &str)]) -> ObservedTopic {
        ObservedTopic {
            topic_id: "id".into(),
            partitions: vec![
                ObservedPartition {
                    replicas,
                    in_sync: replicas,
                    has_leader: true
                };
                partitions
            ],
            config: config
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_missing_topic_is_created() {
        assert!(changes(&wanted(Some(6), &[]), None).create);
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        assert_eq!(
            changes(&wanted(Some(12), &[]), Some(&observed(6, 3, &[]))).grow_to,
            Some(12)
        );
        let fewer = changes(&wanted(Some(4), &[]), Some(&observed(6, 3, &[])));
        assert!(fewer.is_empty());
        assert_eq!(
            fewer.impossible,
            [Impossible::FewerPartitions { have: 6, want: 4 }]
        );
        assert!(changes(&wanted(None, &[]), Some(&observed(6, 3, &[]))).is_empty());
    }

    #[test]
    fn config_drift_is_undone_key_by_key() {
        let changes = changes(
            &wanted(
                None,
                &[("retention.ms", "1000"), ("cleanup.policy", "compact")],
            ),
            Some(&observed(
                1,
                3,
                &[
                    ("retention.ms", "5"),
                    ("segment.ms", "7"),
                    ("cleanup.policy", "compact"),
                ],
            )),
        );
        assert_eq!(
            changes.set,
            BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())])
        );
        assert_eq!(changes.unset, ["segment.ms"]);
    }

    #[test]
    fn the_throttled_replicas_of_a_reassignment_are_left_to_its_tool() {
        let (key, list) = (OF_TOOLS[0], "0:1,1:2");
        let left = changes(&wanted(None, &[]), Some(&observed(2, 3, &[(key, list)])));
        assert!(left.is_empty(), "{left:?}");
        let own = wanted(None, &[(key, "*")]);
        let set = changes(&own, Some(&observed(2, 3, &[(key, list)]))).set;
        assert_eq!(set, BTreeMap::from([(key.to_owned(), "*".to_owned())]));
    }

    #[test]
    fn another_replication_factor_is_reported() {
        let changes = changes(&wanted(None, &[]), Some(&observed(1, 1, &[])));
        assert_eq!(
            changes.impossible,
            [Impossible::OtherReplicationFactor { have: 1, want: 3 }]
        );
    }
}
