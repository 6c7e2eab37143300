//! What was written to a compacted log, and what must a reader make of it?

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use types::{
    BatchBuilder, BatchHeader, Compression, EndTransactionMarker, LeaderEpoch, Offset,
    ProducerEpoch, ProducerId, Record, RecordIter, TransactionResult,
};

use crate::txn_index::AbortedTransaction;

/// A batch of records with keys.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    base: i64,
    epoch: i32,
    codec: Compression,
    timestamp: i64,
    producer: Option<(i64, i32)>,
    transactional: bool,
    records: Vec<(i64, Option<String>)>,
}

impl Keyed {
    pub(super) fn at(base: i64) -> Self {
        Self {
            base,
            epoch: 0,
            codec: Compression::None,
            timestamp: 1000 + base,
            producer: None,
            transactional: false,
            records: Vec::new(),
        }
    }

    pub(super) fn epoch(self, epoch: i32) -> Self {
        Self { epoch, ..self }
    }

    pub(super) fn codec(self, codec: Compression) -> Self {
        Self { codec, ..self }
    }

    pub(super) fn timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    pub(super) fn producer(self, id: i64, sequence: i32) -> Self {
        let producer = Some((id, sequence));
        Self { producer, ..self }
    }

    pub(super) fn transactional(self) -> Self {
        Self {
            transactional: true,
            ..self
        }
    }

    pub(super) fn record(mut self, key: i64, value: Option<&str>) -> Self {
        self.records.push((key, value.map(str::to_owned)));
        self
    }

    pub(super) fn bytes(&self) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(self.base))
            .leader_epoch(LeaderEpoch(self.epoch))
            .compression(self.codec);
        if let Some((id, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), sequence);
        }
        if self.transactional {
            builder = builder.transactional();
        }
        for (n, (key, value)) in self.records.iter().enumerate() {
            let value = value.as_ref().map(String::as_bytes);
            let timestamp = self.timestamp + n as i64;
            builder.push(timestamp, Some(&key.to_be_bytes()), value);
        }
        builder.build().expect("builds")
    }
}

pub(super) fn header(batch: &Bytes) -> BatchHeader {
    types::batch::verify(batch).expect("sound")
}

pub(super) fn records(batch: &Bytes) -> Vec<Record> {
    let iter = RecordIter::new(batch, 1 << 20).expect("opens");
    iter.map(|record| record.expect("sound")).collect()
}

/// The records of data batches.
pub(super) fn all_records(batches: &[Bytes]) -> Vec<Record> {
    let data = batches.iter().filter(|batch| !header(batch).is_control());
    data.flat_map(records).collect()
}

/// How a transaction's marker says that it ended.
pub(super) fn marker_of(batch: &Bytes) -> Option<TransactionResult> {
    let record = records(batch).into_iter().next()?;
    Some(EndTransactionMarker::from_record(&record)?.result)
}

/// Key to value.
pub(super) type Map = BTreeMap<Bytes, Bytes>;

fn apply(map: &mut Map, record: Record) {
    let key = record.key.expect("records have keys");
    match record.value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

/// What a reader of committed records has after these batches, as Kafka's clients read: the broker tells of aborted
/// transactions, markers end them.
pub(super) fn committed_map(
    batches: &[Bytes],
    aborted: &[AbortedTransaction],
    start: Offset,
) -> Map {
    let mut to_come: Vec<_> = aborted.to_vec();
    to_come.sort_by_key(|one| one.first_offset);
    let mut to_come = VecDeque::from(to_come);
    let mut hidden = BTreeSet::new();
    let mut map = Map::new();
    for batch in batches {
        let header = header(batch);
        while let Some(next) =
            to_come.pop_front_if(|next| next.first_offset <= header.last_offset())
        {
            hidden.insert(next.producer_id.0);
        }
        if header.is_control() {
            if marker_of(batch) == Some(TransactionResult::Abort) {
                hidden.remove(&header.producer_id);
            }
            continue;
        }
        if header.is_transactional() && hidden.contains(&header.producer_id) {
            continue;
        }
        for record in records(batch) {
            if record.offset >= start {
                apply(&mut map, record);
            }
        }
    }
    map
}

/// The batches of the history that are decided and committed, each told from its transaction's marker.
pub(super) fn committed(history: &[Bytes]) -> Vec<Bytes> {
    let mut kept = Vec::new();
    for (at, batch) in history.iter().enumerate() {
        let own = header(batch);
        if own.is_control() {
            continue;
        }
        let mut later = history[at + 1..].iter();
        let ends = later.find(|other| {
            let other = header(other);
            other.is_control() && other.producer_id == own.producer_id
        });
        let result = ends.and_then(marker_of);
        if !own.is_transactional() || result == Some(TransactionResult::Commit) {
            kept.push(batch.clone());
        }
    }
    kept
}

/// The map that follows from committed batches.
pub(super) fn map_of(committed: &[Bytes], start: Offset) -> Map {
    let mut map = Map::new();
    for record in committed.iter().flat_map(records) {
        if record.offset >= start {
            apply(&mut map, record);
        }
    }
    map
}
