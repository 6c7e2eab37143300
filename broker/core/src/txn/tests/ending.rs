//! How do transactions end, by the version of the request?

use types::ErrorCode;

use super::fixture::{ABORT, COMMIT, One, V1, V2, add, producer};
use crate::txn::TransactionState;

#[test]
fn a_version_1_producer_keeps_its_epoch_over_transactions() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    assert_eq!(me, producer(100, 0));
    for result in [COMMIT, ABORT, COMMIT] {
        one.add(me, V1).unwrap();
        assert_eq!(one.end(me, result, V1), Ok(me));
        let completions = one.complete();
        assert_eq!(completions.len(), 1);
        assert_eq!(completions[0].producer, me, "markers have the same epoch");
        assert_eq!(completions[0].result, result);
        assert_eq!(completions[0].partitions.len(), 2);
    }
    assert_eq!(one.state(), TransactionState::CompleteCommit);
}

#[test]
fn a_version_2_producer_moves_to_its_next_epoch_at_every_end() {
    let mut one = One::new();
    let mut me = one.init(None).unwrap();
    for epoch in 0..3 {
        assert_eq!(me, producer(100, epoch));
        one.add(me, V2).unwrap();
        me = one.end(me, COMMIT, V2).unwrap();
        let completions = one.complete();
        assert_eq!(completions[0].producer, producer(100, epoch + 1));
    }
}

#[test]
fn the_version_of_the_request_decides_not_that_of_the_last_one() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V2).unwrap();
    assert_eq!(
        one.end(me, COMMIT, V1),
        Ok(me),
        "no new epoch for a client that could not learn of it"
    );
    one.complete();
    one.add(me, V1).unwrap();
    assert_eq!(one.end(me, COMMIT, V2), Ok(producer(100, 1)));
}

#[test]
fn a_repeated_end_gets_the_same_answer() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V2).unwrap();
    let next = one.end(me, COMMIT, V2).unwrap();
    assert_eq!(
        one.end(me, COMMIT, V2),
        Err(ErrorCode::ConcurrentTransactions),
        "markers are not written yet"
    );
    assert_eq!(one.end(me, ABORT, V2), Err(ErrorCode::InvalidTxnState));
    one.complete();
    assert_eq!(one.end(me, COMMIT, V2), Ok(next));
    assert_eq!(
        one.end(me, ABORT, V2),
        Err(ErrorCode::InvalidTxnState),
        "it was committed"
    );

    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V1).unwrap();
    one.end(me, ABORT, V1).unwrap();
    one.complete();
    assert_eq!(one.end(me, ABORT, V1), Ok(me));
    assert_eq!(
        one.end(me, COMMIT, V1),
        Err(ErrorCode::InvalidTxnState),
        "it was aborted"
    );
}

#[test]
fn only_version_2_may_abort_what_has_no_partitions() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    assert_eq!(one.end(me, ABORT, V1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(one.end(me, COMMIT, V2), Err(ErrorCode::InvalidTxnState));
    let me = one.end(me, ABORT, V2).unwrap();
    assert_eq!(me, producer(100, 1));
    assert_eq!(one.complete()[0].partitions, []);
    let me = one.end(me, ABORT, V2).unwrap();
    assert_eq!(me, producer(100, 2));
}

#[test]
fn what_is_aborted_without_partitions_began_with_its_abort() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V2).unwrap();
    let me = one.end(me, COMMIT, V2).unwrap();
    one.complete();
    let started = |one: &One| one.coordinator.describe("x").unwrap().start_ms;
    assert_eq!(started(&one), Some(1_001_000));
    one.now_ms += 500;
    one.end(me, ABORT, V2).unwrap();
    assert_eq!(started(&one), Some(1_001_500));
}

#[test]
fn an_exhausted_epoch_gives_way_to_a_new_id_when_the_transaction_is_complete() {
    let mut one = One::at_epoch(i16::MAX - 1);
    let me = producer(100, i16::MAX - 1);
    one.add(me, V2).unwrap();
    assert_eq!(one.end(me, COMMIT, V2), Ok(producer(101, 0)));
    // The client goes on at once.
    let next = producer(101, 0);
    let wait = ErrorCode::ConcurrentTransactions;
    assert_eq!(one.add(next, V2), Err(wait));
    assert_eq!(one.end(next, COMMIT, V2), Err(wait));
    assert_eq!(one.init(Some(next)), Err(wait));
    let markers = one.complete();
    assert_eq!(
        markers[0].producer,
        producer(100, i16::MAX),
        "above what its records have"
    );
    assert_eq!(one.end(me, COMMIT, V2), Ok(producer(101, 0)), "a retry");
    one.add(producer(101, 0), V2).unwrap();
}

#[test]
fn an_older_instance_is_no_retry_of_a_client_of_version_1() {
    let mut one = One::new();
    let old = one.init(None).unwrap();
    let new = one.init(None).unwrap();
    one.add(new, V1).unwrap();
    one.end(new, ABORT, V1).unwrap();
    one.complete();
    for result in [ABORT, COMMIT] {
        assert_eq!(one.end(old, result, V2), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn nothing_is_added_while_the_last_transaction_is_being_completed() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V1).unwrap();
    one.end(me, COMMIT, V1).unwrap();
    assert_eq!(one.add(me, V1), Err(ErrorCode::ConcurrentTransactions));
    one.complete();
    one.add(me, V1).unwrap();
}

#[test]
fn a_partition_that_was_not_added_is_not_verified() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    let verify = |one: &One| one.coordinator.verify_partitions(&add("x", me, V1));
    let codes =
        |one: &One| verify(one).map(|all| all.iter().map(|(_, code)| *code).collect::<Vec<_>>());
    assert_eq!(codes(&one), Ok(vec![ErrorCode::TransactionAbortable; 2]));
    one.add(me, V1).unwrap();
    assert_eq!(codes(&one), Ok(vec![ErrorCode::None; 2]));
    one.end(me, COMMIT, V1).unwrap();
    assert_eq!(verify(&one), Err(ErrorCode::ConcurrentTransactions));
    one.complete();
    assert_eq!(codes(&one), Ok(vec![ErrorCode::TransactionAbortable; 2]));
}

#[test]
fn the_next_coordinator_completes_what_was_decided() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V2).unwrap();
    let (_, completions) = one.reloaded();
    assert_eq!(completions, [], "still open");
    one.end(me, COMMIT, V2).unwrap();
    let (mut other, completions) = one.reloaded();
    assert_eq!(completions, one.completions);
    other.markers_written(one.now(), &completions[0]).unwrap();
}

#[test]
fn one_change_at_a_time_and_a_failed_one_leaves_no_trace() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    let step = one.coordinator.add_partitions(one.now(), &add("x", me, V1));
    let Ok(crate::txn::Step::Write(write)) = step else {
        panic!("{step:?}")
    };
    assert_eq!(one.add(me, V1), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(
        one.end(me, COMMIT, V1),
        Err(ErrorCode::ConcurrentTransactions)
    );
    let failed = Err(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(one.coordinator.appended(one.now(), &write, failed), None);
    assert_eq!(one.state(), TransactionState::Empty);
    one.add(me, V1).unwrap();
}
