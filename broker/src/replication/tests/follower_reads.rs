//! Who may read from a follower, and who is sent there (KIP-392)?

use std::time::Duration;

use types::{ErrorCode, NodeId, Offset};

use super::cluster::{Cluster, LONG, batch, fetch_request, until};
use crate::replication::{FetchPartitionData, Reader, TopicIdPartition};

async fn read(
    cluster: &Cluster,
    node: i32,
    topic: &TopicIdPartition,
    (from, reader): (i64, Reader),
    max_wait: Duration,
) -> FetchPartitionData {
    let mut request = fetch_request(topic, from, max_wait);
    request.reader = reader;
    cluster.manager(node).fetch(&request).await.remove(0)
}

fn anywhere() -> Reader {
    Reader {
        may_read_followers: true,
        near: Vec::new(),
    }
}

fn near(nodes: &[i32]) -> Reader {
    Reader {
        may_read_followers: true,
        near: nodes.iter().copied().map(NodeId).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gives_what_is_committed_to_those_who_ask_for_it() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    cluster
        .produce(0, &topic, batch(b"one"), -1)
        .await
        .expect("it leads");
    until("node 1 knows the high watermark", || {
        cluster.high_watermark(1, &topic) == Offset(1)
    })
    .await;
    let data = read(&cluster, 1, &topic, (0, Reader::default()), Duration::ZERO).await;
    assert_eq!(data.error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(
        data.leader_hint.and_then(|hint| hint.leader),
        Some(NodeId(0))
    );
    let data = read(&cluster, 1, &topic, (0, anywhere()), Duration::ZERO).await;
    assert_eq!(
        (data.error, data.high_watermark),
        (ErrorCode::None, Some(Offset(1)))
    );
    assert_eq!(data.records.concat(), cluster.segment(1, &topic));
    let data = read(&cluster, 1, &topic, (2, anywhere()), Duration::ZERO).await;
    assert_eq!(
        data.error,
        ErrorCode::OffsetOutOfRange,
        "the client asks the leader then"
    );

    // Who waits at its end is woken by what the leader sends.
    let waiting = read(&cluster, 1, &topic, (1, anywhere()), LONG);
    let producing = cluster.produce(0, &topic, batch(b"two"), -1);
    let (data, produced) = tokio::join!(waiting, producing);
    produced.expect("it is acknowledged");
    assert_eq!(
        (data.error, data.high_watermark),
        (ErrorCode::None, Some(Offset(2)))
    );
    assert!(data.bytes() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_sends_a_client_to_a_replica_in_sync_near_it() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1]);
    cluster
        .produce(0, &topic, batch(b"one"), -1)
        .await
        .expect("it leads");
    let data = read(&cluster, 0, &topic, (0, near(&[1, 2])), LONG).await;
    assert_eq!(
        (data.error, data.preferred_read_replica),
        (ErrorCode::None, Some(NodeId(1)))
    );
    assert_eq!(data.bytes(), 0, "the records come from there");
    assert_eq!(data.high_watermark, Some(Offset(1)));
    // Nobody near it has a replica: the leader answers itself.
    let data = read(&cluster, 0, &topic, (0, near(&[2])), LONG).await;
    assert_eq!(data.preferred_read_replica, None);
    assert!(data.bytes() > 0);
}
