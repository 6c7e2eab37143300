//! Which groups are there, who is in them, and how are they deleted?

use std::collections::{BTreeMap, BTreeSet};

use types::{ErrorCode, TopicPartition};
use wire::Message;
use wire::messages::consumer_group_describe_response::DescribedGroup as ConsumerGroup;
use wire::messages::describe_groups_response::DescribedGroup;
use wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment,
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest,
};

use super::Admin;
use crate::client::CoordinatorKind;
use crate::error::{ClientError, error_code};
use crate::retry;

/// The state of a group that does not exist.
const DEAD: &str = "Dead";

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// `consumer`, `connect`, or empty for groups that only commit offsets.
    pub protocol_type: String,
    /// Its state, such as `Stable`; empty from brokers before 2.6.
    pub state: String,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// The name of a static member.
    pub group_instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Its partitions; empty while the group rebalances, or when it is not of the consumer protocol.
    pub assignment: BTreeSet<TopicPartition>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its state: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Assigning`, `Reconciling`, `Stable`, `Dead`.
    pub state: String,
    /// `consumer`, `connect`, or empty.
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

impl Admin {
    /// Every group of every broker.
    ///
    /// # Errors
    /// A broker refuses or does not answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let what = || "list groups".to_owned();
        let mut groups = BTreeMap::new();
        let metadata = self.client.refresh_topics(&[]).await?;
        for node in metadata.brokers.keys() {
            let answer = retry::until_done(self.client.options(), what, || async {
                let answer = self
                    .client
                    .broker(*node)
                    .await?
                    .send(&ListGroupsRequest::default())
                    .await?;
                ClientError::check(answer.error_code, None, what)?;
                Ok(answer)
            });
            for group in answer.await?.groups {
                let listing = GroupListing {
                    group_id: group.group_id.clone(),
                    protocol_type: group.protocol_type,
                    state: group.group_state,
                };
                groups.insert(group.group_id, listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group's state and members, of either protocol. A group that does not exist is `Dead` and has none.
    ///
    /// # Errors
    /// The coordinator refuses or does not answer.
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription, ClientError> {
        let classic = self.describe_classic_group(group_id).await?;
        if classic.state != DEAD {
            return Ok(classic);
        }
        match self.describe_consumer_group(group_id).await {
            Ok(consumer) => Ok(consumer.unwrap_or(classic)),
            // A broker without such groups.
            Err(ClientError::Version { .. }) => Ok(classic),
            Err(error) => Err(error),
        }
    }

    /// A group of the consumer protocol (KIP-848), if there is one of that name.
    async fn describe_consumer_group(
        &self,
        group_id: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group_id.to_owned()],
            ..ConsumerGroupDescribeRequest::default()
        };
        let check = |answer: ConsumerGroupDescribeResponse, _| {
            let group = answer.groups.into_iter().find(|g| g.group_id == group_id);
            let group = group
                .ok_or_else(|| ClientError::Config(format!("no answer about group {group_id}")))?;
            if error_code(group.error_code) == ErrorCode::GroupIdNotFound {
                return Ok(None);
            }
            let message = group.error_message.clone();
            ClientError::check(group.error_code, message, || {
                format!("describe group {group_id}")
            })?;
            Ok(Some(consumer_description(group)))
        };
        self.client
            .ask_coordinator(CoordinatorKind::Group, group_id, &request, i16::MAX, check)
            .await
    }

    async fn describe_classic_group(
        &self,
        group_id: &str,
    ) -> Result<GroupDescription, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![group_id.to_owned()],
            ..DescribeGroupsRequest::default()
        };
        let check = |answer: DescribeGroupsResponse, _| {
            let group = answer.groups.into_iter().find(|g| g.group_id == group_id);
            let group = group
                .ok_or_else(|| ClientError::Config(format!("no answer about group {group_id}")))?;
            // since version 6 a group that does not exist is an error instead of a dead group
            if error_code(group.error_code) != ErrorCode::GroupIdNotFound {
                let message = group.error_message.clone();
                ClientError::check(group.error_code, message, || {
                    format!("describe group {group_id}")
                })?;
            }
            Ok(description(group))
        };
        self.client
            .ask_coordinator(CoordinatorKind::Group, group_id, &request, i16::MAX, check)
            .await
    }

    /// Deletes a group and its offsets; it must have no members.
    ///
    /// # Errors
    /// The coordinator refuses or does not answer.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group_id.to_owned()],
            ..DeleteGroupsRequest::default()
        };
        let check = |answer: DeleteGroupsResponse, _| {
            let code = answer
                .results
                .iter()
                .find(|r| r.group_id == group_id)
                .map_or(-1, |r| r.error_code);
            ClientError::check(code, None, || format!("delete group {group_id}"))
        };
        self.client
            .ask_coordinator(CoordinatorKind::Group, group_id, &request, i16::MAX, check)
            .await
    }
}

fn consumer_description(group: ConsumerGroup) -> GroupDescription {
    let members = group.members.into_iter().map(|member| GroupMember {
        assignment: (member.assignment.topic_partitions.iter())
            .flat_map(|topic| {
                let name = topic.topic_name.as_str();
                (topic.partitions.iter()).map(move |one| TopicPartition::new(name, *one))
            })
            .collect(),
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
    });
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: "consumer".to_owned(),
        protocol: group.assignor_name,
        members: members.collect(),
    }
}

fn description(group: DescribedGroup) -> GroupDescription {
    let is_consumer = group.protocol_type == "consumer";
    let members = group.members.into_iter().map(|member| GroupMember {
        assignment: if is_consumer {
            partitions(member.member_assignment)
        } else {
            BTreeSet::new()
        },
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
    });
    let state = if error_code(group.error_code) == ErrorCode::None {
        group.group_state
    } else {
        DEAD.to_owned()
    };
    GroupDescription {
        group_id: group.group_id,
        state,
        protocol_type: group.protocol_type,
        protocol: group.protocol_data,
        members: members.collect(),
    }
}

/// The partitions of a consumer protocol assignment; none of bytes that are not one, as they are another client's.
pub(crate) fn partitions(assignment: bytes::Bytes) -> BTreeSet<TopicPartition> {
    let Ok((_, assignment)) = ConsumerProtocolAssignment::decode_versioned_lenient(assignment)
    else {
        return BTreeSet::new();
    };
    let of_topic = |t: wire::messages::consumer_protocol_assignment::TopicPartition| {
        t.partitions
            .into_iter()
            .map(move |p| TopicPartition::new(t.topic.as_str(), p))
    };
    assignment
        .assigned_partitions
        .into_iter()
        .flat_map(of_topic)
        .collect()
}
