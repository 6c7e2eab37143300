//! When do offsets count that a producer commits in a transaction (KIP-98, KIP-447)?
//!
//! With the marker that ends the transaction, in the order of the log: an offset that was committed in between is newer.
//! Until then they make their partitions unstable for readers that ask.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::{ErrorCode, ProducerId, TopicPartition, TransactionResult};

use super::classic::{Context, Group, PendingAppend};
use super::coordinator::Coordinator;
use super::join::MAX_TEXT;
use super::offsets::{accepted, refuse_commit};
use super::record::CommittedOffset;
use super::request::{CommitReply, CommitRequest, Reply, Token};
use super::{Append, AppendKind, GroupState, Now, Outcome, TransactionEnd, TransactionalCommit};

impl Coordinator {
    /// `TxnOffsetCommit`.
    pub fn commit_in_transaction(
        &mut self,
        now: Now,
        token: Token,
        request: CommitRequest,
        transaction: TransactionalCommit,
    ) -> Outcome {
        let topic_too_long =
            (request.partitions.iter()).any(|commit| commit.partition.topic.len() > MAX_TEXT);
        if request.group_id.len() > MAX_TEXT || topic_too_long {
            return self.refused_commit(now, token, request, ErrorCode::InvalidGroupId);
        }
        let create = request.generation.is_none();
        let group_id = request.group_id.clone();
        if !create && !self.groups.contains_key(group_id.as_str()) {
            return self.refused_commit(now, token, request, ErrorCode::IllegalGeneration);
        }
        self.on_group(now, &group_id, create, |group, cx| {
            group.commit_in_transaction(cx, token, request, transaction);
        })
        .unwrap_or_default()
    }

    /// Writes the marker that ends a transaction on this partition.
    pub fn end_transaction(&mut self, token: Token, end: TransactionEnd) -> Outcome {
        let id = self.appends.begin(PendingAppend::Marker {
            token,
            producer: end.producer.0,
            result: end.marker.result,
        });
        Outcome {
            appends: vec![Append {
                id,
                kind: AppendKind::Marker(end),
                records: Vec::new(),
            }],
            ..Outcome::default()
        }
    }

    /// The partitions whose offset waits for the end of a transaction.
    #[must_use]
    pub fn unstable(&self, group_id: &str) -> BTreeSet<TopicPartition> {
        let group = self.groups.get(group_id);
        let waiting = group.into_iter().flat_map(|g| g.in_transactions.values());
        // Those on their way into the log, too: they may be committed by the time it is read.
        let in_flight = self
            .appends
            .pending
            .values()
            .filter_map(|pending| match pending {
                PendingAppend::Commit {
                    group_id: id,
                    producer: Some(_),
                    offsets,
                    ..
                } if **id == *group_id => Some(offsets.iter().map(|(partition, _)| partition)),
                _ => None,
            });
        waiting
            .flat_map(|offsets| offsets.keys())
            .chain(in_flight.flatten())
            .cloned()
            .collect()
    }

    pub(super) fn in_a_transaction(&self, group_id: &str) -> bool {
        let in_flight = self.appends.pending.values().any(|pending| {
            matches!(
                pending,
                PendingAppend::Commit { group_id: id, producer: Some(_), .. } if **id == *group_id
            )
        });
        in_flight || !self.unstable(group_id).is_empty()
    }

    pub(super) fn note_transaction(&mut self, producer: ProducerId, group_id: &Arc<str>) {
        let groups = self.transactions.entry(producer).or_default();
        groups.insert(group_id.clone());
    }

    pub(super) fn transaction_ended(
        &mut self,
        now: Now,
        producer: ProducerId,
        result: TransactionResult,
    ) {
        for id in self.transactions.remove(&producer).unwrap_or_default() {
            // The group may be gone: then so are its offsets.
            let _ = self.on_group(now, &id, false, |group, _| {
                group.transaction_ended(producer, result);
            });
        }
    }
}

impl Group {
    fn commit_in_transaction(
        &mut self,
        cx: &mut Context<'_>,
        token: Token,
        request: CommitRequest,
        transaction: TransactionalCommit,
    ) {
        if let Err(error) = self.check_transactional_commit(&request) {
            return refuse_commit(cx, token, request, error);
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
            producer: Some(transaction.producer.0),
            offsets,
            partitions,
        };
        cx.append_as(AppendKind::Transactional(transaction), records, pending);
    }

    /// Old clients do not say who of the group they are; the transaction fences them. They may commit while a group of
    /// either protocol has members, as in Kafka 4.3 (`ConsumerGroup.validateOffsetCommit`): the API asks for no member.
    fn check_transactional_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let anonymous = request.generation.is_none()
            && request.member_id.is_empty()
            && request.group_instance_id.is_none();
        if anonymous {
            return Ok(());
        }
        if let Some(result) = self.check_transactional_consumer_commit(request) {
            return result;
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != Some(self.generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    pub(super) fn wait_for_transaction(
        &mut self,
        producer: ProducerId,
        partition: TopicPartition,
        value: CommittedOffset,
    ) {
        self.commits += 1;
        let waiting = self.in_transactions.entry(producer).or_default();
        waiting.insert(partition, (self.commits, value));
    }

    fn transaction_ended(&mut self, producer: ProducerId, result: TransactionResult) {
        let waiting = self.in_transactions.remove(&producer).unwrap_or_default();
        if result == TransactionResult::Commit {
            for (partition, (order, value)) in waiting {
                self.put_offset_of(order, partition, value);
            }
        }
    }

    pub(super) fn is_unstable(&self, partition: &TopicPartition) -> bool {
        (self.in_transactions.values()).any(|waiting| waiting.contains_key(partition))
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.offsets.is_empty() && self.in_transactions.is_empty()
    }
}
