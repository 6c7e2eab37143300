//! Are those eligible to lead who hold every acknowledged record, and nobody else (KIP-966)?

use types::ErrorCode;

use super::partitions::{alter, elect};
use super::*;
use crate::metadata::record::FeatureLevel;

const MIN_ISR: &str = "min.insync.replicas";

/// Three brokers, and a topic with a replica on each, of which two have to be in sync.
fn of_three() -> (Cluster, TopicId) {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    cluster.set_min_isr("2");
    (cluster, id)
}

impl Cluster {
    fn set_min_isr(&mut self, value: &str) {
        self.set(ConfigResource::Topic("t".into()), MIN_ISR, value)
            .expect("accepted");
    }

    /// The process of `node` is back, as `how` says; it is not active yet.
    fn come_back(&mut self, node: i32, how: impl FnOnce(&mut RegisterBrokerRequest)) {
        let disk = u8::try_from(node + 100).expect("few nodes");
        let mut request = registration(node, 2, disk);
        how(&mut request);
        self.register(request).expect("accepted");
    }

    /// All brokers die, one after the other.
    fn unregister(&mut self, node: i32) {
        let request = UnregisterBrokerRequest {
            node_id: NodeId(node),
        };
        self.ask(&ControllerRequest::UnregisterBroker(request));
    }

    fn kill_all(&mut self, order: &[i32]) {
        order.iter().for_each(|node| self.kill(*node));
    }

    fn last_known(&self, topic: TopicId) -> Vec<i32> {
        let known = self.partition(topic).last_known_elr;
        known.iter().map(|node| node.0).collect()
    }
}

fn unclean(_: &mut RegisterBrokerRequest) {}

#[test]
fn who_leaves_an_isr_that_is_too_small_is_eligible_until_it_is_large_enough() {
    let (mut cluster, id) = of_three();
    cluster.kill(2);
    assert_eq!(cluster.holders(id), (vec![0, 1], vec![]), "two are enough");
    // By lagging as well as by dying: nothing is acknowledged after either.
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("accepted");
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster.start(2, 2);
    let answered = alter(&mut cluster, 0, id, &[0, 2], |_| {}).expect("accepted");
    assert_eq!(cluster.holders(id), (vec![0, 2], vec![]));
    assert_eq!(answered, cluster.partition(id));
}

#[test]
fn an_isr_of_all_replicas_is_large_enough_whatever_the_minimum() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.set_min_isr("3");
    cluster.kill(1);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster.start(1, 2);
    alter(&mut cluster, 0, id, &[0, 1], |_| {}).expect("accepted");
    assert_eq!(cluster.holders(id), (vec![0, 1], vec![]));
}

#[test]
fn an_eligible_replica_leads_when_nobody_of_the_isr_can_and_becomes_the_isr() {
    let (mut cluster, id) = of_three();
    cluster.kill(2);
    alter(&mut cluster, 0, id, &[0], |_| {}).expect("1 lags");
    let epoch = cluster.partition(id).leader_epoch;
    cluster.kill(0);
    assert_eq!(cluster.state(id), (1, vec![1]));
    assert_eq!(cluster.holders(id).1, [0], "nothing is acknowledged yet");
    assert_eq!(cluster.partition(id).leader_epoch, epoch.next());
    assert_eq!(cluster.last_known(id), []);
    cluster.start(2, 2);
    assert_eq!(cluster.state(id), (1, vec![1]), "2 may lack records");
}

#[test]
fn an_isr_may_become_empty_and_the_first_eligible_replica_that_is_back_leads() {
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[2, 0, 1]);
    let partition = cluster.partition(id);
    assert_eq!(cluster.state(id), (-1, vec![]));
    assert_eq!(cluster.holders(id).1, [0, 1], "2 left when two were enough");
    assert_eq!(cluster.last_known(id), [1]);
    let epoch = cluster.epochs[&0];
    cluster.come_back(2, unclean);
    cluster.heartbeat(2);
    assert_eq!(cluster.partition(id), partition, "2 does not matter");
    cluster.come_back(0, |request| request.previous_epoch = Some(epoch));
    assert_eq!(cluster.state(id).0, -1, "it is fenced yet");
    cluster.heartbeat(0);
    assert_eq!(cluster.state(id), (0, vec![0]));
    assert_eq!(cluster.holders(id).1, [1]);
    assert_eq!(cluster.last_known(id), []);
}

#[test]
fn what_a_broker_may_have_lost_decides_whether_it_stays_eligible() {
    type How = fn(&mut RegisterBrokerRequest, BrokerEpoch);
    let cases: [(&str, How, bool, &[i32]); 4] = [
        (
            "a clean stop, or a kill",
            |r, epoch| r.previous_epoch = Some(epoch),
            true,
            &[0],
        ),
        ("a power loss", |_, _| {}, false, &[0]),
        (
            "a disk put back to an earlier state",
            |r, epoch| r.previous_epoch = Some(BrokerEpoch(epoch.0 - 1)),
            false,
            &[0],
        ),
        (
            "another disk",
            |r, epoch| {
                r.previous_epoch = Some(epoch);
                r.broker_uuid = BrokerUuid::from_bytes([77; 16]);
            },
            false,
            &[1],
        ),
    ];
    for (what, how, stays, last_known) in cases {
        let mut cluster = Cluster::new(2);
        let id = cluster.create_on("t", &[0, 1]);
        cluster.set_min_isr("2");
        cluster.kill_all(&[1, 0]);
        assert_eq!(cluster.holders(id), (vec![], vec![0, 1]), "{what}");
        let epoch = cluster.epochs[&0];
        cluster.come_back(0, |request| {
            request.incarnation = Incarnation::from_bytes([3; 16]);
            how(request, epoch);
        });
        let elr: &[i32] = if stays { &[0, 1] } else { &[1] };
        assert_eq!(cluster.holders(id), (vec![], elr.to_vec()), "{what}");
        assert_eq!(cluster.last_known(id), last_known, "{what}");
        cluster.heartbeat(0);
        assert_eq!(cluster.state(id).0, if stays { 0 } else { -1 }, "{what}");
    }
}

#[test]
fn a_broker_that_may_have_lost_records_leaves_an_isr_it_was_never_missed_in() {
    let (mut cluster, id) = of_three();
    cluster.kill(2);
    // Nobody has noticed that 1 and its machine were gone.
    let first = Incarnation::from_bytes([1; 16]);
    cluster.controller.session_closed(NodeId(1), first);
    cluster.come_back(1, unclean);
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
}

#[test]
fn a_partition_of_which_all_may_have_lost_records_waits_for_its_last_leader() {
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[0, 1, 2]);
    assert_eq!(cluster.holders(id), (vec![], vec![1, 2]));
    for node in [0, 1] {
        cluster.come_back(node, unclean);
        cluster.heartbeat(node);
        assert_eq!(cluster.state(id), (-1, vec![]), "{node} may lack records");
    }
    assert_eq!(cluster.holders(id).1, [2]);
    cluster.come_back(2, unclean);
    assert_eq!(cluster.holders(id), (vec![], vec![]));
    assert_eq!(cluster.last_known(id), [2]);
    cluster.heartbeat(2);
    assert_eq!(cluster.state(id), (2, vec![2]));
    assert_eq!(cluster.last_known(id), []);
}

#[test]
fn all_that_are_killed_unnoticed_come_back_in_any_order() {
    for (vouches, order) in [(false, [0, 1, 2]), (true, [2, 0, 1]), (false, [1, 2, 0])] {
        let mut cluster = Cluster::new(3);
        let id = cluster.create_on("t", &[0, 1, 2]);
        cluster.set_min_isr("2");
        // The active controller died, too: all are fine as far as the next one knows.
        let image = cluster.committed.clone();
        cluster.controller = Controller::take_over(controller_config(&[]), image, cluster.now);
        cluster.tick(1);
        for node in order {
            let epoch = cluster.epochs[&node];
            cluster.come_back(node, |request| {
                request.incarnation = Incarnation::from_bytes([4; 16]);
                request.previous_epoch = vouches.then_some(epoch);
            });
        }
        assert_eq!(cluster.state(id), (-1, vec![]), "{order:?}");
        for node in order {
            cluster.heartbeat(node);
        }
        let last = order[2];
        let expected = if vouches { order[1] } else { last };
        assert_eq!(cluster.state(id), (expected, vec![expected]), "{order:?}");
    }
}

#[test]
fn a_lost_disk_is_waited_for_by_no_partition() {
    let new_disk = |r: &mut RegisterBrokerRequest| r.broker_uuid = BrokerUuid::from_bytes([77; 16]);
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[0, 1, 2]);
    cluster.come_back(2, new_disk);
    cluster.heartbeat(2);
    assert_eq!(cluster.holders(id), (vec![], vec![1]));
    assert_eq!(cluster.last_known(id), [1]);
    cluster.come_back(1, unclean);
    cluster.heartbeat(1);
    assert_eq!(cluster.state(id), (1, vec![1]));

    let (mut cluster, id) = of_three();
    cluster.kill_all(&[0, 1, 2]);
    cluster.come_back(1, unclean);
    cluster.come_back(2, new_disk);
    for node in [1, 2] {
        cluster.heartbeat(node);
    }
    assert_eq!(cluster.state(id), (-1, vec![]));
    assert_eq!(cluster.last_known(id), []);
    let elected = elect(&mut cluster, ElectionKind::Unclean, Some(&[("t", 0)]));
    assert_eq!(elected, [("t".to_owned(), ErrorCode::None)]);
    assert_eq!(cluster.state(id), (1, vec![1]));
}

#[test]
fn an_unclean_election_takes_an_eligible_replica_first_and_leaves_nobody_eligible_if_there_is_none()
{
    let (mut cluster, id) = of_three();
    cluster
        .set(ConfigResource::Topic("t".into()), election::UNCLEAN, "true")
        .expect("accepted");
    cluster.kill(0);
    alter(&mut cluster, 1, id, &[1], |_| {}).expect("2 lags");
    cluster.start(0, 2);
    cluster.kill(1);
    assert_eq!(
        cluster.state(id),
        (2, vec![2]),
        "0 would come first, but lacks records"
    );
    assert_eq!(cluster.holders(id).1, [1]);
    cluster.kill(2);
    assert_eq!(cluster.state(id), (0, vec![0]));
    assert_eq!(cluster.holders(id).1, [], "1 and 2 lack what 0 writes");
}

#[test]
fn a_lower_minimum_empties_the_elr_with_the_same_entry_and_a_higher_one_invents_nobody() {
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[2, 1]);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster.set_min_isr("3");
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster.set_min_isr("1");
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
    cluster.set_min_isr("2");
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
}

#[test]
fn the_minimum_of_all_brokers_counts_and_so_does_its_removal() {
    let mut cluster = Cluster::new(2);
    cluster
        .set(ConfigResource::DefaultBroker, MIN_ISR, "2")
        .expect("accepted");
    let id = cluster.create_on("t", &[0, 1]);
    cluster.kill(1);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster
        .change(
            ConfigResource::DefaultBroker,
            ConfigOp::Delete,
            MIN_ISR,
            None,
        )
        .expect("accepted");
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
}

#[test]
fn a_controller_with_another_minimum_in_its_file_applies_it_when_it_takes_over() {
    let mut cluster = Cluster::with_file(2, &[(MIN_ISR, "2")]);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.kill(1);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    let image = cluster.committed.clone();
    cluster.controller = Controller::take_over(controller_config(&[]), image, cluster.now);
    cluster.tick(1);
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
}

#[test]
fn brokers_that_all_stop_cleanly_lead_again_once_the_last_is_back() {
    let (mut cluster, id) = of_three();
    for node in 0..3 {
        for _ in 0..2 {
            cluster
                .heartbeat_with(node, |request| request.want_shut_down = true)
                .expect("registered");
        }
    }
    assert_eq!(cluster.holders(id), (vec![], vec![1, 2]));
    let epoch = cluster.epochs[&1];
    cluster.come_back(1, |request| request.previous_epoch = Some(epoch));
    cluster.heartbeat(1);
    assert_eq!(cluster.state(id), (1, vec![1]));
}

#[test]
fn who_is_moved_away_is_not_eligible_any_more() {
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[2, 1]);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster
        .reassign_to(Some(&[0, 2]))
        .expect("0 holds everything");
    assert_eq!(
        cluster.holders(id),
        (vec![0], vec![1]),
        "until 2 is in sync"
    );
    cluster.start(2, 2);
    alter(&mut cluster, 0, id, &[0, 2], |_| {}).expect("accepted");
    let after = cluster.partition(id);
    assert_eq!((after.replicas.len(), after.elr), (2, vec![]));
}

#[test]
fn a_move_begins_and_is_given_up_with_eligible_replicas_alone() {
    let mut cluster = Cluster::new(4);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.set_min_isr("2");
    cluster.reassign_to(Some(&[2, 3])).expect("accepted");
    alter(&mut cluster, 0, id, &[0, 1, 2], |_| {}).expect("accepted");
    cluster.kill_all(&[1, 0]);
    assert_eq!(cluster.holders(id), (vec![2], vec![0]));
    cluster.reassign_to(None).expect("0 holds everything");
    assert_eq!(cluster.holders(id), (vec![], vec![0]));
    assert_eq!(cluster.last_known(id), [0], "2 is no replica any more");
    cluster.reassign_to(Some(&[3])).expect("accepted");
    assert_eq!(cluster.holders(id), (vec![], vec![0]));
    cluster.come_back(0, unclean);
    cluster.heartbeat(0);
    assert_eq!(cluster.state(id), (0, vec![0]));
}

impl Cluster {
    fn reassign_to(&mut self, target: Option<&[i32]>) -> Result<(), ApiError> {
        let request = AlterPartitionReassignmentsRequest {
            partitions: vec![ReassignablePartition {
                topic: "t".to_owned(),
                partition: 0,
                target: target.map(|nodes| nodes.iter().copied().map(NodeId).collect()),
            }],
            allow_replication_factor_change: true,
        };
        let asked = self.ask(&ControllerRequest::AlterPartitionReassignments(request));
        let ControllerResponse::AlterPartitionReassignments(mut results) = asked else {
            panic!("another response");
        };
        results.remove(0).result
    }
}

#[test]
fn until_every_broker_can_read_of_eligible_replicas_the_last_member_stays_in_the_isr() {
    let mut cluster = Cluster::new(0);
    // As in a cluster whose brokers were all of a build before eligible replicas.
    cluster.committed = MetadataImage::empty();
    let image = cluster.committed.clone();
    cluster.controller = Controller::take_over(controller_config(&[]), image, 0);
    for node in 0..2 {
        cluster.come_back(node, |request| request.reads_elr = false);
        cluster.heartbeat(node);
    }
    cluster.tick(1);
    assert_eq!(cluster.committed.feature(ELR_FEATURE), 0);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.kill_all(&[1, 0]);
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
    assert_eq!(cluster.state(id).0, -1);
    for (node, level) in [(1, 0), (0, 1)] {
        cluster.come_back(node, |r| r.incarnation = Incarnation::from_bytes([3; 16]));
        cluster.tick(1);
        assert_eq!(cluster.committed.feature(ELR_FEATURE), level);
    }
    cluster.heartbeat(1);
    assert_eq!(cluster.state(id).0, -1, "1 lacks what 0 acknowledged alone");
    assert_eq!(cluster.holders(id), (vec![], vec![0]));
    cluster.heartbeat(0);
    assert_eq!(cluster.state(id), (0, vec![0]));
    cluster.kill(0);
    assert_eq!(cluster.holders(id), (vec![], vec![0]));
}

#[test]
fn a_broker_that_cannot_go_on_is_eligible_no_more() {
    let fails = |request: &mut BrokerHeartbeatRequest| request.want_fence = true;
    for is_fenced_before in [false, true] {
        let (mut cluster, id) = of_three();
        cluster.kill(2);
        if is_fenced_before {
            cluster.kill(1);
            assert_eq!(cluster.holders(id), (vec![0], vec![1]));
        }
        let state = cluster.heartbeat_with(1, fails).expect("registered");
        assert!(state.is_fenced);
        assert_eq!(cluster.holders(id), (vec![0], vec![]), "{is_fenced_before}");
        // As the only one it is waited for, as everybody who comes back with less is.
        cluster.heartbeat_with(0, fails).expect("registered");
        assert_eq!(cluster.holders(id), (vec![], vec![]));
        assert_eq!(cluster.last_known(id), [0]);
    }
}

#[test]
fn an_unregistered_broker_is_waited_for_only_if_its_disk_is_an_old_one() {
    for (had_registered, leader) in [(true, 0), (false, -1)] {
        let (mut cluster, id) = of_three();
        cluster.kill_all(&[2, 1, 0]);
        cluster.unregister(1);
        cluster.unregister(0);
        assert_eq!(cluster.holders(id), (vec![], vec![]));
        assert_eq!(cluster.last_known(id), [0]);
        cluster.come_back(0, |request| request.had_registered = had_registered);
        cluster.heartbeat(0);
        assert_eq!(cluster.state(id).0, leader, "{had_registered}");
    }
}

#[test]
fn nobody_waits_for_an_unregistered_broker_where_somebody_else_has_the_records() {
    let (mut cluster, id) = of_three();
    cluster.kill_all(&[2, 1]);
    assert_eq!(cluster.holders(id), (vec![0], vec![1]));
    cluster.unregister(1);
    assert_eq!(cluster.holders(id), (vec![0], vec![]));
}

#[test]
fn a_broker_that_an_older_controller_registered_registers_again_and_then_elr_begins() {
    // As an older controller left it.
    let mut cluster = Cluster::with_file(0, &[]);
    let without = MetadataRecord::FeatureLevel(FeatureLevel {
        name: ELR_FEATURE.to_owned(),
        level: 0,
    });
    let offset = cluster.committed.offset() + 2;
    cluster
        .committed
        .apply(offset, &[without])
        .expect("applies");
    let image = cluster.committed.clone();
    cluster.controller = Controller::take_over(controller_config(&[]), image, cluster.now);
    for node in [0, 1] {
        let mut request = registration(node, 1, 100 + u8::try_from(node).expect("few"));
        request.reads_elr = node == 0;
        cluster.register(request).expect("new");
    }
    cluster.tick(1);
    assert_eq!(cluster.committed.feature(ELR_FEATURE), 0);
    let reads = |request: &mut BrokerHeartbeatRequest| request.reads_elr = true;
    assert!(cluster.heartbeat_with(0, reads).is_ok());
    let refused = cluster
        .heartbeat_with(1, reads)
        .expect_err("to register again");
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
    cluster
        .register(registration(1, 1, 101))
        .expect("the same process");
    assert!(cluster.heartbeat_with(1, reads).is_ok());
    cluster.tick(1);
    assert_eq!(cluster.committed.feature(ELR_FEATURE), ELR_LEVEL);
    // From now on nobody who would stop at such a record gets in.
    let mut old = registration(2, 1, 102);
    old.reads_elr = false;
    let refused = cluster
        .register(old)
        .expect_err("cannot read what is there");
    assert_eq!(refused.code, ErrorCode::UnsupportedVersion);
}

#[test]
fn a_preferred_leader_with_a_smaller_minimum_needs_nobody_beside_its_isr() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    for (node, minimum) in [(0, "2"), (1, "3")] {
        let resource = ConfigResource::Broker(NodeId(node));
        cluster.set(resource, MIN_ISR, minimum).expect("accepted");
    }
    // 1 leads, and 0 is back in sync, when 2 leaves.
    cluster.kill(0);
    cluster.come_back(0, |_| {});
    cluster.heartbeat(0);
    alter(&mut cluster, 1, id, &[1, 2, 0], |_| {}).expect("in sync");
    cluster.kill(2);
    assert_eq!(cluster.state(id).0, 1);
    assert_eq!(cluster.holders(id).1, [2]);
    elect(&mut cluster, ElectionKind::Preferred, None);
    assert_eq!(cluster.state(id).0, 0);
    assert_eq!(cluster.holders(id).1, []);
}
