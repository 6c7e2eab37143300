//! Do observers get everything, in order, from wherever they start?

use std::time::Duration;

use ::types::NodeId;
use broker_core::metadata::record::FeatureLevel;
use broker_core::metadata::{MetadataImage, MetadataRecord, encode_records};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::grpc;
use crate::names::Resolver;
use crate::peer::Peers;
use crate::quorum::{ControllerNode, Directory, Machine as _};

const PATIENCE: Duration = Duration::from_secs(20);

fn apply(machine: &mut MetadataMachine, offset: u64) {
    let record = MetadataRecord::FeatureLevel(FeatureLevel {
        name: "test.feature".to_owned(),
        level: i16::try_from(offset % 30_000).unwrap() + 1,
    });
    machine.apply(offset, &encode_records(&[record])).unwrap();
}

async fn serve(publisher: &MetadataPublisher) -> (Directory, CancellationToken) {
    let listener = grpc::bind("127.0.0.1", 0).await.unwrap();
    let rpc_port = listener.local_addr().unwrap().port();
    let service = MetadataService::new("c".to_owned(), publisher.clone()).into_server();
    let stop = CancellationToken::new();
    let routes = tonic::service::Routes::new(service);
    tokio::spawn(grpc::serve(listener, routes, stop.clone()));
    let controller = ControllerNode {
        node_id: NodeId(0),
        host: "127.0.0.1".to_owned(),
        rpc_port,
    };
    (
        Directory::new([controller], Peers::new(Resolver::default())),
        stop,
    )
}

fn observe(directory: &Directory) -> MetadataPublisher {
    let publisher = MetadataPublisher::default();
    let observer = Observer {
        cluster_id: "c".to_owned(),
        node_id: NodeId(9),
        directory: directory.clone(),
        machine: MetadataMachine::new(publisher.clone()),
    };
    tokio::spawn(observer.run(CancellationToken::new()));
    publisher
}

async fn until_equal(observed: &MetadataPublisher, image: &MetadataImage) {
    let mut images = observed.watch();
    let wait = images.wait_for(|seen| **seen == *image);
    let equal = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(
        equal,
        "at {} of {}",
        observed.image().offset(),
        image.offset()
    );
}

#[tokio::test]
async fn an_observer_follows_batches_with_gaps_between_their_offsets() {
    let publisher = MetadataPublisher::default();
    let mut machine = MetadataMachine::new(publisher.clone());
    let (directory, _stop) = serve(&publisher).await;
    let observed = observe(&directory);
    for offset in [2, 3, 7, 20] {
        apply(&mut machine, offset);
        until_equal(&observed, &publisher.image()).await;
    }
}

#[tokio::test]
async fn an_observer_that_was_away_too_long_gets_a_snapshot() {
    let publisher = MetadataPublisher::default();
    let mut machine = MetadataMachine::new(publisher.clone());
    // More batches than are kept.
    for offset in 1..6000 {
        apply(&mut machine, offset);
    }
    assert_eq!(publisher.batches_from(1), None);
    let (directory, _stop) = serve(&publisher).await;
    let observed = observe(&directory);
    until_equal(&observed, &publisher.image()).await;
    apply(&mut machine, 6001);
    until_equal(&observed, &publisher.image()).await;
}

#[tokio::test]
async fn a_restored_snapshot_reaches_observers() {
    let publisher = MetadataPublisher::default();
    let mut machine = MetadataMachine::new(publisher.clone());
    let (directory, _stop) = serve(&publisher).await;
    let observed = observe(&directory);
    apply(&mut machine, 1);
    until_equal(&observed, &publisher.image()).await;
    let other = MetadataPublisher::default();
    let mut ahead = MetadataMachine::new(other.clone());
    for offset in 1..50 {
        apply(&mut ahead, offset);
    }
    machine.restore(49, &ahead.freeze()()).unwrap();
    until_equal(&observed, &other.image()).await;
}

#[tokio::test]
async fn a_slow_reader_skips_states_but_no_change() {
    let publisher = MetadataPublisher::default();
    let mut machine = MetadataMachine::new(publisher.clone());
    let mut stream = publisher.stream();
    let (image, delta) = stream.next().await.unwrap();
    assert_eq!(image.offset(), 0);
    assert!(delta.is_empty());
    for offset in 1..10 {
        apply(&mut machine, offset);
    }
    let (image, delta) = stream.next().await.unwrap();
    assert_eq!((image.offset(), delta.from, delta.to), (9, 0, 9));
    assert!(delta.features);
}
