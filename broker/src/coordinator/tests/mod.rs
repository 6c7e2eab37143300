//! Does a partition's coordinator load before it serves, answer only what is committed, and let go when it loses?

use std::sync::Arc;
use std::time::Duration;

use broker_core::group::GroupConfig;
use broker_core::group::consumer::topics::Topics;
use broker_core::group::request::{CommitPartition, CommitRequest, JoinRequest};
use broker_core::metadata::MetadataImage;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use types::{
    BatchBuilder, ErrorCode, LeaderEpoch, Offset, RecordIter, Retained, TopicPartition, batch,
};

use super::{CoordinatorBatch, GroupService, GroupServiceConfig, OffsetsLog, OffsetsLogError};
use crate::clock::Clock;
use crate::patience;
use crate::replication::TransactionRule;

/// A log in memory whose high watermark the test moves.
#[derive(Debug)]
struct MemoryLog {
    batches: Mutex<Vec<(i64, Bytes)>>,
    high_watermark: watch::Sender<i64>,
    fail: Mutex<Option<OffsetsLogError>>,
}

impl MemoryLog {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            batches: Mutex::default(),
            high_watermark: watch::Sender::new(i64::MAX),
            fail: Mutex::default(),
        })
    }

    fn end(&self) -> i64 {
        self.batches.lock().last().map_or(0, |(next, _)| *next)
    }
}

impl OffsetsLog for MemoryLog {
    fn bounds(&self, _partition: i32) -> Result<(Offset, Offset), ErrorCode> {
        Ok((Offset(0), Offset(self.end())))
    }

    fn read(
        &self,
        _partition: i32,
        from: Offset,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ErrorCode>> {
        let batches = self.batches.lock().clone();
        let mut high_watermark = self.high_watermark.subscribe();
        Box::pin(async move {
            let reached = high_watermark.wait_for(|mark| *mark > from.0).await;
            let mark = *reached.expect("the log outlives its readers");
            let committed = batches
                .into_iter()
                .filter(|(next, _)| *next > from.0 && *next <= mark);
            Ok(committed.map(|(_, batch)| batch).collect())
        })
    }

    fn append(
        &self,
        _partition: i32,
        _epoch: LeaderEpoch,
        records: CoordinatorBatch,
    ) -> BoxFuture<'static, Result<(), OffsetsLogError>> {
        if let Some(error) = *self.fail.lock() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let mut batches = self.batches.lock();
        let base = batches.last().map_or(0, |(next, _)| *next);
        let mut stored = records.bytes.to_vec();
        batch::set_base_offset(&mut stored, Offset(base));
        let header = batch::BatchHeader::parse(&stored).expect("a batch");
        let next = header.next_offset().0;
        batches.push((next, stored.into()));
        let mut high_watermark = self.high_watermark.subscribe();
        Box::pin(async move {
            let reached = high_watermark.wait_for(|mark| *mark >= next).await;
            reached.expect("the log outlives its writers");
            Ok(())
        })
    }
}

fn service(log: &Arc<MemoryLog>) -> Arc<GroupService> {
    let service = GroupService::new(GroupServiceConfig {
        groups: GroupConfig {
            initial_rebalance_delay_ms: 0,
            min_session_timeout_ms: 1,
            ..GroupConfig::default()
        },
        expiry_interval: Duration::from_secs(600),
        log: log.clone(),
        clock: Clock::new(),
    });
    service.set_partition_count(1);
    Arc::new(service)
}

fn commit(offset: i64) -> CommitRequest {
    CommitRequest {
        group_id: "g".to_owned(),
        generation: None,
        member_id: String::new(),
        group_instance_id: None,
        knows_epochs: true,
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

fn topics() -> Arc<dyn Topics> {
    Arc::new(MetadataImage::empty())
}

fn join() -> JoinRequest {
    JoinRequest {
        group_id: "g".to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
        session_timeout_ms: 50,
        rebalance_timeout_ms: 60_000,
        require_known_member_id: false,
        supports_skip_assignment: false,
        fresh_id: "fresh".to_owned(),
    }
}

async fn committed(service: &GroupService) -> Option<i64> {
    let wanted = [TopicPartition::new("t", 0)];
    let answered = async {
        loop {
            match service.fetch("g", Some(&wanted)) {
                Ok(fetched) => return fetched[0].1.as_ref().map(|value| value.offset.0),
                Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    patience::until("the coordinator has loaded", answered).await
}

async fn code(service: &GroupService, offset: i64) -> ErrorCode {
    service.commit(commit(offset)).await.partitions[0].1
}

#[tokio::test]
async fn groups_of_partitions_led_elsewhere_have_another_coordinator() {
    let log = MemoryLog::new();
    let service = service(&log);
    assert_eq!(code(&service, 1).await, ErrorCode::NotCoordinator);
    service.set_partition_count(0);
    assert_eq!(
        service.join(topics(), join()).await.error,
        ErrorCode::NotCoordinator
    );
}

#[tokio::test]
async fn a_new_leader_loads_what_the_old_one_acknowledged_before_it_serves() {
    let log = MemoryLog::new();
    let first = service(&log);
    first.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&first).await, None);
    assert_eq!(code(&first, 42).await, ErrorCode::None);
    first.stop().await;

    // The new leader does not know yet that the commit is below the high watermark.
    log.high_watermark.send_replace(0);
    let second = service(&log);
    second.became_leader(0, LeaderEpoch(2));
    tokio::task::yield_now().await;
    let loading = second.fetch("g", None).unwrap_err();
    assert_eq!(loading, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(code(&second, 1).await, ErrorCode::CoordinatorLoadInProgress);
    log.high_watermark.send_replace(log.end());
    assert_eq!(committed(&second).await, Some(42));
}

#[tokio::test]
async fn a_compacted_partition_is_loaded_across_gaps_empty_batches_and_tombstones() {
    let log = MemoryLog::new();
    let first = service(&log);
    first.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&first).await, None);
    for offset in [41, 42, 43] {
        assert_eq!(code(&first, offset).await, ErrorCode::None);
    }
    first.stop().await;
    let key = {
        let mut batches = log.batches.lock();
        batches.remove(0);
        let header = batch::BatchHeader::parse(&batches[0].1).expect("a batch");
        batches[0].1 = types::retain::empty_batch(&header).expect("builds");
        let mut records = RecordIter::new(&batches[1].1, 1 << 20).expect("opens");
        records.next().expect("one").expect("sound").key
    };
    let second = service(&log);
    second.became_leader(0, LeaderEpoch(2));
    assert_eq!(committed(&second).await, Some(43));
    second.stop().await;

    // The group's offset is deleted, and compaction has been there.
    let mut builder = BatchBuilder::new();
    builder.push(5, key.as_deref(), None);
    let deleted = CoordinatorBatch {
        bytes: builder.build().expect("builds"),
        rule: TransactionRule::Free,
    };
    log.append(0, LeaderEpoch(2), deleted)
        .await
        .expect("appends");
    {
        let mut batches = log.batches.lock();
        let (next, tombstone) = batches.pop().expect("appended");
        let kept = Retained::of(&tombstone, 1 << 20, |_| true).expect("reads");
        batches.remove(1);
        batches.push((next, kept.build(Some(1_000_000)).expect("builds")));
    }
    let third = service(&log);
    third.became_leader(0, LeaderEpoch(3));
    assert_eq!(committed(&third).await, None);
}

#[tokio::test]
async fn a_commit_is_answered_when_its_record_is_below_the_high_watermark() {
    let log = MemoryLog::new();
    let service = service(&log);
    service.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&service).await, None);
    log.high_watermark.send_replace(0);
    let answered = tokio::spawn({
        let service = service.clone();
        async move { code(&service, 7).await }
    });
    patience::until_true("the commit is in the log", || log.end() > 0).await;
    assert!(!answered.is_finished());
    assert_eq!(committed(&service).await, None, "not visible either");
    log.high_watermark.send_replace(1);
    assert_eq!(answered.await.unwrap(), ErrorCode::None);
    assert_eq!(committed(&service).await, Some(7));
}

#[tokio::test]
async fn whoever_waits_when_leadership_is_lost_is_sent_to_look_again() {
    let log = MemoryLog::new();
    let service = service(&log);
    service.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&service).await, None);
    log.high_watermark.send_replace(0);
    let answered = tokio::spawn({
        let service = service.clone();
        async move { code(&service, 7).await }
    });
    patience::until_true("the commit is in the log", || log.end() > 0).await;
    service.lost_leadership(0);
    assert_eq!(answered.await.unwrap(), ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn a_refused_append_is_told_and_changes_nothing() {
    let log = MemoryLog::new();
    let service = service(&log);
    service.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&service).await, None);
    *log.fail.lock() = Some(OffsetsLogError {
        code: ErrorCode::NotEnoughReplicas,
        maybe_appended: false,
    });
    assert_eq!(code(&service, 7).await, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(committed(&service).await, None);
}

#[tokio::test]
async fn after_an_append_with_an_unknown_end_the_partition_is_loaded_again() {
    let log = MemoryLog::new();
    let service = service(&log);
    service.became_leader(0, LeaderEpoch(1));
    assert_eq!(code_when_loaded(&service, 7).await, ErrorCode::None);
    *log.fail.lock() = Some(OffsetsLogError {
        code: ErrorCode::RequestTimedOut,
        maybe_appended: true,
    });
    assert_eq!(code(&service, 8).await, ErrorCode::CoordinatorNotAvailable);
    *log.fail.lock() = None;
    assert_eq!(committed(&service).await, Some(7));
}

async fn code_when_loaded(service: &GroupService, offset: i64) -> ErrorCode {
    committed(service).await;
    code(service, offset).await
}

#[tokio::test]
async fn a_member_that_is_not_heard_of_is_expired_by_the_timer() {
    let log = MemoryLog::new();
    let service = service(&log);
    service.became_leader(0, LeaderEpoch(1));
    assert_eq!(committed(&service).await, None);
    assert_eq!(service.join(topics(), join()).await.error, ErrorCode::None);
    let members = || {
        let described = service.describe("g").unwrap().unwrap();
        described.members.len()
    };
    assert_eq!(members(), 1);
    patience::until_true("the member's session expires", || members() != 1).await;
}
