//! What do producers and consumers get from one broker?

use std::time::Duration;

use bytes::Bytes;
use config::{CleanupPolicy, Durability, TimestampType, TopicSettings};
use types::builder::BatchBuilder;
use types::{BatchHeader, ErrorCode, LeaderEpoch, Offset};

use super::cluster::{Cluster, LONG, NOW_MS, batch, fetch, fetch_request, idempotent, until};
use crate::replication::{Isolation, OffsetSpec, ReplicaChanges};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_is_fetched_with_offsets_and_epoch() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    for (value, offset) in [(b"one", 0), (b"two", 1)] {
        let ok = cluster.produce(0, &topic, batch(value), -1).await.unwrap();
        assert_eq!(ok.base_offset, Offset(offset));
    }
    let data = fetch(cluster.manager(0), &topic, 0).await;
    assert_eq!(data.error, ErrorCode::None);
    assert_eq!(data.high_watermark, Some(Offset(2)));
    let bytes: Vec<u8> = data.records.concat();
    let first = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(first.partition_leader_epoch, LeaderEpoch(0));
    let second = BatchHeader::parse(&bytes[first.size()..]).unwrap();
    assert_eq!(
        (first.base_offset, second.base_offset),
        (Offset(0), Offset(1))
    );
    types::batch::verify(&bytes[first.size()..]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_survive_a_clean_restart_and_reads_come_from_the_file_then() {
    let mut cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    cluster
        .produce(0, &topic, idempotent(7, 0), -1)
        .await
        .unwrap();
    cluster.stop_node(0).await;
    let marker = cluster.dir.path().join("node-0/.kafka_cleanshutdown");
    assert!(marker.exists(), "a clean stop leaves its file");
    cluster.start_node(0).await;
    assert!(!marker.exists());
    cluster.controller.publish(&topic, &[]);
    let data = fetch(cluster.manager(0), &topic, 0).await;
    assert_eq!(data.high_watermark, Some(Offset(2)));
    assert_eq!(data.bytes(), cluster.segment(0, &topic).len());
    let again = cluster
        .produce(0, &topic, idempotent(7, 0), -1)
        .await
        .unwrap();
    assert_eq!(
        again.base_offset,
        Offset(1),
        "the retry is known after the restart"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_gets_its_first_offset_and_a_gap_is_refused() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    for sequence in 0..3 {
        cluster
            .produce(0, &topic, idempotent(7, sequence), -1)
            .await
            .unwrap();
    }
    let again = cluster
        .produce(0, &topic, idempotent(7, 1), -1)
        .await
        .unwrap();
    assert_eq!(again.base_offset, Offset(1));
    assert_eq!(cluster.log_end(0, &topic), Offset(3));
    let gap = cluster
        .produce(0, &topic, idempotent(7, 9), -1)
        .await
        .unwrap_err();
    assert_eq!(gap.code, ErrorCode::OutOfOrderSequenceNumber);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_woken_by_the_produce() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    let manager = cluster.manager(0).clone();
    let request = fetch_request(&topic, 0, LONG);
    let waiting = tokio::spawn(async move { manager.fetch(&request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    cluster.produce(0, &topic, batch(b"one"), 1).await.unwrap();
    let data = waiting.await.unwrap().remove(0);
    assert_eq!(data.bytes(), cluster.segment(0, &topic).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_ends_when_leadership_moves() {
    let cluster = Cluster::start(2).await;
    let topic = cluster.create_topic("orders", &[0, 1]);
    let manager = cluster.manager(0).clone();
    let request = fetch_request(&topic, 0, LONG);
    let waiting = tokio::spawn(async move { manager.fetch(&request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    cluster.elect(&topic, 1, &[0, 1]);
    cluster.controller.publish(&topic, &[]);
    let data = waiting.await.unwrap().remove(0);
    assert_eq!(data.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(data.leader_hint.unwrap().leader_epoch, LeaderEpoch(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_outside_the_log_and_other_epochs_are_refused() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    let beyond = fetch(cluster.manager(0), &topic, 2).await;
    assert_eq!(beyond.error, ErrorCode::OffsetOutOfRange);
    let mut request = fetch_request(&topic, 0, Duration::ZERO);
    request.partitions[0].current_leader_epoch = Some(LeaderEpoch(1));
    let newer = cluster.manager(0).fetch(&request).await.remove(0);
    assert_eq!(newer.error, ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_by_end_and_by_time() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    for _ in 0..3 {
        cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    }
    let list = |spec| {
        let listed = cluster
            .manager(0)
            .list_offsets(&topic, spec, Isolation::ReadCommitted, None);
        listed.unwrap().offset
    };
    assert_eq!(list(OffsetSpec::Earliest), Some(Offset(0)));
    assert_eq!(list(OffsetSpec::Latest), Some(Offset(3)));
    assert_eq!(list(OffsetSpec::MaxTimestamp), Some(Offset(0)));
    assert_eq!(list(OffsetSpec::Timestamp(NOW_MS)), Some(Offset(0)));
    assert_eq!(list(OffsetSpec::Timestamp(NOW_MS + 1)), None);
}

async fn refusal(settings: TopicSettings, records: Bytes) -> ErrorCode {
    let cluster = Cluster::with(1, settings, Durability::Replicated).await;
    let topic = cluster.create_topic("orders", &[0]);
    let error = cluster.produce(0, &topic, records, -1).await.unwrap_err();
    assert_eq!(
        cluster.log_end(0, &topic),
        Offset(0),
        "nothing was appended"
    );
    error.code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_topic_does_not_take_is_refused() {
    let defaults = TopicSettings::default;
    let small = TopicSettings {
        max_message_bytes: 80,
        ..defaults()
    };
    let large = batch(&[0; 100]);
    assert_eq!(refusal(small, large).await, ErrorCode::MessageTooLarge);

    let mut future = BatchBuilder::new();
    future.push(NOW_MS + 3_600_001, None, Some(b"value"));
    let future = future.build().unwrap();
    assert_eq!(
        refusal(defaults(), future).await,
        ErrorCode::InvalidTimestamp
    );

    let compacted = TopicSettings {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..defaults()
    };
    assert_eq!(
        refusal(compacted, idempotent(1, 0)).await,
        ErrorCode::InvalidRecord
    );

    let mut damaged = batch(b"value").to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(
        refusal(defaults(), damaged.into()).await,
        ErrorCode::CorruptMessage
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_append_time_stamps_the_batch() {
    let settings = TopicSettings {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..TopicSettings::default()
    };
    let cluster = Cluster::with(1, settings, Durability::Replicated).await;
    let topic = cluster.create_topic("orders", &[0]);
    let produced = cluster
        .manager(0)
        .produce(&topic, batch(b"one"), -1, LONG, NOW_MS + 5)
        .await
        .unwrap();
    assert_eq!(produced.log_append_time_ms, Some(NOW_MS + 5));
    let header = types::batch::verify(&cluster.segment(0, &topic)).unwrap();
    assert_eq!(header.max_timestamp, NOW_MS + 5);
    assert!(header.is_log_append_time());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fsync_durability_an_ack_means_flushed() {
    let cluster = Cluster::with(1, TopicSettings::default(), Durability::Fsync).await;
    let topic = cluster.create_topic("orders", &[0]);
    for acks in [1, -1] {
        cluster
            .produce(0, &topic, batch(b"one"), acks)
            .await
            .unwrap();
        let key = (topic.topic_id, 0);
        let replica = cluster.manager(0).replica(key).unwrap();
        let state = replica.lock();
        assert_eq!(state.log.recovery_point(), state.log.log_end_offset());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_loses_its_log_and_a_stray_one_is_set_aside() {
    let mut cluster = Cluster::start(1).await;
    let deleted = cluster.create_topic("gone", &[0]);
    let stray = cluster.create_topic("stray", &[0]);
    for topic in [&deleted, &stray] {
        cluster.produce(0, topic, batch(b"one"), -1).await.unwrap();
    }
    let changes = ReplicaChanges {
        deleted_topics: vec![deleted.topic_id],
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&changes).unwrap();
    let root = cluster.dir.path().join("node-0");
    let names = || -> Vec<String> {
        std::fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("gone") || name.starts_with("stray"))
            .collect()
    };
    until("the deleted log's files are removed", || {
        names() == ["stray-0"]
    })
    .await;
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    let whole = ReplicaChanges {
        complete: true,
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&whole).unwrap();
    assert_eq!(names(), [format!("stray-0.{}-stray", stray.topic_id)]);
}
