//! Does every follower follow the new leader when the old one is dead?

use std::time::{Duration, Instant};

use rpc::replication::v1::PartitionAnswer;
use types::NodeId;

use super::cluster::{Cluster, NOW_MS, batch};
use crate::replication::TopicIdPartition;
use crate::replication::follow::FollowStep;

/// A node that is in the metadata and does not run.
const DEAD: i32 = 3;
const PARTITIONS: usize = 60;
/// A follower that follows acknowledges within milliseconds; one that does not holds an acks=all produce up for the
/// whole `replica.lag.time.max.ms`.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many times a leader dies; `TIDEMARK_ROUNDS` asks for more.
fn rounds() -> usize {
    let asked = std::env::var("TIDEMARK_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Everything is led by `leader` from now on, as one step of the metadata says on all nodes at once.
fn lead(cluster: &Cluster, topics: &[TopicIdPartition], leader: i32, isr: &[i32]) {
    for topic in topics {
        cluster.elect(topic, leader, isr);
    }
    cluster.controller.publish_all(topics, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_partition_is_left_behind_when_a_dead_leader_is_replaced() {
    let cluster = Cluster::start(3).await;
    cluster.ports.refuse(DEAD);
    let topics: Vec<_> = (0..PARTITIONS)
        .map(|n| cluster.create_topic(&format!("topic-{n}"), &[0, 1, 2, DEAD]))
        .collect();
    let mut longest = Duration::ZERO;
    for round in 0..rounds() {
        lead(&cluster, &topics, DEAD, &[0, 1, 2, DEAD]);
        // Followers are asking the dead one by now, each at its own times.
        tokio::time::sleep(Duration::from_millis(3 + (round as u64 * 7) % 40)).await;
        lead(&cluster, &topics, 0, &[0, 1, 2]);
        let began = Instant::now();
        for topic in &topics {
            let produced = cluster
                .manager(0)
                .produce(topic, batch(b"value"), -1, PATIENCE, NOW_MS)
                .await;
            produced.unwrap_or_else(|error| {
                panic!("round {round}: {topic:?} was not replicated: {error}")
            });
        }
        longest = longest.max(began.elapsed());
    }
    assert!(longest < PATIENCE, "{longest:?} until all were replicated");
}

#[tokio::test]
async fn a_link_to_the_leader_of_before_does_not_end_what_was_started_at_the_new_one() {
    // Nobody can be reached, so only what happens here happens.
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[1, 0, 2]);
    let replica = cluster.manager(0).find(&topic).unwrap();
    let started = replica.start_position(NodeId(1)).unwrap();
    // The link to node 2 listed the partition while it still followed that one.
    assert!(replica.start_position(NodeId(2)).is_none());
    let accepted = PartitionAnswer {
        topic_id: started.topic_id,
        partition: started.partition,
        leader_epoch: started.leader_epoch,
        session: started.session,
        fetch_offset: started.fetch_offset,
        last_fetched_epoch: started.last_fetched_epoch,
        ..PartitionAnswer::default()
    };
    let step = replica.on_start_answer(&accepted);
    assert!(
        matches!(step, FollowStep::Progress(_)),
        "the answer counts, so that batches are appended and acknowledged: {step:?}"
    );
}
