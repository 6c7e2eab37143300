//! Who gets in, with which epoch and which partitions?

use types::ErrorCode;

use super::fixture::{Fixture, client, of_t};
use crate::group::consumer::request::{ConsumerConfig, ConsumerHeartbeat};
use crate::group::{GroupConfig, GroupState};

#[test]
fn the_first_member_gets_everything_in_epoch_1() {
    let mut f = Fixture::new(3);
    let answer = f.ask(client("a").full()).unwrap();
    assert_eq!((answer.member_id.as_str(), answer.member_epoch), ("a", 1));
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    assert_eq!(answer.assignment, Some(of_t(&[0, 1, 2])));
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing_and_repeats_no_assignment() {
    let mut f = Fixture::new(3);
    let a = f.joined(client("a"));
    let written = f.log.len();
    let answer = f.ask(a.short()).unwrap();
    assert_eq!((answer.member_epoch, answer.assignment), (1, None));
    assert_eq!(f.log.len(), written);
    assert_eq!(
        f.ask(a.full()).unwrap().assignment,
        Some(of_t(&[0, 1, 2])),
        "a full one does"
    );
}

#[test]
fn nobody_is_answered_before_the_records_are_in_the_log() {
    let mut f = Fixture::new(3);
    f.hold = true;
    let first = f.send(client("a").full());
    let second = f.send(client("b").full());
    assert_eq!(f.answer(first), None);
    assert_eq!(f.state(), GroupState::Empty, "not in the log yet");
    f.release(Ok(()));
    assert_eq!(f.answer(first).unwrap().unwrap().member_epoch, 1);
    assert_eq!(
        f.answer(second),
        None,
        "its records are written after those of the first"
    );
    f.release(Ok(()));
    assert_eq!(f.answer(second).unwrap().unwrap().member_epoch, 2);
}

#[test]
fn a_join_whose_records_are_lost_never_was() {
    let mut f = Fixture::new(3);
    f.hold = true;
    let token = f.send(client("a").full());
    f.release(Err(ErrorCode::CoordinatorNotAvailable));
    let rejection = f.answer(token).unwrap().unwrap_err();
    assert_eq!(rejection.error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(f.describe(), None);
    assert_eq!(f.coordinator.list().count(), 0);
}

#[test]
fn whoever_waits_for_the_log_is_sent_away_when_leadership_is_lost() {
    let mut f = Fixture::new(3);
    f.hold = true;
    let tokens = [f.send(client("a").full()), f.send(client("b").full())];
    let outcome = f.coordinator.unload(f.now);
    assert!(outcome.appends.is_empty());
    f.take(outcome);
    for token in tokens {
        let rejection = f.answer(token).unwrap().unwrap_err();
        assert_eq!(rejection.error, ErrorCode::NotCoordinator);
    }
}

#[test]
fn a_join_without_an_id_gets_one_in_version_0_and_is_refused_later() {
    let mut f = Fixture::new(1);
    let named = ConsumerHeartbeat {
        fresh_id: Some("fresh".to_owned()),
        ..client("").full()
    };
    assert_eq!(f.ask(named).unwrap().member_id, "fresh");
    assert_eq!(f.error(client("").full()), ErrorCode::InvalidRequest);
}

#[test]
fn a_join_has_to_say_everything_and_own_nothing() {
    let mut f = Fixture::new(1);
    let join = client("a").full();
    let wrong = [
        ConsumerHeartbeat {
            rebalance_timeout_ms: None,
            ..join.clone()
        },
        ConsumerHeartbeat {
            topic_names: None,
            ..join.clone()
        },
        ConsumerHeartbeat {
            owned: None,
            ..join.clone()
        },
        ConsumerHeartbeat {
            owned: Some(of_t(&[0])),
            ..join.clone()
        },
        ConsumerHeartbeat {
            member_epoch: -3,
            ..join.clone()
        },
        ConsumerHeartbeat {
            member_epoch: -2,
            ..join.clone()
        },
        ConsumerHeartbeat {
            instance_id: Some(String::new()),
            ..join.clone()
        },
        ConsumerHeartbeat {
            rack_id: Some(String::new()),
            ..join.clone()
        },
    ];
    for request in wrong {
        assert_eq!(
            f.error(request.clone()),
            ErrorCode::InvalidRequest,
            "{request:?}"
        );
    }
    let nameless = ConsumerHeartbeat {
        group_id: String::new(),
        ..join.clone()
    };
    assert_eq!(f.error(nameless), ErrorCode::InvalidGroupId);
    assert_eq!(f.error(join), ErrorCode::None);
}

#[test]
fn an_assignor_that_the_broker_does_not_offer_is_refused() {
    let mut f = Fixture::new(1);
    assert_eq!(
        f.error(client("a").assignor("mine").full()),
        ErrorCode::UnsupportedAssignor
    );
    assert_eq!(
        f.error(client("a").assignor("range").full()),
        ErrorCode::None
    );
}

#[test]
fn a_full_group_takes_no_more_members() {
    let consumer = ConsumerConfig {
        max_size: 1,
        ..ConsumerConfig::default()
    };
    let mut f = Fixture::with(GroupConfig {
        consumer,
        ..GroupConfig::default()
    });
    f.topic("t", 2);
    let a = f.joined(client("a"));
    assert_eq!(f.error(client("b").full()), ErrorCode::GroupMaxSizeReached);
    assert_eq!(f.error(a.full()), ErrorCode::None, "who is in stays in");
}

#[test]
fn most_members_choose_the_assignor() {
    let mut f = Fixture::new(6);
    f.topic("u", 6);
    let topics = ["t", "u"];
    let mut a = f.joined(client("a").topics(&topics).assignor("range"));
    let mut b = f.joined(client("b").topics(&topics).assignor("range"));
    let mut c = f.joined(client("c").topics(&topics).assignor("uniform"));
    f.converge(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(f.describe().unwrap().assignor.name(), "range");
    let t = super::fixture::topic_id("t");
    let mine = a.owned.topics().find(|(id, _)| *id == t).unwrap().1;
    assert_eq!(mine.iter().copied().collect::<Vec<_>>(), [0, 1]);
}
