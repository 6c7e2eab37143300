//! Which brokers does a target have, who leads what, and how does a topic get there?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use types::ErrorCode;
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::describe_quorum_request::{PartitionData, TopicData};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeQuorumRequest, ListOffsetsRequest,
    MetadataRequest, MetadataResponse,
};

use super::connection::Connection;

const METADATA: i16 = 9;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 5;
const LIST_OFFSETS: i16 = 5;
const DESCRIBE_QUORUM: i16 = 0;
/// The timestamp that asks ListOffsets for the log's end.
const LATEST: i64 = -1;
/// Between two attempts at a cluster that lost a broker a moment ago.
const PACE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster under test.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) pids: Vec<u32>,
    topic_configs: Vec<CreatableTopicConfig>,
}

impl Target {
    /// `NAME=HOST:PORT[,HOST:PORT][@PID[,PID...]]`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, rest) = text
            .split_once('=')
            .with_context(|| format!("target {text:?}: want NAME=HOST:PORT[@PID]"))?;
        let (servers, pids) = rest.split_once('@').unwrap_or((rest, ""));
        let pids = pids
            .split(',')
            .filter(|pid| !pid.is_empty())
            .map(|pid| {
                pid.parse()
                    .with_context(|| format!("target {text:?}: {pid:?} is no PID"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            bootstrap: servers.split(',').map(str::to_owned).collect(),
            pids,
            topic_configs: Vec::new(),
        })
    }

    /// With those `NAME=KEY=VALUE` that have its name.
    pub(crate) fn with_topic_configs(mut self, all: &[String]) -> anyhow::Result<Self> {
        for text in all {
            let mut parts = text.splitn(3, '=');
            let (Some(target), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next())
            else {
                bail!("topic-config {text:?}: want NAME=KEY=VALUE");
            };
            if target == self.name {
                self.topic_configs.push(CreatableTopicConfig {
                    name: key.to_owned(),
                    value: Some(value.to_owned()),
                    ..Default::default()
                });
            }
        }
        Ok(self)
    }

    /// A connection to the first of its brokers that takes one.
    pub(crate) fn any(&self) -> anyhow::Result<Connection> {
        let mut tried = self
            .bootstrap
            .iter()
            .map(|address| Connection::open(address));
        let last = tried.find(Result::is_ok);
        last.unwrap_or_else(|| Connection::open(&self.bootstrap[0]))
    }
}

fn metadata(target: &Target, topic: &str) -> anyhow::Result<MetadataResponse> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        // The wait for a deletion must not create the topic again.
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    target.any()?.call(METADATA, &request)
}

/// Address of a leader -> the partitions it leads.
pub(crate) type Leaders = BTreeMap<String, Vec<i32>>;

/// Waits until every partition of the topic has a leader and a full ISR.
pub(crate) fn leaders(target: &Target, topic: &str) -> anyhow::Result<Leaders> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = metadata(target, topic)?;
        if let Some(found) = leaders_of(&response) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!(
                "topic {topic} of {} has no leaders after {} s: {:?}",
                target.name,
                PATIENCE.as_secs(),
                response.topics
            );
        }
    }
}

/// Who leads which partitions now.
pub(crate) fn led(target: &Target, topic: &str) -> anyhow::Result<Leaders> {
    let response = metadata(target, topic)?;
    let address = addresses(&response);
    let mut leaders = Leaders::new();
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = address.get(&partition.leader_id) {
            let led = leaders.entry(leader.clone()).or_default();
            led.push(partition.partition_index);
        }
    }
    Ok(leaders)
}

/// Id of the leader of partition 0.
pub(crate) fn leader_of_first(target: &Target, topic: &str) -> anyhow::Result<i32> {
    let response = metadata(target, topic)?;
    let partitions = response.topics.first().map(|topic| &topic.partitions);
    let found = partitions.and_then(|all| all.iter().find(|one| one.partition_index == 0));
    Ok(found.context("no partition 0")?.leader_id)
}

/// Ids of the brokers that are there.
pub(crate) fn nodes(target: &Target) -> anyhow::Result<Vec<i32>> {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    };
    let response = target.any()?.call(METADATA, &request)?;
    Ok(response.brokers.iter().map(|one| one.node_id).collect())
}

/// Id of the active controller.
pub(crate) fn active_controller(target: &Target) -> anyhow::Result<i32> {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".to_owned(),
            partitions: vec![PartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = target.any()?.call(DESCRIBE_QUORUM, &request)?;
    let answers = response.topics.first();
    let found = answers.and_then(|topic| topic.partitions.first());
    Ok(found.context("no answer about the quorum")?.leader_id)
}

/// The end of partition 0, as far as it is committed.
pub(crate) fn end_offset(target: &Target, topic: &str) -> anyhow::Result<i64> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                current_leader_epoch: -1,
                timestamp: LATEST,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let led = leaders(target, topic)?;
    let (leader, _) = led.first_key_value().context("no leader")?;
    let response = Connection::open(leader)?.call(LIST_OFFSETS, &request)?;
    let answers = response.topics.first();
    let found = answers.and_then(|topic| topic.partitions.first());
    let found = found.context("an empty answer about offsets")?;
    if found.error_code != 0 {
        bail!("ListOffsets failed with {}", found.error_code);
    }
    Ok(found.offset)
}

fn addresses(response: &MetadataResponse) -> BTreeMap<i32, String> {
    response
        .brokers
        .iter()
        .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
        .collect()
}

/// None while a partition has no leader or an incomplete ISR.
fn leaders_of(response: &MetadataResponse) -> Option<Leaders> {
    let found = response.topics.first()?;
    let ready = found.error_code == 0
        && !found.partitions.is_empty()
        && found.partitions.iter().all(|p| {
            p.error_code == 0 && p.leader_id >= 0 && p.isr_nodes.len() == p.replica_nodes.len()
        });
    if !ready {
        return None;
    }
    let address = addresses(response);
    let mut leaders = Leaders::new();
    for partition in &found.partitions {
        leaders
            .entry(address.get(&partition.leader_id)?.clone())
            .or_default()
            .push(partition.partition_index);
    }
    Some(leaders)
}

/// Address of the controller, or of the first broker.
fn controller(target: &Target) -> anyhow::Result<Connection> {
    let response = target.any()?.call(
        METADATA,
        &MetadataRequest {
            topics: Some(Vec::new()),
            ..Default::default()
        },
    )?;
    let found = response
        .brokers
        .iter()
        .find(|broker| broker.node_id == response.controller_id);
    let broker = found
        .or_else(|| response.brokers.first())
        .context("metadata without brokers")?;
    Connection::open(&format!("{}:{}", broker.host, broker.port))
}

/// Creates a topic, unless it is there, and waits for its leaders.
pub(crate) fn ensure_topic(
    target: &Target,
    topic: &str,
    partitions: i32,
    replication_factor: i16,
) -> anyhow::Result<()> {
    create_topic(target, topic, partitions, replication_factor)?;
    leaders(target, topic).map(drop)
}

/// Creates a topic, unless it is there.
pub(crate) fn create_topic(
    target: &Target,
    topic: &str,
    partitions: i32,
    replication_factor: i16,
) -> anyhow::Result<()> {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.to_owned(),
            num_partitions: partitions,
            replication_factor,
            configs: target.topic_configs.clone(),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = controller(target)?.call(CREATE_TOPICS, &request)?;
        match ErrorCode::from_code(response.topics[0].error_code) {
            Some(ErrorCode::None | ErrorCode::TopicAlreadyExists) => break,
            Some(code) if code.is_retriable() && Instant::now() < deadline => {}
            code => bail!(
                "failed to create {topic}: {code:?} {:?}",
                response.topics[0].error_message
            ),
        }
    }
    Ok(())
}

/// Creates a topic, however often it takes: whoever is asked may just be gone.
pub(crate) fn create_topic_patiently(
    target: &Target,
    topic: &str,
    partitions: i32,
    replication_factor: i16,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while let Err(error) = create_topic(target, topic, partitions, replication_factor) {
        if began.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::park_timeout(PACE);
    }
    Ok(())
}

/// Deletes a topic and waits until metadata no longer has it.
pub(crate) fn delete_topic(target: &Target, topic: &str) -> anyhow::Result<()> {
    let request = DeleteTopicsRequest {
        topic_names: vec![topic.to_owned()],
        timeout_ms: 30_000,
        ..Default::default()
    };
    controller(target)?.call(DELETE_TOPICS, &request)?;
    let deadline = Instant::now() + PATIENCE;
    while metadata(target, topic)?.topics[0].error_code != ErrorCode::UnknownTopicOrPartition.code()
    {
        if Instant::now() > deadline {
            bail!(
                "topic {topic} of {} is still there after {} s",
                target.name,
                PATIENCE.as_secs()
            );
        }
    }
    Ok(())
}
