//! Do clients that move partitions, or whose partition is moved, see what they see of Kafka?

use broker_core::controller::request::{
    AlterPartitionItem, AlterPartitionRequest, ControllerRequest, ControllerResponse,
};
use broker_core::partition::IsrMember;
use types::{ErrorCode, NodeId};
use wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use wire::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use wire::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, ListPartitionReassignmentsRequest,
};

use super::semantics::{Client, produce, solo, topic};
use super::solo::SoloBroker;

/// Moves partition 0 of each topic to its target (`None` gives up); `(topic, error)` of each.
async fn reassign(
    client: &mut Client,
    (version, keep_factor): (i16, bool),
    wanted: &[(&str, Option<&[i32]>)],
) -> Vec<(String, ErrorCode)> {
    let topics = wanted.iter().map(|(name, target)| ReassignableTopic {
        name: (*name).to_owned(),
        partitions: vec![ReassignablePartition {
            replicas: target.map(<[i32]>::to_vec),
            ..Default::default()
        }],
        ..Default::default()
    });
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: 5_000,
        allow_replication_factor_change: !keep_factor,
        topics: topics.collect(),
        ..Default::default()
    };
    let response = client.call(version, &request).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(response.allow_replication_factor_change, !keep_factor);
    let answers = response.responses.into_iter().map(|topic| {
        let [partition] = topic.partitions.try_into().expect("as asked");
        assert_eq!(partition.partition_index, 0);
        assert_eq!(partition.error_message.is_some(), partition.error_code != 0);
        let code = ErrorCode::from_code(partition.error_code);
        (topic.name, code.expect("a code of Kafka's"))
    });
    answers.collect()
}

/// The running moves as `topic replicas +adding -removing`.
async fn list(client: &mut Client, topics: Option<&[&str]>) -> Vec<String> {
    let topics = topics.map(|names| {
        let names = names.iter();
        names
            .map(|name| ListPartitionReassignmentsTopics {
                name: (*name).to_owned(),
                partition_indexes: vec![0, 1],
                ..Default::default()
            })
            .collect()
    });
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: 5_000,
        topics,
        ..Default::default()
    };
    let response = client.call(0, &request).await;
    assert_eq!(response.error_code, 0);
    let moves = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            format!(
                "{} {:?} +{:?} -{:?}",
                topic.name,
                partition.replicas,
                partition.adding_replicas,
                partition.removing_replicas
            )
        })
    });
    moves.collect()
}

/// A broker that leads `a` and `b`, and another that is not really there.
async fn two_brokers() -> (tempfile::TempDir, SoloBroker, Client) {
    let (data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = CreateTopicsRequest {
        topics: vec![topic("a"), topic("b")],
        timeout_ms: 5_000,
        ..Default::default()
    };
    client.call(7, &request).await;
    solo.register_another(2).await;
    (data, solo, client)
}

#[tokio::test]
async fn moves_are_begun_listed_and_given_up() {
    let (_data, _solo, mut client) = two_brokers().await;
    let wanted: &[(&str, Option<&[i32]>)] = &[
        ("b", Some(&[2])),
        ("absent", Some(&[2])),
        ("a", Some(&[2, 1])),
    ];
    let named = |name: &str, code| (name.to_owned(), code);
    assert_eq!(
        reassign(&mut client, (0, false), wanted).await,
        [
            named("b", ErrorCode::None),
            named("absent", ErrorCode::UnknownTopicOrPartition),
            named("a", ErrorCode::None),
        ]
    );
    assert_eq!(
        list(&mut client, None).await,
        ["a [2, 1] +[2] -[]", "b [2, 1] +[2] -[1]"]
    );
    assert_eq!(
        list(&mut client, Some(&["absent", "b"])).await,
        ["b [2, 1] +[2] -[1]"]
    );
    let partition = client.metadata(12, "b", false).await.topics[0].partitions[0].clone();
    assert_eq!(partition.replica_nodes, [2, 1], "all of them while it runs");
    assert_eq!(partition.isr_nodes, [1]);
    for code in [ErrorCode::None, ErrorCode::NoReassignmentInProgress] {
        assert_eq!(
            reassign(&mut client, (1, false), &[("b", None)]).await,
            [named("b", code)]
        );
    }
    assert_eq!(list(&mut client, None).await, ["a [2, 1] +[2] -[]"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_partition() {
    let (_data, _solo, mut client) = two_brokers().await;
    for (version, keep_factor, target, code) in [
        (1, true, &[1, 2][..], ErrorCode::InvalidReplicationFactor),
        (0, false, &[7], ErrorCode::InvalidReplicaAssignment),
        (0, false, &[1, 1], ErrorCode::InvalidReplicaAssignment),
        (0, false, &[], ErrorCode::InvalidReplicaAssignment),
        (0, false, &[-1], ErrorCode::InvalidReplicaAssignment),
        (1, true, &[1], ErrorCode::None),
    ] {
        let told = reassign(&mut client, (version, keep_factor), &[("a", Some(target))]).await;
        assert_eq!(told[0].1, code, "{target:?}");
    }
    assert_eq!(list(&mut client, None).await, [""; 0]);
}

/// Broker 1 finds that broker 2 has everything.
async fn in_sync(solo: &SoloBroker, topic: &str) {
    let image = solo.image().await;
    let topic = image.topic_by_name(topic).expect("created");
    let partition = topic.partition(0).expect("created");
    let member = |id| IsrMember {
        node: NodeId(id),
        broker_epoch: image.broker(NodeId(id)).map(|broker| broker.epoch),
    };
    let request = AlterPartitionRequest {
        node_id: NodeId(1),
        broker_epoch: image.broker(NodeId(1)).expect("registered").epoch,
        partitions: vec![AlterPartitionItem {
            topic_id: topic.id,
            partition: 0,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: vec![member(1), member(2)],
        }],
    };
    let answer = solo.ask(ControllerRequest::AlterPartition(request)).await;
    let ControllerResponse::AlterPartition(Ok(results)) = answer else {
        panic!("{answer:?}");
    };
    assert!(results[0].result.is_ok(), "{results:?}");
}

#[tokio::test]
async fn a_partition_that_was_moved_away_leaves_nothing_but_the_way_to_its_leader() {
    let (data, solo, mut client) = two_brokers().await;
    let code = |response: &wire::messages::ProduceResponse| {
        response.responses[0].partition_responses[0].error_code
    };
    let request = produce("a", 1, "before");
    assert_eq!(code(&client.call(10, &request).await), 0);
    reassign(&mut client, (1, true), &[("a", Some(&[2]))]).await;
    in_sync(&solo, "a").await;
    assert_eq!(list(&mut client, None).await, [""; 0]);
    assert!(!data.path().join("logs/a-0").exists());
    assert!(data.path().join("logs/b-0").exists());
    let answer = client.call(10, &request).await;
    assert_eq!(code(&answer), ErrorCode::NotLeaderOrFollower.code());
    let told = &answer.responses[0].partition_responses[0];
    assert_eq!(told.current_leader.leader_id, 2);
}
