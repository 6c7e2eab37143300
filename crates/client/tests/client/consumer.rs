//! Does a consumer see every record of its partitions, in order, and continue where its group committed?

use std::collections::BTreeMap;
use std::time::Duration;

use client::{
    Client, ClientError, Consumer, ConsumerOptions, ConsumerRecord, OffsetReset, Producer,
    ProducerOptions, ProducerRecord, StartAt,
};
use types::{ErrorCode, Offset, TopicPartition};

use crate::fake_broker::{FakeCluster, TOPIC};

const RECORDS: usize = 300;
const TICK: Duration = Duration::from_millis(50);

/// A cluster with records `0..RECORDS` over three partitions, and faults to come.
async fn filled(seed: u64, faults: u32) -> (FakeCluster, Client) {
    let cluster = FakeCluster::new(2, 3, seed, 0);
    let client = Client::connect(cluster.options()).await.unwrap();
    let options = ProducerOptions {
        linger: Duration::ZERO,
        batch_bytes: 250,
        ..ProducerOptions::default()
    };
    let producer = Producer::new(client.clone(), options).unwrap();
    for i in 0..RECORDS {
        let record = ProducerRecord::new(TOPIC, format!("{i}")).partition((i % 3) as i32);
        let _delivery = producer.send(record).await.unwrap();
    }
    producer.close().await;
    cluster.state.lock().set_faults(faults);
    (cluster, client)
}

fn partitions() -> impl Iterator<Item = TopicPartition> {
    (0..3).map(|p| TopicPartition::new(TOPIC, p))
}

/// What was read, by partition: offset and value.
type Seen = BTreeMap<i32, Vec<(i64, String)>>;

fn note(seen: &mut Seen, records: Vec<ConsumerRecord>) {
    for record in records {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        seen.entry(record.partition)
            .or_default()
            .push((record.offset.0, value));
    }
}

fn count(seen: &Seen) -> usize {
    seen.values().map(Vec::len).sum()
}

/// Every record once and in order.
fn check_complete(seen: &Seen, what: &str) {
    for (partition, records) in seen {
        let expected: Vec<(i64, String)> = (0..RECORDS / 3)
            .map(|i| (i as i64, (3 * i + *partition as usize).to_string()))
            .collect();
        assert_eq!(records, &expected, "{what}, partition {partition}");
    }
    assert_eq!(seen.len(), 3, "{what}");
}

#[tokio::test]
async fn assigned_partitions_are_read_once_and_in_order_under_faults() {
    for seed in 0..40 {
        let (cluster, client) = filled(seed, 30).await;
        let options = ConsumerOptions {
            max_poll_records: 7,
            ..ConsumerOptions::default()
        };
        let mut consumer = Consumer::new(client, options).unwrap();
        consumer
            .assign(partitions().map(|p| (p, StartAt::Earliest)))
            .await
            .unwrap();
        let mut seen = Seen::new();
        while count(&seen) < RECORDS {
            let records = consumer.poll(TICK).await.unwrap();
            assert!(records.len() <= 7);
            note(&mut seen, records);
        }
        check_complete(
            &seen,
            &format!("seed {seed}, {:?}", cluster.state.lock().faults_done),
        );
        assert_eq!(
            consumer.position(&TopicPartition::new(TOPIC, 1)),
            Some(Offset(100))
        );
        assert_eq!(consumer.lag(&TopicPartition::new(TOPIC, 1)), Some(0));
    }
}

#[tokio::test]
async fn a_poll_that_is_dropped_loses_nothing() {
    let (_cluster, client) = filled(7, 10).await;
    let mut consumer = Consumer::new(client, ConsumerOptions::default()).unwrap();
    consumer
        .assign(partitions().map(|p| (p, StartAt::Earliest)))
        .await
        .unwrap();
    let mut seen = Seen::new();
    for round in 0..u64::MAX {
        if count(&seen) == RECORDS {
            break;
        }
        let patience = Duration::from_micros(50 * (round % 40));
        if let Ok(records) = tokio::time::timeout(patience, consumer.poll(TICK)).await {
            note(&mut seen, records.unwrap());
        }
    }
    check_complete(&seen, "dropped polls");
}

#[tokio::test]
async fn raw_batches_are_whole_and_continue_one_another() {
    let (_cluster, client) = filled(3, 10).await;
    let mut consumer = Consumer::new(client, ConsumerOptions::default()).unwrap();
    consumer
        .assign(partitions().map(|p| (p, StartAt::Earliest)))
        .await
        .unwrap();
    let mut next: BTreeMap<i32, i64> = (0..3).map(|p| (p, 0)).collect();
    while next.values().sum::<i64>() < RECORDS as i64 {
        let Some(batches) = consumer.poll_batches(TICK).await.unwrap() else {
            continue;
        };
        let expected = next.get_mut(&batches.partition.partition).unwrap();
        assert_eq!(batches.from.0, *expected);
        for batch in types::BatchIter::new(&batches.batches) {
            types::batch::verify(batch.unwrap().1).unwrap();
        }
        *expected = batches.next.0;
    }
}

#[tokio::test]
async fn a_position_outside_of_the_log_follows_the_policy() {
    for (reset, expected) in [
        (OffsetReset::Earliest, Some(40)),
        (OffsetReset::Latest, Some(100)),
        (OffsetReset::Fail, None),
    ] {
        let (cluster, client) = filled(1, 0).await;
        cluster.state.lock().partitions[0].log_start_offset = 40;
        let options = ConsumerOptions {
            offset_reset: reset,
            ..ConsumerOptions::default()
        };
        let mut consumer = Consumer::new(client, options).unwrap();
        let partition = TopicPartition::new(TOPIC, 0);
        consumer
            .assign([(partition.clone(), StartAt::Offset(Offset(5)))])
            .await
            .unwrap();
        match expected {
            None => {
                let error = consumer.poll(TICK).await.unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange), "{error}");
            }
            Some(100) => {
                assert_eq!(consumer.poll(TICK).await.unwrap(), []);
                assert_eq!(consumer.position(&partition), Some(Offset(100)));
            }
            Some(first) => assert_eq!(consumer.poll(TICK).await.unwrap()[0].offset, Offset(first)),
        }
    }
}

#[tokio::test]
async fn seek_and_pause_choose_what_is_read_next() {
    let (_cluster, client) = filled(1, 0).await;
    let mut consumer = Consumer::new(client, ConsumerOptions::default()).unwrap();
    consumer
        .assign(partitions().map(|p| (p, StartAt::Latest)))
        .await
        .unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).await.unwrap(), []);
    let two = TopicPartition::new(TOPIC, 2);
    consumer.seek(&two, StartAt::Offset(Offset(97))).unwrap();
    consumer.pause(&[two.clone()].into(), true);
    assert_eq!(consumer.poll(Duration::from_millis(5)).await.unwrap(), []);
    consumer.pause(&[two.clone()].into(), false);
    let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
    assert_eq!((records[0].partition, records[0].offset), (2, Offset(97)));
    assert!(
        consumer
            .seek(&TopicPartition::new("other", 0), StartAt::Earliest)
            .is_err()
    );
}

fn group_options() -> ConsumerOptions {
    ConsumerOptions {
        heartbeat_interval: Duration::from_millis(5),
        auto_commit_interval: Duration::from_millis(1),
        max_poll_records: 10,
        ..ConsumerOptions::group("g")
    }
}

#[tokio::test]
async fn a_group_continues_at_its_commit_after_a_close() {
    let (cluster, client) = filled(1, 0).await;
    let mut seen = Seen::new();
    for _ in 0..3 {
        let mut consumer = Consumer::new(client.clone(), group_options()).unwrap();
        consumer.subscribe([TOPIC]).unwrap();
        let until = (count(&seen) + RECORDS / 3).min(RECORDS);
        while count(&seen) < until {
            note(&mut seen, consumer.poll(TICK).await.unwrap());
        }
        consumer.close().await.unwrap();
        assert_eq!(cluster.state.lock().group.member, None, "the member left");
    }
    check_complete(&seen, "three members, one after another");
    assert_eq!(
        cluster.state.lock().group.committed,
        (0..3).map(|p| (p, 100)).collect()
    );
}

/// Reads all in a group while heartbeats bring `news`; gives how often the member joined.
async fn check_rejoins(news: ErrorCode, redelivery: bool) {
    let (cluster, client) = filled(1, 0).await;
    // a rebalance has to commit by itself, however long the interval is
    let options = ConsumerOptions {
        auto_commit_interval: Duration::from_secs(60),
        ..group_options()
    };
    let mut consumer = Consumer::new(client, options).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    let (mut seen, mut news_sent) = (Seen::new(), 0);
    while news_sent < 4 || count(&seen) < RECORDS {
        let records = consumer.poll(Duration::from_millis(2)).await.unwrap();
        note(&mut seen, records);
        if news_sent < 4
            && cluster.state.lock().group.next_heartbeat.is_none()
            && count(&seen) >= news_sent * 50
        {
            cluster.state.lock().group.next_heartbeat = Some(news);
            news_sent += 1;
        }
    }
    while cluster.state.lock().group.next_heartbeat.is_some() {
        consumer.poll(Duration::from_millis(2)).await.unwrap();
    }
    let joins = cluster.state.lock().group.joins;
    assert!(joins >= 3, "{news}: {joins} joins");
    if redelivery {
        // what was not committed may come twice, but nothing is left out
        for records in seen.values_mut() {
            records.sort();
            records.dedup();
        }
    }
    check_complete(&seen, news.name());
    let closed = consumer.close().await;
    // The last news may be younger than the last poll: then the member is out, and its last commit refused.
    let refused =
        matches!(&closed, Err(ClientError::Broker { code, .. }) if redelivery && *code == news);
    assert!(closed.is_ok() || refused, "{closed:?}");
}

#[tokio::test]
async fn a_rebalance_redelivers_nothing_that_was_returned() {
    check_rejoins(ErrorCode::RebalanceInProgress, false).await;
}

#[tokio::test]
async fn an_evicted_member_joins_again_as_a_new_one() {
    check_rejoins(ErrorCode::UnknownMemberId, true).await;
}

#[tokio::test]
async fn a_member_whose_coordinator_moves_finds_it_again() {
    check_rejoins(ErrorCode::NotCoordinator, true).await;
}

#[tokio::test]
async fn a_fenced_static_member_stops() {
    let (cluster, client) = filled(1, 0).await;
    let options = ConsumerOptions {
        group_instance_id: Some("one".to_owned()),
        ..group_options()
    };
    let mut consumer = Consumer::new(client, options).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    consumer.poll(TICK).await.unwrap();
    cluster.state.lock().group.next_heartbeat = Some(ErrorCode::FencedInstanceId);
    let error = loop {
        match consumer.poll(TICK).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(
        error.to_string(),
        "failed to stay in group g: FENCED_INSTANCE_ID (82)"
    );
}

#[tokio::test]
async fn subscribing_and_committing_need_a_group() {
    let (_cluster, client) = filled(1, 0).await;
    let mut consumer = Consumer::new(client, ConsumerOptions::default()).unwrap();
    assert!(matches!(
        consumer.subscribe([TOPIC]),
        Err(ClientError::Config(_))
    ));
    assert!(matches!(
        consumer.commit().await,
        Err(ClientError::Config(_))
    ));
}
