//! What do brokers do when a partition is moved between them?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use config::{Durability, ThrottledReplicas, TopicSettings};
use types::{ErrorCode, NodeId, Offset, TopicId};

use super::cluster::{Cluster, batch, fetch, idempotent, until};
use crate::replication::throttle::Rates;
use crate::replication::{PartitionChange, ReplicaChanges, TopicIdPartition};

/// Directories of the partition on a node, of a deleted log as well.
fn directories(cluster: &Cluster, node: i32, topic: &TopicIdPartition) -> Vec<PathBuf> {
    let root = cluster.dir.path().join(format!("node-{node}"));
    let prefix = format!("{topic}");
    std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&prefix)
        })
        .collect()
}

async fn until_moved(cluster: &Cluster, topic: &TopicIdPartition, replicas: &[i32]) {
    let wanted: Vec<_> = replicas.iter().copied().map(NodeId).collect();
    until("the move ends", || {
        let now = cluster.controller.registration(topic);
        !now.is_reassigning() && now.replicas == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_with_its_records_and_leaves_nothing_behind() {
    let settings = TopicSettings {
        min_insync_replicas: 2,
        ..TopicSettings::default()
    };
    let cluster = Cluster::with(4, settings, Durability::Replicated).await;
    let topic = cluster.create_topic("orders", &[0, 1]);
    for sequence in 0..20 {
        cluster
            .produce(0, &topic, idempotent(7, sequence), -1)
            .await
            .unwrap();
    }
    cluster.controller.reassign(&topic, Some(&[2, 3]));
    until_moved(&cluster, &topic, &[2, 3]).await;
    for node in [0, 1] {
        until("the old log is gone, with its files", || {
            directories(&cluster, node, &topic).is_empty()
        })
        .await;
        assert_eq!(cluster.manager(node).partition_snapshot(&topic), None);
        let refused = cluster.produce(node, &topic, batch(b"late"), -1).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotLeaderOrFollower);
        assert_eq!(refused.leader_hint.unwrap().leader, Some(NodeId(2)));
        let unread = fetch(cluster.manager(node), &topic, 0).await;
        assert_eq!(unread.error, ErrorCode::NotLeaderOrFollower);
    }
    until("the new leader leads", || {
        let snapshot = cluster.manager(2).partition_snapshot(&topic);
        snapshot.is_some_and(|snapshot| snapshot.is_leader)
    })
    .await;
    // A retry is known, and the next batch goes on.
    let again = cluster.produce(2, &topic, idempotent(7, 19), -1).await;
    assert_eq!(again.unwrap().base_offset, Offset(19));
    let next = cluster.produce(2, &topic, idempotent(7, 20), -1).await;
    assert_eq!(next.unwrap().base_offset, Offset(20));
    until("the follower has it", || {
        cluster.segment(3, &topic) == cluster.segment(2, &topic)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_back_begins_anew_again_and_again() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0]);
    for round in 0..6 {
        cluster
            .produce(0, &topic, batch(&[round]), -1)
            .await
            .unwrap();
        let other = 1 + i32::from(round % 2);
        cluster.controller.reassign(&topic, Some(&[0, other]));
        until_moved(&cluster, &topic, &[0, other]).await;
        let gone = 3 - other;
        until("the one that went has nothing", || {
            directories(&cluster, gone, &topic).is_empty()
        })
        .await;
        until("the one that came has everything", || {
            cluster.log_end(other, &topic) == Offset(i64::from(round) + 1)
        })
        .await;
    }
    assert_eq!(cluster.segment(0, &topic), cluster.segment(2, &topic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_given_up_leaves_nothing_of_what_was_copied() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    // One of the new brokers is away, so that the move cannot end.
    cluster.stop_node(2).await;
    cluster.controller.reassign(&topic, Some(&[1, 2]));
    until("the other one joins", || {
        cluster.controller.registration(&topic).isr.len() == 2
    })
    .await;
    cluster.controller.reassign(&topic, None);
    until("the copy is gone", || {
        directories(&cluster, 1, &topic).is_empty()
    })
    .await;
    let now = cluster.controller.registration(&topic);
    assert_eq!(
        (now.leader, now.replicas),
        (Some(NodeId(0)), vec![NodeId(0)])
    );
    let ok = cluster.produce(0, &topic, batch(b"two"), -1).await;
    assert_eq!(ok.unwrap().base_offset, Offset(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_away_deletes_what_was_moved_from_it_and_nothing_else() {
    let mut cluster = Cluster::start(3).await;
    let moved = cluster.create_topic("moved", &[0, 1]);
    let stays = cluster.create_topic("stays", &[0, 1]);
    for topic in [&moved, &stays] {
        cluster.produce(0, topic, batch(b"one"), -1).await.unwrap();
        until("both have it", || cluster.log_end(1, topic) == Offset(1)).await;
    }
    cluster.stop_node(1).await;
    cluster.controller.reassign(&moved, Some(&[0, 2]));
    until_moved(&cluster, &moved, &[0, 2]).await;
    cluster.start_node(1).await;
    assert_eq!(directories(&cluster, 1, &moved).len(), 1);
    let partitions = [&moved, &stays].map(|topic| PartitionChange {
        partition: topic.clone(),
        registration: cluster.controller.registration(topic),
    });
    let whole = ReplicaChanges {
        partitions: partitions.to_vec(),
        complete: true,
        ..ReplicaChanges::default()
    };
    cluster.manager(1).apply(&whole).unwrap();
    until("the moved log is gone, with its files", || {
        directories(&cluster, 1, &moved).is_empty()
    })
    .await;
    assert_eq!(cluster.log_end(1, &stays), Offset(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_came_back_under_its_name_unseen_begins_anew_beside_the_old_log() {
    let cluster = Cluster::start(1).await;
    let gone = cluster.create_topic("orders", &[0]);
    cluster.produce(0, &gone, batch(b"one"), -1).await.unwrap();
    let whole = |named: &[&TopicIdPartition]| ReplicaChanges {
        partitions: named
            .iter()
            .map(|topic| PartitionChange {
                partition: TopicIdPartition::clone(topic),
                registration: cluster.controller.registration(&gone),
            })
            .collect(),
        complete: true,
        ..ReplicaChanges::default()
    };
    // The broker registers again without having been restarted: both the deletion and the creation escaped it.
    let anew = TopicIdPartition::new(TopicId([9; 16]), "orders", 0);
    cluster.manager(0).apply(&whole(&[&anew])).unwrap();
    assert_eq!(cluster.manager(0).partition_snapshot(&gone), None);
    let ok = cluster.produce(0, &anew, batch(b"two"), -1).await.unwrap();
    assert_eq!(ok.base_offset, Offset(0));
    let kept = directories(&cluster, 0, &gone);
    let aside = format!("{gone}.{}-stray", gone.topic_id);
    assert!(kept.iter().any(|dir| dir.ends_with(&aside)), "{kept:?}");

    cluster.manager(0).apply(&whole(&[])).unwrap();
    let by_name = TopicIdPartition::new(TopicId::default(), "orders", 0);
    assert_eq!(cluster.manager(0).partition_snapshot(&by_name), None);
    let refused = cluster.produce(0, &by_name, batch(b"three"), -1).await;
    assert_eq!(
        refused.unwrap_err().code,
        ErrorCode::UnknownTopicOrPartition
    );
}

const UNTHROTTLED: u64 = i64::MAX as u64;

/// Three nodes and a topic on the first two, with 60 records of 20 kB that they got in sync.
async fn with_much_to_copy(rates: Rates) -> (Cluster, TopicIdPartition) {
    let settings = TopicSettings {
        leader_replication_throttled_replicas: ThrottledReplicas::Listed(vec![(0, 0)]),
        follower_replication_throttled_replicas: ThrottledReplicas::Listed(vec![(0, 1), (0, 2)]),
        ..TopicSettings::default()
    };
    let cluster = Cluster::with(3, settings, Durability::Replicated).await;
    set_rates(&cluster, rates);
    let topic = cluster.create_topic("orders", &[0, 1]);
    for _ in 0..60 {
        let ok = cluster.produce(0, &topic, batch(&[b'x'; 20_000]), -1).await;
        ok.expect("replicas in sync are not throttled");
    }
    (cluster, topic)
}

fn set_rates(cluster: &Cluster, rates: Rates) {
    for node in 0..3 {
        let changes = ReplicaChanges {
            throttles: Some(rates),
            ..ReplicaChanges::default()
        };
        cluster.manager(node).apply(&changes).unwrap();
    }
}

/// The rate at one side, the other not throttled.
fn at_either_side(rate: u64) -> [Rates; 2] {
    [(rate, UNTHROTTLED), (UNTHROTTLED, rate)].map(|(leader, follower)| Rates { leader, follower })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_copy_keeps_to_the_rate_and_holds_up_nobody_in_sync() {
    for rates in at_either_side(300_000) {
        let (cluster, topic) = with_much_to_copy(rates).await;
        let began = Instant::now();
        cluster.controller.reassign(&topic, Some(&[0, 1, 2]));
        let ok = cluster.produce(0, &topic, batch(b"now"), -1).await;
        ok.expect("replicas in sync are not throttled");
        assert!(cluster.log_end(2, &topic) < Offset(60), "{rates:?}");
        until_moved(&cluster, &topic, &[0, 1, 2]).await;
        let took = began.elapsed();
        assert!(took > Duration::from_millis(3_200), "{took:?}, {rates:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_throttle_is_lifted_the_rest_comes_at_once() {
    for rates in at_either_side(1) {
        let (cluster, topic) = with_much_to_copy(rates).await;
        cluster.controller.reassign(&topic, Some(&[0, 1, 2]));
        until("a first piece is there", || {
            cluster.log_end(2, &topic) > Offset(0)
        })
        .await;
        assert!(cluster.log_end(2, &topic) < Offset(60), "{rates:?}");
        set_rates(&cluster, at_either_side(UNTHROTTLED)[0]);
        until_moved(&cluster, &topic, &[0, 1, 2]).await;
    }
}
