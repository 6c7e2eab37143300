//! Rules of leaders and followers, one at a time.

use std::collections::BTreeMap;

use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use super::*;

/// Epoch starts of a log that ends at `end`.
struct Epochs {
    starts: BTreeMap<i32, i64>,
    end: i64,
}

fn epochs(starts: &[(i32, i64)], end: i64) -> Epochs {
    Epochs {
        starts: starts.iter().copied().collect(),
        end,
    }
}

impl EpochHistory for Epochs {
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let (latest, _) = self.starts.last_key_value()?;
        if epoch.0 > *latest {
            return None;
        }
        let end = self
            .starts
            .range(epoch.0 + 1..)
            .next()
            .map_or(self.end, |(_, start)| *start);
        let floor = self.starts.range(..=epoch.0).next_back();
        let known = floor.map_or(epoch, |(known, _)| LeaderEpoch(*known));
        Some((known, Offset(end)))
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.starts.last_key_value().map(|(e, _)| LeaderEpoch(*e))
    }
}

const LAG_MS: i64 = 100;

fn registration(epoch: i32, isr: &[i32]) -> PartitionRegistration {
    PartitionRegistration {
        leader: Some(NodeId(0)),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch * 10),
        replicas: vec![NodeId(0), NodeId(1), NodeId(2)],
        isr: isr.iter().copied().map(NodeId).collect(),
        ..PartitionRegistration::default()
    }
}

fn position(end: i64) -> LogPosition {
    LogPosition {
        start: Offset(0),
        end: Offset(end),
    }
}

/// The leader of epoch 5 with 10 records, of which 4 were replicated before.
fn leader(min_isr: usize, isr: &[i32]) -> Leader {
    let config = PartitionConfig {
        min_insync_replicas: min_isr,
        replica_lag_time_max_ms: LAG_MS,
        await_flush: false,
    };
    let registration = registration(5, isr);
    Leader::new(NodeId(0), config, &registration, position(10), Offset(4), 0)
}

fn subscription(node: i32, session: u64, offset: i64, last_epoch: i32) -> Subscription {
    Subscription {
        node: NodeId(node),
        broker_epoch: BrokerEpoch(1),
        session,
        leader_epoch: LeaderEpoch(5),
        fetch_offset: Offset(offset),
        last_fetched_epoch: Some(LeaderEpoch(last_epoch)),
        log_start: Offset(0),
    }
}

fn history() -> Epochs {
    epochs(&[(1, 0), (3, 6), (5, 10)], 10)
}

fn subscribe(leader: &mut Leader, node: i32, offset: i64) -> SubscriptionAnswer {
    let last_epoch = if offset > 6 { 3 } else { 1 };
    let subscription = subscription(node, 1, offset, last_epoch);
    leader.on_subscribe(1, &subscription, &history())
}

fn session(node: i32, session: u64) -> FollowerSession {
    subscription(node, session, 0, 1).session()
}

fn ack(leader: &mut Leader, now_ms: i64, node: i32, end: i64) -> AckOutcome {
    leader.on_follower_ack(now_ms, session(node, 1), LeaderEpoch(5), position(end))
}

#[test]
fn the_high_watermark_is_the_smallest_end_of_the_isr() {
    let mut leader = leader(1, &[0, 1, 2]);
    subscribe(&mut leader, 1, 10);
    assert_eq!(
        leader.high_watermark(),
        Offset(4),
        "node 2 is not known yet"
    );
    subscribe(&mut leader, 2, 7);
    assert_eq!(leader.high_watermark(), Offset(7));
    ack(&mut leader, 2, 2, 10);
    assert_eq!(leader.high_watermark(), Offset(10));
}

#[test]
fn the_high_watermark_does_not_move_below_min_isr() {
    let mut leader = leader(2, &[0]);
    leader.on_append(1, Offset(12));
    assert_eq!(leader.high_watermark(), Offset(4));
    assert_eq!(
        leader.check_produce(-1, None),
        Err(ProduceRefusal::NotEnoughReplicas {
            in_sync: 1,
            needed: 2
        })
    );
    assert_eq!(leader.check_produce(1, None), Ok(()));
}

#[test]
fn a_leader_acknowledges_nothing_while_others_are_eligible_whatever_its_own_minimum() {
    let config = PartitionConfig {
        min_insync_replicas: 1,
        replica_lag_time_max_ms: LAG_MS,
        await_flush: false,
    };
    let mut counted_on = registration(5, &[0]);
    counted_on.elr = vec![NodeId(1)];
    let mut leader = Leader::new(NodeId(0), config, &counted_on, position(10), Offset(4), 0);
    leader.on_append(1, Offset(12));
    assert_eq!(leader.high_watermark(), Offset(4));
    assert_eq!(
        leader.check_produce(-1, None),
        Err(ProduceRefusal::NotEnoughReplicas {
            in_sync: 1,
            needed: 2
        })
    );
    leader.on_registration(2, &registration(5, &[0]));
    assert_eq!(leader.high_watermark(), Offset(12));
    assert_eq!(leader.check_produce(-1, None), Ok(()));
    leader.on_registration(3, &counted_on);
    leader.on_append(4, Offset(13));
    assert_eq!(leader.high_watermark(), Offset(12));
}

#[test]
fn a_follower_that_is_being_added_counts_before_the_controller_says_so() {
    let mut leader = leader(1, &[0]);
    leader.advance_high_watermark(0);
    assert_eq!(leader.high_watermark(), Offset(10));
    assert!(!leader.waits_for(1, NodeId(1)));
    subscribe(&mut leader, 1, 10);
    let proposal = leader.propose_expansion(2).expect("node 1 is in sync");
    assert_eq!(proposal.isr.len(), 2);
    // Its session ends, so that only the proposal makes it count.
    leader.on_unsubscribe(3, session(1, 1));
    leader.on_append(4, Offset(20));
    assert_eq!(leader.high_watermark(), Offset(10));
    assert!(leader.waits_for(4, NodeId(1)));
    let refused = AlterPartitionAnswer::Refused(ErrorCode::IneligibleReplica);
    let moved = leader.on_alter_partition_answer(5, proposal.partition_epoch, &refused);
    assert_eq!(moved.map(|moved| moved.to), Some(Offset(20)));
    assert!(!leader.waits_for(5, NodeId(1)));
}

#[test]
fn a_proposal_that_may_have_been_committed_stays_pending() {
    for code in [
        ErrorCode::InvalidUpdateVersion,
        ErrorCode::FencedLeaderEpoch,
    ] {
        let mut leader = leader(1, &[0]);
        subscribe(&mut leader, 1, 10);
        let proposal = leader.propose_expansion(2).expect("node 1 is in sync");
        let refused = AlterPartitionAnswer::Refused(code);
        leader.on_alter_partition_answer(3, proposal.partition_epoch, &refused);
        assert!(leader.is_alter_pending(), "{code}");
    }
}

#[test]
fn a_proposal_without_an_answer_is_sent_again() {
    let mut leader = leader(1, &[0]);
    subscribe(&mut leader, 1, 10);
    let proposal = leader.propose_expansion(2).expect("node 1 is in sync");
    assert_eq!(leader.propose_shrink(1000), None, "it is under way");
    let unknown = AlterPartitionAnswer::Unknown;
    leader.on_alter_partition_answer(1000, proposal.partition_epoch, &unknown);
    assert_eq!(leader.propose_shrink(1001), None, "not at once");
    assert_eq!(leader.propose_shrink(2000), Some(proposal));
}

#[test]
fn a_follower_below_the_epochs_start_does_not_join() {
    let mut leader = leader(2, &[0]);
    // The HW is 4 and stays there; the epoch began at 10.
    assert!(matches!(
        subscribe(&mut leader, 1, 8),
        SubscriptionAnswer::Accepted { outcome, .. } if !outcome.may_join
    ));
    assert!(ack(&mut leader, 2, 1, 10).may_join);
}

#[test]
fn an_idle_member_of_the_isr_is_not_lagging_and_a_silent_one_is() {
    let mut leader = leader(1, &[0, 1]);
    subscribe(&mut leader, 1, 10);
    assert_eq!(
        leader.propose_shrink(50 * LAG_MS),
        None,
        "it has everything"
    );
    leader.on_append(50 * LAG_MS, Offset(11));
    assert_eq!(
        leader.propose_shrink(51 * LAG_MS),
        None,
        "it had everything just now"
    );
    let proposal = leader
        .propose_shrink(51 * LAG_MS + 1)
        .expect("it is silent");
    assert_eq!(proposal.isr.len(), 1);
    assert_eq!(
        leader.high_watermark(),
        Offset(10),
        "until it is committed, it counts"
    );
    let committed = PartitionRegistration {
        partition_epoch: proposal.partition_epoch.next(),
        ..registration(5, &[0])
    };
    let answer = AlterPartitionAnswer::Committed(committed);
    let moved = leader.on_alter_partition_answer(60 * LAG_MS, proposal.partition_epoch, &answer);
    assert_eq!(moved.map(|moved| moved.to), Some(Offset(11)));
}

#[test]
fn a_client_is_sent_to_the_near_follower_in_sync_that_has_most_of_the_log() {
    let (one, two) = (Some(NodeId(1)), Some(NodeId(2)));
    let near = [NodeId(1), NodeId(2), NodeId(3)];
    let mut leader = leader(1, &[0, 1, 2]);
    let closest = leader.closest_replica(&near, Offset(0));
    assert_eq!(closest, None, "nobody said what it has");
    subscribe(&mut leader, 1, 8);
    assert_eq!(leader.closest_replica(&near, Offset(8)), one);
    let closest = leader.closest_replica(&near, Offset(9));
    assert_eq!(closest, None, "it is not there yet");
    subscribe(&mut leader, 2, 9);
    assert_eq!(leader.closest_replica(&near, Offset(8)), two);
    assert_eq!(leader.closest_replica(&near[..1], Offset(8)), one);
    assert_eq!(leader.closest_replica(&[], Offset(8)), None);
    let mut leader = self::leader(1, &[0, 1]);
    subscribe(&mut leader, 1, 8);
    subscribe(&mut leader, 2, 10);
    let closest = leader.closest_replica(&near, Offset(8));
    assert_eq!(closest, one, "2 has more, and is not in sync");
}

#[test]
fn a_subscription_that_comes_late_does_not_end_the_newer_one() {
    let mut leader = leader(1, &[0, 1]);
    leader.on_subscribe(1, &subscription(1, 7, 10, 3), &history());
    let late = subscription(1, 6, 10, 3);
    let answer = leader.on_subscribe(2, &late, &history());
    assert_eq!(answer, SubscriptionAnswer::NotAReplica);
    assert_eq!(leader.on_unsubscribe(3, late.session()), None);
    assert_eq!(leader.followers()[0].session, Some(7));
    // Nor one that has ended meanwhile: its stream is gone, and that of the late one went before it.
    leader.on_unsubscribe(4, session(1, 7));
    let answer = leader.on_subscribe(5, &late, &history());
    assert_eq!(answer, SubscriptionAnswer::NotAReplica);
    // A process that was restarted counts from one.
    let restarted = Subscription {
        broker_epoch: BrokerEpoch(2),
        ..subscription(1, 1, 10, 3)
    };
    let answer = leader.on_subscribe(6, &restarted, &history());
    assert!(matches!(answer, SubscriptionAnswer::Accepted { .. }));
}

#[test]
fn those_that_the_high_watermark_waits_for_are_named_with_the_time() {
    let mut leader = leader(1, &[0, 1, 2]);
    subscribe(&mut leader, 1, 10);
    let waits = |leader: &Leader, now_ms| -> Vec<_> {
        let all = leader.stragglers(now_ms);
        all.map(|s| (s.node.0, s.behind_ms, s.log_end, s.subscribed))
            .collect()
    };
    assert_eq!(waits(&leader, 50), [(2, 50, None, false)]);
    subscribe(&mut leader, 2, 10);
    assert_eq!(waits(&leader, 60), []);
    leader.on_append(70, Offset(12));
    ack(&mut leader, 71, 1, 12);
    let behind = (2, 30, Some(Offset(10)), true);
    assert_eq!(waits(&leader, 100), [behind]);
}

#[test]
fn acks_of_other_epochs_and_sessions_change_nothing() {
    let mut leader = leader(1, &[0, 1]);
    subscribe(&mut leader, 1, 7);
    let before = leader.followers().to_vec();
    leader.on_follower_ack(2, session(1, 1), LeaderEpoch(4), position(10));
    leader.on_follower_ack(2, session(1, 2), LeaderEpoch(5), position(10));
    leader.on_follower_ack(2, session(1, 1), LeaderEpoch(5), position(11));
    leader.on_follower_ack(2, session(1, 1), LeaderEpoch(5), position(6));
    assert_eq!(leader.followers(), before);
}

#[test]
fn a_process_before_this_one_speaks_for_it_no_more() {
    let mut leader = leader(1, &[0, 1]);
    subscribe(&mut leader, 1, 10);
    let before = session(1, 1);
    // The same number again, of a process that came back with an empty disk.
    let again = Subscription {
        broker_epoch: BrokerEpoch(before.broker_epoch.0 + 1),
        last_fetched_epoch: None,
        ..subscription(1, 1, 0, 1)
    };
    leader.on_subscribe(2, &again, &history());
    let wiped = leader.followers().to_vec();
    leader.on_follower_ack(3, before, LeaderEpoch(5), position(10));
    leader.on_unsubscribe(3, before);
    assert_eq!(leader.followers(), wiped);
    leader.on_follower_ack(4, again.session(), LeaderEpoch(5), position(10));
    assert_ne!(leader.followers(), wiped);
}

#[test]
fn a_follower_that_comes_back_with_less_is_believed() {
    let mut leader = leader(1, &[0, 1]);
    subscribe(&mut leader, 1, 10);
    leader.on_append(2, Offset(20));
    ack(&mut leader, 3, 1, 20);
    let again = subscription(1, 2, 6, 1);
    leader.on_subscribe(4, &again, &epochs(&[(1, 0), (3, 6), (5, 10)], 20));
    assert_eq!(leader.followers()[0].log_end, Some(Offset(6)));
    assert_eq!(
        leader.high_watermark(),
        Offset(20),
        "the HW never moves back"
    );
}

#[test]
fn an_older_incarnation_of_a_follower_is_refused() {
    let mut leader = leader(1, &[0]);
    subscribe(&mut leader, 1, 10);
    let old = Subscription {
        broker_epoch: BrokerEpoch(0),
        ..subscription(1, 9, 10, 3)
    };
    let answer = leader.on_subscribe(2, &old, &history());
    assert_eq!(answer, SubscriptionAnswer::NotAReplica);
}

#[test]
fn a_produce_is_done_when_replicated_and_failed_when_the_isr_became_too_small() {
    let mut leader = leader(2, &[0, 1]);
    subscribe(&mut leader, 1, 10);
    leader.on_append(2, Offset(12));
    assert_eq!(leader.settle(Offset(12)), Settlement::Waiting);
    ack(&mut leader, 3, 1, 12);
    assert_eq!(leader.settle(Offset(12)), Settlement::Done);
    leader.on_registration(4, &registration(5, &[0]));
    assert_eq!(
        leader.settle(Offset(12)),
        Settlement::NotEnoughReplicasAfterAppend
    );
}

#[test]
fn with_fsync_the_leaders_own_end_counts_when_it_is_flushed() {
    let config = PartitionConfig {
        await_flush: true,
        ..PartitionConfig::default()
    };
    let registration = registration(5, &[0]);
    let mut leader = Leader::new(NodeId(0), config, &registration, position(10), Offset(4), 0);
    assert_eq!(leader.on_append(1, Offset(12)), None);
    let moved = leader.on_flushed(2, Offset(11));
    assert_eq!(moved.map(|moved| moved.to), Some(Offset(11)));
}

#[test]
fn with_fsync_a_subscription_says_nothing_of_what_is_durable() {
    let config = PartitionConfig {
        await_flush: true,
        ..PartitionConfig::default()
    };
    let registration = registration(5, &[0, 1]);
    let mut leader = Leader::new(NodeId(0), config, &registration, position(10), Offset(4), 0);
    assert_eq!(leader.on_flushed(1, Offset(10)), None);
    let subscription = subscription(1, 1, 10, 3);
    let SubscriptionAnswer::Accepted { outcome, .. } =
        leader.on_subscribe(2, &subscription, &history())
    else {
        panic!("the logs match");
    };
    assert_eq!(outcome, AckOutcome::default());
    assert_eq!(leader.high_watermark(), Offset(4));
    let epoch = leader.leader_epoch();
    let told = leader.on_follower_ack(3, subscription.session(), epoch, position(7));
    assert_eq!(told.moved.map(|moved| moved.to), Some(Offset(7)));
}

#[track_caller]
fn check_subscription(offset: i64, last_epoch: i32, expected: Option<(i32, i64)>) {
    let mut leader = leader(1, &[0]);
    let answer = leader.on_subscribe(1, &subscription(1, 1, offset, last_epoch), &history());
    match (answer, expected) {
        (SubscriptionAnswer::Accepted { .. }, None) => {}
        (SubscriptionAnswer::Diverging(diverging), Some((epoch, end))) => {
            let want = Diverging {
                epoch: LeaderEpoch(epoch),
                end_offset: Offset(end),
            };
            assert_eq!(diverging, want);
        }
        (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
    }
}

#[test]
fn a_diverging_follower_is_told_where_its_epoch_ended_here() {
    check_subscription(10, 3, None);
    check_subscription(6, 1, None);
    check_subscription(7, 1, Some((1, 6)));
    check_subscription(12, 3, Some((3, 10)));
    // Epoch 2 and 4 never were at this leader.
    check_subscription(6, 2, Some((1, 6)));
    check_subscription(10, 4, Some((3, 10)));
}

#[track_caller]
fn check_truncation(own: &[(i32, i64)], end: i64, told: (i32, i64), expected: i64) {
    let diverging = Diverging {
        epoch: LeaderEpoch(told.0),
        end_offset: Offset(told.1),
    };
    let to = epochs::truncation_offset(&epochs(own, end), Offset(end), diverging);
    assert_eq!(to, Offset(expected));
}

#[test]
fn a_follower_truncates_to_the_nearer_end_of_the_common_epoch() {
    check_truncation(&[(1, 0), (2, 5)], 9, (1, 7), 5);
    check_truncation(&[(1, 0), (2, 5)], 9, (1, 3), 3);
    check_truncation(&[(1, 0), (2, 5)], 9, (2, 7), 7);
    // The follower lacks the leader's epoch: its own older one ends the search of this round.
    check_truncation(&[(1, 0), (4, 5)], 9, (3, 8), 5);
    check_truncation(&[(1, 0), (4, 9)], 9, (3, 9), 9);
}

fn follower() -> Follower {
    Follower::new(&registration(5, &[0, 1]), position(10), Offset(4))
}

fn accepted(offset: i64, high_watermark: i64) -> SubscriptionAnswer {
    SubscriptionAnswer::Accepted {
        fetch_offset: Offset(offset),
        last_fetched_epoch: Some(LeaderEpoch(3)),
        high_watermark: Offset(high_watermark),
        log_start: Offset(0),
        outcome: AckOutcome::default(),
    }
}

#[test]
fn a_follower_appends_only_what_follows_on_a_matched_log() {
    let own = epochs(&[(1, 0), (3, 6)], 10);
    let mut follower = follower();
    let verdict = |f: &Follower, epoch, from, next| {
        f.on_batches(LeaderEpoch(epoch), Offset(from), Offset(next))
    };
    assert_eq!(
        verdict(&follower, 5, 10, 11),
        BatchVerdict::Ignore,
        "not matched yet"
    );
    let other = follower.on_answer(LeaderEpoch(5), 0, &accepted(9, 9), &own);
    assert_eq!(
        other,
        SubscribeVerdict::Resubscribe,
        "it matched another position"
    );
    follower.on_answer(LeaderEpoch(5), 0, &accepted(10, 20), &own);
    assert_eq!(
        follower.high_watermark(),
        Offset(10),
        "bounded by its own log"
    );
    assert_eq!(verdict(&follower, 5, 10, 11), BatchVerdict::Append);
    assert_eq!(verdict(&follower, 4, 10, 11), BatchVerdict::Ignore);
    assert_eq!(verdict(&follower, 5, 8, 10), BatchVerdict::Ignore);
    assert_eq!(verdict(&follower, 5, 9, 12), BatchVerdict::Resubscribe);
    assert_eq!(verdict(&follower, 5, 12, 13), BatchVerdict::Resubscribe);
    follower.on_append(Offset(15));
    assert_eq!(follower.high_watermark(), Offset(15));
}

#[test]
fn a_matched_follower_never_truncates() {
    let own = epochs(&[(1, 0), (3, 6)], 10);
    let mut follower = follower();
    follower.on_answer(LeaderEpoch(5), 0, &accepted(10, 10), &own);
    let late = SubscriptionAnswer::Diverging(Diverging {
        epoch: LeaderEpoch(1),
        end_offset: Offset(2),
    });
    let verdict = follower.on_answer(LeaderEpoch(5), 0, &late, &own);
    assert_eq!(verdict, SubscribeVerdict::Resubscribe);
}

#[test]
fn a_late_answer_to_an_earlier_subscription_changes_nothing() {
    let own = epochs(&[(1, 0), (3, 6)], 10);
    let mut follower = follower();
    follower.on_subscribing(0, 8);
    let late = SubscriptionAnswer::Diverging(Diverging {
        epoch: LeaderEpoch(1),
        end_offset: Offset(2),
    });
    let verdict = follower.on_answer(LeaderEpoch(5), 7, &late, &own);
    assert_eq!(verdict, SubscribeVerdict::Ignore);
    let now = follower.on_answer(LeaderEpoch(5), 8, &late, &own);
    assert_eq!(now, SubscribeVerdict::Truncate(Truncation::To(Offset(2))));
}

#[test]
fn a_subscription_without_an_answer_is_overdue_after_two_seconds_and_a_matched_one_never() {
    let own = epochs(&[(1, 0), (3, 6)], 10);
    let mut follower = follower();
    assert!(!follower.is_overdue(1_000_000), "none was sent yet");
    follower.on_subscribing(1_000, 8);
    assert!(!follower.is_overdue(2_999));
    assert!(follower.is_overdue(3_000));
    follower.on_subscribing(3_000, 9);
    assert!(!follower.is_overdue(3_001), "it was sent again");
    follower.on_answer(LeaderEpoch(5), 9, &accepted(10, 3), &own);
    assert!(follower.is_matched());
    assert!(!follower.is_overdue(1_000_000));
}

#[test]
fn a_follower_before_the_leaders_log_starts_over() {
    let own = epochs(&[(1, 0), (3, 6)], 10);
    let answer = SubscriptionAnswer::OutOfRange {
        log_start: Offset(50),
        log_end: Offset(60),
    };
    let verdict = follower().on_answer(LeaderEpoch(5), 0, &answer, &own);
    let start_over = Truncation::FullyAndStartAt(Offset(50));
    assert_eq!(verdict, SubscribeVerdict::Truncate(start_over));
}

#[test]
fn a_partition_takes_its_role_from_newer_registrations_only() {
    let mut partition = Partition::new(NodeId(1), PartitionConfig::default(), Offset(4));
    let followed = partition.apply(0, &registration(5, &[0, 1]), position(10));
    assert!(matches!(
        followed,
        RoleChange::BecameFollower {
            was_leader: false,
            ..
        }
    ));
    let led = PartitionRegistration {
        leader: Some(NodeId(1)),
        ..registration(6, &[1])
    };
    assert!(matches!(
        partition.apply(0, &led, position(10)),
        RoleChange::BecameLeader {
            epoch: LeaderEpoch(6),
            epoch_start: Offset(10),
            ..
        }
    ));
    assert_eq!(
        partition.high_watermark(),
        Offset(10),
        "it is the whole ISR"
    );
    let stale = partition.apply(0, &registration(5, &[0, 1]), position(10));
    assert_eq!(stale, RoleChange::Stale);
    let gone = PartitionRegistration {
        replicas: vec![NodeId(0)],
        ..registration(7, &[0])
    };
    assert_eq!(
        partition.apply(0, &gone, position(10)),
        RoleChange::WentOffline { was_leader: true }
    );
}

#[test]
fn a_record_that_the_controllers_answer_brought_earlier_keeps_the_next_proposal() {
    let mut partition = Partition::new(NodeId(0), PartitionConfig::default(), Offset(4));
    partition.apply(0, &registration(5, &[0, 1, 2]), position(10));
    let leader = partition.leader_mut().expect("it leads");
    leader.on_append(200_000, Offset(11));
    let shrink = leader.propose_shrink(200_000).expect("nobody follows");
    let committed = PartitionRegistration {
        partition_epoch: shrink.partition_epoch.next(),
        ..registration(5, &[0])
    };
    let answer = AlterPartitionAnswer::Committed(committed.clone());
    leader.on_alter_partition_answer(200_001, shrink.partition_epoch, &answer);
    let follower = subscription(1, 1, 11, 5);
    leader.on_subscribe(200_002, &follower, &epochs(&[(5, 10)], 11));
    leader
        .propose_expansion(200_003)
        .expect("node 1 is in sync");
    assert_eq!(
        partition.apply(200_004, &committed, position(11)),
        RoleChange::Stale
    );
    assert!(partition.leader().is_some_and(Leader::is_alter_pending));
    assert_eq!(partition.registration(), Some(&committed));
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// What `replicas +adding -removing isr` says.
fn shown(partition: &PartitionRegistration) -> String {
    let list = |nodes: &[NodeId]| -> String { nodes.iter().map(|node| node.to_string()).collect() };
    format!(
        "{} +{} -{} {}",
        list(&partition.replicas),
        list(&partition.adding_replicas),
        list(&partition.removing_replicas),
        list(&partition.isr)
    )
}

#[test]
fn a_reassignment_adds_first_and_removes_when_the_whole_target_is_in_sync() {
    let settled = registration(5, &[0, 1, 2]);
    let moving = settled.reassigned(&nodes(&[3, 1, 4]));
    assert_eq!(shown(&moving), "31402 +34 -02 012");
    assert_eq!(moving.replication_factor(), 3);
    for isr in [&[0, 1, 2][..], &[0, 1, 2, 3], &[0, 2, 3, 4]] {
        let waiting = PartitionRegistration {
            isr: nodes(isr),
            ..moving.clone()
        };
        assert_eq!(waiting.clone().completed(), waiting, "{isr:?}");
    }
    let done = PartitionRegistration {
        isr: nodes(&[0, 1, 4, 3]),
        ..moving
    };
    assert_eq!(shown(&done.completed()), "314 + - 143");
    // What needs no new copy is done at once, unless a replica that stays is out of sync.
    assert_eq!(shown(&settled.reassigned(&nodes(&[2, 0]))), "20 + - 02");
    assert_eq!(
        shown(&settled.reassigned(&nodes(&[2, 1, 0]))),
        "210 + - 012"
    );
    let behind = registration(5, &[0, 1]);
    assert_eq!(shown(&behind.reassigned(&nodes(&[2, 0]))), "201 + -1 01");
}

#[test]
fn a_reassignment_that_is_replaced_or_given_up_starts_from_the_original_replicas() {
    let moving = PartitionRegistration {
        isr: nodes(&[0, 1, 2, 3]),
        ..registration(5, &[0, 1, 2]).reassigned(&nodes(&[3, 4]))
    };
    assert_eq!(shown(&moving), "34012 +34 -012 0123");
    assert_eq!(shown(&moving.reverted()), "012 + - 012");
    // 4 stays on its way, 3 goes at once, 0 stays after all.
    let replaced = moving.reassigned(&nodes(&[0, 4]));
    assert_eq!(shown(&replaced), "0412 +4 -12 012");
    assert_eq!(shown(&moving.reassigned(&nodes(&[0, 1, 2]))), "012 + - 012");
    // Nobody of the originals is in sync: the caller has to refuse.
    let at_risk = PartitionRegistration {
        isr: nodes(&[3]),
        ..moving
    };
    assert_eq!(at_risk.reverted().isr, []);
    assert_eq!(at_risk.reassigned(&nodes(&[4, 0])).isr, []);
    assert_eq!(shown(&at_risk.reassigned(&nodes(&[3]))), "3 + - 3");
}

#[test]
fn a_partition_stays_writable_while_a_reassignment_gives_it_more_replicas() {
    let config = PartitionConfig {
        min_insync_replicas: 2,
        ..PartitionConfig::default()
    };
    let alone = PartitionRegistration {
        replicas: nodes(&[0]),
        ..registration(5, &[0])
    };
    let mut partition = Partition::new(NodeId(0), config, Offset(0));
    partition.apply(0, &alone, position(10));
    let grown = PartitionRegistration {
        partition_epoch: alone.partition_epoch.next(),
        ..alone.reassigned(&nodes(&[0, 1, 2]))
    };
    partition.apply(0, &grown, position(10));
    let leader = partition.leader_mut().expect("it leads");
    assert_eq!(leader.followers().len(), 2);
    assert_eq!(leader.check_produce(-1, None), Ok(()));
    let done = PartitionRegistration {
        isr: nodes(&[0, 1, 2]),
        partition_epoch: grown.partition_epoch.next(),
        ..grown
    };
    partition.apply(0, &done.completed(), position(10));
    let leader = partition.leader_mut().expect("it leads");
    assert_eq!(leader.effective_min_isr(), 2);
}

#[test]
fn what_lies_after_an_offset_is_told_exactly() {
    let log = |start, end| LogPosition {
        start: Offset(start),
        end: Offset(end),
    };
    // Records of 1.5 bytes each.
    assert!(log(0, 1000).has_after(Offset(0), 1500, 1499));
    assert!(!log(0, 1000).has_after(Offset(0), 1500, 1500));
    assert!(log(0, 1000).has_after(Offset(500), 1500, 749));
    assert!(!log(0, 1000).has_after(Offset(500), 1500, 750));
    // A compacted log has more offsets than bytes.
    assert!(log(0, 1 << 40).has_after(Offset(0), 1 << 30, (1 << 30) - 1));
    assert!(log(0, 1 << 40).has_after(Offset(1 << 39), 1 << 30, (1 << 29) - 1));
    assert!(!log(0, 1 << 40).has_after(Offset(1 << 39), 1 << 30, 1 << 29));
    for offset in [1000, 1001, i64::MAX] {
        assert!(!log(0, 1000).has_after(Offset(offset), 1500, 0), "{offset}");
    }
    assert!(log(7, 8).has_after(Offset(7), u64::MAX, u64::MAX - 1));
    assert!(log(i64::MIN, i64::MAX).has_after(Offset(i64::MIN), u64::MAX, u64::MAX - 1));
    assert!(!log(5, 5).has_after(Offset(5), 0, 0));
}
