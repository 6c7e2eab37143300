//! Are retries recognised, on leaders, followers and after restarts, and do transactions hold readers back?

use bytes::Bytes;
use types::builder::end_transaction_batch;
use types::{
    EndTransactionMarker, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId,
    TransactionResult, batch,
};

use super::fixture::{Batch, TestLog, append, close, fill, open, small};
use crate::faulty::FaultyVfs;
use crate::{LogConfig, ProducerCheck};

fn check(log: &TestLog, batch: Batch) -> Result<ProducerCheck, ErrorCode> {
    log.check_producer(&batch.header())
}

/// Appends batch `n` of producer 1: two records each.
fn produce(log: &mut TestLog, n: i64) {
    let batch = Batch::at(log.log_end_offset().0)
        .records(2)
        .producer(1, 0, n as i32 * 2);
    assert_eq!(check(log, batch), Ok(ProducerCheck::Append), "batch {n}");
    append(log, batch);
}

fn retry(log: &TestLog, n: i64) -> Result<ProducerCheck, ErrorCode> {
    check(log, Batch::at(0).records(2).producer(1, 0, n as i32 * 2))
}

fn duplicate(n: i64) -> Result<ProducerCheck, ErrorCode> {
    Ok(ProducerCheck::Duplicate {
        base_offset: Offset(n * 2),
        last_offset: Offset(n * 2 + 1),
        timestamp: 1001 + n * 2,
    })
}

fn check_window(log: &TestLog, produced: i64) {
    for n in 0..produced - 5 {
        assert_eq!(
            retry(log, n),
            Err(ErrorCode::OutOfOrderSequenceNumber),
            "batch {n}"
        );
    }
    for n in (produced - 5).max(0)..produced {
        assert_eq!(retry(log, n), duplicate(n), "batch {n}");
    }
    assert_eq!(retry(log, produced), Ok(ProducerCheck::Append));
    assert_eq!(
        retry(log, produced + 1),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
}

#[test]
fn the_last_five_batches_are_recognised_even_after_a_restart() {
    let vfs = FaultyVfs::new(1);
    for clean in [true, false] {
        let (mut log, _) = open(&vfs, small());
        if clean {
            for n in 0..23 {
                produce(&mut log, n);
                check_window(&log, n + 1);
            }
            close(&vfs, log);
        }
        let (log, _) = open(&vfs, small());
        check_window(&log, 23);
    }
}

#[test]
fn sequence_numbers_wrap() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    append(
        &mut log,
        Batch::at(0).records(2).producer(1, 0, i32::MAX - 2),
    );
    let across = Batch::at(2).records(3).producer(1, 0, i32::MAX);
    assert_eq!(check(&log, across), Ok(ProducerCheck::Append));
    append(&mut log, across);
    assert!(matches!(
        check(&log, across),
        Ok(ProducerCheck::Duplicate {
            base_offset: Offset(2),
            ..
        })
    ));
    assert_eq!(
        check(&log, Batch::at(5).producer(1, 0, 2)),
        Ok(ProducerCheck::Append)
    );
    assert_eq!(
        check(&log, Batch::at(5).producer(1, 0, 1)),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
}

#[test]
fn an_epoch_fences_the_older_and_begins_at_zero() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    append(&mut log, Batch::at(0).producer(1, 3, 0));
    assert_eq!(
        check(&log, Batch::at(1).producer(1, 2, 1)),
        Err(ErrorCode::InvalidProducerEpoch)
    );
    assert_eq!(
        check(&log, Batch::at(1).producer(1, 4, 1)),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(
        check(&log, Batch::at(1).producer(1, 4, 0)),
        Ok(ProducerCheck::Append)
    );
    append(&mut log, Batch::at(1).producer(1, 4, 0));
    assert_eq!(
        check(&log, Batch::at(2).producer(1, 3, 1)),
        Err(ErrorCode::InvalidProducerEpoch)
    );
    // Of an unknown producer any sequence number is taken (KIP-360).
    assert_eq!(
        check(&log, Batch::at(2).producer(2, 0, 77)),
        Ok(ProducerCheck::Append)
    );
    assert_eq!(check(&log, Batch::at(2)), Ok(ProducerCheck::Append));
}

#[test]
fn a_truncated_batch_is_no_duplicate() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    for n in 0..20 {
        produce(&mut log, n);
    }
    log.truncate_to(Offset(20)).unwrap();
    check_window(&log, 10);
}

#[test]
fn silent_producers_expire_but_not_within_a_transaction() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(
        &vfs,
        LogConfig {
            producer_id_expiration_ms: 100,
            ..small()
        },
    );
    append(&mut log, Batch::at(0).producer(1, 0, 0));
    append(&mut log, Batch::at(1).producer(2, 0, 0).transactional());
    log.expire_producers(2099);
    assert_eq!(log.producers().count(), 2);
    log.expire_producers(2100);
    assert_eq!(
        log.producers().map(|(id, _)| id).collect::<Vec<_>>(),
        [ProducerId(2)]
    );
}

fn marker(log: &TestLog, producer: i64, result: TransactionResult) -> Bytes {
    let marker = EndTransactionMarker {
        result,
        coordinator_epoch: 4,
    };
    let producer = (ProducerId(producer), ProducerEpoch(0));
    let mut bytes = end_transaction_batch(producer, marker, 1500)
        .unwrap()
        .to_vec();
    batch::set_base_offset(&mut bytes, log.log_end_offset());
    batch::set_leader_epoch(&mut bytes, LeaderEpoch(0));
    Bytes::from(bytes)
}

fn end(log: &mut TestLog, producer: i64, result: TransactionResult) {
    let bytes = marker(log, producer, result);
    log.append(&bytes, 2000).unwrap();
}

fn aborted(log: &TestLog, from: i64, upper: i64) -> Vec<(i64, i64)> {
    let found = log
        .aborted_transactions(Offset(from), Offset(upper))
        .unwrap();
    found
        .iter()
        .map(|txn| (txn.producer_id.0, txn.first_offset.0))
        .collect()
}

#[test]
fn open_transactions_hold_the_last_stable_offset_back() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, LogConfig::default());
    append(&mut log, Batch::at(0));
    assert_eq!(log.first_unstable_offset(), None);
    append(&mut log, Batch::at(1).producer(1, 0, 0).transactional());
    append(&mut log, Batch::at(2).producer(2, 0, 0).transactional());
    append(&mut log, Batch::at(3).producer(1, 0, 1).transactional());
    assert_eq!(log.first_unstable_offset(), Some(Offset(1)));
    end(&mut log, 1, TransactionResult::Commit);
    // The marker at 4 counts once it is replicated.
    log.advance_high_watermark(Offset(4));
    assert_eq!(log.first_unstable_offset(), Some(Offset(1)));
    log.advance_high_watermark(Offset(5));
    assert_eq!(log.first_unstable_offset(), Some(Offset(2)));
    end(&mut log, 2, TransactionResult::Abort);
    log.advance_high_watermark(Offset(6));
    assert_eq!(log.first_unstable_offset(), None);
    assert_eq!(log.producer(ProducerId(2)).unwrap().coordinator_epoch, 4);
}

#[test]
fn aborted_transactions_are_found_through_all_segments_and_restarts() {
    let vfs = FaultyVfs::new(1);
    let (mut log, _) = open(&vfs, small());
    let mut want = Vec::new();
    for n in 0..12_i64 {
        let first = log.log_end_offset().0;
        append(
            &mut log,
            Batch::at(first)
                .producer(n % 3, 0, (n / 3) as i32)
                .transactional(),
        );
        fill(&mut log, first + 4);
        let result = if n % 2 == 0 {
            TransactionResult::Abort
        } else {
            TransactionResult::Commit
        };
        end(&mut log, n % 3, result);
        if result == TransactionResult::Abort {
            want.push((n % 3, first));
        }
    }
    let open_txn = log.log_end_offset().0;
    append(
        &mut log,
        Batch::at(open_txn).producer(7, 0, 0).transactional(),
    );
    let check = |log: &TestLog| {
        let leo = log.log_end_offset().0;
        assert_eq!(aborted(log, 0, leo), want);
        assert_eq!(aborted(log, want[2].1, want[3].1 + 1), want[2..4], "a part");
        assert_eq!(
            aborted(log, want[2].1 + 1, want[3].1),
            want[2..3],
            "within one"
        );
        assert_eq!(log.first_unstable_offset(), Some(Offset(open_txn)));
    };
    log.advance_high_watermark(log.log_end_offset());
    check(&log);
    drop(log);
    let (mut log, _) = open(&vfs, small());
    log.advance_high_watermark(log.log_end_offset());
    check(&log);
    close(&vfs, log);
    let (mut log, _) = open(&vfs, small());
    log.advance_high_watermark(log.log_end_offset());
    check(&log);
    log.truncate_to(Offset(want[4].1 + 1)).unwrap();
    assert_eq!(aborted(&log, 0, log.log_end_offset().0), want[..4]);
    assert_eq!(log.first_unstable_offset(), Some(Offset(want[4].1)));
}
