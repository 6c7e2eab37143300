//! How are topics created, deleted, grown and described?

use std::collections::BTreeMap;

use types::{Offset, TopicId, TopicPartition};
use wire::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use wire::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use wire::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use wire::messages::{CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse};

use super::{Admin, refuse_not_controller};
use crate::error::ClientError;
use crate::leader::ask_leader;
use crate::metadata::TopicMetadata;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None`: the broker's default. Ignored with `assignments`.
    pub partitions: Option<i32>,
    /// Replicas of each; `None`: the broker's default. Ignored with `assignments`.
    pub replication_factor: Option<i16>,
    /// Brokers of each partition, preferred leader first; empty: the controller places them.
    pub assignments: Vec<Vec<i32>>,
    /// Topic configuration by Kafka's keys.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with a number of partitions and replicas.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self {
            name: name.into(),
            partitions: Some(partitions),
            replication_factor: Some(replication_factor),
            assignments: Vec::new(),
            configs: BTreeMap::new(),
        }
    }

    /// Sets a configuration key.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let assigned = !self.assignments.is_empty();
        let assignment = |(index, brokers): (i32, &Vec<i32>)| CreatableReplicaAssignment {
            partition_index: index,
            broker_ids: brokers.clone(),
            ..CreatableReplicaAssignment::default()
        };
        let config = |(name, value): (&String, &String)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
            ..CreatableTopicConfig::default()
        };
        CreatableTopic {
            name: self.name.clone(),
            num_partitions: self.partitions.filter(|_| !assigned).unwrap_or(-1),
            replication_factor: self.replication_factor.filter(|_| !assigned).unwrap_or(-1),
            assignments: (0..).zip(&self.assignments).map(assignment).collect(),
            configs: self.configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        }
    }
}

/// A topic as the controller created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its identity; zero from brokers before 2.8.
    pub id: TopicId,
    /// Number of partitions; `None` when the caller may not see it.
    pub partitions: Option<i32>,
    /// Replicas of each; `None` when the caller may not see it.
    pub replication_factor: Option<i16>,
}

impl Admin {
    /// Creates topics, or only says whether they could be.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<(String, Result<CreatedTopic, ClientError>)>, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::to_wire).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..CreateTopicsRequest::default()
        };
        let check = |answer: CreateTopicsResponse| {
            refuse_not_controller(answer.topics.iter().map(|t| t.error_code))?;
            let results = answer.topics.into_iter().map(|t| {
                let created = CreatedTopic {
                    name: t.name.clone(),
                    id: t.topic_id,
                    partitions: Some(t.num_partitions).filter(|n| *n >= 0),
                    replication_factor: Some(t.replication_factor).filter(|n| *n >= 0),
                };
                let result = ClientError::check(t.error_code, t.error_message, || {
                    format!("create topic {}", t.name)
                });
                (t.name, result.map(|()| created))
            });
            Ok(results.collect())
        };
        self.client
            .ask_controller(|| "create topics".to_owned(), &request, check)
            .await
    }

    /// Creates one topic.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        only(
            self.create_topics(std::slice::from_ref(topic), false)
                .await?,
            &topic.name,
        )
    }

    /// Deletes topics by name.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn delete_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<(), ClientError>)>, ClientError> {
        // Both forms are filled in: the version that is negotiated takes one and ignores the other.
        let state = |name: &String| DeleteTopicState {
            name: Some(name.clone()),
            ..DeleteTopicState::default()
        };
        let by_state = DeleteTopicsRequest {
            topics: names.iter().map(state).collect(),
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let by_name = DeleteTopicsRequest {
            topics: Vec::new(),
            topic_names: names.to_vec(),
            ..by_state.clone()
        };
        let check = |answer: DeleteTopicsResponse| {
            refuse_not_controller(answer.responses.iter().map(|t| t.error_code))?;
            let results = answer.responses.into_iter().map(|t| {
                let name = t.name.unwrap_or_default();
                let result = ClientError::check(t.error_code, t.error_message, || {
                    format!("delete topic {name}")
                });
                (name, result)
            });
            Ok(results.collect())
        };
        let what = || "delete topics".to_owned();
        match self.client.ask_controller(what, &by_state, check).await {
            Err(ClientError::Encode(_)) => self.client.ask_controller(what, &by_name, check).await,
            result => result,
        }
    }

    /// Deletes one topic.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        only(self.delete_topics(&[name.to_owned()]).await?, name)
    }

    /// Raises the number of partitions of a topic to `count`.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let topics = vec![CreatePartitionsTopic {
            name: topic.to_owned(),
            count,
            assignments: None,
            ..CreatePartitionsTopic::default()
        }];
        let timeout_ms = self.timeout_ms();
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms,
            validate_only,
            ..CreatePartitionsRequest::default()
        };
        let what = || format!("raise topic {topic} to {count} partitions");
        let check = |answer: CreatePartitionsResponse| {
            refuse_not_controller(answer.results.iter().map(|t| t.error_code))?;
            Ok(answer
                .results
                .into_iter()
                .map(|t| {
                    (
                        t.name,
                        ClientError::check(t.error_code, t.error_message, what),
                    )
                })
                .collect())
        };
        only(
            self.client.ask_controller(what, &request, check).await?,
            topic,
        )
    }

    /// Every topic, by name.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn list_topics(&self) -> Result<BTreeMap<String, TopicMetadata>, ClientError> {
        Ok(self.client.refresh_all().await?.topics.clone())
    }

    /// Ids, leaders, replicas and ISR of topics, freshly asked for.
    ///
    /// # Errors
    /// Nobody answers; for one topic: it does not exist, or may not be seen.
    pub async fn describe_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<TopicMetadata, ClientError>)>, ClientError> {
        let metadata = self.client.refresh_topics(names).await?;
        let describe = |name: &String| {
            let code = metadata.missing.get(name).map_or(3, |code| code.code()); // 3: unknown topic
            let missing = || ClientError::check(code, None, || format!("describe topic {name}"));
            match metadata.topics.get(name) {
                Some(topic) => Ok(topic.clone()),
                None => Err(missing()
                    .err()
                    .unwrap_or(ClientError::Config(format!("no topic {name}")))),
            }
        };
        Ok(names
            .iter()
            .map(|name| (name.clone(), describe(name)))
            .collect())
    }

    /// Moves the log start offset of partitions up, which deletes the records below. Gives the new log start offsets.
    ///
    /// # Errors
    /// A leader refuses or does not answer.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
        let mut moved = BTreeMap::new();
        for (partition, offset) in before {
            let what = || format!("delete records of {partition} before {offset}");
            let topic = DeleteRecordsTopic {
                name: partition.topic.to_string(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: partition.partition,
                    offset: offset.0,
                    ..DeleteRecordsPartition::default()
                }],
                ..DeleteRecordsTopic::default()
            };
            let request = DeleteRecordsRequest {
                topics: vec![topic],
                timeout_ms: self.timeout_ms(),
                ..DeleteRecordsRequest::default()
            };
            let low = ask_leader(
                &self.client,
                partition,
                what,
                &request,
                i16::MAX,
                |answer| {
                    let result = answer
                        .topics
                        .into_iter()
                        .flat_map(|t| t.partitions)
                        .next()?;
                    Some((result.error_code, result.low_watermark))
                },
            )
            .await?;
            moved.insert(partition.clone(), Offset(low));
        }
        Ok(moved)
    }
}

/// The result for one thing out of an answer for several.
pub(super) fn only<T>(
    results: Vec<(String, Result<T, ClientError>)>,
    name: &str,
) -> Result<T, ClientError> {
    let found = results.into_iter().find(|(answered, _)| answered == name);
    found.map_or_else(
        || {
            Err(ClientError::Config(format!(
                "the broker's answer says nothing about {name}"
            )))
        },
        |(_, result)| result,
    )
}
