//! Do coordinators load, complete, retry and let go?

use std::sync::Arc;
use std::time::Duration;

use broker_core::txn::request::{AddPartitions, EndTransaction, InitProducerId, Producer};
use broker_core::txn::{
    Completion, TransactionConfig, TransactionMetadata, TransactionRecord, TransactionState,
    TransactionVersion,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use types::{
    ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, TransactionResult,
    batch,
};
use wire::messages::{TransactionLogKey, TransactionLogValue};
use wire::{Message as _, RecordKey as _};

use super::markers::Markers;
use super::{TransactionService, TransactionServiceConfig};
use crate::clock::Clock;
use crate::coordinator::{CoordinatorBatch, OffsetsLog, OffsetsLogError};
use crate::patience;

/// A log in memory that can fail.
#[derive(Debug, Default)]
struct MemoryLog {
    batches: Mutex<Vec<(i64, Bytes)>>,
    fail: Mutex<Option<OffsetsLogError>>,
}

impl OffsetsLog for MemoryLog {
    fn bounds(&self, _partition: i32) -> Result<(Offset, Offset), ErrorCode> {
        let end = self.batches.lock().last().map_or(0, |(next, _)| *next);
        Ok((Offset(0), Offset(end)))
    }

    fn read(
        &self,
        _partition: i32,
        from: Offset,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ErrorCode>> {
        let batches = self.batches.lock().clone();
        let after = batches.into_iter().filter(move |(next, _)| *next > from.0);
        let found = after.map(|(_, batch)| batch).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn append(
        &self,
        _partition: i32,
        _epoch: LeaderEpoch,
        records: CoordinatorBatch,
    ) -> BoxFuture<'static, Result<(), OffsetsLogError>> {
        let failure = *self.fail.lock();
        if failure.is_none_or(|failure| failure.maybe_appended) {
            let mut batches = self.batches.lock();
            let base = batches.last().map_or(0, |(next, _)| *next);
            let mut stored = records.bytes.to_vec();
            batch::set_base_offset(&mut stored, Offset(base));
            let header = batch::BatchHeader::parse(&stored).expect("a batch");
            batches.push((header.next_offset().0, stored.into()));
        }
        Box::pin(std::future::ready(failure.map_or(Ok(()), Err)))
    }
}

/// Leaders that take markers when the test lets them.
struct Leaders {
    answer: watch::Sender<ErrorCode>,
    written: Mutex<Vec<(Producer, TransactionResult, i32)>>,
}

impl Markers for Leaders {
    fn write<'a>(
        &'a self,
        completion: &'a Completion,
        coordinator: LeaderEpoch,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'a, Vec<(TopicPartition, ErrorCode)>> {
        let code = *self.answer.borrow();
        let marker = (completion.producer, completion.result, coordinator.0);
        self.written.lock().push(marker);
        Box::pin(async move {
            tokio::task::yield_now().await;
            partitions.into_iter().map(|one| (one, code)).collect()
        })
    }
}

struct World {
    log: Arc<MemoryLog>,
    leaders: Arc<Leaders>,
    service: TransactionService,
}

impl World {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::default());
        let leaders = Arc::new(Leaders {
            answer: watch::Sender::new(ErrorCode::None),
            written: Mutex::default(),
        });
        let service = Self::service(&log, &leaders);
        Self {
            log,
            leaders,
            service,
        }
    }

    fn service(log: &Arc<MemoryLog>, leaders: &Arc<Leaders>) -> TransactionService {
        let service = TransactionService::new(TransactionServiceConfig {
            transactions: TransactionConfig::default(),
            abort_interval: Duration::from_millis(5),
            expiry_interval: Duration::from_secs(600),
            log: log.clone(),
            markers: leaders.clone(),
            clock: Clock::new(),
        });
        service.set_partition_count(1);
        service.became_leader(0, LeaderEpoch(3));
        service
    }

    /// Another broker takes over.
    async fn fail_over(&mut self) {
        self.service.stop().await;
        self.service = Self::service(&self.log, &self.leaders);
    }

    async fn init(&self, timeout_ms: i32) -> Result<Producer, ErrorCode> {
        let request = InitProducerId {
            transactional_id: "x".to_owned(),
            timeout_ms,
            expected: None,
        };
        let answered = async {
            loop {
                let fresh = std::future::ready(Ok(ProducerId(7)));
                match self.service.init_producer_id(&request, fresh).await {
                    Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        };
        patience::until("the coordinator has loaded", answered).await
    }

    async fn add(&self, producer: Producer) -> Result<(), ErrorCode> {
        let request = AddPartitions {
            transactional_id: "x".to_owned(),
            producer,
            partitions: [TopicPartition::new("t", 0)].into(),
            version: TransactionVersion::V1,
        };
        self.service.add_partitions(&request).await
    }

    async fn commit(&self, producer: Producer) -> Result<Producer, ErrorCode> {
        let request = EndTransaction {
            transactional_id: "x".to_owned(),
            producer,
            result: TransactionResult::Commit,
            version: TransactionVersion::V1,
        };
        let never = std::future::ready(Err(ErrorCode::UnknownServerError));
        self.service.end(&request, never).await
    }

    async fn until(&self, state: TransactionState) {
        patience::until_true(&format!("the transaction is in {state:?}"), || {
            self.service.describe("x").map(|found| found.state) == Ok(state)
        })
        .await;
    }
}

#[tokio::test]
async fn a_commit_is_complete_when_every_leader_has_its_marker() {
    let world = World::new();
    world
        .leaders
        .answer
        .send_replace(ErrorCode::NotLeaderOrFollower);
    let me = world.init(60_000).await.unwrap();
    assert_eq!(me, (ProducerId(7), ProducerEpoch(0)));
    world.add(me).await.unwrap();
    assert_eq!(
        world.commit(me).await,
        Ok(me),
        "decided is enough for the client"
    );
    patience::until_true("a refused marker is written again, twice", || {
        world.leaders.written.lock().len() >= 3
    })
    .await;
    world.until(TransactionState::PrepareCommit).await;
    assert_eq!(world.add(me).await, Err(ErrorCode::ConcurrentTransactions));
    world.leaders.answer.send_replace(ErrorCode::None);
    world.until(TransactionState::CompleteCommit).await;
    let marker = (me, TransactionResult::Commit, 3);
    assert!(
        world
            .leaders
            .written
            .lock()
            .iter()
            .all(|one| *one == marker)
    );
    world.add(me).await.unwrap();
}

#[tokio::test]
async fn the_next_coordinator_writes_the_markers_that_are_missing() {
    let mut world = World::new();
    world
        .leaders
        .answer
        .send_replace(ErrorCode::NetworkException);
    let me = world.init(60_000).await.unwrap();
    world.add(me).await.unwrap();
    world.commit(me).await.unwrap();
    world.fail_over().await;
    world.leaders.answer.send_replace(ErrorCode::None);
    world.until(TransactionState::CompleteCommit).await;
}

#[tokio::test]
async fn a_transaction_that_is_open_for_too_long_is_aborted() {
    let world = World::new();
    let me = world.init(20).await.unwrap();
    world.add(me).await.unwrap();
    world.until(TransactionState::CompleteAbort).await;
    assert_eq!(world.commit(me).await, Err(ErrorCode::ProducerFenced));
    let fence = (ProducerId(7), ProducerEpoch(1));
    let marker = (fence, TransactionResult::Abort, 3);
    assert_eq!(*world.leaders.written.lock(), [marker]);
}

#[tokio::test]
async fn after_an_append_with_an_unknown_end_the_partition_is_loaded_again() {
    let world = World::new();
    let me = world.init(60_000).await.unwrap();
    *world.log.fail.lock() = Some(OffsetsLogError {
        code: ErrorCode::RequestTimedOut,
        maybe_appended: true,
    });
    assert_eq!(world.add(me).await, Err(ErrorCode::CoordinatorNotAvailable));
    *world.log.fail.lock() = None;
    world.until(TransactionState::Ongoing).await;
}

#[tokio::test]
async fn a_refused_append_is_told_and_changes_nothing() {
    let world = World::new();
    let me = world.init(60_000).await.unwrap();
    *world.log.fail.lock() = Some(OffsetsLogError {
        code: ErrorCode::NotLeaderOrFollower,
        maybe_appended: false,
    });
    assert_eq!(world.add(me).await, Err(ErrorCode::NotCoordinator));
    world.until(TransactionState::Empty).await;
}

#[tokio::test]
async fn ids_of_partitions_led_elsewhere_have_another_coordinator() {
    let world = World::new();
    let me = world.init(60_000).await.unwrap();
    world.service.lost_leadership(0);
    assert_eq!(world.add(me).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(world.service.describe("x"), Err(ErrorCode::NotCoordinator));
    assert_eq!(world.service.list(), Ok(Vec::new()));
}

/// The records as the codec of Kafka's message tables has them.
#[test]
fn records_are_those_of_kafkas_tables() {
    let mut value = TransactionMetadata::new(ProducerId(9), 60_000, 5);
    value.producer_epoch = ProducerEpoch(4);
    value.state = TransactionState::Ongoing;
    value.partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 3)].into();
    value.start_ms = Some(4);
    value.previous_producer_id = Some(ProducerId(8));
    value.next_producer_id = Some(ProducerId(10));
    value.version = TransactionVersion::V2;
    let record = TransactionRecord {
        transactional_id: "x".into(),
        value: Some(value),
    };
    let (key, bytes) = record.encode();
    assert_eq!(
        TransactionLogKey::decode_key(key).unwrap().transactional_id,
        "x"
    );
    let (version, read) = TransactionLogValue::decode_versioned(bytes.unwrap()).unwrap();
    assert_eq!(version, 1);
    assert_eq!(read.producer_id, 9);
    assert_eq!((read.previous_producer_id, read.next_producer_id), (8, 10));
    assert_eq!(read.client_transaction_version, 2);
    assert_eq!(read.transaction_status, 1);
    let topics = read.transaction_partitions.clone().unwrap();
    assert_eq!(
        (topics[0].topic.as_str(), &*topics[0].partition_ids),
        ("t", &[0, 3][..])
    );
    // Version 0 has no place for the tagged fields.
    assert!(read.encode_versioned(0).is_err());
    let again = read.encode_versioned(1).unwrap();
    let (key, _) = record.encode();
    let decoded = TransactionRecord::decode(&key, Some(&again)).unwrap();
    assert_eq!(decoded, record);
}
