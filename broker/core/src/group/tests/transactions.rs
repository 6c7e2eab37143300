//! Do offsets that are committed in a transaction count with its marker, and not before?

use std::collections::BTreeSet;

use types::{
    EndTransactionMarker, ErrorCode, Offset, ProducerEpoch, ProducerId, TopicPartition,
    TransactionResult,
};

use super::fixture::GROUP;
use crate::group::request::{CommitPartition, CommitRequest, Reply, Token};
use crate::group::{
    Append, AppendKind, Coordinator, GroupConfig, Now, Outcome, TransactionEnd, TransactionalCommit,
};

const COMMIT: TransactionResult = TransactionResult::Commit;
const ABORT: TransactionResult = TransactionResult::Abort;

/// A coordinator and its log.
struct World {
    coordinator: Coordinator,
    now: Now,
    log: Vec<Append>,
    tokens: u64,
}

fn request(offset: i64) -> CommitRequest {
    CommitRequest {
        group_id: GROUP.to_owned(),
        generation: None,
        member_id: String::new(),
        group_instance_id: None,
        knows_epochs: false,
        retention_ms: None,
        partitions: vec![CommitPartition {
            partition: TopicPartition::new("t", 0),
            offset: Offset(offset),
            leader_epoch: None,
            metadata: String::new(),
            error: ErrorCode::None,
        }],
    }
}

const fn producer(id: i64) -> (ProducerId, ProducerEpoch) {
    (ProducerId(id), ProducerEpoch(0))
}

impl World {
    fn new() -> Self {
        Self {
            coordinator: Coordinator::new(GroupConfig::default()),
            now: Now {
                monotonic_ms: 1,
                wall_ms: 1_700_000_000_000,
            },
            log: Vec::new(),
            tokens: 0,
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// The only reply, once what was asked for is appended.
    fn carry_out(&mut self, outcome: Outcome) -> ErrorCode {
        let mut replies = outcome.replies;
        for append in outcome.appends {
            let done = self.coordinator.appended(self.now, append.id, Ok(()));
            self.log.push(append);
            replies.extend(done.replies);
        }
        match replies.pop() {
            Some((_, Reply::Commit(reply))) => reply.partitions[0].1,
            Some((_, Reply::TransactionEnded(code) | Reply::DeleteGroup(code))) => code,
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, offset: i64) -> ErrorCode {
        let token = self.token();
        let outcome = self.coordinator.commit(self.now, token, request(offset));
        self.carry_out(outcome)
    }

    fn commit_in(&mut self, id: i64, offset: i64) -> ErrorCode {
        let token = self.token();
        let transaction = TransactionalCommit {
            producer: producer(id),
            guard: Some(1),
        };
        let outcome =
            self.coordinator
                .commit_in_transaction(self.now, token, request(offset), transaction);
        self.carry_out(outcome)
    }

    fn end(&mut self, id: i64, result: TransactionResult) {
        let token = self.token();
        let end = TransactionEnd {
            producer: producer(id),
            marker: EndTransactionMarker {
                result,
                coordinator_epoch: 1,
            },
            bumped: false,
        };
        let outcome = self.coordinator.end_transaction(token, end);
        assert_eq!(self.carry_out(outcome), ErrorCode::None);
    }

    /// A coordinator that has only the log.
    fn reload(&mut self) {
        self.coordinator = Coordinator::new(GroupConfig::default());
        for append in &self.log {
            for record in append.records.iter().cloned() {
                match append.kind {
                    AppendKind::Transactional(commit) => {
                        let id = commit.producer.0;
                        self.coordinator.load_in_transaction(self.now, id, record);
                    }
                    AppendKind::Plain | AppendKind::Marker(_) => {
                        self.coordinator.load(self.now, record);
                    }
                }
            }
            if let AppendKind::Marker(end) = append.kind {
                let (id, result) = (end.producer.0, end.marker.result);
                self.coordinator.load_marker(self.now, id, result);
            }
        }
        self.coordinator.loaded(self.now);
    }

    /// The committed offset, and whether it may still change; the same after a reload.
    #[track_caller]
    fn assert_offset(&mut self, want: Option<i64>, unstable: bool) {
        for reloaded in [false, true] {
            if reloaded {
                self.reload();
            }
            let fetched = self
                .coordinator
                .fetch(GROUP, Some(&[TopicPartition::new("t", 0)]));
            let offset = fetched[0].1.as_ref().map(|value| value.offset.0);
            assert_eq!(offset, want, "reloaded: {reloaded}");
            let waiting: BTreeSet<TopicPartition> = self.coordinator.unstable(GROUP);
            assert_eq!(!waiting.is_empty(), unstable, "reloaded: {reloaded}");
        }
    }
}

#[test]
fn an_offset_counts_when_its_transaction_is_committed() {
    let mut world = World::new();
    assert_eq!(world.commit_in(7, 5), ErrorCode::None);
    world.assert_offset(None, true);
    world.end(7, COMMIT);
    world.assert_offset(Some(5), false);
}

#[test]
fn an_aborted_one_leaves_the_offset_as_it_was() {
    let mut world = World::new();
    world.commit(3);
    world.commit_in(7, 5);
    world.assert_offset(Some(3), true);
    world.end(7, ABORT);
    world.assert_offset(Some(3), false);
    world.end(7, COMMIT);
    world.assert_offset(Some(3), false);
}

#[test]
fn what_was_committed_since_is_newer_than_the_transaction() {
    let mut world = World::new();
    world.commit_in(7, 5);
    world.commit(9);
    world.end(7, COMMIT);
    world.assert_offset(Some(9), false);
}

#[test]
fn of_two_transactions_the_later_commit_counts_whichever_ends_first() {
    for (first, second) in [(7, 8), (8, 7)] {
        let mut world = World::new();
        world.commit_in(7, 5);
        world.commit_in(8, 6);
        world.end(first, COMMIT);
        let seen = if first == 7 { 5 } else { 6 };
        world.assert_offset(Some(seen), first == 7);
        world.end(second, COMMIT);
        world.assert_offset(Some(6), false);
    }
}

#[test]
fn a_group_with_an_open_transaction_is_neither_deleted_nor_expired() {
    let mut world = World::new();
    world.commit(3);
    world.commit_in(7, 5);
    let token = world.token();
    let outcome = world.coordinator.delete_group(world.now, token, GROUP);
    assert_eq!(world.carry_out(outcome), ErrorCode::NonEmptyGroup);
    world.now.wall_ms += 8 * 24 * 3_600_000;
    let expired = world.coordinator.expire(world.now);
    assert!(expired.appends.is_empty(), "{expired:?}");
    world.end(7, COMMIT);
    world.assert_offset(Some(5), false);
}

#[test]
fn offsets_of_a_deleted_topic_do_not_come_back_with_the_marker() {
    let mut world = World::new();
    world.commit_in(7, 5);
    let topics = BTreeSet::from(["t".to_owned()]);
    let outcome = world.coordinator.topics_deleted(world.now, &topics);
    assert!(outcome.appends.is_empty());
    world.end(7, COMMIT);
    let fetched = world.coordinator.fetch(GROUP, None);
    assert_eq!(fetched, []);
}

#[test]
fn a_stale_generation_is_refused_but_an_old_client_is_not_asked() {
    let mut world = World::new();
    let token = world.token();
    let transaction = TransactionalCommit {
        producer: producer(7),
        guard: None,
    };
    let stale = CommitRequest {
        generation: Some(4),
        member_id: "gone".to_owned(),
        ..request(1)
    };
    let outcome = (world.coordinator).commit_in_transaction(world.now, token, stale, transaction);
    assert_eq!(world.carry_out(outcome), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit_in(7, 5), ErrorCode::None);
}
