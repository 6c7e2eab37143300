//! Does a group go on whose changes are larger than one batch of the log?

use types::ErrorCode;

use super::fixture::{Client, Fixture, client};
use crate::group::consumer::change::MAX_PART;
use crate::group::{GroupRecord, GroupState};

/// Partitions of which one record holds more than [`MAX_PART`].
const MANY: i32 = 100_000;

/// Writes what is held back; how many batches that were.
fn release_all(f: &mut Fixture) -> usize {
    let mut batches = 0;
    for _ in 0..1_000 {
        if !f.holds_something() {
            return batches;
        }
        f.release(Ok(()));
        batches += 1;
    }
    panic!("still writes after {batches} batches");
}

#[test]
fn members_that_are_gone_all_at_once_are_removed_in_batches_that_the_log_takes() {
    let mut f = Fixture::new(1);
    for at in 0..200 {
        f.joined(client(&format!("{at:0>1000}")));
    }
    f.hold = true;
    f.advance(45_000);
    let mut batches = 0;
    while f.holds_something() {
        assert!(f.held_bytes() <= MAX_PART, "{} bytes", f.held_bytes());
        batches += 1;
        if batches == 2 {
            let left = f.describe().unwrap().members.len();
            assert!(left > 0 && left < 200, "the first batch counts: {left}");
            f.release(Err(ErrorCode::CoordinatorNotAvailable));
            assert!(!f.holds_something(), "not at once");
            f.advance(500);
        } else {
            f.release(Ok(()));
        }
    }
    assert!(batches > 2, "{batches}");
    assert_eq!(f.describe().unwrap().members.len(), 0);
    let state = f.state_of_group();
    f.reload();
    assert_eq!(f.state_of_group(), state);
}

#[test]
fn who_shall_have_more_than_a_batch_holds_gets_it() {
    let mut f = Fixture::new(MANY);
    f.hold = true;
    let token = f.send(client("a").full());
    let epoch = f.epoch();
    f.release(Ok(()));
    assert!(f.epoch() > epoch, "what is in the log is the group");
    assert_eq!(f.answer(token), None, "but nobody hears of half of it");
    assert!(release_all(&mut f) > 1);
    let answer = f.answer(token).unwrap().unwrap();
    assert_eq!(answer.assignment.unwrap().len(), MANY as usize);
}

#[test]
fn a_static_member_comes_back_in_one_batch_whatever_it_has() {
    let mut f = Fixture::new(MANY);
    let mut a = f.joined(client("a").instance("1"));
    a.epoch = -2;
    f.ask(a.short()).unwrap();
    f.hold = true;
    let token = f.send(client("a2").instance("1").full());
    f.release(Ok(()));
    let state = f.state_of_group().unwrap();
    assert_eq!(state.member("a"), None);
    let back = state.member("a2").expect("is there in its place");
    assert_eq!(back.current.assigned.len(), MANY as usize);
    release_all(&mut f);
    let answer = f.answer(token).unwrap().unwrap();
    assert_eq!(answer.assignment.unwrap().len(), MANY as usize);
}

/// Heartbeats of all, each as it takes an answer or a refusal.
fn beat(f: &mut Fixture, clients: &mut [Client]) {
    for client in clients {
        match f.ask(client.full()) {
            Ok(answer) => client.hear(&answer),
            Err(_) => client.fenced(),
        }
    }
}

#[test]
fn whatever_record_of_a_change_is_the_last_in_the_log_the_group_finds_its_way() {
    let mut f = Fixture::new(4);
    f.topic("u", 1);
    let a = f.joined(client("a").regex("t|v"));
    let before = f.log.len();
    let mut b = f.joined(client("b").instance("1").regex("t|u"));
    b.epoch = -2;
    f.ask(b.short()).unwrap();
    let mut b = f.joined(client("b2").instance("1"));
    b.epoch = -1;
    f.ask(b.short()).unwrap();
    let log: Vec<GroupRecord> = f.log.clone();
    for end in before..log.len() {
        f.reload_from(&log[..end]);
        let mut clients = [a.clone(), client("c")];
        // Whoever else the log knows of is silent from now on.
        for _ in 0..10 {
            f.advance(5_000);
            beat(&mut f, &mut clients);
        }
        let owned: usize = clients.iter().map(|client| client.owned.len()).sum();
        assert_eq!(owned, 4, "after {end} records");
        assert_eq!(f.state(), GroupState::Stable, "after {end} records");
    }
}

#[test]
fn a_record_that_the_log_does_not_take_is_the_servers_error() {
    let mut f = Fixture::new(1);
    f.hold = true;
    let token = f.send(client("a").full());
    f.release(Err(ErrorCode::InvalidCommitOffsetSize));
    let rejection = f.answer(token).unwrap().unwrap_err();
    assert_eq!(rejection.error, ErrorCode::UnknownServerError);
}
