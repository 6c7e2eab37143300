//! Are ISR changes fenced, and is leadership moved as asked?

use types::{ErrorCode, LeaderEpoch, PartitionEpoch};

use super::*;
use crate::partition::IsrMember;

pub(super) fn alter(
    cluster: &mut Cluster,
    asker: i32,
    id: TopicId,
    isr: &[i32],
    change: impl FnOnce(&mut AlterPartitionItem),
) -> Result<PartitionRegistration, ApiError> {
    let now = cluster.partition(id);
    let mut item = AlterPartitionItem {
        topic_id: id,
        partition: 0,
        leader_epoch: now.leader_epoch,
        partition_epoch: now.partition_epoch,
        isr: isr
            .iter()
            .map(|node| IsrMember {
                node: NodeId(*node),
                broker_epoch: cluster.epochs.get(node).copied(),
            })
            .collect(),
    };
    change(&mut item);
    let request = AlterPartitionRequest {
        node_id: NodeId(asker),
        broker_epoch: cluster.epochs[&asker],
        partitions: vec![item],
    };
    let ControllerResponse::AlterPartition(Ok(mut results)) =
        cluster.ask(&ControllerRequest::AlterPartition(request))
    else {
        panic!("refused as a whole");
    };
    results.remove(0).result
}

#[test]
fn a_leader_shrinks_and_grows_its_isr() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    let before = cluster.partition(id);
    let after = alter(&mut cluster, 0, id, &[0, 1], |_| {}).expect("accepted");
    assert_eq!(
        after,
        cluster.partition(id),
        "the answer is what was committed"
    );
    assert_eq!(after.partition_epoch, before.partition_epoch.next());
    assert_eq!(after.leader_epoch, before.leader_epoch);
    alter(&mut cluster, 0, id, &[0, 1, 2], |_| {}).expect("accepted");
    assert_eq!(cluster.state(id), (0, vec![0, 1, 2]));
    let unchanged = alter(&mut cluster, 0, id, &[2, 1, 0], |_| {}).expect("accepted");
    assert_eq!(unchanged, cluster.partition(id));
    assert_eq!(unchanged.partition_epoch, PartitionEpoch(2));
}

#[test]
fn isr_changes_from_the_past_or_the_future_are_refused() {
    use ErrorCode as E;
    type Change = fn(&mut AlterPartitionItem);
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[1, 0, 2]);
    cluster.kill(1);
    cluster.start(1, 2);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("leader now");
    let cases: [(i32, &[i32], Change, E); 11] = [
        (
            0,
            &[0, 2],
            |i| i.topic_id = TopicId([9; 16]),
            E::UnknownTopicId,
        ),
        (0, &[0, 2], |i| i.partition = 1, E::UnknownTopicOrPartition),
        (
            0,
            &[0, 2],
            |i| i.leader_epoch = LeaderEpoch(0),
            E::FencedLeaderEpoch,
        ),
        (
            0,
            &[0, 2],
            |i| i.leader_epoch = LeaderEpoch(9),
            E::NotController,
        ),
        (
            0,
            &[0, 2],
            |i| i.partition_epoch = PartitionEpoch(0),
            E::InvalidUpdateVersion,
        ),
        (
            0,
            &[0, 2],
            |i| i.partition_epoch = PartitionEpoch(9),
            E::NotController,
        ),
        (2, &[0, 2], |_| {}, E::InvalidRequest),
        (0, &[2], |_| {}, E::InvalidRequest),
        (0, &[0, 3], |_| {}, E::InvalidRequest),
        (0, &[0, 2, 2], |_| {}, E::InvalidRequest),
        (
            0,
            &[0, 1],
            |i| i.isr[1].broker_epoch = Some(BrokerEpoch(2)),
            E::IneligibleReplica,
        ),
    ];
    for (asker, isr, change, code) in cases {
        let before = cluster.committed.clone();
        assert_refused(alter(&mut cluster, asker, id, isr, change), code, "");
        assert_eq!(cluster.committed, before, "{code}");
    }
}

#[test]
fn brokers_that_are_fenced_or_stop_cannot_join_the_isr() {
    use ErrorCode as E;
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("accepted");
    cluster.kill(2);
    assert_refused(
        alter(&mut cluster, 0, id, &[0, 2], |_| {}),
        E::IneligibleReplica,
        "fenced",
    );
    cluster
        .heartbeat_with(1, |request| request.want_shut_down = true)
        .expect("registered");
    assert_refused(
        alter(&mut cluster, 0, id, &[0, 1], |_| {}),
        E::IneligibleReplica,
        "controlled shutdown",
    );
}

pub(super) fn elect(
    cluster: &mut Cluster,
    kind: ElectionKind,
    partitions: Option<&[(&str, i32)]>,
) -> Vec<(String, ErrorCode)> {
    let request = ElectLeadersRequest {
        kind,
        partitions: partitions.map(|wanted| {
            wanted
                .iter()
                .map(|(name, index)| ((*name).to_owned(), vec![*index]))
                .collect()
        }),
    };
    let ControllerResponse::ElectLeaders(results) =
        cluster.ask(&ControllerRequest::ElectLeaders(request))
    else {
        panic!("another response");
    };
    results
        .into_iter()
        .map(|elected| {
            let code = elected
                .result
                .map_or_else(|error| error.code, |()| ErrorCode::None);
            (elected.topic, code)
        })
        .collect()
}

#[test]
fn the_preferred_leader_is_elected_when_it_is_in_sync() {
    use ElectionKind::Preferred;
    let mut cluster = Cluster::new(3);
    let moved = cluster.create_on("moved", &[1, 0]);
    cluster.create_on("stays", &[2, 0]);
    cluster.kill(1);
    let wanted: &[(&str, i32)] = &[("moved", 0), ("stays", 0), ("absent", 0), ("moved", 5)];
    let codes = |results: Vec<(String, ErrorCode)>| -> Vec<ErrorCode> {
        results.into_iter().map(|(_, code)| code).collect()
    };
    assert_eq!(
        codes(elect(&mut cluster, Preferred, Some(wanted))),
        [
            ErrorCode::PreferredLeaderNotAvailable,
            ErrorCode::ElectionNotNeeded,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicOrPartition,
        ]
    );
    cluster.start(1, 2);
    alter(&mut cluster, 0, moved, &[0, 1], |_| {}).expect("accepted");
    assert_eq!(
        elect(&mut cluster, Preferred, None),
        [("moved".to_owned(), ErrorCode::None)]
    );
    assert_eq!(cluster.state(moved), (1, vec![0, 1]));
}

#[test]
fn leadership_goes_back_to_preferred_replicas_by_itself() {
    let mut cluster = Cluster::with_file(2, &[("leader.imbalance.check.interval.seconds", "1")]);
    let id = cluster.create_on("t", &[1, 0]);
    cluster.kill(1);
    cluster.start(1, 2);
    alter(&mut cluster, 0, id, &[0, 1], |_| {}).expect("accepted");
    cluster.tick(900);
    assert_eq!(cluster.state(id).0, 0);
    cluster.tick(200);
    assert_eq!(cluster.state(id).0, 1);
}

#[test]
fn an_unclean_leader_is_elected_only_where_asked_or_allowed() {
    use ElectionKind::Unclean;
    let mut cluster = Cluster::new(2);
    let asked = cluster.create_on("asked", &[0, 1]);
    let allowed = cluster.create_on("allowed", &[0, 1]);
    cluster.kill(1);
    cluster.kill(0);
    assert_eq!(
        elect(&mut cluster, Unclean, Some(&[("asked", 0)])),
        [("asked".to_owned(), ErrorCode::EligibleLeadersNotAvailable)]
    );
    cluster.start(1, 2);
    assert_eq!(cluster.state(asked), (-1, vec![]));
    cluster
        .set(
            ConfigResource::Topic("allowed".into()),
            "unclean.leader.election.enable",
            "true",
        )
        .expect("accepted");
    assert_eq!(cluster.state(allowed), (1, vec![1]));
    assert_eq!(cluster.state(asked), (-1, vec![]));
    assert_eq!(
        elect(&mut cluster, Unclean, Some(&[("asked", 0), ("allowed", 0)])),
        [
            ("asked".to_owned(), ErrorCode::None),
            ("allowed".to_owned(), ErrorCode::ElectionNotNeeded),
        ]
    );
    assert_eq!(cluster.state(asked), (1, vec![1]));
}

#[test]
fn an_unclean_election_follows_at_once_where_the_cluster_allows_it() {
    let mut cluster = Cluster::with_file(2, &[("unclean.leader.election.enable", "true")]);
    let id = cluster.create_on("t", &[0, 1]);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("accepted");
    cluster.kill(0);
    assert_eq!(cluster.state(id), (1, vec![1]));
}
