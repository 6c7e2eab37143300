//! Do replay, snapshot and delta agree with each other?

use super::record::*;
use super::*;
use crate::partition::PartitionRegistration;
use types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, ProducerId, TopicId};

fn broker(id: i32, epoch: i64) -> MetadataRecord {
    let endpoint = |name: &str, port| BrokerEndpoint {
        name: name.to_owned(),
        host: format!("host-{id}"),
        port,
    };
    MetadataRecord::RegisterBroker(RegisterBroker {
        node_id: NodeId(id),
        broker_epoch: BrokerEpoch(epoch),
        incarnation: Incarnation::from_bytes([1; 16]),
        broker_uuid: BrokerUuid::from_bytes([2; 16]),
        endpoints: vec![endpoint("internal", 9092)],
        rpc: endpoint("rpc", 9090),
        rack: Some("r1".to_owned()),
        software_version: "0.1.0".to_owned(),
        fenced: true,
        in_controlled_shutdown: false,
        reads_elr: true,
    })
}

fn topic(name: &str, id: u8) -> MetadataRecord {
    MetadataRecord::Topic(Topic {
        name: name.into(),
        topic_id: TopicId([id; 16]),
    })
}

fn partition(id: u8, index: i32, isr: &[i32]) -> MetadataRecord {
    MetadataRecord::Partition(Partition {
        topic_id: TopicId([id; 16]),
        partition: index,
        registration: PartitionRegistration {
            leader: isr.first().copied().map(NodeId),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: vec![NodeId(1), NodeId(2)],
            isr: isr.iter().copied().map(NodeId).collect(),
            ..PartitionRegistration::default()
        },
    })
}

fn change(id: u8, index: i32, leader: LeaderChange, isr: Option<&[i32]>) -> MetadataRecord {
    MetadataRecord::PartitionChange(PartitionChange {
        topic_id: TopicId([id; 16]),
        partition: index,
        leader,
        isr: isr.map(|isr| isr.iter().copied().map(NodeId).collect()),
        ..PartitionChange::default()
    })
}

/// A reassignment from 1 and 2 to 2 and 3 begins.
fn moving(id: u8, index: i32) -> MetadataRecord {
    MetadataRecord::PartitionChange(PartitionChange {
        topic_id: TopicId([id; 16]),
        partition: index,
        replicas: Some(vec![NodeId(2), NodeId(3), NodeId(1)]),
        adding_replicas: Some(vec![NodeId(3)]),
        removing_replicas: Some(vec![NodeId(1)]),
        ..PartitionChange::default()
    })
}

/// Nobody leads any more, and both replicas hold everything.
fn leaderless(id: u8, index: i32) -> PartitionChange {
    PartitionChange {
        topic_id: TopicId([id; 16]),
        partition: index,
        leader: LeaderChange::NoLeader,
        isr: Some(Vec::new()),
        elr: Some(vec![NodeId(1), NodeId(2)]),
        last_known_elr: Some(vec![NodeId(2)]),
        ..PartitionChange::default()
    }
}

fn config(resource: ConfigResource, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::Config(Config {
        resource,
        name: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    })
}

fn every_kind() -> Vec<MetadataRecord> {
    vec![
        MetadataRecord::FeatureLevel(FeatureLevel {
            name: "metadata.version".to_owned(),
            level: 1,
        }),
        MetadataRecord::BrokerEpochs(BrokerEpochs {
            last: BrokerEpoch(1),
        }),
        broker(1, 2),
        broker(2, 3),
        MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChange {
            node_id: NodeId(1),
            broker_epoch: BrokerEpoch(2),
            fenced: Some(false),
            in_controlled_shutdown: None,
        }),
        topic("a", 1),
        partition(1, 0, &[1, 2]),
        partition(1, 1, &[2]),
        change(1, 0, LeaderChange::Elected(NodeId(2)), Some(&[2])),
        change(1, 1, LeaderChange::NoLeader, None),
        moving(1, 1),
        partition(1, 2, &[1]),
        MetadataRecord::PartitionChange(leaderless(1, 2)),
        topic("b", 2),
        config(ConfigResource::Topic("a".into()), Some("1")),
        config(ConfigResource::DefaultBroker, Some("2")),
        config(ConfigResource::Broker(NodeId(1)), Some("3")),
        config(ConfigResource::Topic("b".into()), Some("4")),
        MetadataRecord::RemoveTopic(RemoveTopic {
            topic_id: TopicId([2; 16]),
        }),
        MetadataRecord::ProducerIds(ProducerIds {
            node_id: NodeId(1),
            broker_epoch: BrokerEpoch(2),
            next: ProducerId(1000),
        }),
        MetadataRecord::UnregisterBroker(UnregisterBroker {
            node_id: NodeId(2),
            broker_epoch: BrokerEpoch(3),
        }),
    ]
}

#[test]
fn records_come_back_from_their_bytes() {
    let records = every_kind();
    assert_eq!(decode_records(&encode_records(&records)), Ok(records));
}

/// As it was written before partitions could be reassigned.
#[derive(serde::Serialize)]
struct OldPartitionChange {
    topic_id: TopicId,
    partition: i32,
    leader: LeaderChange,
    isr: Option<Vec<NodeId>>,
    replicas: Option<Vec<NodeId>>,
}

#[test]
fn records_from_before_reassignments_read_and_only_reassignments_need_a_newer_reader() {
    let old = OldPartitionChange {
        topic_id: TopicId([1; 16]),
        partition: 0,
        leader: LeaderChange::Elected(NodeId(2)),
        isr: Some(vec![NodeId(2)]),
        replicas: None,
    };
    let body = rmp_serde::to_vec_named(&old).expect("a plain struct");
    let mut bytes = vec![0, 7, 0];
    bytes.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend(body);
    let same = [change(1, 0, LeaderChange::Elected(NodeId(2)), Some(&[2]))];
    assert_eq!(decode_records(&bytes), Ok(same.to_vec()));
    assert_eq!(encode_records(&same), bytes, "an older build reads it, too");
    assert_eq!(encode_records(&[moving(1, 1)])[2], 1);

    let settled = partition(1, 0, &[1, 2]);
    let MetadataRecord::Partition(mut running) = settled.clone() else {
        panic!("a partition");
    };
    let version = |record: MetadataRecord| encode_records(&[record])[2];
    assert_eq!(version(settled), 0);
    running.registration = running.registration.reassigned(&[NodeId(3)]);
    assert_eq!(version(MetadataRecord::Partition(running)), 1);
}

/// As it was written before there were eligible leader replicas.
#[derive(serde::Serialize)]
struct OldRegistration {
    leader: Option<NodeId>,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    replicas: Vec<NodeId>,
    isr: Vec<NodeId>,
}

#[derive(serde::Serialize)]
struct OldPartition {
    topic_id: TopicId,
    partition: i32,
    registration: OldRegistration,
}

#[test]
fn a_log_from_before_eligible_replicas_replays_and_only_they_need_a_newer_reader() {
    let old = OldPartition {
        topic_id: TopicId([1; 16]),
        partition: 0,
        registration: OldRegistration {
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: vec![NodeId(1), NodeId(2)],
            isr: vec![NodeId(1), NodeId(2)],
        },
    };
    let body = rmp_serde::to_vec_named(&old).expect("a plain struct");
    let mut bytes = encode_records(&[topic("a", 1)]).to_vec();
    bytes.extend([0, 6, 0]);
    bytes.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend(body);
    let records = [topic("a", 1), partition(1, 0, &[1, 2])];
    assert_eq!(decode_records(&bytes), Ok(records.to_vec()));
    assert_eq!(
        encode_records(&records),
        bytes,
        "an older build reads it, too"
    );

    let version = |record: &MetadataRecord| encode_records(std::slice::from_ref(record))[2];
    let change = MetadataRecord::PartitionChange(leaderless(1, 0));
    assert_eq!(version(&change), 2);
    let mut image = MetadataImage::empty();
    image.apply(1, &records).expect("fits");
    image.apply(2, &[change]).expect("fits");
    let snapshot = image.to_records();
    assert_eq!(snapshot.iter().map(version).max(), Some(2));
}

#[test]
fn half_records_and_records_of_the_future_are_refused() {
    let bytes = encode_records(&every_kind()[..1]);
    for cut in 1..bytes.len() {
        assert!(
            matches!(
                decode_records(&bytes[..cut]),
                Err(RecordError::Truncated { index: 0, .. })
            ),
            "{cut} bytes were accepted"
        );
    }
    let mut future = bytes.to_vec();
    future[2] = 9;
    assert!(matches!(
        decode_records(&future),
        Err(RecordError::UnknownVersion {
            version: 9,
            kind: 10,
            ..
        })
    ));
    future[0] = 0xff;
    assert!(matches!(
        decode_records(&future),
        Err(RecordError::UnknownKind { .. })
    ));
}

#[test]
fn a_snapshot_at_any_record_plus_the_tail_is_the_live_image_byte_for_byte() {
    let records = every_kind();
    let mut live = MetadataImage::empty();
    let mut images = vec![live.clone()];
    for (offset, record) in (1..).zip(&records) {
        live.apply(offset, std::slice::from_ref(record))
            .expect("each record fits");
        images.push(live.clone());
    }
    for (at, image) in images.iter().enumerate() {
        let mut loaded = MetadataImage::from_snapshot(&image.to_snapshot()).expect("own snapshot");
        assert_eq!(&loaded, image);
        for (offset, record) in (1..).zip(&records).skip(at) {
            loaded
                .apply(offset, std::slice::from_ref(record))
                .expect("each record fits");
        }
        assert_eq!(loaded.to_snapshot(), live.to_snapshot(), "from record {at}");
    }
}

#[test]
fn deltas_merged_one_by_one_are_the_difference_of_the_images() {
    let records = every_kind();
    let mut live = MetadataImage::empty();
    let mut merged = MetadataDelta::default();
    for (offset, record) in (1..).zip(&records) {
        let delta = live
            .apply(offset, std::slice::from_ref(record))
            .expect("each record fits");
        merged.merge(&delta);
    }
    let between = MetadataDelta::between(&MetadataImage::empty(), &live);
    assert_eq!(merged.topics_created, between.topics_created);
    assert_eq!(merged.topics_deleted, between.topics_deleted);
    assert_eq!(merged.partitions, between.partitions);
    // What came and went may be named by the merged delta: a reader looks into the image anyway.
    assert!(merged.brokers.is_superset(&between.brokers));
    assert!(merged.configs.is_superset(&between.configs));
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let mut image = MetadataImage::empty();
    image.apply(1, &every_kind()).expect("fits");
    let before = image.clone();
    for (bad, says) in [
        (topic("a", 9), "name is in use"),
        (topic("z", 1), "id is in use"),
        (partition(1, 5, &[1]), "next partition is 3"),
        (partition(7, 0, &[1]), "no such topic"),
        (
            change(1, 7, LeaderChange::NoLeader, None),
            "no such partition",
        ),
        (
            change(1, 0, LeaderChange::Elected(NodeId(1)), None),
            "not in the ISR",
        ),
        (
            change(1, 0, LeaderChange::Unchanged, Some(&[2, 9])),
            "no replica",
        ),
        (broker(1, 1), "newer epoch"),
        (
            MetadataRecord::PartitionChange(PartitionChange {
                elr: Some(vec![NodeId(9)]),
                ..leaderless(1, 2)
            }),
            "eligible but is no replica",
        ),
        (
            MetadataRecord::PartitionChange(PartitionChange {
                isr: Some(vec![NodeId(1)]),
                ..leaderless(1, 2)
            }),
            "both in the ISR and in the ELR",
        ),
        (
            MetadataRecord::PartitionChange(PartitionChange {
                leader: LeaderChange::Elected(NodeId(1)),
                isr: Some(vec![NodeId(1)]),
                elr: None,
                ..leaderless(1, 0)
            }),
            "a leader and a last known leader",
        ),
        (
            MetadataRecord::PartitionChange(PartitionChange {
                adding_replicas: Some(vec![NodeId(9)]),
                topic_id: TopicId([1; 16]),
                ..PartitionChange::default()
            }),
            "come or go",
        ),
        (
            MetadataRecord::PartitionChange(PartitionChange {
                removing_replicas: Some(vec![NodeId(1), NodeId(2)]),
                topic_id: TopicId([1; 16]),
                ..PartitionChange::default()
            }),
            "to end with",
        ),
    ] {
        let error = image
            .apply(2, &[topic("new", 8), bad])
            .expect_err("does not fit");
        assert!(error.problem.contains(says), "{error}");
        assert_eq!(image, before, "{says}");
    }
    assert!(image.apply(1, &[]).is_err(), "an old offset was applied");
}

#[test]
fn the_version_of_the_topics_moves_when_one_comes_goes_or_grows_and_at_nothing_else() {
    let steps = [
        (topic("a", 1), true),
        (partition(1, 0, &[1, 2]), true),
        (
            change(1, 0, LeaderChange::Elected(NodeId(2)), Some(&[2])),
            false,
        ),
        (broker(1, 2), false),
        (config(ConfigResource::Topic("a".into()), Some("1")), false),
        (partition(1, 1, &[2]), true),
        (
            MetadataRecord::RemoveTopic(RemoveTopic {
                topic_id: TopicId([1; 16]),
            }),
            true,
        ),
    ];
    let mut image = MetadataImage::empty();
    for (offset, (record, moves)) in (1..).zip(steps) {
        let before = image.topics_version();
        image.apply(offset, std::slice::from_ref(&record)).unwrap();
        assert_eq!(image.topics_version() > before, moves, "{record:?}");
        let loaded = MetadataImage::from_snapshot(&image.to_snapshot()).unwrap();
        assert!(loaded.topics_version() >= image.topics_version());
    }
}
