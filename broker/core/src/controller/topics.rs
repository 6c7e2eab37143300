//! Which topics and partitions may be created and deleted, and with which replicas?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::ConfigMap;
use types::{ErrorCode, LeaderEpoch, NodeId, PartitionEpoch, TopicId};

use super::configs::new_topic_configs;
use super::names::NewNames;
use super::placement::{Placer, Random};
use super::request::{
    ApiError, CreatableTopic, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
    CreatedTopic, CreatedTopicDetail, DeleteTopicsRequest, DeletedTopic, TopicRef, TopicResult,
};
use super::{Controller, Decision};
use crate::metadata::record::{Config, Partition, RemoveTopic, Topic};
use crate::metadata::{ConfigResource, MetadataRecord, TopicImage};
use crate::partition::PartitionRegistration;

/// Partitions that one request may create, as in Kafka: they all go into one entry of the quorum's log.
pub(super) const MAX_PARTITIONS_PER_REQUEST: i64 = 10_000;

pub(super) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(code, message))
}

/// A topic that may be created.
struct NewTopic {
    assignments: Vec<Vec<NodeId>>,
    configs: ConfigMap,
}

impl Controller {
    pub(super) fn create_topics(
        &self,
        seed: u64,
        request: &CreateTopicsRequest,
    ) -> Decision<Vec<CreatedTopic>> {
        let mut random = Random::new(seed);
        let mut records = Vec::new();
        let mut names = NewNames::new(&self.image, request);
        let too_many = request
            .topics
            .iter()
            .map(|t| self.partitions_of(t))
            .sum::<i64>()
            > MAX_PARTITIONS_PER_REQUEST;
        let response = request
            .topics
            .iter()
            .map(|topic| {
                let result = if too_many {
                    too_many_partitions()
                } else {
                    names
                        .check(&topic.name)
                        .and_then(|()| self.new_topic(&mut random, topic))
                };
                let result = result.map(|new| {
                    names.take(&topic.name);
                    let id = if request.validate_only {
                        TopicId::ZERO
                    } else {
                        self.fresh_topic_id(&mut random)
                    };
                    self.detail(&topic.name, id, new, &mut records)
                });
                CreatedTopic {
                    name: topic.name.clone(),
                    result,
                }
            })
            .collect();
        if request.validate_only {
            records.clear();
        }
        Decision { records, response }
    }

    /// Partitions that a topic of the request would have.
    fn partitions_of(&self, topic: &CreatableTopic) -> i64 {
        if topic.assignments.is_empty() {
            i64::from(self.num_partitions(topic).max(0))
        } else {
            i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX)
        }
    }

    const fn num_partitions(&self, topic: &CreatableTopic) -> i32 {
        if topic.num_partitions == -1 {
            self.config.settings.num_partitions
        } else {
            topic.num_partitions
        }
    }

    fn new_topic(&self, random: &mut Random, topic: &CreatableTopic) -> Result<NewTopic, ApiError> {
        let configs = new_topic_configs(&topic.configs)?;
        let assignments = if topic.assignments.is_empty() {
            self.chosen_assignments(random, topic)?
        } else {
            self.given_assignments(topic)?
        };
        Ok(NewTopic {
            assignments,
            configs,
        })
    }

    fn chosen_assignments(
        &self,
        random: &mut Random,
        topic: &CreatableTopic,
    ) -> Result<Vec<Vec<NodeId>>, ApiError> {
        let replication_factor = match i32::from(topic.replication_factor) {
            -1 => self.config.settings.default_replication_factor,
            given => given,
        };
        let replication_factor = usize::try_from(replication_factor).unwrap_or(0);
        if replication_factor == 0 {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            );
        }
        let partitions = self.num_partitions(topic);
        if partitions <= 0 {
            return refuse(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            );
        }
        let mut placer = Placer::new(self.image.brokers().map(AsRef::as_ref), random);
        (0..partitions)
            .map(|_| placer.place(replication_factor))
            .collect()
    }

    fn given_assignments(&self, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, ApiError> {
        for (given, what) in [
            (i32::from(topic.replication_factor), "replication factor"),
            (topic.num_partitions, "numPartitions"),
        ] {
            if given != -1 {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!(
                        "A manual partition assignment was specified, but {what} was not set to -1."
                    ),
                );
            }
        }
        let mut by_index: BTreeMap<i32, &Vec<NodeId>> = BTreeMap::new();
        let mut expected = None;
        for assignment in &topic.assignments {
            if by_index
                .insert(assignment.partition, &assignment.replicas)
                .is_some()
            {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Found multiple manual partition assignments for partition {}",
                        assignment.partition
                    ),
                );
            }
            self.check_assignment(assignment.partition, &assignment.replicas, &mut expected)?;
        }
        if !by_index.keys().copied().eq((0..).take(by_index.len())) {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            );
        }
        Ok(by_index.into_values().cloned().collect())
    }

    /// Whether a partition may have these replicas, chosen by the asker. `expected` is how many its topic's others
    /// have.
    fn check_assignment(
        &self,
        partition: i32,
        replicas: &[NodeId],
        expected: &mut Option<usize>,
    ) -> Result<(), ApiError> {
        let wrong = |message: String| refuse(ErrorCode::InvalidReplicaAssignment, message);
        self.check_replicas(replicas)?;
        let expected = *expected.get_or_insert(replicas.len());
        if replicas.len() != expected {
            return wrong(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                 with previous partitions, which have {expected} replica(s).",
                replicas.len()
            ));
        }
        if !replicas.iter().any(|node| self.image.is_active(*node)) {
            return wrong(format!(
                "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
                 controlled shutdown."
            ));
        }
        Ok(())
    }

    /// Whether a partition may have these replicas: registered brokers, each once.
    pub(super) fn check_replicas(&self, replicas: &[NodeId]) -> Result<(), ApiError> {
        let wrong = |message: String| refuse(ErrorCode::InvalidReplicaAssignment, message);
        if replicas.is_empty() {
            return wrong(
                "The manual partition assignment includes an empty replica list.".to_owned(),
            );
        }
        for (index, node) in replicas.iter().enumerate() {
            if self.image.broker(*node).is_none() {
                return wrong(format!(
                    "The manual partition assignment includes broker {node}, but no such broker is registered."
                ));
            }
            if replicas[..index].contains(node) {
                return wrong(format!(
                    "The manual partition assignment includes the broker {node} more than once."
                ));
            }
        }
        Ok(())
    }

    /// An id that no topic has. Ids that look like an option on a command line are avoided, as in Kafka.
    fn fresh_topic_id(&self, random: &mut Random) -> TopicId {
        loop {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&random.next().to_be_bytes());
            bytes[8..].copy_from_slice(&random.next().to_be_bytes());
            // Version 4, variant 1 (RFC 9562).
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = TopicId(bytes);
            if self.image.topic(id).is_none() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    fn detail(
        &self,
        name: &str,
        topic_id: TopicId,
        new: NewTopic,
        records: &mut Vec<MetadataRecord>,
    ) -> CreatedTopicDetail {
        let name: Arc<str> = name.into();
        records.push(MetadataRecord::Topic(Topic {
            name: Arc::clone(&name),
            topic_id,
        }));
        for (config, value) in &new.configs {
            records.push(MetadataRecord::Config(Config {
                resource: ConfigResource::Topic(Arc::clone(&name)),
                name: config.clone(),
                value: Some(value.clone()),
            }));
        }
        for (partition, replicas) in (0..).zip(&new.assignments) {
            records.push(self.partition_record(topic_id, partition, replicas.clone()));
        }
        CreatedTopicDetail {
            topic_id,
            num_partitions: i32::try_from(new.assignments.len()).unwrap_or(i32::MAX),
            replication_factor: new
                .assignments
                .first()
                .and_then(|replicas| i16::try_from(replicas.len()).ok())
                .unwrap_or(i16::MAX),
            configs: new.configs,
        }
    }

    /// A new partition: its ISR are the active replicas, since all are equally empty.
    fn partition_record(
        &self,
        topic_id: TopicId,
        partition: i32,
        replicas: Vec<NodeId>,
    ) -> MetadataRecord {
        let isr: Vec<NodeId> = replicas
            .iter()
            .copied()
            .filter(|node| self.image.is_active(*node))
            .collect();
        MetadataRecord::Partition(Partition {
            topic_id,
            partition,
            registration: PartitionRegistration {
                leader: isr.first().copied(),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                replicas,
                isr,
                ..PartitionRegistration::default()
            },
        })
    }

    pub(super) fn delete_topics(
        &self,
        request: &DeleteTopicsRequest,
    ) -> Decision<Vec<DeletedTopic>> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let response = request
            .topics
            .iter()
            .map(|topic| {
                let result = self.deletable(topic).and_then(|found| {
                    if !seen.insert(found.id) {
                        return refuse(
                            ErrorCode::InvalidRequest,
                            "Duplicate topic in the request.",
                        );
                    }
                    records.push(MetadataRecord::RemoveTopic(RemoveTopic {
                        topic_id: found.id,
                    }));
                    Ok((found.name.to_string(), found.id))
                });
                DeletedTopic {
                    topic: topic.clone(),
                    result,
                }
            })
            .collect();
        Decision { records, response }
    }

    fn deletable(&self, topic: &TopicRef) -> Result<&TopicImage, ApiError> {
        if !self.config.settings.delete_topic_enable {
            return refuse(
                ErrorCode::TopicDeletionDisabled,
                "Topic deletion is disabled (delete.topic.enable).",
            );
        }
        let found = match topic {
            TopicRef::Name(name) => self.image.topic_by_name(name).ok_or(()),
            TopicRef::Id(id) => self.image.topic(*id).ok_or(()),
        };
        match (found, topic) {
            (Ok(topic), _) => Ok(topic),
            (Err(()), TopicRef::Name(_)) => refuse(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            ),
            (Err(()), TopicRef::Id(_)) => refuse(
                ErrorCode::UnknownTopicId,
                "This server does not host this topic ID.",
            ),
        }
    }

    pub(super) fn create_partitions(
        &self,
        seed: u64,
        request: &CreatePartitionsRequest,
    ) -> Decision<Vec<TopicResult>> {
        let mut random = Random::new(seed);
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let mut budget = MAX_PARTITIONS_PER_REQUEST;
        let response = request
            .topics
            .iter()
            .map(|topic| {
                let result = if seen.insert(&topic.name) {
                    self.added_partitions(&mut random, topic, &mut budget)
                } else {
                    refuse(ErrorCode::InvalidRequest, "Duplicate topic name.")
                };
                TopicResult {
                    name: topic.name.clone(),
                    result: result.map(|more| records.extend(more)),
                }
            })
            .collect();
        if request.validate_only {
            records.clear();
        }
        Decision { records, response }
    }

    fn added_partitions(
        &self,
        random: &mut Random,
        request: &CreatePartitionsTopic,
        budget: &mut i64,
    ) -> Result<Vec<MetadataRecord>, ApiError> {
        let Some(topic) = self.image.topic_by_name(&request.name) else {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            );
        };
        let now = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if request.count == now {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!("Topic already has {now} partition(s)."),
            );
        }
        if request.count < now {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "The topic {} currently has {now} partition(s); {} would not be an increase.",
                    topic.name, request.count
                ),
            );
        }
        *budget -= i64::from(request.count - now);
        if *budget < 0 {
            return too_many_partitions();
        }
        let additional = now..request.count;
        let assignments = match &request.assignments {
            Some(given) => self.given_additions(topic, additional.clone(), given)?,
            None => self.chosen_additions(random, topic, additional.clone())?,
        };
        Ok(additional
            .zip(assignments)
            .map(|(index, replicas)| self.partition_record(topic.id, index, replicas))
            .collect())
    }

    fn given_additions(
        &self,
        topic: &TopicImage,
        additional: std::ops::Range<i32>,
        given: &[Vec<NodeId>],
    ) -> Result<Vec<Vec<NodeId>>, ApiError> {
        if additional.len() != given.len() {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                    additional.len(),
                    given.len()
                ),
            );
        }
        let mut expected = Some(topic.replication_factor());
        for (index, replicas) in additional.zip(given) {
            self.check_assignment(index, replicas, &mut expected)?;
        }
        Ok(given.to_vec())
    }

    fn chosen_additions(
        &self,
        random: &mut Random,
        topic: &TopicImage,
        additional: std::ops::Range<i32>,
    ) -> Result<Vec<Vec<NodeId>>, ApiError> {
        let mut placer = Placer::new(self.image.brokers().map(AsRef::as_ref), random);
        for partition in &topic.partitions {
            placer.count(&partition.replicas);
        }
        additional
            .map(|_| placer.place(topic.replication_factor()))
            .collect()
    }
}

pub(super) fn too_many_partitions<T>() -> Result<T, ApiError> {
    refuse(
        ErrorCode::PolicyViolation,
        "Excessively large number of partitions per request.",
    )
}
