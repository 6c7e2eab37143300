//! Do leaders and followers compact their logs while they are used, and does the broker outlive a log that cannot be?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::cleaning::Setback;
use config::{CleanupPolicy, Durability, TopicSettings};
use types::{BatchBuilder, BatchIter, Offset, RecordIter};

use super::cluster::{Cluster, NOW_MS, fetch, until};
use crate::replication::{ReplicaChanges, TopicIdPartition};

fn compacted() -> TopicSettings {
    TopicSettings {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        segment_bytes: 2000,
        min_cleanable_dirty_ratio: 0.0,
        ..TopicSettings::default()
    }
}

/// Produces batches of one record each, with seven keys in turn; every tenth is a tombstone.
async fn produce(
    cluster: &Cluster,
    topic: &TopicIdPartition,
    range: std::ops::Range<i64>,
    model: &mut BTreeMap<i64, String>,
) {
    for n in range {
        let (key, value) = (n % 7, format!("value {n}"));
        let tombstone = n % 10 == 0;
        if tombstone {
            model.remove(&key);
        } else {
            model.insert(key, value.clone());
        }
        let mut builder = BatchBuilder::new();
        let value = (!tombstone).then_some(value.as_bytes());
        builder.push(NOW_MS + n, Some(&key.to_be_bytes()), value);
        let batch = builder.build().unwrap();
        cluster.produce(0, topic, batch, -1).await.unwrap();
    }
}

/// What a consumer that reads from the start makes of it.
async fn consume(cluster: &Cluster, node: i32, topic: &TopicIdPartition) -> BTreeMap<i64, String> {
    let end = cluster.high_watermark(node, topic);
    let (mut at, mut map) = (Offset(0), BTreeMap::new());
    while at < end {
        let data = fetch(cluster.manager(node), topic, at.0).await;
        assert!(data.error.is_none(), "{:?}", data.error);
        let before = at;
        for chunk in &data.records {
            for step in BatchIter::new(chunk) {
                let (header, bytes) = step.unwrap();
                at = header.next_offset();
                for record in RecordIter::new(&chunk.slice_ref(bytes), 1 << 20).unwrap() {
                    let record = record.unwrap();
                    let key = record.key.unwrap();
                    let key = i64::from_be_bytes(*key.first_chunk::<8>().unwrap());
                    match record.value {
                        Some(value) => {
                            map.insert(key, String::from_utf8(value.to_vec()).unwrap());
                        }
                        None => {
                            map.remove(&key);
                        }
                    }
                }
            }
        }
        assert!(at > before, "a reader goes forward at {at}");
    }
    map
}

async fn until_compacted(cluster: &Cluster, topic: &TopicIdPartition, nodes: &[i32]) {
    for &node in nodes {
        until("the log is compacted", || {
            // The active segment, seven records, as many tombstones, and the ends of segments.
            cluster.segment(node, topic).len() < 5000
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_and_followers_compact_on_their_own_and_still_replicate() {
    let mut cluster = Cluster::with(3, compacted(), Durability::Fsync).await;
    let topic = cluster.create_topic("profiles", &[0, 1, 2]);
    let mut model = BTreeMap::new();
    produce(&cluster, &topic, 0..300, &mut model).await;
    until_compacted(&cluster, &topic, &[0, 1, 2]).await;
    assert_eq!(consume(&cluster, 0, &topic).await, model);
    // One comes back to a compacted log of its own, and gets what it missed.
    cluster.stop_node(2).await;
    produce_without(&cluster, &topic, 300..320, &mut model).await;
    cluster.start_node(2).await;
    let settings = ReplicaChanges {
        settings: vec![(topic.topic_id, Arc::clone(&cluster.settings))],
        ..ReplicaChanges::default()
    };
    cluster.manager(2).apply(&settings).unwrap();
    cluster.controller.publish(&topic, &[2]);
    let end = cluster.log_end(0, &topic);
    until("the follower has all", || cluster.log_end(2, &topic) == end).await;
    produce(&cluster, &topic, 320..500, &mut model).await;
    until_compacted(&cluster, &topic, &[0, 1, 2]).await;
    // The one that was away leads now: it has the same.
    cluster.elect(&topic, 2, &[0, 1, 2]);
    cluster.controller.publish(&topic, &[]);
    until("the new leader serves all", || {
        cluster.high_watermark(2, &topic) == cluster.log_end(0, &topic)
    })
    .await;
    assert_eq!(consume(&cluster, 2, &topic).await, model);
}

/// As [`produce`], while a follower is away: nobody waits for it.
async fn produce_without(
    cluster: &Cluster,
    topic: &TopicIdPartition,
    range: std::ops::Range<i64>,
    model: &mut BTreeMap<i64, String>,
) {
    for n in range {
        let (key, value) = (n % 7, format!("value {n}"));
        model.insert(key, value.clone());
        let mut builder = BatchBuilder::new();
        builder.push(NOW_MS + n, Some(&key.to_be_bytes()), Some(value.as_bytes()));
        let batch = builder.build().unwrap();
        cluster.produce(0, topic, batch, 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_compacted_is_left_alone_and_counted() {
    let settings = TopicSettings {
        segment_bytes: 2000,
        ..TopicSettings::default()
    };
    let cluster = Cluster::with(1, settings, Durability::Fsync).await;
    let topic = cluster.create_topic("profiles", &[0]);
    let mut model = BTreeMap::new();
    produce(&cluster, &topic, 0..100, &mut model).await;
    let folder = cluster.dir.path().join(format!("node-0/{topic}"));
    let first = folder.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let changes = ReplicaChanges {
        settings: vec![(topic.topic_id, Arc::new(compacted()))],
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&changes).unwrap();
    until("it is counted", || {
        cluster.manager(0).cleaner_status().uncleanable_partitions == 1
    })
    .await;
    let status = cluster.manager(0).cleaner_status();
    assert_eq!((status.runs, status.dead_threads), (0, 0));
    assert!(status.uncleanable_bytes > 5000, "{status:?}");
    let reasons = Setback::ALL.iter().zip(status.held_back_partitions);
    let held_back: Vec<_> = reasons.filter(|(_, count)| *count > 0).collect();
    assert_eq!(held_back, [(&Setback::Damaged, 1)]);
    assert!(
        cluster.manager(0).fatal().borrow().is_none(),
        "the broker goes on"
    );
    produce(&cluster, &topic, 100..110, &mut model).await;
    // Another log is still cleaned.
    let other = cluster.create_topic("other", &[0]);
    let changes = ReplicaChanges {
        settings: vec![(other.topic_id, Arc::new(compacted()))],
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&changes).unwrap();
    let mut model = BTreeMap::new();
    produce(&cluster, &other, 0..200, &mut model).await;
    until_compacted(&cluster, &other, &[0]).await;
    assert_eq!(consume(&cluster, 0, &other).await, model);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_cleaner_ends_at_once_when_the_broker_stops() {
    let mut cluster = Cluster::with(0, compacted(), Durability::Fsync).await;
    cluster.broker.log_cleaner_io_max_bytes_per_second = 1000.0;
    cluster.start_node(0).await;
    let topic = cluster.create_topic("profiles", &[0]);
    let mut model = BTreeMap::new();
    produce(&cluster, &topic, 0..100, &mut model).await;
    until("a cleaner works", || {
        cluster.manager(0).cleaner_status().bytes > 1000
    })
    .await;
    let stopped = tokio::time::timeout(Duration::from_secs(5), cluster.stop_node(0)).await;
    stopped.expect("it does not wait for the throttle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_log_is_clean_is_kept_when_its_policy_changes() {
    let mut cluster = Cluster::with(1, compacted(), Durability::Fsync).await;
    let topic = cluster.create_topic("profiles", &[0]);
    let mut model = BTreeMap::new();
    produce(&cluster, &topic, 0..200, &mut model).await;
    until_compacted(&cluster, &topic, &[0]).await;
    let changes = ReplicaChanges {
        settings: vec![(topic.topic_id, Arc::default())],
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&changes).unwrap();
    cluster.stop_node(0).await;
    let file = cluster.dir.path().join("node-0/cleaner-offset-checkpoint");
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with("profiles 0 "));
    let offset = line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok());
    assert!(offset.is_some_and(|offset| offset > 100), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_passes_a_hole_at_a_segments_end() {
    let settings = TopicSettings {
        segment_bytes: 2000,
        ..TopicSettings::default()
    };
    let mut cluster = Cluster::with(1, settings, Durability::Fsync).await;
    let topic = cluster.create_topic("profiles", &[0]);
    let mut model = BTreeMap::new();
    produce(&cluster, &topic, 0..100, &mut model).await;
    cluster.stop_node(0).await;
    // As the compaction of another broker leaves it: the last batches of a segment are gone.
    let folder = cluster.dir.path().join(format!("node-0/{topic}"));
    let path = folder.join("00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap();
    let headers: Vec<_> = BatchIter::new(&bytes).map(|step| step.unwrap().0).collect();
    let (kept, gone) = headers.split_at(headers.len() - 3);
    let size: usize = kept.iter().map(types::BatchHeader::size).sum();
    std::fs::write(&path, &bytes[..size]).unwrap();
    cluster.start_node(0).await;
    let settings = ReplicaChanges {
        settings: vec![(topic.topic_id, Arc::clone(&cluster.settings))],
        ..ReplicaChanges::default()
    };
    cluster.manager(0).apply(&settings).unwrap();
    cluster.elect(&topic, 0, &[0]);
    cluster.controller.publish(&topic, &[0]);
    until("it leads", || {
        cluster.high_watermark(0, &topic) == Offset(100)
    })
    .await;
    for header in gone {
        let data = fetch(cluster.manager(0), &topic, header.base_offset.0).await;
        let first = data
            .records
            .first()
            .and_then(|chunk| BatchIter::new(chunk).next());
        let first = first.expect("what comes next").unwrap().0;
        assert_eq!(first.base_offset, gone[2].next_offset());
    }
}
