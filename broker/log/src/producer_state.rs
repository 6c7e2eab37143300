//! Is a produced batch new, a retry, or out of order, and which transactions are open?
//!
//! The state is a function of the log: leader and follower alike derive it from the batches that they append, snapshots
//! only save the time of reading them again. (a) Per producer the last five batches of its current epoch are known, as
//! many as a client may have in flight. (b) Retention does not touch it (KIP-360); truncation does. (c) The last stable
//! offset waits for a marker until the high watermark has passed it.

use std::collections::{BTreeMap, HashMap};

use types::record::EndTransactionMarker;
use types::{BatchHeader, ErrorCode, Offset, ProducerEpoch, ProducerId, TransactionResult};

use crate::txn_index::AbortedTransaction;

/// How many batches of a producer are remembered: `max.in.flight.requests.per.connection` of an idempotent client is
/// at most five.
pub(crate) const WINDOW: usize = 5;

/// A remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMetadata {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    /// Last offset minus base offset; likewise for the sequence numbers.
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl BatchMetadata {
    /// Sequence number of the first record; the numbers wrap at 2^31.
    const fn first_sequence(self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }

    fn base_offset(self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// What is known of one producer on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Epoch of the coordinator that wrote its last marker, -1 for none.
    pub coordinator_epoch: i32,
    /// Timestamp of its last batch or marker, ms since the epoch.
    pub last_timestamp: i64,
    /// First offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
    /// When this process last saw it, by the clock of the appends; expiry goes by this.
    pub(crate) seen_ms: i64,
    /// The remembered batches, oldest first.
    batches: [BatchMetadata; WINDOW],
    len: u8,
}

const NO_BATCH: BatchMetadata = BatchMetadata {
    last_sequence: -1,
    last_offset: Offset(-1),
    offset_delta: 0,
    timestamp: -1,
};

impl ProducerEntry {
    pub(crate) const fn new(epoch: ProducerEpoch, seen_ms: i64) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            current_txn_first_offset: None,
            seen_ms,
            batches: [NO_BATCH; WINDOW],
            len: 0,
        }
    }

    pub(crate) fn batches(&self) -> &[BatchMetadata] {
        &self.batches[..usize::from(self.len)]
    }

    pub(crate) fn push(&mut self, batch: BatchMetadata) {
        if usize::from(self.len) == WINDOW {
            self.batches.copy_within(1.., 0);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = batch;
        self.len += 1;
    }

    /// Sequence number of the last record of the current epoch; -1 if it has none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(-1, |batch| batch.last_sequence)
    }

    /// Offset of the last record of the current epoch.
    #[must_use]
    pub fn last_offset(&self) -> Option<Offset> {
        self.batches().last().map(|batch| batch.last_offset)
    }

    pub(crate) fn move_to_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.len = 0;
        }
    }
}

/// What a leader does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerCheck {
    /// It is new: append it.
    Append,
    /// It was appended before: answer as then.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
        /// Its max timestamp.
        timestamp: i64,
    },
}

/// The producers of one log.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, ProducerEntry>,
    /// First offset of each open transaction, and its producer.
    ongoing: BTreeMap<Offset, i64>,
    /// First and marker offset of decided transactions whose marker may lie above the high watermark.
    unreplicated: BTreeMap<Offset, Offset>,
    high_watermark: Offset,
    /// The same for those whose marker may lie above the recovery point.
    undurable: BTreeMap<Offset, Offset>,
    /// The offset of the snapshot that it was read from, which tells no markers.
    loaded_at: Offset,
}

impl ProducerState {
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub(crate) fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&id.0)
    }

    /// The producers in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers
            .iter()
            .map(|(&id, entry)| (ProducerId(id), entry))
    }

    /// See [`crate::Log::check_producer`].
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<ProducerCheck, ErrorCode> {
        let Some((id, epoch)) = header.producer() else {
            return Ok(ProducerCheck::Append);
        };
        if header.is_control() {
            return self.check_marker(id, epoch);
        }
        if header.base_sequence < 0 {
            return Err(ErrorCode::InvalidRecord);
        }
        // Nothing is known of the producer (all it wrote was deleted, say): any sequence number begins (KIP-360).
        let Some(entry) = self.producers.get(&id.0) else {
            return Ok(ProducerCheck::Append);
        };
        if epoch < entry.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > entry.epoch {
            return if header.base_sequence == 0 {
                Ok(ProducerCheck::Append)
            } else {
                Err(ErrorCode::OutOfOrderSequenceNumber)
            };
        }
        let same = |batch: &&BatchMetadata| {
            batch.last_sequence == header.last_sequence()
                && batch.first_sequence() == header.base_sequence
        };
        if let Some(batch) = entry.batches().iter().find(same) {
            return Ok(ProducerCheck::Duplicate {
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        let last = entry.last_sequence();
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence == next {
            Ok(ProducerCheck::Append)
        } else {
            Err(ErrorCode::OutOfOrderSequenceNumber)
        }
    }

    fn check_marker(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<ProducerCheck, ErrorCode> {
        match self.producers.get(&id.0) {
            Some(entry) if epoch < entry.epoch => Err(ErrorCode::InvalidProducerEpoch),
            Some(_) | None => Ok(ProducerCheck::Append),
        }
    }

    /// Takes an appended data batch into account.
    pub(crate) fn append(&mut self, header: &BatchHeader, now_ms: i64) {
        let Some((id, epoch)) = header.producer() else {
            return;
        };
        let entry = self
            .producers
            .entry(id.0)
            .or_insert_with(|| ProducerEntry::new(epoch, now_ms));
        entry.seen_ms = now_ms;
        entry.last_timestamp = header.max_timestamp;
        if epoch < entry.epoch {
            // The leader let it pass, which it should not have; the newer epoch stands.
            return;
        }
        entry.move_to_epoch(epoch);
        if header.base_sequence >= 0 {
            entry.push(BatchMetadata {
                last_sequence: header.last_sequence(),
                last_offset: header.last_offset(),
                offset_delta: header.last_offset_delta,
                timestamp: header.max_timestamp,
            });
        }
        if header.is_transactional() && entry.current_txn_first_offset.is_none() {
            entry.current_txn_first_offset = Some(header.base_offset);
            self.ongoing.insert(header.base_offset, id.0);
        }
    }

    /// Takes an appended transaction marker into account; an aborted transaction is returned for the index.
    pub(crate) fn append_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndTransactionMarker,
        now_ms: i64,
    ) -> Option<AbortedTransaction> {
        let (id, epoch) = header.producer()?;
        let entry = self
            .producers
            .entry(id.0)
            .or_insert_with(|| ProducerEntry::new(epoch, now_ms));
        entry.seen_ms = now_ms;
        entry.last_timestamp = header.max_timestamp;
        entry.move_to_epoch(epoch);
        entry.coordinator_epoch = entry.coordinator_epoch.max(marker.coordinator_epoch);
        // A marker without a transaction here: the producer wrote nothing to this partition.
        let first_offset = entry.current_txn_first_offset.take()?;
        self.ongoing.remove(&first_offset);
        let last_offset = header.last_offset();
        self.unreplicated.insert(first_offset, last_offset);
        self.undurable.insert(first_offset, last_offset);
        let last_stable_offset = self
            .ongoing
            .first_key_value()
            .map_or(last_offset.plus(1), |(&first, _)| first);
        match marker.result {
            TransactionResult::Commit => None,
            TransactionResult::Abort => Some(AbortedTransaction {
                producer_id: id,
                first_offset,
                last_offset,
                last_stable_offset,
            }),
        }
    }

    /// Ends the transactions that began before `decided`, up to where compaction has been: it never passes an open one, and
    /// may have removed their markers since the snapshot.
    pub(crate) fn end_transactions_before(&mut self, decided: Offset) {
        while let Some(entry) = self.ongoing.first_entry()
            && *entry.key() < decided
        {
            let id = entry.remove();
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.current_txn_first_offset = None;
            }
        }
    }

    /// It was read from the snapshot at `offset`.
    pub(crate) fn set_loaded_at(&mut self, offset: Offset) {
        self.loaded_at = offset;
    }

    /// Takes over which transactions before `end` are decided by markers that may not be replicated, or not durable: of
    /// the batches that both know, `known` was there when they were appended.
    pub(crate) fn adopt_decided(&mut self, known: &Self, end: Offset) {
        let left = |(_, marker): &(&Offset, &Offset)| **marker < end;
        let unreplicated = known.unreplicated.iter().filter(left);
        self.unreplicated.extend(unreplicated);
        self.undurable.extend(known.undurable.iter().filter(left));
        self.loaded_at = self.loaded_at.min(known.loaded_at);
    }

    /// Puts back an entry of a snapshot.
    pub(crate) fn restore(&mut self, id: ProducerId, entry: ProducerEntry) {
        if let Some(first) = entry.current_txn_first_offset {
            self.ongoing.insert(first, id.0);
        }
        self.producers.insert(id.0, entry);
    }

    /// First offset of the oldest transaction that is open, or decided by a marker at or above the high watermark.
    pub(crate) fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.first_key_value().map(|(&first, _)| first);
        let undecided = self.unreplicated.first_key_value().map(|(&first, _)| first);
        match (ongoing, undecided) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Forgets the decided transactions whose marker lies below `high_watermark`.
    pub(crate) fn advance_high_watermark(&mut self, high_watermark: Offset) {
        self.high_watermark = high_watermark;
        if !self.unreplicated.is_empty() {
            self.unreplicated
                .retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// First offset of the oldest transaction whose marker lies at or above `recovery_point`: a power loss could leave it
    /// undecided.
    pub(crate) fn first_undurable_offset(&self, recovery_point: Offset) -> Option<Offset> {
        if recovery_point < self.loaded_at {
            // Markers between the two are not known: any transaction could be one of theirs.
            return Some(Offset(0));
        }
        let mut decided = self.undurable.iter();
        decided
            .find(|(_, marker)| **marker >= recovery_point)
            .map(|(first, _)| *first)
    }

    /// Forgets the decided transactions whose marker lies below `recovery_point`.
    pub(crate) fn advance_recovery_point(&mut self, recovery_point: Offset) {
        if !self.undurable.is_empty() {
            self.undurable.retain(|_, marker| *marker >= recovery_point);
        }
    }

    /// The high watermark that was told last.
    pub(crate) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Forgets the producers without a transaction that were not seen for `expiration_ms`.
    pub(crate) fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, entry| {
            entry.current_txn_first_offset.is_some()
                || now_ms.saturating_sub(entry.seen_ms) < expiration_ms
        });
    }
}
