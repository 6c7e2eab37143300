//! What does a leader let in of a transaction, and when does it end for readers?

use types::builder::BatchBuilder;
use types::{
    EndTransactionMarker, ErrorCode, Offset, ProducerEpoch, ProducerId, TransactionResult,
};

use super::cluster::{Cluster, LONG, until};
use crate::replication::{
    AppendChecks, FirstSequence, Isolation, Marker, OffsetSpec, ProduceError, TopicIdPartition,
    Verification,
};

const fn producer(epoch: i16) -> (ProducerId, ProducerEpoch) {
    (ProducerId(7), ProducerEpoch(epoch))
}

fn marker(epoch: i16, coordinator_epoch: i32, bumped: bool) -> Marker {
    Marker {
        producer: producer(epoch),
        marker: EndTransactionMarker {
            result: TransactionResult::Abort,
            coordinator_epoch,
        },
        bumped,
    }
}

async fn produce(
    cluster: &Cluster,
    topic: &TopicIdPartition,
    (epoch, sequence): (i16, i32),
    guard: Option<u64>,
) -> Result<Offset, ProduceError> {
    let (id, epoch) = producer(epoch);
    let mut batch = BatchBuilder::new()
        .producer(id, epoch, sequence)
        .transactional();
    let now_ms = crate::clock::wall_ms();
    batch.push(now_ms, None, Some(b"x"));
    let bytes = batch.build().unwrap();
    let checks = AppendChecks {
        guard,
        is_behind_refused: false,
    };
    cluster
        .manager(0)
        .produce_guarded(topic, bytes, (-1, checks), LONG, now_ms)
        .await
        .map(|ok| ok.base_offset)
}

fn guard(cluster: &Cluster, topic: &TopicIdPartition, epoch: i16) -> u64 {
    match cluster
        .manager(0)
        .verification(topic, producer(epoch), None)
    {
        Verification::Needed(guard) => guard,
        Verification::Open => panic!("it is not open"),
    }
}

async fn end(cluster: &Cluster, topic: &TopicIdPartition, marker: Marker) -> ErrorCode {
    let written = cluster.manager(0).write_marker(topic, marker, LONG).await;
    written.map_or_else(|error| error.code, |()| ErrorCode::None)
}

fn last_stable(cluster: &Cluster, node: i32, topic: &TopicIdPartition) -> Option<Offset> {
    let isolation = Isolation::ReadCommitted;
    let listed = (cluster.manager(node)).list_offsets(topic, OffsetSpec::Latest, isolation, None);
    listed.ok()?.offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_before_the_end_of_a_transaction_does_not_begin_one_after_it() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    let unasked = produce(&cluster, &topic, (0, 0), None).await.unwrap_err();
    assert_eq!(unasked.code, ErrorCode::InvalidTxnState);
    let late = guard(&cluster, &topic, 0);
    assert_eq!(
        end(&cluster, &topic, marker(0, 1, false)).await,
        ErrorCode::None
    );
    let refused = produce(&cluster, &topic, (0, 0), Some(late))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTxnState);

    let current = guard(&cluster, &topic, 0);
    produce(&cluster, &topic, (0, 0), Some(current))
        .await
        .unwrap();
    let open = cluster.manager(0).verification(&topic, producer(0), None);
    assert_eq!(open, Verification::Open);
    produce(&cluster, &topic, (0, 1), None).await.unwrap();
    assert_eq!(
        end(&cluster, &topic, marker(0, 1, false)).await,
        ErrorCode::None
    );
    let refused = produce(&cluster, &topic, (0, 2), Some(current))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTxnState);
    let again = produce(&cluster, &topic, (0, 1), None).await;
    assert_eq!(
        again.unwrap(),
        Offset(2),
        "a retry of what is there is answered as then"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_batches_of_a_producer_do_not_overtake_each_other() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    let asked = |epoch: i16, base: i32, from_zero: bool| {
        let first = Some(FirstSequence { base, from_zero });
        match (cluster.manager(0)).verification(&topic, producer(epoch), first) {
            Verification::Needed(guard) => Some(guard),
            Verification::Open => None,
        }
    };
    // The coordinator refused the first one, and confirmed the next.
    asked(0, 0, false).unwrap();
    let next = asked(0, 3, false);
    let refused = produce(&cluster, &topic, (0, 3), next).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::OutOfOrderSequenceNumber);
    produce(&cluster, &topic, (0, 0), next).await.unwrap();
    produce(&cluster, &topic, (0, 1), None).await.unwrap();

    // Of version 2 it is known where a transaction begins; before, a producer may have been forgotten here.
    let other = cluster.create_topic("payments", &[0]);
    let late = Some(FirstSequence {
        base: 5,
        from_zero: true,
    });
    let Verification::Needed(guard) = cluster.manager(0).verification(&other, producer(0), late)
    else {
        panic!("it is not open");
    };
    let refused = produce(&cluster, &other, (0, 5), Some(guard)).await;
    assert_eq!(
        refused.unwrap_err().code,
        ErrorCode::OutOfOrderSequenceNumber
    );
    produce(&cluster, &other, (0, 0), Some(guard))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_of_an_older_coordinator_or_an_earlier_transaction_are_refused() {
    let cluster = Cluster::start(1).await;
    let topic = cluster.create_topic("orders", &[0]);
    let first = guard(&cluster, &topic, 0);
    produce(&cluster, &topic, (0, 0), Some(first))
        .await
        .unwrap();
    let ends = marker(1, 5, true);
    assert_eq!(end(&cluster, &topic, ends).await, ErrorCode::None);
    assert_eq!(
        end(&cluster, &topic, ends).await,
        ErrorCode::None,
        "written twice"
    );
    // The next transaction has the epoch of the last one's marker.
    let second = guard(&cluster, &topic, 1);
    produce(&cluster, &topic, (1, 0), Some(second))
        .await
        .unwrap();
    assert_eq!(
        end(&cluster, &topic, ends).await,
        ErrorCode::InvalidProducerEpoch
    );
    let old = end(&cluster, &topic, marker(2, 4, true)).await;
    assert_eq!(old, ErrorCode::TransactionCoordinatorFenced);
    let end_offset = cluster.log_end(0, &topic);
    assert_eq!(
        last_stable(&cluster, 0, &topic),
        Some(end_offset.plus(-1)),
        "still open"
    );
    assert_eq!(
        end(&cluster, &topic, marker(2, 5, true)).await,
        ErrorCode::None
    );
    let end_offset = cluster.log_end(0, &topic);
    assert_eq!(last_stable(&cluster, 0, &topic), Some(end_offset));
    let fenced = produce(&cluster, &topic, (1, 1), None).await.unwrap_err();
    assert_eq!(fenced.code, ErrorCode::InvalidProducerEpoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_knows_what_is_open_and_ends_it() {
    let cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    let first = guard(&cluster, &topic, 0);
    produce(&cluster, &topic, (0, 0), Some(first))
        .await
        .unwrap();
    cluster.elect(&topic, 1, &[0, 1, 2]);
    cluster.controller.publish(&topic, &[]);
    until("the new leader answers", || {
        last_stable(&cluster, 1, &topic).is_some()
    })
    .await;
    assert_eq!(last_stable(&cluster, 1, &topic), Some(Offset(0)));
    let open = cluster.manager(1).verification(&topic, producer(0), None);
    assert_eq!(open, Verification::Open);
    let elsewhere = end(&cluster, &topic, marker(0, 1, false)).await;
    assert_eq!(elsewhere, ErrorCode::NotLeaderOrFollower);
    let written = (cluster.manager(1)).write_marker(&topic, marker(0, 1, false), LONG);
    written.await.unwrap();
    assert_eq!(last_stable(&cluster, 1, &topic), Some(Offset(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_that_is_only_in_the_leaders_log_is_not_confirmed_and_its_loss_is_mended() {
    let mut cluster = Cluster::start(3).await;
    let topic = cluster.create_topic("orders", &[0, 1, 2]);
    let first = guard(&cluster, &topic, 0);
    produce(&cluster, &topic, (0, 0), Some(first))
        .await
        .unwrap();
    // Node 1 stays in the ISR and has not the marker.
    cluster.stop_node(1).await;
    let manager = cluster.manager(0).clone();
    let partition = topic.clone();
    let waiting = tokio::spawn(async move {
        let ends = marker(0, 1, false);
        manager.write_marker(&partition, ends, LONG).await
    });
    until("it is appended", || cluster.log_end(0, &topic) == Offset(2)).await;
    assert!(!waiting.is_finished(), "node 1 has it not");
    assert_eq!(last_stable(&cluster, 0, &topic), Some(Offset(0)));

    // Node 1 comes back and leads: the marker is gone, the coordinator writes it again, and readers go on.
    cluster.elect(&topic, 1, &[1]);
    cluster.start_node(1).await;
    cluster.controller.publish(&topic, &[]);
    assert!(waiting.await.unwrap().is_err(), "leadership went on");
    until("the new leader answers", || {
        last_stable(&cluster, 1, &topic).is_some()
    })
    .await;
    assert_eq!(last_stable(&cluster, 1, &topic), Some(Offset(0)));
    (cluster.manager(1))
        .write_marker(&topic, marker(0, 1, false), LONG)
        .await
        .unwrap();
    assert_eq!(last_stable(&cluster, 1, &topic), Some(Offset(2)));
}
