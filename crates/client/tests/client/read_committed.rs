//! Which records of transactions does an application see?

use bytes::{Bytes, BytesMut};
use client::FetchedBatches;
use types::builder::end_transaction_batch;
use types::{
    BatchBuilder, EndTransactionMarker, Offset, ProducerEpoch, ProducerId, TopicPartition,
    TransactionResult, batch,
};

/// A log of batches: `(producer, values)` of a transaction, `(0, values)` outside of any.
struct Log {
    bytes: BytesMut,
    next: i64,
}

impl Log {
    fn new(first: i64) -> Self {
        Self {
            bytes: BytesMut::new(),
            next: first,
        }
    }

    fn push(&mut self, bytes: &Bytes, count: i64) {
        let mut patched = bytes.to_vec();
        batch::set_base_offset(&mut patched, Offset(self.next));
        self.bytes.extend_from_slice(&patched);
        self.next += count;
    }

    fn records(&mut self, producer: i64, values: &[&str]) -> i64 {
        let mut builder = BatchBuilder::new();
        if producer > 0 {
            builder = builder
                .producer(ProducerId(producer), ProducerEpoch(0), 0)
                .transactional();
        }
        for value in values {
            builder.push(1, None, Some(value.as_bytes()));
        }
        let first = self.next;
        self.push(
            &builder.build().unwrap(),
            i64::try_from(values.len()).unwrap(),
        );
        first
    }

    fn end(&mut self, producer: i64, result: TransactionResult) {
        let marker = end_transaction_batch(
            (ProducerId(producer), ProducerEpoch(0)),
            EndTransactionMarker {
                result,
                coordinator_epoch: 0,
            },
            1,
        )
        .unwrap();
        self.push(&marker, 1);
    }

    /// The values seen from `from` on, given the broker's list of aborted transactions.
    fn seen(&self, from: i64, aborted: &[(i64, i64)], read_committed: bool) -> String {
        let fetched = FetchedBatches {
            partition: TopicPartition::new("t", 0),
            batches: self.bytes.clone().freeze(),
            from: Offset(from),
            next: Offset(self.next),
            high_watermark: Offset(self.next),
            log_start_offset: Offset(0),
            aborted: aborted
                .iter()
                .map(|(id, first)| (ProducerId(*id), Offset(*first)))
                .collect(),
        };
        let records = fetched.records(read_committed, 1 << 20).unwrap();
        let value =
            |r: client::ConsumerRecord| String::from_utf8(r.value.unwrap().to_vec()).unwrap();
        records.into_iter().map(value).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn records_of_aborted_transactions_are_hidden_and_markers_always() {
    let mut log = Log::new(10);
    log.records(0, &["a"]);
    let aborted = log.records(1, &["x", "y"]);
    log.records(2, &["b"]);
    log.records(1, &["z"]);
    log.end(1, TransactionResult::Abort);
    log.records(1, &["c"]); // a new transaction of the same producer
    log.end(2, TransactionResult::Commit);
    log.end(1, TransactionResult::Commit);
    log.records(0, &["d"]);
    assert_eq!(log.seen(10, &[(1, aborted)], true), "a b c d");
    assert_eq!(log.seen(10, &[(1, aborted)], false), "a x y b z c d");
}

#[test]
fn two_aborted_transactions_of_one_producer_are_both_hidden() {
    let mut log = Log::new(0);
    let first = log.records(1, &["x"]);
    log.end(1, TransactionResult::Abort);
    log.records(1, &["a"]);
    log.end(1, TransactionResult::Commit);
    let second = log.records(1, &["y"]);
    log.end(1, TransactionResult::Abort);
    assert_eq!(log.seen(0, &[(1, second), (1, first)], true), "a");
}

#[test]
fn records_below_the_position_are_dropped() {
    let mut log = Log::new(0);
    log.records(0, &["a", "b", "c"]);
    log.records(0, &["d"]);
    assert_eq!(log.seen(2, &[], false), "c d");
    assert_eq!(log.seen(3, &[], false), "d");
}
