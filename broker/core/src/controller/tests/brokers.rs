//! Do brokers come, live, stop and go as they should?

use types::ErrorCode;

use super::*;

#[test]
fn a_broker_of_another_cluster_is_refused() {
    let mut cluster = Cluster::new(0);
    let mut request = registration(0, 1, 1);
    request.cluster_id = "AAAAAAAAAAAAAAAAAAAAAg".to_owned();
    assert_refused(
        cluster.register(request),
        ErrorCode::InconsistentClusterId,
        "Expected cluster ID AAAAAAAAAAAAAAAAAAAAAQ, but got cluster ID AAAAAAAAAAAAAAAAAAAAAg",
    );
}

#[test]
fn a_broker_that_cannot_be_reached_or_is_a_copy_is_refused() {
    type Change = fn(&mut RegisterBrokerRequest);
    let mut cluster = Cluster::new(1);
    let cases: [(Change, &str); 6] = [
        (|r| r.endpoints.clear(), "at least one listener"),
        (
            |r| r.endpoints[0].host = "0.0.0.0".to_owned(),
            "nobody can connect to 0.0.0.0:9092",
        ),
        (
            |r| r.endpoints[0].port = 0,
            "which listener internal advertises",
        ),
        (
            |r| r.rpc.host = String::new(),
            "which listener rpc advertises",
        ),
        (
            |r| r.endpoints.push(r.endpoints[0].clone()),
            "two listeners are named internal",
        ),
        (
            |r| r.broker_uuid = BrokerUuid::from_bytes([100; 16]),
            "a copy of broker 0's",
        ),
    ];
    for (change, says) in cases {
        let mut request = registration(1, 1, 101);
        change(&mut request);
        assert_refused(
            cluster.register(request),
            ErrorCode::InvalidRegistration,
            says,
        );
    }
}

#[test]
fn a_broker_is_fenced_until_it_has_applied_its_own_registration() {
    let mut cluster = Cluster::new(1);
    cluster.register(registration(1, 1, 1)).expect("accepted");
    let behind = cluster.committed.offset() - 1;
    let state = cluster
        .heartbeat_with(1, |request| request.metadata_offset = behind)
        .expect("registered");
    assert!(state.is_fenced && !state.is_caught_up);
    let state = cluster.heartbeat(1);
    assert!(!state.is_fenced && state.is_caught_up);
}

#[test]
fn a_second_process_is_refused_while_the_first_is_connected() {
    let mut cluster = Cluster::new(2);
    let first = Incarnation::from_bytes([1; 16]);
    cluster.controller.session_opened(0, NodeId(1), first);
    assert_refused(
        cluster.register(registration(1, 2, 101)),
        ErrorCode::DuplicateBrokerRegistration,
        "Another broker is registered with that broker id.",
    );
    cluster.controller.session_closed(NodeId(1), first);
    // Another disk could be another machine: only silence or the end of the process helps.
    assert_refused(
        cluster.register(registration(1, 2, 55)),
        ErrorCode::DuplicateBrokerRegistration,
        "",
    );
    let old = cluster.epochs[&1];
    let new = cluster
        .register(registration(1, 2, 101))
        .expect("the same disk");
    assert!(new > old);
    assert!(
        cluster
            .committed
            .broker(NodeId(1))
            .expect("registered")
            .fenced
    );
    assert_refused(
        cluster.heartbeat_with(1, |request| request.broker_epoch = old),
        ErrorCode::StaleBrokerEpoch,
        "",
    );
    for _ in 0..31 {
        cluster.tick(100);
    }
    cluster
        .register(registration(1, 3, 55))
        .expect("the old one was silent for too long");
}

#[test]
fn a_process_that_registers_again_keeps_its_epoch_and_state() {
    let mut cluster = Cluster::new(1);
    let epoch = cluster.epochs[&0];
    assert_eq!(cluster.register(registration(0, 1, 100)), Ok(epoch));
    assert!(cluster.committed.is_active(NodeId(0)));
}

#[test]
fn an_unknown_broker_must_register_first() {
    let mut cluster = Cluster::new(1);
    assert_refused(
        cluster.heartbeat_with(7, |_| {}),
        ErrorCode::BrokerIdNotRegistered,
        "",
    );
}

#[test]
fn a_silent_broker_is_fenced_after_the_session_timeout_and_not_before() {
    let mut cluster = Cluster::new(2);
    let id = cluster.create_on("t", &[1, 0]);
    for _ in 0..30 {
        cluster.tick(100);
        cluster.heartbeat(0);
        assert_eq!(cluster.state(id), (1, vec![1, 0]), "at {} ms", cluster.now);
    }
    cluster.tick(100);
    assert_eq!(cluster.state(id), (0, vec![0]));
    // It was only slow: it serves again after one heartbeat, and the leader decides about the ISR.
    assert!(!cluster.heartbeat(1).is_fenced);
    assert_eq!(cluster.state(id), (0, vec![0]));
}

#[test]
fn a_controller_that_slept_itself_fences_nobody() {
    let mut cluster = Cluster::new(2);
    cluster.tick(10_000);
    assert!(cluster.committed.is_active(NodeId(0)));
    for _ in 0..31 {
        cluster.tick(100);
    }
    assert!(!cluster.committed.is_active(NodeId(0)));
}

#[test]
fn a_new_controller_gives_every_broker_a_whole_session_timeout() {
    let mut cluster = Cluster::new(2);
    cluster.tick(2_900);
    cluster.controller = Controller::take_over(
        controller_config(&[]),
        cluster.committed.clone(),
        cluster.now,
    );
    cluster.tick(1_400);
    cluster.tick(1_400);
    assert!(cluster.committed.is_active(NodeId(0)));
    cluster.tick(300);
    assert!(!cluster.committed.is_active(NodeId(0)));
}

#[test]
fn a_dead_process_is_fenced_at_once_but_not_its_successor() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[1, 2, 0]);
    cluster.kill(1);
    assert_eq!(cluster.state(id), (2, vec![2, 0]));
    cluster.start(1, 2);
    let old = Incarnation::from_bytes([1; 16]);
    let records = cluster
        .controller
        .connection_lost(NodeId(1), old)
        .expect("fits");
    assert_eq!(
        records,
        [],
        "the news of the old process fenced the new one"
    );
}

#[test]
fn the_last_of_an_isr_is_waited_for_and_leads_again() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1]);
    cluster.kill(1);
    cluster.kill(0);
    assert_eq!(cluster.holders(id), (vec![], vec![0]));
    cluster.start(1, 2);
    assert_eq!(
        cluster.state(id),
        (-1, vec![]),
        "1 lacks what 0 acknowledged alone"
    );
    let epoch = cluster.partition(id).leader_epoch;
    cluster.start(0, 2);
    assert_eq!(cluster.state(id), (0, vec![0]));
    assert!(cluster.partition(id).leader_epoch > epoch);
}

#[test]
fn those_who_died_together_both_hold_everything_and_the_first_back_leads() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[1, 2]);
    for _ in 0..40 {
        cluster.tick(100);
        cluster.heartbeat(0);
    }
    assert_eq!(cluster.holders(id), (vec![], vec![1, 2]));
    cluster.heartbeat(2);
    assert_eq!(cluster.state(id), (2, vec![2]));
}

#[test]
fn with_a_lost_disk_even_the_last_member_is_waited_for_no_more() {
    let mut cluster = Cluster::new(2);
    let id = cluster.create_on("t", &[1]);
    cluster.kill(1);
    assert_eq!(cluster.holders(id), (vec![], vec![1]));
    cluster.register(registration(1, 2, 77)).expect("accepted");
    cluster.heartbeat(1);
    let after = cluster.partition(id);
    assert_eq!(after.leader, None, "an empty disk would pass for the log");
    assert_eq!(
        (after.isr, after.elr, after.last_known_elr),
        Default::default()
    );
}

#[test]
fn a_controlled_shutdown_moves_leaders_first_and_ends_when_the_others_know() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    let stop = |request: &mut BrokerHeartbeatRequest| request.want_shut_down = true;
    let state = cluster.heartbeat_with(0, stop).expect("registered");
    assert!(!state.should_shut_down);
    assert_eq!(cluster.state(id), (1, vec![1, 2]));
    let moved_at = cluster.committed.offset();
    assert!(
        !cluster
            .heartbeat_with(0, stop)
            .expect("registered")
            .should_shut_down
    );
    cluster.heartbeat(1);
    cluster
        .heartbeat_with(2, |request| request.metadata_offset = moved_at - 1)
        .expect("registered");
    assert!(
        !cluster
            .heartbeat_with(0, stop)
            .expect("registered")
            .should_shut_down
    );
    cluster.heartbeat(2);
    let state = cluster.heartbeat_with(0, stop).expect("registered");
    assert!(state.should_shut_down && state.is_fenced);
    // It may start again at once.
    cluster.start(0, 2);
}

#[test]
fn all_brokers_can_stop_at_once() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create_on("t", &[0, 1, 2]);
    let stop = |request: &mut BrokerHeartbeatRequest| request.want_shut_down = true;
    for node in 0..3 {
        cluster.heartbeat_with(node, stop).expect("registered");
    }
    assert_eq!(cluster.holders(id), (vec![], vec![2]));
    for node in 0..3 {
        let state = cluster.heartbeat_with(node, stop).expect("registered");
        assert!(
            state.should_shut_down,
            "{node} waits for somebody who has gone too"
        );
    }
}

#[test]
fn a_broker_that_wants_to_be_fenced_is() {
    let mut cluster = Cluster::new(2);
    let id = cluster.create_on("t", &[0, 1]);
    let state = cluster
        .heartbeat_with(0, |request| request.want_fence = true)
        .expect("registered");
    assert!(state.is_fenced);
    assert_eq!(cluster.state(id), (1, vec![1]));
}

#[test]
fn an_unregistered_broker_is_forgotten_but_its_epoch_is_not() {
    let mut cluster = Cluster::new(2);
    let id = cluster.create_on("t", &[1, 0]);
    let old = cluster.epochs[&1];
    let request =
        ControllerRequest::UnregisterBroker(UnregisterBrokerRequest { node_id: NodeId(1) });
    assert_eq!(
        cluster.ask(&request),
        ControllerResponse::UnregisterBroker(Ok(()))
    );
    assert_eq!(cluster.state(id), (0, vec![0]));
    assert!(cluster.committed.broker(NodeId(1)).is_none());
    let again = cluster.ask(&request);
    let ControllerResponse::UnregisterBroker(again) = again else {
        panic!("another response");
    };
    assert_refused(
        again,
        ErrorCode::BrokerIdNotRegistered,
        "not currently registered",
    );
    // Not even a snapshot in between makes an epoch be given twice.
    cluster.committed =
        MetadataImage::from_snapshot(&cluster.committed.to_snapshot()).expect("own snapshot");
    cluster.controller =
        Controller::take_over(controller_config(&[]), cluster.committed.clone(), 0);
    cluster.start(1, 2);
    assert!(cluster.epochs[&1] > old);
}

#[test]
fn the_last_in_sync_replica_that_comes_back_unclean_is_a_risk_and_a_clean_one_is_none() {
    let mut cluster = Cluster::new(2);
    cluster.create_on("alone", &[0]);
    cluster.create_on("shared", &[0, 1]);
    let at_risk =
        |cluster: &Cluster, request: &RegisterBrokerRequest| cluster.controller.at_risk(request);
    let mut request = registration(0, 1, 100);
    assert_eq!(at_risk(&cluster, &request), 0, "the same process");
    cluster.kill(0);
    request.incarnation = Incarnation::from_bytes([2; 16]);
    assert_eq!(at_risk(&cluster, &request), 1, "a crash");
    request.previous_epoch = cluster.epochs.get(&0).copied();
    assert_eq!(at_risk(&cluster, &request), 0, "a clean stop");
    request.previous_epoch = Some(BrokerEpoch(0));
    assert_eq!(
        at_risk(&cluster, &request),
        1,
        "the clean stop of an earlier one"
    );
    assert!(cluster.register(request).is_ok());
}
