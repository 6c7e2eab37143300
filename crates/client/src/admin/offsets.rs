//! Which offsets does a partition have, and which has a group committed?

use std::collections::{BTreeMap, BTreeSet};

use types::{LeaderEpoch, Offset, TopicPartition};
use wire::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use wire::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use wire::messages::{OffsetCommitResponse, OffsetFetchResponse};

use super::Admin;
use crate::client::{Client, CoordinatorKind};
use crate::error::{ClientError, error_code};
use crate::leader::ask_leader;

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark (or last stable offset): the offset of the next record.
    Latest,
    /// The first record that is not older than this time (ms since the epoch).
    Timestamp(i64),
    /// The record with the highest timestamp (KIP-734).
    MaxTimestamp,
}

impl OffsetSpec {
    pub(crate) fn to_wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Timestamp(at) => at.max(0),
            Self::MaxTimestamp => -3,
        }
    }
}

/// What a leader answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None` when no record is as young as the timestamp.
    pub offset: Option<Offset>,
    /// The record's timestamp, when asked by time.
    pub timestamp: Option<i64>,
    /// The leader epoch of the offset, if known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A committed offset of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the committer noted.
    pub metadata: String,
}

impl From<Offset> for CommittedOffset {
    fn from(offset: Offset) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }
}

impl Admin {
    /// Offsets of partitions, each from its leader.
    ///
    /// # Errors
    /// A leader refuses or does not answer in time.
    pub async fn list_offsets(
        &self,
        of: &BTreeMap<TopicPartition, OffsetSpec>,
        read_committed: bool,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        let mut listed = BTreeMap::new();
        for (partition, spec) in of {
            listed.insert(
                partition.clone(),
                list_offset(&self.client, partition, *spec, read_committed).await?,
            );
        }
        Ok(listed)
    }

    /// A group's committed offsets: of these partitions, or of all (`None`). Partitions without one are left out.
    ///
    /// # Errors
    /// The coordinator refuses or does not answer.
    pub async fn fetch_offsets(
        &self,
        group_id: &str,
        of: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        fetch_offsets(&self.client, group_id, of, false).await
    }

    /// Commits offsets for a group without members, as an administrator does.
    ///
    /// # Errors
    /// The coordinator refuses (the group has members) or does not answer; or a partition is refused.
    pub async fn commit_offsets(
        &self,
        group_id: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        let request = commit_request(group_id, offsets);
        let check = |answer: OffsetCommitResponse, _| check_commit(group_id, &answer);
        self.client
            .ask_coordinator(CoordinatorKind::Group, group_id, &request, 9, check)
            .await
    }
}

pub(crate) async fn list_offset(
    client: &Client,
    partition: &TopicPartition,
    spec: OffsetSpec,
    read_committed: bool,
) -> Result<ListedOffset, ClientError> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(read_committed),
        topics: vec![ListOffsetsTopic {
            name: partition.topic.to_string(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition.partition,
                timestamp: spec.to_wire(),
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    };
    let what = || format!("list the offset {spec:?} of {partition}");
    ask_leader(client, partition, what, &request, i16::MAX, |answer| {
        let found = answer
            .topics
            .into_iter()
            .flat_map(|t| t.partitions)
            .find(|p| p.partition_index == partition.partition)?;
        let listed = ListedOffset {
            offset: Some(Offset(found.offset)).filter(|o| o.0 >= 0),
            timestamp: Some(found.timestamp).filter(|t| *t >= 0),
            leader_epoch: Some(LeaderEpoch(found.leader_epoch)).filter(|e| e.0 >= 0),
        };
        Some((found.error_code, listed))
    })
    .await
}

/// Partitions grouped by topic.
pub(crate) fn by_topic<'a, T>(
    of: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, value) in of {
        topics
            .entry(&partition.topic)
            .or_default()
            .push((partition.partition, value));
    }
    topics
}

pub(crate) async fn fetch_offsets(
    client: &Client,
    group_id: &str,
    of: Option<&BTreeSet<TopicPartition>>,
    require_stable: bool,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    // Version 10 has topic ids, which the answer would have to be translated back from; 9 says the same with names.
    const AT_MOST: i16 = 9;
    let topics = of.map(|of| by_topic(of.iter().map(|p| (p, ()))));
    let indexes = |partitions: Vec<(i32, ())>| {
        partitions
            .into_iter()
            .map(|(index, ())| index)
            .collect::<Vec<i32>>()
    };
    let mut batched = OffsetFetchRequest {
        require_stable,
        topics: Some(Vec::new()),
        ..OffsetFetchRequest::default()
    };
    let single = OffsetFetchRequest {
        group_id: group_id.to_owned(),
        topics: topics.clone().map(|topics| {
            let topic = |(name, partitions): (&str, _)| OffsetFetchRequestTopic {
                name: name.to_owned(),
                partition_indexes: indexes(partitions),
                ..OffsetFetchRequestTopic::default()
            };
            topics.into_iter().map(topic).collect()
        }),
        ..batched.clone()
    };
    batched.groups = vec![OffsetFetchRequestGroup {
        group_id: group_id.to_owned(),
        topics: topics.map(|topics| {
            let topic = |(name, partitions): (&str, _)| OffsetFetchRequestTopics {
                name: name.to_owned(),
                partition_indexes: indexes(partitions),
                ..OffsetFetchRequestTopics::default()
            };
            topics.into_iter().map(topic).collect()
        }),
        ..OffsetFetchRequestGroup::default()
    }];
    let check = |answer: OffsetFetchResponse, version: i16| committed(group_id, answer, version);
    let kind = CoordinatorKind::Group;
    match client
        .ask_coordinator(kind, group_id, &batched, AT_MOST, check)
        .await
    {
        // a broker without the form for several groups
        Err(ClientError::Encode(_)) => {
            client
                .ask_coordinator(kind, group_id, &single, 7, check)
                .await
        }
        result => result,
    }
}

type Committed = BTreeMap<TopicPartition, CommittedOffset>;

fn committed(
    group_id: &str,
    answer: OffsetFetchResponse,
    version: i16,
) -> Result<Committed, ClientError> {
    let what = || format!("fetch the offsets of group {group_id}");
    let mut offsets = Committed::new();
    let mut add =
        |topic: &str, index: i32, code: i16, offset: i64, epoch: i32, metadata: Option<String>| {
            ClientError::check(code, None, || format!("{} for {topic}-{index}", what()))?;
            if offset >= 0 {
                let leader_epoch = Some(LeaderEpoch(epoch)).filter(|e| e.0 >= 0);
                let committed = CommittedOffset {
                    offset: Offset(offset),
                    leader_epoch,
                    metadata: metadata.unwrap_or_default(),
                };
                offsets.insert(TopicPartition::new(topic, index), committed);
            }
            Ok::<(), ClientError>(())
        };
    if version < 8 {
        ClientError::check(answer.error_code, None, what)?;
        for topic in answer.topics {
            for p in topic.partitions {
                add(
                    &topic.name,
                    p.partition_index,
                    p.error_code,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.metadata,
                )?;
            }
        }
        return Ok(offsets);
    }
    for group in answer.groups.into_iter().filter(|g| g.group_id == group_id) {
        ClientError::check(group.error_code, None, what)?;
        for topic in group.topics {
            for p in topic.partitions {
                add(
                    &topic.name,
                    p.partition_index,
                    p.error_code,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.metadata,
                )?;
            }
        }
    }
    Ok(offsets)
}

/// A commit by nobody in particular; a member adds its generation and id.
pub(crate) fn commit_request(
    group_id: &str,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> OffsetCommitRequest {
    let partition = |(index, committed): (i32, &CommittedOffset)| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: committed.offset.0,
        committed_leader_epoch: committed.leader_epoch.map_or(-1, |e| e.0),
        committed_metadata: Some(committed.metadata.clone()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = |(name, partitions): (&str, Vec<_>)| OffsetCommitRequestTopic {
        name: name.to_owned(),
        partitions: partitions.into_iter().map(partition).collect(),
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: group_id.to_owned(),
        topics: by_topic(offsets.iter()).into_iter().map(topic).collect(),
        ..OffsetCommitRequest::default()
    }
}

/// The first partition's refusal, if any.
pub(crate) fn check_commit(
    group_id: &str,
    answer: &OffsetCommitResponse,
) -> Result<(), ClientError> {
    for topic in &answer.topics {
        for p in &topic.partitions {
            let what = || {
                format!(
                    "commit the offset of {}-{} for group {group_id}",
                    topic.name, p.partition_index
                )
            };
            ClientError::check(error_code(p.error_code).code(), None, what)?;
        }
    }
    Ok(())
}
