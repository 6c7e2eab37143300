//! Are topics created, enlarged and deleted as Kafka does it?

use std::collections::BTreeSet;

use types::ErrorCode;

use super::*;

fn assigned(replicas: &[&[i32]]) -> CreatableTopic {
    CreatableTopic {
        assignments: (0..)
            .zip(replicas)
            .map(|(partition, replicas)| ReplicaAssignment {
                partition,
                replicas: replicas.iter().copied().map(NodeId).collect(),
            })
            .collect(),
        ..topic("assigned", -1, -1)
    }
}

fn with_config(key: &str, value: Option<&str>) -> CreatableTopic {
    CreatableTopic {
        configs: vec![(key.to_owned(), value.map(str::to_owned))],
        ..topic("configured", 1, 1)
    }
}

#[test]
fn a_topic_gets_partitions_spread_over_the_brokers() {
    let mut cluster = Cluster::new(3);
    let detail = cluster.create(topic("orders", 6, 3)).expect("accepted");
    assert_eq!((detail.num_partitions, detail.replication_factor), (6, 3));
    let image = cluster.committed.topic_by_name("orders").expect("exists");
    assert_eq!(image.id, detail.topic_id);
    let mut leaders: Vec<i32> = image
        .partitions
        .iter()
        .map(|partition| partition.leader.expect("has a leader").0)
        .collect();
    leaders.sort_unstable();
    assert_eq!(leaders, [0, 0, 1, 1, 2, 2]);
    assert!(
        image
            .partitions
            .iter()
            .all(|partition| partition.isr.len() == 3)
    );
}

#[test]
fn defaults_come_from_the_controllers_file() {
    let file = [("num.partitions", "4"), ("default.replication.factor", "2")];
    let mut cluster = Cluster::with_file(3, &file);
    let detail = cluster.create(topic("t", -1, -1)).expect("accepted");
    assert_eq!((detail.num_partitions, detail.replication_factor), (4, 2));
}

/// Each topic is refused with the code and words, and leaves nothing.
fn check_refused(cases: Vec<(CreatableTopic, ErrorCode, &str)>) {
    let mut cluster = Cluster::new(3);
    cluster.create(topic("a.b", 1, 1)).expect("accepted");
    for (bad, code, says) in cases {
        let before = cluster.committed.clone();
        assert_refused(cluster.create(bad), code, says);
        assert_eq!(cluster.committed, before, "a refused topic left records");
    }
}

#[test]
fn bad_names_are_refused_in_kafkas_words() {
    use ErrorCode as E;
    let bad = |name: &str| topic(name, 1, 1);
    check_refused(vec![
        (
            bad("a.b"),
            E::TopicAlreadyExists,
            "Topic 'a.b' already exists.",
        ),
        (
            bad("a_b"),
            E::InvalidTopicException,
            "collides with existing topic: a.b",
        ),
        (
            bad(""),
            E::InvalidTopicException,
            "the empty string is not allowed",
        ),
        (bad(".."), E::InvalidTopicException, "'..' is not allowed"),
        (
            bad("a b"),
            E::InvalidTopicException,
            "other than ASCII alphanumerics",
        ),
        (
            bad(&"x".repeat(250)),
            E::InvalidTopicException,
            "max allowed length 249",
        ),
        (bad("__cluster_metadata"), E::InvalidRequest, "prohibited"),
    ]);
}

#[test]
fn bad_numbers_are_refused_in_kafkas_words() {
    use ErrorCode as E;
    check_refused(vec![
        (topic("t", 0, 1), E::InvalidPartitions, "non-positive"),
        (topic("t", -2, 1), E::InvalidPartitions, "non-positive"),
        (
            topic("t", 1, 0),
            E::InvalidReplicationFactor,
            "larger than 0",
        ),
        (
            topic("t", 1, -2),
            E::InvalidReplicationFactor,
            "larger than 0",
        ),
        (
            topic("t", 1, 4),
            E::InvalidReplicationFactor,
            "only 3 broker(s) are registered",
        ),
        (
            topic("t", 10_001, 1),
            E::PolicyViolation,
            "Excessively large number of partitions",
        ),
    ]);
}

#[test]
fn bad_configurations_are_refused_in_kafkas_words() {
    let check = |key, value, says| {
        check_refused(vec![(
            with_config(key, value),
            ErrorCode::InvalidConfig,
            says,
        )]);
    };
    check("retention.mss", Some("1"), "Unknown topic config name");
    check("retention.ms", Some("x"), "Not a number of type LONG");
    check("retention.ms", None, "Null value not supported");
    check(
        "cleanup.policy",
        Some("archive"),
        "must be one of: compact, delete",
    );
}

#[test]
fn bad_assignments_are_refused_in_kafkas_words() {
    use ErrorCode::{InvalidReplicaAssignment as A, InvalidRequest as R};
    let with = |change: fn(&mut CreatableTopic)| {
        let mut topic = assigned(&[&[0], &[1]]);
        change(&mut topic);
        topic
    };
    check_refused(vec![
        (assigned(&[&[]]), A, "empty replica list"),
        (
            assigned(&[&[7]]),
            A,
            "includes broker 7, but no such broker",
        ),
        (assigned(&[&[1, 1]]), A, "broker 1 more than once"),
        (assigned(&[&[1, 2], &[0]]), A, "which have 2 replica(s)"),
        (with(|t| t.num_partitions = 2), R, "numPartitions"),
        (with(|t| t.replication_factor = 1), R, "replication factor"),
        (
            with(|t| t.assignments[1].partition = 2),
            A,
            "consecutive 0-based",
        ),
        (
            with(|t| t.assignments[1].partition = 0),
            A,
            "Found multiple manual",
        ),
    ]);
}

#[test]
fn one_bad_topic_does_not_hinder_the_others_and_duplicates_hinder_each_other() {
    let mut cluster = Cluster::new(1);
    let request = CreateTopicsRequest {
        topics: ["twice", "good", "b a d", "twice", "x.y", "x_y"]
            .map(|name| topic(name, 1, 1))
            .to_vec(),
        validate_only: false,
    };
    let ControllerResponse::CreateTopics(results) =
        cluster.ask(&ControllerRequest::CreateTopics(request))
    else {
        panic!("another response");
    };
    let ok: Vec<bool> = results
        .iter()
        .map(|created| created.result.is_ok())
        .collect();
    assert_eq!(ok, [false, true, false, false, true, false]);
    let names: BTreeSet<&str> = cluster
        .committed
        .topics()
        .map(|t| t.name.as_ref())
        .collect();
    assert_eq!(names, BTreeSet::from(["good", "x.y"]));
}

#[test]
fn validation_alone_creates_nothing() {
    let mut cluster = Cluster::new(1);
    let before = cluster.committed.clone();
    let request = CreateTopicsRequest {
        topics: vec![topic("t", 3, 1), topic("a b", 1, 1)],
        validate_only: true,
    };
    let ControllerResponse::CreateTopics(results) =
        cluster.ask(&ControllerRequest::CreateTopics(request))
    else {
        panic!("another response");
    };
    assert_eq!(results[0].result.as_ref().expect("valid").num_partitions, 3);
    assert!(results[1].result.is_err());
    assert_eq!(cluster.committed, before);
}

#[test]
fn a_topic_can_be_created_while_a_broker_restarts() {
    let mut cluster = Cluster::new(3);
    cluster.kill(2);
    let detail = cluster
        .create(topic("t", 3, 3))
        .expect("a fenced broker is used if needed");
    let image = cluster.committed.topic(detail.topic_id).expect("exists");
    for partition in &image.partitions {
        assert_eq!(partition.replicas.len(), 3);
        assert!(!partition.isr.contains(&NodeId(2)));
        assert_eq!(partition.leader, Some(partition.replicas[0]));
    }
    cluster.kill(0);
    cluster.kill(1);
    assert_refused(
        cluster.create(topic("u", 1, 1)),
        ErrorCode::InvalidReplicationFactor,
        "All brokers are currently fenced.",
    );
    assert_refused(
        cluster.create(assigned(&[&[0, 1]])),
        ErrorCode::InvalidReplicaAssignment,
        "are fenced or in controlled shutdown",
    );
}

#[test]
fn a_deleted_topic_takes_its_configuration_with_it_and_its_name_gets_a_new_id() {
    let mut cluster = Cluster::new(1);
    let first = cluster
        .create(with_config("retention.ms", Some("5")))
        .expect("accepted")
        .topic_id;
    assert_eq!(cluster.committed.topic_config("configured").len(), 1);
    let name = TopicRef::Name("configured".to_owned());
    let request = DeleteTopicsRequest {
        topics: vec![
            name.clone(),
            TopicRef::Id(first),
            TopicRef::Name("absent".to_owned()),
            TopicRef::Id(TopicId([9; 16])),
        ],
    };
    let ControllerResponse::DeleteTopics(results) =
        cluster.ask(&ControllerRequest::DeleteTopics(request))
    else {
        panic!("another response");
    };
    let codes: Vec<ErrorCode> = results
        .iter()
        .map(|deleted| {
            deleted
                .result
                .as_ref()
                .map_or_else(|e| e.code, |_| ErrorCode::None)
        })
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicId,
        ]
    );
    assert_eq!(cluster.committed.topic_count(), 0);
    assert!(cluster.committed.topic_config("configured").is_empty());
    let second = cluster
        .create(topic("configured", 1, 1))
        .expect("accepted")
        .topic_id;
    assert_ne!(first, second);
    assert!(cluster.committed.topic_config("configured").is_empty());
}

#[test]
fn deletion_can_be_disabled() {
    let mut cluster = Cluster::with_file(1, &[("delete.topic.enable", "false")]);
    let id = cluster.create_on("t", &[0]);
    let request = DeleteTopicsRequest {
        topics: vec![TopicRef::Id(id)],
    };
    let ControllerResponse::DeleteTopics(mut results) =
        cluster.ask(&ControllerRequest::DeleteTopics(request))
    else {
        panic!("another response");
    };
    assert_refused(
        results.remove(0).result,
        ErrorCode::TopicDeletionDisabled,
        "disabled",
    );
}

fn grow(
    cluster: &mut Cluster,
    name: &str,
    count: i32,
    assignments: Option<&[&[i32]]>,
) -> Result<(), ApiError> {
    let assignments = assignments.map(|given| {
        given
            .iter()
            .map(|replicas| replicas.iter().copied().map(NodeId).collect())
            .collect()
    });
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: name.to_owned(),
            count,
            assignments,
        }],
        validate_only: false,
    };
    let ControllerResponse::CreatePartitions(mut results) =
        cluster.ask(&ControllerRequest::CreatePartitions(request))
    else {
        panic!("another response");
    };
    results.remove(0).result
}

#[test]
fn partitions_only_grow() {
    use ErrorCode::{InvalidPartitions as P, InvalidReplicaAssignment as A};
    let mut cluster = Cluster::new(3);
    cluster.create(topic("t", 4, 2)).expect("accepted");
    let one: &[&[i32]] = &[&[0]];
    let two: &[&[i32]] = &[&[0, 1], &[1, 2]];
    for (count, given, code, says) in [
        (
            3,
            None,
            P,
            "has 4 partition(s); 3 would not be an increase.",
        ),
        (4, None, P, "Topic already has 4 partition(s)."),
        (20_000, None, ErrorCode::PolicyViolation, "Excessively"),
        (5, Some(two), A, "Attempted to add 1 additional"),
        (5, Some(&two[..0]), A, "but only 0 assignment(s)"),
        (5, Some(one), A, "which have 2 replica(s)"),
    ] {
        assert_refused(grow(&mut cluster, "t", count, given), code, says);
    }
    assert_refused(
        grow(&mut cluster, "u", 5, None),
        ErrorCode::UnknownTopicOrPartition,
        "",
    );
    assert_eq!(grow(&mut cluster, "t", 6, Some(two)), Ok(()));
    assert_eq!(grow(&mut cluster, "t", 12, None), Ok(()));
    let image = cluster.committed.topic_by_name("t").expect("exists");
    assert_eq!(image.partitions.len(), 12);
    assert_eq!(image.partitions[5].replicas, [NodeId(1), NodeId(2)]);
    for node in 0..3 {
        let leads = image
            .partitions
            .iter()
            .filter(|p| p.leader == Some(NodeId(node)))
            .count();
        assert_eq!(leads, 4, "leaders are even over the whole topic");
    }
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut cluster = Cluster::new(2);
    let request = |cluster: &Cluster, node| {
        ControllerRequest::AllocateProducerIds(AllocateProducerIdsRequest {
            node_id: NodeId(node),
            broker_epoch: cluster.epochs[&node],
        })
    };
    let mut firsts = Vec::new();
    for node in [0, 1, 0] {
        let question = request(&cluster, node);
        let ControllerResponse::AllocateProducerIds(Ok(block)) = cluster.ask(&question) else {
            panic!("refused");
        };
        assert_eq!(block.count, 1_000);
        firsts.push(block.first.0);
        cluster.controller = Controller::take_over(
            controller_config(&[]),
            cluster.committed.clone(),
            cluster.now,
        );
    }
    assert_eq!(firsts, [0, 1_000, 2_000]);
    let mut stale = request(&cluster, 0);
    if let ControllerRequest::AllocateProducerIds(request) = &mut stale {
        request.broker_epoch = BrokerEpoch(0);
    }
    let ControllerResponse::AllocateProducerIds(result) = cluster.ask(&stale) else {
        panic!("another response");
    };
    assert_refused(result, ErrorCode::StaleBrokerEpoch, "");
}
