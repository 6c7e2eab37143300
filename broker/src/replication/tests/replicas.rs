//! What do three brokers do with one partition?

use config::{Durability, TopicSettings};
use types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::cluster::{Cluster, batch, fetch, idempotent, until};
use crate::replication::{Isolation, OffsetSpec};

async fn same_logs(cluster: &Cluster, topic: &crate::replication::TopicIdPartition, nodes: &[i32]) {
    until("all logs hold the same bytes", || {
        let first = cluster.segment(nodes[0], topic);
        !first.is_empty()
            && nodes
                .iter()
                .all(|node| cluster.segment(*node, topic) == first)
    })
    .await;
}

fn min_isr_2() -> TopicSettings {
    TopicSettings {
        min_insync_replicas: 2,
        ..TopicSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_hold_the_same_bytes_and_learn_the_high_watermark() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    for value in 0..50_u8 {
        let ok = cluster
            .produce(0, &topic, batch(&[value]), -1)
            .await
            .unwrap();
        assert_eq!(ok.base_offset, Offset(i64::from(value)));
    }
    same_logs(&cluster, &topic, &[0, 1, 2]).await;
    until("followers know the HW", || {
        [1, 2]
            .iter()
            .all(|node| cluster.high_watermark(*node, &topic) == Offset(50))
    })
    .await;
    let bytes = cluster.segment(0, &topic).len() as u64;
    let out: u64 = cluster
        .manager(0)
        .peer_traffic()
        .iter()
        .map(|(_, peer)| {
            peer.batch_bytes_out
                .load(std::sync::atomic::Ordering::Relaxed)
        })
        .sum();
    assert_eq!(out, 2 * bytes, "the counters account for every byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_few_in_sync_an_acks_all_produce_is_refused_before_it_is_appended() {
    let cluster = Cluster::with(3, min_isr_2(), Durability::Replicated).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    cluster.elect(&topic, 0, &[0]);
    cluster.controller.publish(&topic, &[0]);
    // The others do not follow epoch 1 yet.
    let error = cluster
        .produce(0, &topic, batch(b"two"), -1)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotEnoughReplicas);
    assert_eq!(cluster.log_end(0, &topic), Offset(1));
    cluster.produce(0, &topic, batch(b"two"), 1).await.unwrap();
    let data = fetch(cluster.manager(0), &topic, 1).await;
    assert_eq!(
        data.bytes(),
        0,
        "strict min ISR: the HW does not move below it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_join_the_isr_again_and_the_high_watermark_goes_on() {
    let cluster = Cluster::with(3, min_isr_2(), Durability::Replicated).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster.elect(&topic, 0, &[0]);
    cluster.controller.publish(&topic, &[]);
    until("all are in the ISR", || {
        cluster.controller.registration(&topic).isr.len() == 3
    })
    .await;
    until("the leader knows", || {
        let snapshot = cluster.manager(0).partition_snapshot(&topic).unwrap();
        !snapshot.under_min_isr
    })
    .await;
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    same_logs(&cluster, &topic, &[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_leader_truncates_what_only_it_has() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster
        .produce(0, &topic, batch(b"shared"), -1)
        .await
        .unwrap();
    // Node 1 leads; node 0 has not heard of it and takes records that nobody else has.
    cluster.elect(&topic, 1, &[1, 2]);
    cluster.controller.publish(&topic, &[1, 2]);
    for _ in 0..3 {
        cluster
            .produce(0, &topic, batch(b"only on the old leader"), 1)
            .await
            .unwrap();
    }
    cluster
        .produce(1, &topic, batch(b"of the new epoch"), -1)
        .await
        .unwrap();
    assert_eq!(cluster.log_end(0, &topic), Offset(4));
    cluster.controller.publish(&topic, &[0]);
    until("the old leader has the new leader's log", || {
        cluster.log_end(0, &topic) == Offset(2)
    })
    .await;
    same_logs(&cluster, &topic, &[1, 0, 2]).await;
    until("it joins the ISR", || {
        cluster
            .controller
            .registration(&topic)
            .isr
            .contains(&NodeId(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_epoch_without_records_does_not_keep_an_old_leader_from_following() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster
        .produce(0, &topic, batch(b"shared"), -1)
        .await
        .unwrap();
    // Node 2 leads epoch 1 and writes nothing; nobody else hears of it before epoch 2.
    cluster.elect(&topic, 2, &[1, 2]);
    cluster.controller.publish(&topic, &[2]);
    cluster.elect(&topic, 1, &[1, 2]);
    cluster.controller.publish(&topic, &[]);
    cluster
        .produce(1, &topic, batch(b"of epoch 2"), -1)
        .await
        .unwrap();
    same_logs(&cluster, &topic, &[1, 0, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_knows_the_retries_of_the_old_one() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    for sequence in 0..4 {
        cluster
            .produce(0, &topic, idempotent(9, sequence), -1)
            .await
            .unwrap();
    }
    cluster.elect(&topic, 1, &[1, 2]);
    cluster.controller.publish(&topic, &[]);
    let again = cluster
        .produce(1, &topic, idempotent(9, 2), -1)
        .await
        .unwrap();
    assert_eq!(again.base_offset, Offset(2));
    let next = cluster
        .produce(1, &topic, idempotent(9, 4), -1)
        .await
        .unwrap();
    assert_eq!(next.base_offset, Offset(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_produce_ends_when_leadership_moves() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster.stop_node(1).await;
    let manager = cluster.manager(0).clone();
    let (partition, records) = (topic.clone(), batch(b"one"));
    let waiting = tokio::spawn(async move {
        manager
            .produce(
                &partition,
                records,
                -1,
                super::cluster::LONG,
                super::cluster::NOW_MS,
            )
            .await
    });
    until("it is appended", || cluster.log_end(0, &topic) == Offset(1)).await;
    assert!(
        !waiting.is_finished(),
        "node 1 is in the ISR and has it not"
    );
    cluster.elect(&topic, 2, &[2, 0]);
    cluster.controller.publish(&topic, &[]);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::NotLeaderOrFollower);
    assert_eq!(error.leader_hint.unwrap().leader, Some(NodeId(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_catches_up_and_goes_live() {
    let mut cluster = Cluster::start(2).await;
    let topic = cluster.create_topic("orders", &[0, 1]);
    cluster.stop_node(1).await;
    cluster.elect(&topic, 0, &[0]);
    cluster.controller.publish(&topic, &[]);
    let value = vec![7; 512 * 1024];
    for _ in 0..40 {
        cluster.produce(0, &topic, batch(&value), 1).await.unwrap();
    }
    cluster.start_node(1).await;
    cluster.controller.publish(&topic, &[]);
    until("the follower is in the ISR", || {
        cluster.controller.registration(&topic).isr.len() == 2
    })
    .await;
    let ok = cluster
        .produce(0, &topic, batch(b"live"), -1)
        .await
        .unwrap();
    assert_eq!(ok.base_offset, Offset(40));
    same_logs(&cluster, &topic, &[0, 1]).await;
}

/// Nothing is appended any more, so that nothing mends what a start misses. Many partitions start one by one, while
/// the leader fills frames for those before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_starts_when_nothing_is_written_gets_every_partition() {
    const PARTITIONS: usize = 300;
    let mut cluster = Cluster::start(1).await;
    let topics: Vec<_> = (0..PARTITIONS)
        .map(|number| cluster.create_topic(&format!("orders-{number:03}"), &[0, 1]))
        .collect();
    for topic in &topics {
        cluster.elect(topic, 0, &[0]);
        cluster.controller.publish(topic, &[]);
        cluster.produce(0, topic, batch(b"one"), -1).await.unwrap();
    }
    // Reads come from files after a restart, which takes the leader long enough to be overtaken by the next start.
    cluster.stop_node(0).await;
    cluster.start_node(0).await;
    for topic in &topics {
        cluster.controller.publish(topic, &[0]);
    }
    cluster.start_node(1).await;
    for topic in &topics {
        cluster.controller.publish(topic, &[1]);
    }
    until("the follower has all records of all partitions", || {
        topics
            .iter()
            .all(|topic| cluster.log_end(1, topic) == Offset(1))
    })
    .await;
    until("it is in all ISRs", || {
        let in_sync = |topic| cluster.controller.registration(topic).isr.len() == 2;
        topics.iter().all(in_sync)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_does_not_tell_an_end_that_lies_before_its_predecessors() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster.produce(0, &topic, batch(b"one"), -1).await.unwrap();
    until("node 1 knows the HW", || {
        cluster.high_watermark(1, &topic) == Offset(1)
    })
    .await;
    // Node 1 leads with a record that is not known to be replicated, and nobody follows it.
    cluster.elect(&topic, 1, &[0, 1, 2]);
    cluster.controller.publish(&topic, &[1]);
    cluster.produce(1, &topic, batch(b"two"), 1).await.unwrap();
    cluster.elect(&topic, 1, &[0, 1, 2]);
    cluster.controller.publish(&topic, &[1]);
    let manager = cluster.manager(1);
    let latest =
        || manager.list_offsets(&topic, OffsetSpec::Latest, Isolation::ReadUncommitted, None);
    assert_eq!(latest().unwrap_err().code, ErrorCode::OffsetNotAvailable);
    cluster.controller.publish(&topic, &[]);
    until("it is replicated", || latest().is_ok()).await;
    assert_eq!(latest().unwrap().offset, Some(Offset(2)));
    assert_eq!(latest().unwrap().leader_epoch, Some(LeaderEpoch(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsynced_replication_acknowledges_what_is_on_disks() {
    let cluster = Cluster::with(3, min_isr_2(), Durability::Fsync).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    for value in 0..10_u8 {
        cluster
            .produce(0, &topic, batch(&[value]), -1)
            .await
            .unwrap();
    }
    same_logs(&cluster, &topic, &[0, 1, 2]).await;
    for node in [0, 1, 2] {
        let replica = cluster.manager(node).replica((topic.topic_id, 0)).unwrap();
        assert_eq!(
            replica.lock().log.recovery_point(),
            Offset(10),
            "node {node}"
        );
    }
}
