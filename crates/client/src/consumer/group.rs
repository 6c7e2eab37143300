//! How does a consumer become, stay and cease to be a member of a group (the classic protocol)?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::{ErrorCode, Offset, TopicPartition};
use wire::Message;
use wire::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use wire::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use wire::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, OffsetCommitRequest,
};

use super::assignor::{Subscriber, assign_ranges};
use super::heartbeat::{Heartbeat, Signal};
use super::options::{ConsumerOptions, millis};
use crate::admin::{CommittedOffset, check_commit, commit_request, partitions};
use crate::client::{Client, CoordinatorKind};
use crate::connection::Connection;
use crate::error::{ClientError, error_code};
use crate::retry::Retry;

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// Subscriptions and assignments are written in this version of the consumer protocol; all that is newer in later ones
/// is for assignors that this client does not have.
const PROTOCOL_VERSION: i16 = 1;

/// A place in a group: one generation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) member_id: String,
    pub(super) generation: i32,
}

/// The consumer's side of a group.
#[derive(Debug)]
pub(super) struct Group {
    client: Client,
    options: Arc<ConsumerOptions>,
    group_id: String,
    pub(super) topics: BTreeSet<String>,
    /// A connection of its own: a join that waits holds up what is behind it.
    connection: Option<Connection>,
    member_id: String,
    membership: Option<Membership>,
    heartbeat: Option<Heartbeat>,
    /// Whether this member assigns the partitions, so that it has to notice when topics grow.
    pub(super) is_leader: bool,
}

impl Group {
    pub(super) fn new(client: Client, options: Arc<ConsumerOptions>) -> Result<Self, ClientError> {
        let group_id = options.group_id()?.to_owned();
        Ok(Self {
            client,
            options,
            group_id,
            topics: BTreeSet::new(),
            connection: None,
            member_id: String::new(),
            membership: None,
            heartbeat: None,
            is_leader: false,
        })
    }

    /// What the heartbeats say; `None` while not a member.
    pub(super) fn signal(&self) -> Option<Signal> {
        self.membership.as_ref()?;
        self.heartbeat.as_ref().map(Heartbeat::signal)
    }

    /// Waits until the heartbeats say something new; pending while not a member.
    pub(super) async fn changed(&mut self) {
        match &mut self.heartbeat {
            Some(heartbeat) => heartbeat.changed().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn polled(&self) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.polled();
        }
    }

    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Gives the membership up without telling anybody. `forget`: the coordinator does not know the member any more.
    pub(super) fn lose(&mut self, forget: bool) {
        self.membership = None;
        self.heartbeat = None;
        if forget {
            self.member_id.clear();
        }
    }

    async fn connection(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.as_ref().filter(|c| !c.is_closed()) {
            return Ok(connection.clone());
        }
        let node = self
            .client
            .coordinator(CoordinatorKind::Group, &self.group_id)
            .await?;
        let connection = self.client.dedicated(node).await?;
        Ok(self.connection.insert(connection).clone())
    }

    /// Joins, takes part in the assignment, and starts heartbeats. Gives the partitions.
    ///
    /// # Errors
    /// The coordinator refuses, or there is none within `api_timeout`.
    pub(super) async fn join(&mut self) -> Result<BTreeSet<TopicPartition>, ClientError> {
        self.lose(false);
        let mut retry = Retry::new(self.client.options(), self.client.options().api_timeout);
        loop {
            let error = match self.try_join().await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => error,
            };
            match error.code() {
                // given an id to join with: at once
                Some(ErrorCode::MemberIdRequired) => continue,
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                    self.member_id.clear();
                }
                Some(ErrorCode::RebalanceInProgress) => {}
                _ if error.is_retriable() => self.connection = None,
                _ => return Err(error),
            }
            retry
                .pause(|| format!("join group {}", self.group_id), error)
                .await?;
        }
    }

    async fn try_join(&mut self) -> Result<BTreeSet<TopicPartition>, ClientError> {
        let connection = self.connection().await?;
        let joined = self.send_join(&connection).await?;
        self.member_id.clone_from(&joined.member_id);
        let what = || format!("join group {}", self.group_id);
        ClientError::check(joined.error_code, None, what)?;
        self.is_leader = joined.leader == joined.member_id;
        let assignments = if self.is_leader && !joined.skip_assignment {
            self.assign(&joined.members).await?
        } else {
            BTreeMap::new()
        };
        let assignment = self.send_sync(&connection, &joined, assignments).await?;
        let membership = Membership {
            member_id: joined.member_id,
            generation: joined.generation_id,
        };
        self.heartbeat = Some(Heartbeat::start(
            connection,
            &self.group_id,
            &membership,
            &self.options,
        ));
        self.membership = Some(membership);
        Ok(assignment)
    }

    async fn send_join(&self, connection: &Connection) -> Result<JoinGroupResponse, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().cloned().collect(),
            ..ConsumerProtocolSubscription::default()
        };
        let protocol = JoinGroupRequestProtocol {
            name: ASSIGNOR.to_owned(),
            metadata: subscription.encode_versioned(PROTOCOL_VERSION)?,
            ..JoinGroupRequestProtocol::default()
        };
        let request = JoinGroupRequest {
            group_id: self.group_id.clone(),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.max_poll_interval),
            member_id: self.member_id.clone(),
            group_instance_id: self.options.group_instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        let version = connection.version_of::<JoinGroupRequest>(i16::MAX)?;
        connection
            .send_slow(&request, version, self.options.max_poll_interval)
            .await
    }

    async fn send_sync(
        &self,
        connection: &Connection,
        joined: &JoinGroupResponse,
        assignments: BTreeMap<String, BTreeSet<TopicPartition>>,
    ) -> Result<BTreeSet<TopicPartition>, ClientError> {
        let encode = |(member_id, partitions): (String, BTreeSet<TopicPartition>)| {
            let assignment = encode_assignment(&partitions)?;
            Ok(SyncGroupRequestAssignment {
                member_id,
                assignment,
                ..SyncGroupRequestAssignment::default()
            })
        };
        let request = SyncGroupRequest {
            group_id: self.group_id.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: self.options.group_instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: joined.protocol_name.clone(),
            assignments: assignments
                .into_iter()
                .map(encode)
                .collect::<Result<_, ClientError>>()?,
            ..SyncGroupRequest::default()
        };
        let version = connection.version_of::<SyncGroupRequest>(i16::MAX)?;
        let synced = connection
            .send_slow(&request, version, self.options.max_poll_interval)
            .await?;
        ClientError::check(synced.error_code, None, || {
            format!("sync group {}", self.group_id)
        })?;
        Ok(partitions(synced.assignment))
    }

    /// The leader's work: who reads what.
    async fn assign(
        &self,
        members: &[JoinGroupResponseMember],
    ) -> Result<BTreeMap<String, BTreeSet<TopicPartition>>, ClientError> {
        let mut subscribers = Vec::new();
        for member in members {
            let (_, subscription) =
                ConsumerProtocolSubscription::decode_versioned_lenient(member.metadata.clone())?;
            subscribers.push(Subscriber {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                topics: subscription.topics.into_iter().collect(),
            });
        }
        let topics: BTreeSet<String> = subscribers
            .iter()
            .flat_map(|s| s.topics.iter().cloned())
            .collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let metadata = self.client.refresh_topics(&topics).await?;
        let count = |t: &String| {
            let count = metadata.topics.get(t).map_or(0, |t| t.partitions.len());
            (t.clone(), i32::try_from(count).unwrap_or(i32::MAX))
        };
        Ok(assign_ranges(
            &subscribers,
            &topics.iter().map(count).collect(),
        ))
    }

    /// Commits offsets as the present member, or as nobody in particular when the group was never joined. A lost
    /// coordinator is looked for again; whatever says that the membership is over is the caller's to handle.
    ///
    /// # Errors
    /// The coordinator refuses, or there is none within `api_timeout`.
    pub(super) async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let committed = offsets
            .iter()
            .map(|(p, o)| (p.clone(), CommittedOffset::from(*o)))
            .collect();
        let mut request = commit_request(&self.group_id, &committed);
        if let Some(membership) = &self.membership {
            request.generation_id_or_member_epoch = membership.generation;
            request.member_id.clone_from(&membership.member_id);
            request
                .group_instance_id
                .clone_from(&self.options.group_instance_id);
        }
        let mut retry = Retry::new(self.client.options(), self.client.options().api_timeout);
        loop {
            match self.send_commit(&request).await {
                Err(error) if error.is_retriable() => {
                    self.connection = None;
                    retry
                        .pause(
                            || format!("commit offsets of group {}", self.group_id),
                            error,
                        )
                        .await?;
                }
                result => return result,
            }
        }
    }

    async fn send_commit(&mut self, request: &OffsetCommitRequest) -> Result<(), ClientError> {
        let connection = self.connection().await?;
        // version 10 has topic ids; 9 says the same with names
        let answer = connection
            .send_at(request, connection.version_of::<OffsetCommitRequest>(9)?)
            .await?;
        check_commit(&self.group_id, &answer)
    }

    /// Leaves, so that the others need not wait for the session timeout. Static members stay, as in Kafka.
    pub(super) async fn leave(&mut self) -> Result<(), ClientError> {
        let Some(membership) = self.membership.take() else {
            return Ok(());
        };
        self.heartbeat = None;
        if self.options.group_instance_id.is_some() {
            return Ok(());
        }
        let connection = self.connection().await?;
        let version = connection.version_of::<LeaveGroupRequest>(i16::MAX)?;
        let mut request = LeaveGroupRequest {
            group_id: self.group_id.clone(),
            ..LeaveGroupRequest::default()
        };
        if version >= 3 {
            request.members = vec![MemberIdentity {
                member_id: membership.member_id,
                ..MemberIdentity::default()
            }];
        } else {
            request.member_id = membership.member_id;
        }
        let answer = connection.send_at(&request, version).await?;
        match error_code(answer.error_code) {
            ErrorCode::UnknownMemberId => Ok(()), // already out
            code => ClientError::check(code.code(), None, || {
                format!("leave group {}", self.group_id)
            }),
        }
    }
}

fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Result<bytes::Bytes, ClientError> {
    use wire::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
    let mut topics: Vec<AssignedTopic> = Vec::new();
    for partition in partitions {
        match topics.last_mut().filter(|t| *t.topic == *partition.topic) {
            Some(topic) => topic.partitions.push(partition.partition),
            None => topics.push(AssignedTopic {
                topic: partition.topic.to_string(),
                partitions: vec![partition.partition],
            }),
        }
    }
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics,
        user_data: None,
    };
    Ok(assignment.encode_versioned(PROTOCOL_VERSION)?)
}
