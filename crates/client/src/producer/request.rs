//! How do batches become a produce request, and what does the answer say about each?

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use types::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicId, TopicPartition};
use wire::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::messages::produce_response::{PartitionProduceResponse, ProduceResponse};

use super::RawAck;
use super::options::{Acks, ProducerOptions};
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, error_code};
use crate::leader::at_leader;
use crate::metadata::{Broker, Metadata};

/// The last version with topic names instead of ids.
const LAST_WITH_NAMES: i16 = 12;

/// A request for some partitions' batches and the version to send it in: with topic ids when all are known.
pub(super) fn build(
    connection: &Connection,
    metadata: &Metadata,
    options: &ProducerOptions,
    timeout: Duration,
    batches: &[(&TopicPartition, Bytes)],
) -> Result<(ProduceRequest, i16), ClientError> {
    let id_of = |topic: &str| metadata.topics.get(topic).map_or(TopicId::ZERO, |t| t.id);
    let all_known = batches.iter().all(|(p, _)| !id_of(&p.topic).is_zero());
    let version = connection.version_of::<ProduceRequest>(if all_known {
        i16::MAX
    } else {
        LAST_WITH_NAMES
    })?;
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (partition, records) in batches {
        let data = PartitionProduceData {
            index: partition.partition,
            records: Some(records.clone()),
            ..PartitionProduceData::default()
        };
        match topics.iter_mut().find(|t| *t.name == *partition.topic) {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(TopicProduceData {
                name: partition.topic.to_string(),
                topic_id: id_of(&partition.topic),
                partition_data: vec![data],
                ..TopicProduceData::default()
            }),
        }
    }
    let request = ProduceRequest {
        acks: options.acks.to_wire(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: topics,
        ..ProduceRequest::default()
    };
    Ok((request, version))
}

/// What the answer says, by topic (name or id, as the version has it) and partition; leader hints go to the metadata.
#[derive(Debug)]
pub(super) struct Answers {
    by_name: HashMap<(String, i32), PartitionProduceResponse>,
    by_id: HashMap<(TopicId, i32), PartitionProduceResponse>,
}

impl Answers {
    pub(super) fn new(client: &Client, response: ProduceResponse) -> Self {
        let endpoint = |node: NodeId| {
            let found = response
                .node_endpoints
                .iter()
                .find(|e| e.node_id == node.0)?;
            let port = u16::try_from(found.port).ok()?;
            Some(Broker {
                id: node,
                host: found.host.clone(),
                port,
                rack: found.rack.clone(),
            })
        };
        let metadata = client.metadata();
        let mut answers = Self {
            by_name: HashMap::new(),
            by_id: HashMap::new(),
        };
        for topic in response.responses {
            let name = if topic.name.is_empty() {
                metadata.topic_name(topic.topic_id).unwrap_or("")
            } else {
                &topic.name
            };
            for partition in topic.partition_responses {
                let leader = NodeId(partition.current_leader.leader_id);
                if leader.0 >= 0 {
                    let epoch = LeaderEpoch(partition.current_leader.leader_epoch);
                    client.learn_leader(name, partition.index, leader, epoch, endpoint(leader));
                }
                if topic.name.is_empty() {
                    answers
                        .by_id
                        .insert((topic.topic_id, partition.index), partition);
                } else {
                    answers
                        .by_name
                        .insert((topic.name.clone(), partition.index), partition);
                }
            }
        }
        answers
    }

    pub(super) fn take(
        &mut self,
        partition: &TopicPartition,
        id: TopicId,
    ) -> Option<PartitionProduceResponse> {
        let by_name = self
            .by_name
            .remove(&(partition.topic.to_string(), partition.partition));
        by_name.or_else(|| self.by_id.remove(&(id, partition.partition)))
    }
}

/// The error of one partition's answer, with the reason of the first bad record if there is one.
pub(super) fn check(
    partition: &TopicPartition,
    answer: &PartitionProduceResponse,
) -> Result<i64, ClientError> {
    match error_code(answer.error_code) {
        ErrorCode::None => Ok(answer.base_offset),
        // the broker has it already, but no longer knows at which offset
        ErrorCode::DuplicateSequenceNumber => Ok(-1),
        _ => {
            let of_record = answer
                .record_errors
                .first()
                .and_then(|e| e.batch_index_error_message.clone());
            let message = answer.error_message.clone().or(of_record);
            ClientError::check(answer.error_code, message, || {
                format!("produce to {partition}")
            })
            .map(|()| -1)
        }
    }
}

/// Sends batches to a leader as they are.
pub(super) async fn send_raw(
    client: &Client,
    options: &ProducerOptions,
    partition: &TopicPartition,
    batches: Bytes,
) -> Result<RawAck, ClientError> {
    let what = || format!("produce to {partition}");
    let timeout = client.options().request_timeout;
    at_leader(client, partition, what, |connection| {
        let batches = batches.clone();
        async move {
            let metadata = client.metadata();
            let (request, version) = build(
                &connection,
                &metadata,
                options,
                timeout,
                &[(partition, batches)],
            )?;
            if options.acks == Acks::None {
                connection.send_unanswered(&request, version).await?;
                return Ok(RawAck {
                    base_offset: None,
                    log_append_time_ms: None,
                    log_start_offset: None,
                });
            }
            let response = connection.send_slow(&request, version, timeout).await?;
            let id = metadata
                .topics
                .get(&*partition.topic)
                .map_or(TopicId::ZERO, |t| t.id);
            let answer = Answers::new(client, response).take(partition, id);
            let missing = || {
                crate::client::missing(&connection, wire::ApiKey::Produce, &partition.to_string())
            };
            let answer = answer.ok_or_else(missing)?;
            let known = |value: i64| Some(value).filter(|v| *v >= 0);
            Ok(RawAck {
                base_offset: known(check(partition, &answer)?).map(Offset),
                log_append_time_ms: known(answer.log_append_time_ms),
                log_start_offset: known(answer.log_start_offset).map(Offset),
            })
        }
    })
    .await
}
