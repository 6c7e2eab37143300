//! Who is kept from going on: older instances, transactions that are open for too long, ids that nobody uses?

use types::ErrorCode;

use super::fixture::{ABORT, COMMIT, One, TIMEOUT_MS, V1, V2, add, producer};
use crate::txn::TransactionState;
use crate::txn::request::InitProducerId;

#[test]
fn a_new_instance_fences_the_old_one() {
    let mut one = One::new();
    let old = one.init(None).unwrap();
    let new = one.init(None).unwrap();
    assert_eq!((old, new), (producer(100, 0), producer(100, 1)));
    assert_eq!(one.add(old, V1), Err(ErrorCode::ProducerFenced));
    assert_eq!(one.end(old, COMMIT, V1), Err(ErrorCode::ProducerFenced));
    assert_eq!(one.end(old, COMMIT, V2), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        one.add(producer(99, 1), V1),
        Err(ErrorCode::InvalidProducerIdMapping)
    );
    one.add(new, V1).unwrap();
}

#[test]
fn a_new_instance_aborts_the_transaction_of_the_old_one_first() {
    for (version, fence) in [(V1, 1), (V2, 2)] {
        let mut one = One::new();
        let old = one.init(None).unwrap();
        one.add(old, version).unwrap();
        assert_eq!(one.init(None), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(one.state(), TransactionState::PrepareAbort);
        assert_eq!(
            one.end(old, COMMIT, version),
            Err(ErrorCode::ProducerFenced)
        );
        let markers = one.complete();
        assert_eq!(markers[0].result, ABORT);
        assert_eq!(markers[0].producer, producer(100, fence));
        assert_eq!(one.init(None), Ok(producer(100, fence + 1)));
        assert_eq!(one.end(old, ABORT, version), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    for version in [V1, V2] {
        let mut one = One::new();
        let me = one.init(None).unwrap();
        one.add(me, version).unwrap();
        one.now_ms += i64::from(TIMEOUT_MS) - 1;
        assert_eq!(one.coordinator.abort_timed_out(one.now()), []);
        // Adding more does not give it more time.
        one.add(me, version).unwrap();
        one.now_ms += 1;
        let writes = one.coordinator.abort_timed_out(one.now());
        assert_eq!(one.coordinator.abort_timed_out(one.now()), [], "once");
        for write in &writes {
            one.append(write).unwrap();
        }
        assert_eq!(one.complete().len(), 1);
        assert_eq!(one.state(), TransactionState::CompleteAbort);
        assert_eq!(one.end(me, COMMIT, version), Err(ErrorCode::ProducerFenced));
        assert_eq!(one.add(me, version), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn a_timeout_goes_on_over_a_change_of_the_coordinator() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V1).unwrap();
    one.now_ms += i64::from(TIMEOUT_MS) - 10;
    let (mut other, _) = one.reloaded();
    assert_eq!(other.abort_timed_out(one.now()), []);
    one.now_ms += 10;
    assert_eq!(other.abort_timed_out(one.now()).len(), 1);
}

#[test]
fn a_producer_that_goes_on_after_an_error_keeps_others_from_nothing_but_its_past() {
    let mut one = One::new();
    let me = one.init(None).unwrap();
    let next = one.init(Some(me)).unwrap();
    assert_eq!(next, producer(100, 1));
    assert_eq!(one.init(Some(me)), Ok(next), "a retry gets the same");
    let other = one.init(None).unwrap();
    assert_eq!(other, producer(100, 2));
    assert_eq!(
        one.init(Some(next)),
        Err(ErrorCode::ProducerFenced),
        "somebody came after it"
    );
    assert_eq!(
        one.init(Some(producer(5, 0))),
        Err(ErrorCode::ProducerFenced)
    );
}

#[test]
fn an_exhausted_epoch_gives_way_to_a_new_id() {
    let mut one = One::at_epoch(i16::MAX - 1);
    let me = producer(100, i16::MAX - 1);
    assert_eq!(one.init(Some(me)), Ok(producer(101, 0)));
    assert_eq!(
        one.init(Some(me)),
        Ok(producer(101, 0)),
        "the answer was lost"
    );
    assert_eq!(
        One::at_epoch(i16::MAX).init(None),
        Ok(producer(101, 0)),
        "left by fencing"
    );
}

#[test]
fn unused_ids_are_forgotten_but_no_open_transaction() {
    let week_ms = 604_800_000;
    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.now_ms += week_ms - 1;
    assert_eq!(one.coordinator.expire(one.now()), []);
    one.now_ms += 1;
    let writes = one.coordinator.expire(one.now());
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].record.value, None);
    one.coordinator.appended(one.now(), &writes[0], Ok(()));
    assert_eq!(one.coordinator.describe("x"), None);
    assert_eq!(one.add(me, V1), Err(ErrorCode::InvalidProducerIdMapping));

    let mut one = One::new();
    let me = one.init(None).unwrap();
    one.add(me, V1).unwrap();
    one.now_ms += 2 * week_ms;
    assert_eq!(one.coordinator.expire(one.now()), []);
}

#[test]
fn impossible_requests_are_refused() {
    let mut one = One::new();
    let init = |id: &str, timeout_ms| InitProducerId {
        transactional_id: id.to_owned(),
        timeout_ms,
        expected: None,
    };
    let now = one.now();
    let long = "x".repeat(32_768);
    for (request, error) in [
        (init("", 1), ErrorCode::InvalidRequest),
        (init(&long, 1), ErrorCode::InvalidRequest),
        (init("x", 0), ErrorCode::InvalidTransactionTimeout),
        (init("x", 900_001), ErrorCode::InvalidTransactionTimeout),
    ] {
        assert_eq!(
            one.coordinator.init_producer_id(now, &request, None),
            Err(error)
        );
    }
    let unknown = one
        .coordinator
        .add_partitions(now, &add("y", producer(1, 0), V1));
    assert_eq!(unknown, Err(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn a_failed_first_record_leaves_no_id_behind() {
    let mut one = One::new();
    let request = InitProducerId {
        transactional_id: "x".to_owned(),
        timeout_ms: 1_000,
        expected: None,
    };
    let step = one
        .coordinator
        .init_producer_id(one.now(), &request, Some(types::ProducerId(3)));
    let Ok(crate::txn::Step::Write(write)) = step else {
        panic!("{step:?}")
    };
    assert_eq!(
        one.coordinator.describe("x"),
        None,
        "not before it is committed"
    );
    let failed = Err(ErrorCode::NotCoordinator);
    assert_eq!(one.coordinator.appended(one.now(), &write, failed), None);
    assert_eq!(one.coordinator.list(one.now()).count(), 0);
    assert_eq!(one.init(None), Ok(producer(100, 0)));
}
