//! Are records that a client deletes gone on every replica when it is told so, and for good?

use std::time::Duration;

use config::{CleanupPolicy, Durability, TopicSettings};
use types::{ErrorCode, NodeId, Offset};

use super::cluster::{Cluster, LONG, batch, fetch, until};
use crate::replication::{DeleteBefore, TopicIdPartition};

async fn delete(
    cluster: &Cluster,
    node: i32,
    topic: &TopicIdPartition,
    before: DeleteBefore,
    timeout: Duration,
) -> Result<Offset, ErrorCode> {
    let wanted = vec![(topic.clone(), before)];
    let mut results = cluster.manager(node).delete_records(wanted, timeout).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn log_start(cluster: &Cluster, node: i32, topic: &TopicIdPartition) -> Offset {
    let snapshot = cluster.manager(node).partition_snapshot(topic);
    snapshot.map_or(Offset(-1), |snapshot| snapshot.log_start_offset)
}

/// A process that is killed now finds the log's start when it is back.
fn assert_written(cluster: &Cluster, node: i32, start: i64) {
    let root = cluster.dir.path().join(format!("node-{node}"));
    let checkpoint = std::fs::read_to_string(root.join("log-start-offset-checkpoint"));
    let want = format!("orders 0 {start}\n");
    assert!(
        checkpoint.is_ok_and(|text| text.contains(&want)),
        "node {node}: {want}"
    );
}

async fn with_five_records(nodes: &[i32], settings: TopicSettings) -> (Cluster, TopicIdPartition) {
    let count = i32::try_from(nodes.len()).unwrap();
    let cluster = Cluster::with(count, settings, Durability::Replicated).await;
    let topic = cluster.create_topic("orders", nodes);
    for _ in 0..5 {
        cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    }
    (cluster, topic)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_comes_when_all_replicas_begin_there() {
    let (cluster, topic) = with_five_records(&[0, 1, 2], TopicSettings::default()).await;
    let to = DeleteBefore::Offset(Offset(3));
    assert_eq!(delete(&cluster, 0, &topic, to, LONG).await, Ok(Offset(3)));
    for node in 0..3 {
        assert_eq!(log_start(&cluster, node, &topic), Offset(3), "node {node}");
        assert_written(&cluster, node, 3);
    }
    let below = fetch(cluster.manager(0), &topic, 2).await;
    assert_eq!(below.error, ErrorCode::OffsetOutOfRange);
    // A smaller offset changes nothing, and is not an error.
    let to = DeleteBefore::Offset(Offset(1));
    assert_eq!(delete(&cluster, 0, &topic, to, LONG).await, Ok(Offset(3)));
    let all = delete(&cluster, 0, &topic, DeleteBefore::HighWatermark, LONG);
    assert_eq!(all.await, Ok(Offset(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fsync_the_followers_answer_too() {
    let settings = TopicSettings::default();
    let cluster = Cluster::with(2, settings, Durability::Fsync).await;
    let topic = cluster.create_topic("orders", &[0, 1]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    let all = delete(&cluster, 0, &topic, DeleteBefore::HighWatermark, LONG);
    assert_eq!(all.await, Ok(Offset(1)));
    assert_eq!(log_start(&cluster, 1, &topic), Offset(1));
    assert_written(&cluster, 1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_gone_is_not_waited_for_and_follows_when_it_is_back() {
    let (mut cluster, topic) = with_five_records(&[0, 1], TopicSettings::default()).await;
    cluster.stop_node(1).await;
    let to = DeleteBefore::Offset(Offset(4));
    let manager = cluster.manager(0).clone();
    let wanted = vec![(topic.clone(), to)];
    let waiting = tokio::spawn(async move { manager.delete_records(wanted, LONG).await });
    until("the leader's log begins there", || {
        log_start(&cluster, 0, &topic) == Offset(4)
    })
    .await;
    assert!(
        !waiting.is_finished(),
        "the metadata says that the other lives"
    );
    let replica = cluster.manager(0).find(&topic).unwrap();
    replica.set_eligible(NodeId(1), false);
    assert_eq!(waiting.await.unwrap(), [Ok(Offset(4))]);

    cluster.start_node(1).await;
    cluster.controller.publish(&topic, &[]);
    until("the other begins there, too", || {
        log_start(&cluster, 1, &topic) == Offset(4)
    })
    .await;
    // And says so, though nothing is written.
    replica.set_eligible(NodeId(1), true);
    let all = delete(&cluster, 0, &topic, DeleteBefore::HighWatermark, LONG);
    assert_eq!(all.await, Ok(Offset(5)));
    let again = delete(&cluster, 0, &topic, to, LONG);
    assert_eq!(again.await, Ok(Offset(5)));
}

/// Trap 8 of the broker's specification: a deletion inside the active segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_does_not_come_back_with_the_next_start() {
    let (mut cluster, topic) = with_five_records(&[0], TopicSettings::default()).await;
    let to = DeleteBefore::Offset(Offset(2));
    assert_eq!(delete(&cluster, 0, &topic, to, LONG).await, Ok(Offset(2)));
    assert_written(&cluster, 0, 2);
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    cluster.controller.publish(&topic, &[]);
    assert_eq!(log_start(&cluster, 0, &topic), Offset(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_deleted_is_refused_and_changes_nothing() {
    let (cluster, topic) = with_five_records(&[0, 1], TopicSettings::default()).await;
    for offset in [6, -2] {
        let to = DeleteBefore::Offset(Offset(offset));
        let refused = delete(&cluster, 0, &topic, to, LONG).await;
        assert_eq!(refused, Err(ErrorCode::OffsetOutOfRange), "{offset}");
    }
    let elsewhere = delete(&cluster, 1, &topic, DeleteBefore::HighWatermark, LONG);
    assert_eq!(elsewhere.await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(log_start(&cluster, 0, &topic), Offset(0));

    let compacted = TopicSettings {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..TopicSettings::default()
    };
    let (cluster, topic) = with_five_records(&[0], compacted).await;
    let refused = delete(&cluster, 0, &topic, DeleteBefore::HighWatermark, LONG);
    assert_eq!(refused.await, Err(ErrorCode::PolicyViolation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_is_told_when_leadership_moves() {
    let (cluster, topic) = with_five_records(&[0, 1], TopicSettings::default()).await;
    let replica = cluster.manager(0).find(&topic).unwrap();
    let waiting = replica.lock().deletes.push(Offset(5));
    cluster.elect(&topic, 1, &[0, 1]);
    cluster.controller.publish(&topic, &[0]);
    assert_eq!(waiting.await, Ok(Err(ErrorCode::NotLeaderOrFollower)));
}
