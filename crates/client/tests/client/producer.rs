//! Is every record in the log once and in order, whatever fails?

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Acks, Client, ClientError, Producer, ProducerOptions, ProducerRecord};
use types::{BatchBuilder, Compression, Offset, TopicPartition};

use crate::fake_broker::{FakeCluster, TOPIC};

fn options() -> ProducerOptions {
    ProducerOptions {
        linger: Duration::from_micros(200),
        batch_bytes: 250, // a few records each, so that many batches are in flight
        max_request_bytes: 4000,
        buffer_memory: 16_000,
        delivery_timeout: Duration::from_secs(20),
        ..ProducerOptions::default()
    }
}

/// Sends records under faults; each must be in its partition's log once, in order, at the offset that was acknowledged.
async fn check_exactly_once(seed: u64, compression: Compression) -> BTreeMap<&'static str, u32> {
    const RECORDS: usize = 600;
    let cluster = FakeCluster::new(2, 3, seed, 25);
    let client = Client::connect(cluster.options()).await.unwrap();
    let producer = Producer::new(
        client,
        ProducerOptions {
            compression,
            ..options()
        },
    )
    .unwrap();
    let mut deliveries = Vec::new();
    for i in 0..RECORDS {
        let record = ProducerRecord::new(TOPIC, format!("{i}")).partition((i % 3) as i32);
        deliveries.push(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let logs = cluster.logs();
    let faults = cluster.state.lock().faults_done.clone();
    for (partition, log) in logs.iter().enumerate() {
        let expected: Vec<String> = (0..RECORDS)
            .filter(|i| i % 3 == partition)
            .map(|i| i.to_string())
            .collect();
        assert_eq!(
            log, &expected,
            "seed {seed}, partition {partition}, faults {faults:?}"
        );
    }
    for (i, delivery) in deliveries.iter().enumerate() {
        let acked = delivery
            .wait()
            .await
            .unwrap_or_else(|e| panic!("seed {seed}, record {i}: {e}"));
        let offset = acked.offset.map(|o| usize::try_from(o.0).unwrap());
        assert_eq!(
            offset,
            Some(i / 3),
            "seed {seed}, record {i}, faults {faults:?}"
        );
    }
    producer.close().await;
    faults
}

#[tokio::test]
async fn idempotent_records_are_written_once_and_in_order_under_faults() {
    let mut total: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..60 {
        for (kind, count) in check_exactly_once(seed, Compression::None).await {
            *total.entry(kind).or_insert(0) += count;
        }
    }
    check_exactly_once(1000, Compression::Lz4).await;
    assert_eq!(total.len(), 4, "{total:?}");
    assert!(
        total.values().all(|count| *count >= 40),
        "too few faults to prove anything: {total:?}"
    );
}

#[tokio::test]
async fn the_first_batches_stay_in_order_when_a_new_leader_refuses_only_the_first() {
    let cluster = FakeCluster::new(1, 1, 1, 0);
    let client = Client::connect(cluster.options()).await.unwrap();
    cluster.state.lock().not_ready_for = 1;
    let producer = Producer::new(client, options()).unwrap();
    for i in 0..200 {
        let _delivery = producer
            .send(ProducerRecord::new(TOPIC, format!("{i}")))
            .await
            .unwrap();
    }
    producer.flush().await;
    let expected: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    assert_eq!(cluster.logs()[0], expected);
}

#[tokio::test]
async fn records_without_key_go_to_all_partitions_in_whole_batches() {
    let cluster = FakeCluster::new(1, 3, 1, 0);
    let client = Client::connect(cluster.options()).await.unwrap();
    let producer = Producer::new(client, options()).unwrap();
    for i in 0..600 {
        let _delivery = producer
            .send(ProducerRecord::new(TOPIC, format!("{i}")))
            .await
            .unwrap();
    }
    producer.close().await;
    let logs = cluster.logs();
    assert_eq!(logs.iter().map(Vec::len).sum::<usize>(), 600);
    assert!(
        logs.iter().all(|log| log.len() > 50),
        "{:?}",
        logs.iter().map(Vec::len).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_record_that_is_not_acknowledged_in_time_fails() {
    let cluster = FakeCluster::new(1, 1, 1, u32::MAX);
    let client = Client::connect(cluster.options()).await.unwrap();
    let options = ProducerOptions {
        delivery_timeout: Duration::from_millis(100),
        ..options()
    };
    let producer = Producer::new(client, options).unwrap();
    cluster.state.lock().lose_everything();
    let error = producer
        .send_and_wait(ProducerRecord::new(TOPIC, "x"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Closed { .. } | ClientError::Deadline { .. }
        ),
        "{error}"
    );
    // the buffer is free again
    for _ in 0..20 {
        let big = ProducerRecord::new(TOPIC, vec![0; 3000]);
        assert!(producer.send_and_wait(big).await.is_err());
    }
}

#[tokio::test]
async fn a_closed_producer_refuses_records_and_a_dropped_one_fails_them() {
    let cluster = FakeCluster::new(1, 1, 1, u32::MAX);
    let client = Client::connect(cluster.options()).await.unwrap();
    let producer = Producer::new(client.clone(), options()).unwrap();
    cluster.state.lock().lose_everything();
    let delivery = producer
        .send(ProducerRecord::new(TOPIC, "x"))
        .await
        .unwrap();
    drop(producer);
    assert!(matches!(
        delivery.wait().await,
        Err(ClientError::Stopped("producer"))
    ));
}

#[tokio::test]
async fn records_that_cannot_be_sent_are_refused_at_once() {
    let cluster = FakeCluster::new(1, 2, 1, 0);
    let client = Client::connect(cluster.options()).await.unwrap();
    let producer = Producer::new(client.clone(), options()).unwrap();
    let too_large = producer
        .send(ProducerRecord::new(TOPIC, vec![0; 5000]))
        .await
        .unwrap_err();
    assert_eq!(
        too_large.to_string(),
        "failed to build a batch for orders: 5031 bytes are over max_request_bytes"
    );
    let no_partition = producer
        .send(ProducerRecord::new(TOPIC, "x").partition(2))
        .await
        .unwrap_err();
    assert_eq!(
        no_partition.to_string(),
        "failed to build a batch for orders-2: the topic has 2 partitions"
    );
    for (wrong, why) in [
        (
            ProducerOptions {
                acks: Acks::Leader,
                ..options()
            },
            "idempotence needs acks=all",
        ),
        (
            ProducerOptions {
                max_in_flight: 6,
                ..options()
            },
            "max_in_flight must be 1 to 5",
        ),
    ] {
        let error = Producer::new(client.clone(), wrong).unwrap_err();
        assert_eq!(error.to_string(), format!("bad client setting: {why}"));
    }
}

#[tokio::test]
async fn a_raw_batch_is_written_as_it_is() {
    let cluster = FakeCluster::new(2, 2, 1, 0);
    let client = Client::connect(cluster.options()).await.unwrap();
    let producer = Producer::new(client, options()).unwrap();
    let partition = TopicPartition::new(TOPIC, 1);
    for expected in [0, 2] {
        let mut batch = BatchBuilder::new();
        batch.push(1, None, Some(b"a")).push(2, None, Some(b"b"));
        let ack = producer
            .send_batch_raw(&partition, batch.build().unwrap())
            .await
            .unwrap();
        assert_eq!(ack.base_offset, Some(Offset(expected)));
    }
    assert_eq!(cluster.logs()[1], ["a", "b", "a", "b"]);
}
