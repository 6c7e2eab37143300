//! What should a log hold after a history of operations? A plain list of batches, and what follows from it.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::builder::end_transaction_batch;
use types::{
    BatchHeader, EndTransactionMarker, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RecordIter,
    TransactionResult, batch,
};

use super::fixture::TestLog;
use crate::ProducerCheck;

/// A batch of the list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

impl Entry {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            header: BatchHeader::parse(&bytes).expect("parses"),
            bytes,
        }
    }
}

/// A transaction marker at `offset`.
pub(super) fn marker(offset: i64, epoch: i32, producer: i64, result: TransactionResult) -> Bytes {
    let marker = EndTransactionMarker {
        result,
        coordinator_epoch: 1,
    };
    let producer = (ProducerId(producer), ProducerEpoch(0));
    let built = end_transaction_batch(producer, marker, 1000 + offset).expect("builds");
    let mut bytes = built.to_vec();
    batch::set_base_offset(&mut bytes, Offset(offset));
    batch::set_leader_epoch(&mut bytes, LeaderEpoch(epoch));
    Bytes::from(bytes)
}

/// What the producers did, from the batches alone.
#[derive(Debug, Default)]
pub(super) struct Producers {
    /// The batches of each producer.
    pub(super) batches: BTreeMap<i64, Vec<BatchHeader>>,
    /// First offset of each open transaction.
    pub(super) open: BTreeMap<i64, Offset>,
    /// Producer, first offset, marker offset.
    pub(super) aborted: Vec<(i64, Offset, Offset)>,
}

impl Producers {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut this = Self::default();
        for entry in entries {
            let header = entry.header;
            let id = header.producer_id;
            if id < 0 {
                continue;
            }
            if !header.is_control() {
                this.batches.entry(id).or_default().push(header);
                if header.is_transactional() {
                    this.open.entry(id).or_insert(header.base_offset);
                }
                continue;
            }
            let record = RecordIter::new(&entry.bytes, 1000).expect("opens").next();
            let record = record.expect("one").expect("sound");
            let marker = EndTransactionMarker::from_record(&record).expect("a marker");
            if let Some(first) = this.open.remove(&id)
                && marker.result == TransactionResult::Abort
            {
                this.aborted.push((id, first, header.base_offset));
            }
        }
        this
    }

    pub(super) fn next_sequence(&self, id: i64) -> i32 {
        let last = self.batches.get(&id).and_then(|batches| batches.last());
        last.map_or(0, |last| last.last_sequence() + 1)
    }
}

/// Checks everything that follows from the batches: indexes, times, epochs, producers, transactions. `entries` are all
/// batches up to the log's end, also those that retention deleted.
pub(super) fn check_derived(log: &mut TestLog, entries: &[Entry], what: &str) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let live = entries
        .iter()
        .filter(|entry| entry.header.last_offset() >= start);
    for entry in live.clone() {
        let header = entry.header;
        let from = header.base_offset.max(start);
        let slice = log.read(from, 1, end, true).expect(what).expect(what);
        assert_eq!(slice.bytes, entry.bytes, "{what}: read at {from}");
        let epoch = log.leader_epochs().epoch_at(from);
        assert_eq!(
            epoch,
            Some(header.partition_leader_epoch),
            "{what}: epoch at {from}"
        );
        let found = log
            .offset_for_timestamp(header.max_timestamp, end)
            .expect(what);
        let want = live.clone().find(|other| {
            other.header.max_timestamp >= header.max_timestamp && other.header.base_offset >= start
        });
        if let (Some(found), Some(want)) = (found, want) {
            let range = want.header.base_offset..=want.header.last_offset();
            assert!(
                range.contains(&found.offset) || found.offset < want.header.base_offset,
                "{what}: time {} found at {}",
                header.max_timestamp,
                found.offset
            );
        }
    }
    check_producers(log, entries, what);
}

fn check_producers(log: &mut TestLog, entries: &[Entry], what: &str) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let want = Producers::of(entries);
    for (id, batches) in &want.batches {
        let window = &batches[batches.len().saturating_sub(5)..];
        for header in window {
            let duplicate = ProducerCheck::Duplicate {
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                timestamp: header.max_timestamp,
            };
            assert_eq!(
                log.check_producer(header),
                Ok(duplicate),
                "{what}: producer {id}"
            );
        }
    }
    for (id, entry) in log.producers() {
        assert!(
            want.batches.contains_key(&id.0) || entry.last_offset().is_none(),
            "{what}: producer {id} is not in the log"
        );
    }
    log.advance_high_watermark(end);
    let open = want.open.values().min().copied();
    assert_eq!(
        log.first_unstable_offset(),
        open,
        "{what}: first unstable offset"
    );
    let aborted = log.aborted_transactions(start, end).expect(what);
    let got: Vec<_> = aborted
        .iter()
        .map(|txn| (txn.producer_id.0, txn.first_offset, txn.last_offset))
        .collect();
    for txn in want.aborted.iter().filter(|txn| txn.2 >= start) {
        assert!(got.contains(txn), "{what}: aborted {txn:?} not in {got:?}");
    }
    assert!(
        got.iter().all(|txn| want.aborted.contains(txn)),
        "{what}: {got:?}"
    );
}
