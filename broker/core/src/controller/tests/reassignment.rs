//! Do partitions move to other brokers as KIP-455 says, with nothing lost on the way?

use types::{ErrorCode, LeaderEpoch, PartitionEpoch};

use super::partitions::{alter, elect};
use super::*;

fn item(topic: &str, target: Option<&[i32]>) -> ReassignablePartition {
    ReassignablePartition {
        topic: topic.to_owned(),
        partition: 0,
        target: target.map(|nodes| nodes.iter().copied().map(NodeId).collect()),
    }
}

fn ask(
    cluster: &mut Cluster,
    partitions: Vec<ReassignablePartition>,
    allow_replication_factor_change: bool,
) -> Vec<Result<(), ApiError>> {
    let request = AlterPartitionReassignmentsRequest {
        partitions,
        allow_replication_factor_change,
    };
    let ControllerResponse::AlterPartitionReassignments(results) =
        cluster.ask(&ControllerRequest::AlterPartitionReassignments(request))
    else {
        panic!("another response");
    };
    results.into_iter().map(|result| result.result).collect()
}

/// Asks for partition 0 of `t` to be on `target`.
fn reassign(cluster: &mut Cluster, target: &[i32]) -> Result<(), ApiError> {
    ask(cluster, vec![item("t", Some(target))], true).remove(0)
}

fn give_up(cluster: &mut Cluster) -> Result<(), ApiError> {
    ask(cluster, vec![item("t", None)], true).remove(0)
}

fn list(cluster: &mut Cluster, partitions: Option<Vec<(String, Vec<i32>)>>) -> Vec<String> {
    let request = ListPartitionReassignmentsRequest { partitions };
    let ControllerResponse::ListPartitionReassignments(found) =
        cluster.ask(&ControllerRequest::ListPartitionReassignments(request))
    else {
        panic!("another response");
    };
    let ids = |nodes: &[NodeId]| -> Vec<i32> { nodes.iter().map(|node| node.0).collect() };
    found
        .iter()
        .map(|one| {
            format!(
                "{}-{} {:?} +{:?} -{:?}",
                one.topic,
                one.partition,
                ids(&one.replicas),
                ids(&one.adding_replicas),
                ids(&one.removing_replicas)
            )
        })
        .collect()
}

/// Replicas, those that come, those that go.
fn assignment(cluster: &Cluster, id: TopicId) -> [Vec<i32>; 3] {
    let partition = cluster.partition(id);
    [
        &partition.replicas,
        &partition.adding_replicas,
        &partition.removing_replicas,
    ]
    .map(|nodes| nodes.iter().map(|node| node.0).collect())
}

fn epochs(cluster: &Cluster, id: TopicId) -> (LeaderEpoch, PartitionEpoch) {
    let partition = cluster.partition(id);
    (partition.leader_epoch, partition.partition_epoch)
}

#[test]
fn a_partition_moves_when_its_target_is_in_sync() {
    let mut cluster = Cluster::new(5);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[3, 4]).expect("accepted");
    assert_eq!(
        assignment(&cluster, id),
        [vec![3, 4, 0, 1], vec![3, 4], vec![0, 1]]
    );
    assert_eq!(cluster.state(id), (0, vec![0, 1]));
    assert_eq!(epochs(&cluster, id), (LeaderEpoch(0), PartitionEpoch(1)));
    assert_eq!(
        list(&mut cluster, None),
        ["t-0 [3, 4, 0, 1] +[3, 4] -[0, 1]"]
    );
    alter(&mut cluster, 0, id, &[0, 1, 4], |_| {}).expect("accepted");
    assert_eq!(cluster.state(id), (0, vec![0, 1, 4]));
    let answer = alter(&mut cluster, 0, id, &[0, 1, 4, 3], |_| {}).expect("accepted");
    // In one step: the old replicas are out, and the preferred one of the new leads in a new epoch.
    assert_eq!(answer, cluster.partition(id));
    assert_eq!(assignment(&cluster, id), [vec![3, 4], vec![], vec![]]);
    assert_eq!(cluster.state(id), (3, vec![4, 3]));
    assert_eq!(epochs(&cluster, id), (LeaderEpoch(1), PartitionEpoch(3)));
    assert_eq!(list(&mut cluster, None), [""; 0]);
}

#[test]
fn a_leader_that_stays_gets_a_new_epoch_when_others_go() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[2, 0]).expect("accepted");
    alter(&mut cluster, 0, id, &[0, 1, 2], |_| {}).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![2, 0], vec![], vec![]]);
    assert_eq!(cluster.state(id), (0, vec![0, 2]));
    assert_eq!(epochs(&cluster, id).0, LeaderEpoch(1));
    // Leadership goes to the preferred replica as ever, by election.
    elect(&mut cluster, ElectionKind::Preferred, None);
    assert_eq!(cluster.state(id).0, 2);
}

#[test]
fn what_needs_no_copy_is_done_at_once_and_what_is_so_already_changes_nothing() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    reassign(&mut cluster, &[0, 1, 2]).expect("accepted");
    assert_eq!(epochs(&cluster, id), (LeaderEpoch(0), PartitionEpoch(0)));
    reassign(&mut cluster, &[1, 0, 2]).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![1, 0, 2], vec![], vec![]]);
    assert_eq!(epochs(&cluster, id), (LeaderEpoch(0), PartitionEpoch(1)));
    reassign(&mut cluster, &[2]).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![2], vec![], vec![]]);
    assert_eq!(cluster.state(id), (2, vec![2]));
    assert_eq!(epochs(&cluster, id), (LeaderEpoch(1), PartitionEpoch(2)));
}

#[test]
fn replicas_go_only_when_those_that_stay_are_in_sync() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("accepted");
    reassign(&mut cluster, &[1, 2]).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![1, 2, 0], vec![], vec![0]]);
    alter(&mut cluster, 0, id, &[0, 1], |_| {}).expect("accepted");
    assert_eq!(cluster.state(id), (0, vec![0, 1]));
    alter(&mut cluster, 0, id, &[0, 1, 2], |_| {}).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![1, 2], vec![], vec![]]);
    assert_eq!(cluster.state(id), (1, vec![1, 2]));
}

#[test]
fn a_move_that_is_given_up_leads_back_to_the_original_replicas() {
    let mut cluster = Cluster::new(5);
    let id = cluster.create_on("t", &[1, 0]);
    assert_refused(
        give_up(&mut cluster),
        ErrorCode::NoReassignmentInProgress,
        "in progress",
    );
    reassign(&mut cluster, &[3, 4, 0]).expect("accepted");
    alter(&mut cluster, 1, id, &[1, 0, 3], |_| {}).expect("accepted");
    // Even if one of the new replicas leads by now.
    elect(&mut cluster, ElectionKind::Preferred, None);
    assert_eq!(cluster.state(id).0, 3);
    give_up(&mut cluster).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![0, 1], vec![], vec![]]);
    assert_eq!(cluster.state(id), (0, vec![1, 0]));
    assert_eq!(epochs(&cluster, id).0, LeaderEpoch(2));
    assert_refused(
        give_up(&mut cluster),
        ErrorCode::NoReassignmentInProgress,
        "in progress",
    );
}

#[test]
fn a_new_target_replaces_the_running_move() {
    let mut cluster = Cluster::new(6);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[2, 3]).expect("accepted");
    alter(&mut cluster, 0, id, &[0, 1, 2], |_| {}).expect("accepted");
    reassign(&mut cluster, &[3, 5]).expect("accepted");
    // 3 is still on its way, 2 goes at once though it was in sync.
    assert_eq!(
        assignment(&cluster, id),
        [vec![3, 5, 0, 1], vec![3, 5], vec![0, 1]]
    );
    assert_eq!(cluster.state(id), (0, vec![0, 1]));
    assert_eq!(
        epochs(&cluster, id).0,
        LeaderEpoch(1),
        "2 is not listened to"
    );
    reassign(&mut cluster, &[1, 3]).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![1, 3, 0], vec![3], vec![0]]);
    alter(&mut cluster, 0, id, &[0, 1, 3], |_| {}).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![1, 3], vec![], vec![]]);
    assert_eq!(cluster.state(id), (1, vec![1, 3]));
}

#[test]
fn a_target_that_cannot_be_is_refused_by_partition() {
    use ErrorCode as E;
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.create_on("u", &[0, 1]);
    for (target, says) in [
        (&[][..], "empty replica list"),
        (&[0, 7], "includes broker 7, but no such"),
        (&[-1, 0], "includes broker -1, but no such"),
        (&[2, 2], "broker 2 more than once"),
    ] {
        let results = ask(
            &mut cluster,
            vec![item("t", Some(target)), item("u", Some(&[2, 1]))],
            true,
        );
        let [t, u] = results.try_into().expect("two results");
        assert_refused(t, E::InvalidReplicaAssignment, says);
        assert_eq!(u, Ok(()), "each by itself");
    }
    assert_eq!(epochs(&cluster, id).1, PartitionEpoch(0));
    let unknown = |topic: &str, partition| ReassignablePartition {
        partition,
        ..item(topic, Some(&[0]))
    };
    for partition in [unknown("absent", 0), unknown("t", 1), unknown("t", -1)] {
        let result = ask(&mut cluster, vec![partition], true).remove(0);
        assert_refused(result, E::UnknownTopicOrPartition, "Unable to find");
    }
    let twice = vec![item("t", Some(&[2])), item("t", Some(&[0]))];
    let [first, second] = ask(&mut cluster, twice, true)
        .try_into()
        .expect("two results");
    assert_eq!(first, Ok(()));
    assert_refused(second, E::InvalidRequest, "twice");
    assert_eq!(assignment(&cluster, id)[1], [2]);
}

#[test]
fn the_number_of_replicas_changes_only_where_that_is_allowed() {
    let code = |result: Result<(), ApiError>| result.map_err(|error| error.code);
    let mut cluster = Cluster::new(5);
    cluster.create_on("t", &[0, 1]);
    let keeping = |cluster: &mut Cluster, target: &[i32]| {
        code(ask(cluster, vec![item("t", Some(target))], false).remove(0))
    };
    for target in [&[0][..], &[0, 1, 2]] {
        assert_eq!(
            keeping(&mut cluster, target),
            Err(ErrorCode::InvalidReplicationFactor)
        );
    }
    assert_eq!(keeping(&mut cluster, &[2, 3]), Ok(()));
    reassign(&mut cluster, &[2, 3, 4]).expect("accepted");
    // It is on its way to three.
    assert_eq!(
        keeping(&mut cluster, &[0, 1]),
        Err(ErrorCode::InvalidReplicationFactor)
    );
    assert_eq!(keeping(&mut cluster, &[0, 1, 2]), Ok(()));
}

#[test]
fn the_last_in_sync_replica_is_never_given_up() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[2, 3]).expect("accepted");
    alter(&mut cluster, 0, id, &[0, 2], |_| {}).expect("accepted");
    cluster.kill(0);
    assert_eq!(cluster.state(id), (2, vec![2]));
    assert_refused(
        give_up(&mut cluster),
        ErrorCode::InvalidReplicaAssignment,
        "unclean",
    );
    assert_refused(
        reassign(&mut cluster, &[3, 1]),
        ErrorCode::InvalidReplicaAssignment,
        "in-sync",
    );
    cluster
        .set(
            ConfigResource::Topic("t".into()),
            "unclean.leader.election.enable",
            "true",
        )
        .expect("accepted");
    give_up(&mut cluster).expect("the topic prefers a leader that lacks records");
    assert_eq!(cluster.state(id), (1, vec![1]));
    assert_eq!(assignment(&cluster, id), [vec![0, 1], vec![], vec![]]);
}

#[test]
fn an_unclean_leader_is_one_that_had_records_before_the_move() {
    let mut cluster = Cluster::with_file(4, &[("unclean.leader.election.enable", "true")]);
    let id = cluster.create_on("t", &[0, 1]);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("accepted");
    reassign(&mut cluster, &[2, 3]).expect("accepted");
    cluster.kill(0);
    assert_eq!(cluster.state(id), (1, vec![1]));
    cluster.kill(1);
    assert_eq!(cluster.state(id), (2, vec![2]));
    assert_eq!(
        assignment(&cluster, id)[2],
        [0, 1],
        "an unclean election ends no move"
    );
}

#[test]
fn a_move_goes_on_under_another_controller_and_while_brokers_come_and_go() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[2, 3]).expect("accepted");
    cluster.kill(2);
    cluster.controller = Controller::take_over(
        controller_config(&[]),
        cluster.committed.clone(),
        cluster.now,
    );
    cluster.start(2, 2);
    assert_eq!(assignment(&cluster, id)[1], [2, 3]);
    cluster.kill(0);
    assert_eq!(cluster.state(id), (1, vec![1]));
    alter(&mut cluster, 1, id, &[1, 2, 3], |_| {}).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![2, 3], vec![], vec![]]);
    assert_eq!(cluster.state(id), (2, vec![2, 3]));
}

#[test]
fn moves_are_listed_by_partition_and_end_with_their_topic() {
    let mut cluster = Cluster::new(3);
    cluster.create_on("t", &[0]);
    cluster.create_on("u", &[1]);
    cluster.create_on("v", &[0]);
    let wanted = vec![item("t", Some(&[1])), item("u", Some(&[2]))];
    assert_eq!(ask(&mut cluster, wanted, true), [Ok(()), Ok(())]);
    assert_eq!(
        list(&mut cluster, None),
        ["t-0 [1, 0] +[1] -[0]", "u-0 [2, 1] +[2] -[1]"]
    );
    let some = ["u", "v", "absent"].map(|name| (name.to_owned(), vec![0, 5]));
    assert_eq!(
        list(&mut cluster, Some(some.to_vec())),
        ["u-0 [2, 1] +[2] -[1]"]
    );
    let request = DeleteTopicsRequest {
        topics: vec![TopicRef::Name("u".to_owned())],
    };
    cluster.ask(&ControllerRequest::DeleteTopics(request));
    assert_eq!(list(&mut cluster, None), ["t-0 [1, 0] +[1] -[0]"]);
}

#[test]
fn new_partitions_get_as_many_replicas_as_the_move_leads_to() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[1, 2, 3]).expect("accepted");
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "t".to_owned(),
            count: 2,
            assignments: None,
        }],
        validate_only: false,
    };
    cluster.ask(&ControllerRequest::CreatePartitions(request));
    let new = cluster.committed.partition(id, 1).expect("created");
    assert_eq!(new.replicas.len(), 3);
}

#[test]
fn a_broker_that_is_forgotten_leaves_the_move_to_be_given_another_target() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    reassign(&mut cluster, &[2, 1]).expect("accepted");
    let request = UnregisterBrokerRequest { node_id: NodeId(2) };
    cluster.ask(&ControllerRequest::UnregisterBroker(request));
    assert_eq!(assignment(&cluster, id), [vec![2, 1, 0], vec![2], vec![0]]);
    reassign(&mut cluster, &[3, 1]).expect("accepted");
    assert_eq!(assignment(&cluster, id), [vec![3, 1, 0], vec![3], vec![0]]);
    alter(&mut cluster, 0, id, &[0, 1, 3], |_| {}).expect("accepted");
    assert_eq!(cluster.state(id), (3, vec![1, 3]));
}
