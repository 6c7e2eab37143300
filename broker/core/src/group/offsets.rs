//! Which offsets may be committed by whom, and which are read back?

use types::{ErrorCode, ProducerId, TopicPartition};

use super::GroupState;
use super::classic::{Context, Group, PendingAppend};
use super::join::MAX_TEXT;
use super::record::{CommittedOffset, GroupRecord};
use super::request::{CommitReply, CommitRequest, FetchedOffset, Reply, Token};

impl Group {
    pub(super) fn commit(&mut self, cx: &mut Context<'_>, token: Token, request: CommitRequest) {
        if let Err(error) = self.check_commit(&request) {
            return refuse_commit(cx, token, request, error);
        }
        let heard = matches!(
            self.state,
            GroupState::Stable | GroupState::PreparingRebalance
        );
        if let (true, Some(member)) = (heard, self.members.get_mut(&request.member_id)) {
            member.heard(cx.now);
        }
        let (offsets, partitions) = accepted(cx, request);
        if offsets.is_empty() {
            cx.reply(token, Reply::Commit(CommitReply { partitions }));
            return;
        }
        let records = self.offset_records(&offsets);
        self.commits_in_flight += 1;
        let pending = PendingAppend::Commit {
            group_id: self.id.clone(),
            token,
            producer: None,
            offsets,
            partitions,
        };
        cx.append(records, pending);
    }

    /// The records of offsets that are committed.
    pub(super) fn offset_records(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Vec<GroupRecord> {
        let records = offsets
            .iter()
            .map(|(partition, value)| GroupRecord::Offset {
                group_id: self.id.to_string(),
                partition: partition.clone(),
                value: Some(value.clone()),
            });
        records.collect()
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(result) = self.check_consumer_commit(request) {
            return result;
        }
        let anonymous = request.member_id.is_empty() && request.group_instance_id.is_none();
        match request.generation {
            // A consumer that assigns its own partitions, or an administrator: only while nobody else is there.
            None if self.state == GroupState::Empty => return Ok(()),
            None if anonymous => return Err(ErrorCode::UnknownMemberId),
            _ => {}
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != Some(self.generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The offsets are committed at the high watermark, or could not be appended.
    pub(super) fn commit_appended(
        &mut self,
        producer: Option<ProducerId>,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        result: Result<(), ErrorCode>,
    ) {
        self.commits_in_flight = self.commits_in_flight.saturating_sub(1);
        if result.is_err() {
            return;
        }
        for (partition, value) in offsets {
            match producer {
                Some(producer) => self.wait_for_transaction(producer, partition, value),
                None => self.put_offset(partition, value),
            }
        }
    }

    /// Takes an offset that is the newest of its partition.
    pub(super) fn put_offset(&mut self, partition: TopicPartition, value: CommittedOffset) {
        self.commits += 1;
        self.put_offset_of(self.commits, partition, value);
    }

    /// Takes an offset that counts now; older ones in open transactions will not count any more.
    pub(super) fn put_offset_of(
        &mut self,
        order: u64,
        partition: TopicPartition,
        value: CommittedOffset,
    ) {
        for waiting in self.in_transactions.values_mut() {
            if (waiting.get(&partition)).is_some_and(|(other, _)| *other < order) {
                waiting.remove(&partition);
            }
        }
        self.in_transactions
            .retain(|_, waiting| !waiting.is_empty());
        self.offsets.insert(partition, value);
    }

    /// The offsets of `partitions`, or all of them.
    pub(super) fn fetch(&self, partitions: Option<&[TopicPartition]>) -> Vec<FetchedOffset> {
        match partitions {
            Some(partitions) => partitions
                .iter()
                .map(|partition| (partition.clone(), self.offsets.get(partition).cloned()))
                .collect(),
            None => self
                .offsets
                .iter()
                .map(|(partition, value)| (partition.clone(), Some(value.clone())))
                .collect(),
        }
    }

    /// Removes offsets that nobody of the group consumes (KIP-496).
    pub(super) fn delete_offsets(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        wanted: Vec<TopicPartition>,
    ) {
        let subscribed = match self.current_state() {
            GroupState::Empty => None,
            GroupState::Dead => {
                let reply = Reply::DeleteOffsets(Err(ErrorCode::GroupIdNotFound));
                return cx.reply(token, reply);
            }
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Stable => match self.subscribed_topics() {
                Some(topics) => Some(topics),
                None => {
                    let reply = Reply::DeleteOffsets(Err(ErrorCode::NonEmptyGroup));
                    return cx.reply(token, reply);
                }
            },
        };
        let partitions: Vec<(TopicPartition, ErrorCode)> = wanted
            .into_iter()
            .map(|partition| {
                let used = subscribed
                    .as_ref()
                    .is_some_and(|topics| topics.contains(&*partition.topic));
                let error = if used {
                    ErrorCode::GroupSubscribedToTopic
                } else {
                    ErrorCode::None
                };
                (partition, error)
            })
            .collect();
        let gone: Vec<GroupRecord> = partitions
            .iter()
            .filter(|(partition, error)| error.is_none() && self.offsets.contains_key(partition))
            .map(|(partition, _)| self.offset_tombstone(partition))
            .collect();
        if gone.is_empty() {
            return cx.reply(token, Reply::DeleteOffsets(Ok(partitions)));
        }
        let pending = PendingAppend::DeleteOffsets {
            group_id: self.id.clone(),
            token,
            partitions,
        };
        cx.append(gone, pending);
    }

    pub(super) fn offset_tombstone(&self, partition: &TopicPartition) -> GroupRecord {
        GroupRecord::Offset {
            group_id: self.id.to_string(),
            partition: partition.clone(),
            value: None,
        }
    }
}

/// Offsets to write, and the result of each partition so far.
pub(super) type Accepted = (
    Vec<(TopicPartition, CommittedOffset)>,
    Vec<(TopicPartition, ErrorCode)>,
);

/// The offsets of a request that may be written.
pub(super) fn accepted(cx: &Context<'_>, request: CommitRequest) -> Accepted {
    let mut offsets = Vec::with_capacity(request.partitions.len());
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for commit in request.partitions {
        let error = if !commit.error.is_none() {
            commit.error
        } else if commit.metadata.len() > cx.config.offset_metadata_max_bytes.min(MAX_TEXT) {
            ErrorCode::OffsetMetadataTooLarge
        } else {
            let value = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata,
                commit_timestamp_ms: cx.now.wall_ms,
                expire_timestamp_ms: request
                    .retention_ms
                    .map(|retention| cx.now.wall_ms.saturating_add(retention)),
            };
            offsets.push((commit.partition.clone(), value));
            ErrorCode::None
        };
        partitions.push((commit.partition, error));
    }
    (offsets, partitions)
}

/// Answers a commit with one error for each of its partitions.
pub(super) fn refuse_commit(
    cx: &mut Context<'_>,
    token: Token,
    request: CommitRequest,
    error: ErrorCode,
) {
    let partitions = request
        .partitions
        .into_iter()
        .map(|commit| (commit.partition, error))
        .collect();
    cx.reply(token, Reply::Commit(CommitReply { partitions }));
}
