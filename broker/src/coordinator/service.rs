//! Which coordinator answers for a group, and how do coordinators come and go with leadership?

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::consumer::request::{
    ConsumerGroupDescription, ConsumerHeartbeat, HeartbeatAnswer, Rejection,
};
use broker_core::group::consumer::topics::Topics;
use broker_core::group::request::{
    CommitReply, CommitRequest, FetchedOffset, GroupDescription, HeartbeatRequest, JoinReply,
    JoinRequest, LeavingMember, ListedGroup, Reply, SyncReply, SyncRequest,
};
use broker_core::group::{GroupConfig, GroupState, Outcome, TransactionEnd, TransactionalCommit};
use types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};

use super::led::{Begun, LedPartitions, Place};
use super::log::OffsetsLog;
use super::partition::{PartitionContext, PartitionHandle};
use crate::clock::Clock;

/// What the service is made with.
pub(crate) struct GroupServiceConfig {
    /// Configuration of the groups.
    pub(crate) groups: GroupConfig,
    /// `offsets.retention.check.interval.ms`
    pub(crate) expiry_interval: Duration,
    /// The log below.
    pub(crate) log: Arc<dyn OffsetsLog>,
    /// The clocks.
    pub(crate) clock: Clock,
}

/// Committed offsets by group and partition, and the number of groups in each state.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Group, partition, committed offset.
    pub(crate) committed: Vec<(String, TopicPartition, Offset)>,
    /// Groups by state.
    pub(crate) states: HashMap<GroupState, usize>,
}

/// The coordinators of the partitions that this broker leads.
pub(crate) struct GroupService {
    config: GroupServiceConfig,
    led: LedPartitions<PartitionHandle>,
}

impl GroupService {
    pub(crate) fn new(config: GroupServiceConfig) -> Self {
        Self {
            config,
            led: LedPartitions::new(),
        }
    }

    /// Tells how many partitions the topic has.
    pub(crate) fn set_partition_count(&self, count: i32) {
        self.led.set_count(count);
    }

    /// This broker leads a partition of the topic from `epoch` on: load it.
    pub(crate) fn became_leader(&self, partition: i32, epoch: LeaderEpoch) {
        self.led
            .became_leader(partition, epoch, |place| self.begin(place));
    }

    /// This broker does not lead the partition any more.
    pub(crate) fn lost_leadership(&self, partition: i32) {
        self.led.lost_leadership(partition);
    }

    /// These, and only these, are the partitions that this broker leads.
    pub(crate) fn reconcile(&self, led: &[(i32, LeaderEpoch)]) {
        self.led.reconcile(led, |place| self.begin(place));
    }

    /// Ends all coordinators, answering everybody who waits.
    pub(crate) async fn stop(&self) {
        self.led.stop().await;
    }

    fn begin(&self, place: Place) -> Begun<PartitionHandle> {
        let (handle, queue) = PartitionHandle::new(place.epoch, self.config.clock);
        let context = PartitionContext {
            partition: place.partition,
            log: self.config.log.clone(),
            config: self.config.groups,
            expiry_interval: self.config.expiry_interval,
        };
        let life = Box::pin(handle.clone().run(context, queue, place.stop));
        (handle, life)
    }

    /// Removes the offsets of deleted topics from every group.
    pub(crate) fn topics_deleted(&self, topics: &BTreeSet<String>) {
        for handle in self.led.all() {
            // A partition that is loading drops them when the topic's offsets expire.
            let _ = handle.change(|groups, now| ((), groups.topics_deleted(now, topics)));
        }
    }

    fn coordinator(&self, group_id: &str) -> Result<Arc<PartitionHandle>, ErrorCode> {
        self.led.of(group_id).ok_or(ErrorCode::NotCoordinator)
    }

    /// `JoinGroup`, with the topics as they are now, as all that classic members ask: a consumer group may take them in.
    pub(crate) async fn join(&self, topics: Arc<dyn Topics>, request: JoinRequest) -> JoinReply {
        let refused = |error| JoinReply::error(error, request.member_id.as_str());
        let handle = match self.coordinator(&request.group_id) {
            Ok(handle) => handle,
            Err(error) => return refused(error),
        };
        let reply = handle.request(|groups, now, token| {
            groups.see_topics(topics);
            groups.join(now, token, &request)
        });
        match reply.await {
            Ok(Reply::Join(reply)) => reply,
            other => refused(unexpected(other)),
        }
    }

    /// `SyncGroup`.
    pub(crate) async fn sync(&self, topics: Arc<dyn Topics>, request: SyncRequest) -> SyncReply {
        let handle = match self.coordinator(&request.group_id) {
            Ok(handle) => handle,
            Err(error) => return SyncReply::error(error),
        };
        let reply = handle.request(|groups, now, token| {
            groups.see_topics(topics);
            groups.sync(now, token, request)
        });
        match reply.await {
            Ok(Reply::Sync(reply)) => reply,
            other => SyncReply::error(unexpected(other)),
        }
    }

    /// `ConsumerGroupHeartbeat`, with the topics as they are now.
    pub(crate) async fn consumer_heartbeat(
        &self,
        topics: Arc<dyn Topics>,
        request: ConsumerHeartbeat,
    ) -> Result<HeartbeatAnswer, Rejection> {
        let refused = |error: ErrorCode| Rejection {
            error,
            message: error.to_string(),
        };
        let handle = self.coordinator(&request.group_id).map_err(refused)?;
        // Before the partition is locked: an expression takes a while to compile.
        let valid = request.validate(&self.config.groups.consumer)?;
        let reply = handle
            .request(|groups, now, token| groups.consumer_heartbeat(now, token, topics, valid));
        match reply.await {
            Ok(Reply::ConsumerHeartbeat(answer)) => answer,
            other => Err(refused(unexpected(other))),
        }
    }

    /// `ConsumerGroupDescribe`; `None` for an unknown group and for one of another kind.
    pub(crate) fn describe_consumer_group(
        &self,
        group_id: &str,
    ) -> Result<Option<ConsumerGroupDescription>, ErrorCode> {
        self.coordinator(group_id)?
            .read(|groups| groups.describe_consumer_group(group_id))
    }

    /// Whether a member may read the offsets of its group.
    pub(crate) fn check_fetch(
        &self,
        group_id: &str,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        self.coordinator(group_id)?
            .read(|groups| groups.check_fetch(group_id, member_id, epoch))?
    }

    /// `Heartbeat`.
    pub(crate) fn heartbeat(
        &self,
        topics: Arc<dyn Topics>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        self.coordinator(&request.group_id)?.change(|groups, now| {
            groups.see_topics(topics);
            (groups.heartbeat(now, request), Outcome::default())
        })?
    }

    /// `LeaveGroup`: the error of each member.
    pub(crate) fn leave(
        &self,
        topics: Arc<dyn Topics>,
        group_id: &str,
        members: &[LeavingMember],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        self.coordinator(group_id)?.change(|groups, now| {
            groups.see_topics(topics);
            groups.leave(now, group_id, members)
        })
    }

    /// `OffsetCommit`.
    pub(crate) async fn commit(&self, request: CommitRequest) -> CommitReply {
        let partitions: Vec<TopicPartition> = request
            .partitions
            .iter()
            .map(|commit| commit.partition.clone())
            .collect();
        let refused = |error| CommitReply {
            partitions: partitions
                .iter()
                .map(|partition| (partition.clone(), error))
                .collect(),
        };
        let handle = match self.coordinator(&request.group_id) {
            Ok(handle) => handle,
            Err(error) => return refused(error),
        };
        let reply = handle.request(|groups, now, token| groups.commit(now, token, request));
        match reply.await {
            Ok(Reply::Commit(reply)) => reply,
            other => refused(unexpected(other)),
        }
    }

    /// `TxnOffsetCommit`.
    pub(crate) async fn commit_in_transaction(
        &self,
        request: CommitRequest,
        transaction: TransactionalCommit,
    ) -> CommitReply {
        let partitions: Vec<TopicPartition> = (request.partitions.iter())
            .map(|commit| commit.partition.clone())
            .collect();
        let refused = |error| CommitReply {
            partitions: (partitions.iter())
                .map(|partition| (partition.clone(), error))
                .collect(),
        };
        let handle = match self.coordinator(&request.group_id) {
            Ok(handle) => handle,
            Err(error) => return refused(error),
        };
        let reply = handle.request(|groups, now, token| {
            groups.commit_in_transaction(now, token, request, transaction)
        });
        match reply.await {
            Ok(Reply::Commit(reply)) => reply,
            other => refused(unexpected(other)),
        }
    }

    /// The end of a transaction on a partition of the offsets topic; done when its marker is below the high watermark.
    pub(crate) async fn end_transaction(&self, partition: i32, end: TransactionEnd) -> ErrorCode {
        let Some(handle) = self.led.get(partition) else {
            return ErrorCode::NotLeaderOrFollower;
        };
        let reply = handle.request(|groups, _, token| groups.end_transaction(token, end));
        match reply.await {
            Ok(Reply::TransactionEnded(error)) => error,
            other => unexpected(other),
        }
    }

    /// The partitions whose committed offset may change by the end of a transaction (KIP-447).
    pub(crate) fn unstable(&self, group_id: &str) -> Result<BTreeSet<TopicPartition>, ErrorCode> {
        self.coordinator(group_id)?
            .read(|groups| groups.unstable(group_id))
    }

    /// The partition of the offsets topic that a group belongs to, once there is one.
    pub(crate) fn partition_of(&self, group_id: &str) -> Option<i32> {
        self.led.partition_of(group_id)
    }

    /// `OffsetFetch`: of `partitions`, or of everything committed.
    pub(crate) fn fetch(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<FetchedOffset>, ErrorCode> {
        self.coordinator(group_id)?
            .read(|groups| groups.fetch(group_id, partitions))
    }

    /// `DescribeGroups`; `None` for an unknown group.
    pub(crate) fn describe(&self, group_id: &str) -> Result<Option<GroupDescription>, ErrorCode> {
        self.coordinator(group_id)?
            .read(|groups| groups.describe(group_id))
    }

    /// `ListGroups`: the groups of every partition led here.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while one of them is loading.
    pub(crate) fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut all = Vec::new();
        for handle in self.led.all() {
            match handle.read(|groups| all.extend(groups.list())) {
                Ok(()) | Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// `DeleteGroups`, one group.
    pub(crate) async fn delete_group(&self, group_id: &str) -> ErrorCode {
        let handle = match self.coordinator(group_id) {
            Ok(handle) => handle,
            Err(error) => return error,
        };
        let reply = handle.request(|groups, now, token| groups.delete_group(now, token, group_id));
        match reply.await {
            Ok(Reply::DeleteGroup(error)) => error,
            other => unexpected(other),
        }
    }

    /// `OffsetDelete`.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let handle = self.coordinator(group_id)?;
        let reply = handle
            .request(|groups, now, token| groups.delete_offsets(now, token, group_id, partitions));
        match reply.await {
            Ok(Reply::DeleteOffsets(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// What the groups coordinated here look like, for metrics.
    pub(crate) fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for handle in self.led.all() {
            // A partition that is loading has nothing to show yet.
            let _ = handle.read(|groups| {
                let offsets = groups.offsets().map(|(group, partition, value)| {
                    (group.to_owned(), partition.clone(), value.offset)
                });
                survey.committed.extend(offsets);
                for group in groups.list() {
                    *survey.states.entry(group.state).or_insert(0) += 1;
                }
            });
        }
        survey
    }
}

/// The error of a request, or of a reply of another kind, which the coordinator never gives.
fn unexpected(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    match reply {
        Err(error) => error,
        Ok(reply) => {
            debug_assert!(false, "a reply of another kind: {reply:?}");
            ErrorCode::UnknownServerError
        }
    }
}
