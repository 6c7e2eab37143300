//! Which batches belong to aborted transactions, and which markers have nothing left to mark?
//!
//! Told while the batches are read in their order, once while the offset map is built and once while segments are
//! copied. A marker may go only when no batch of its transaction was seen before it; control batches are never looked at
//! by key.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use types::{
    BatchHeader, EndTransactionMarker, Offset, RecordError, RecordIter, TransactionResult,
};

use crate::txn_index::AbortedTransaction;

/// A marker's record has some 20 bytes.
const MAX_MARKER: usize = 64 * 1024;

/// What is known of the transactions at one place of the log.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Aborted ones that begin later, by first offset.
    to_come: VecDeque<AbortedTransaction>,
    /// Aborted ones whose marker is to come, by producer, and whether a batch of them was seen.
    aborted: HashMap<i64, (AbortedTransaction, bool)>,
    /// Producers of others with batches that were seen.
    committed: HashSet<i64>,
    /// Aborted ones of which batches remain: the index of what is copied has to name them.
    remaining: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Before the first batch; `aborted` are the indexes' entries in any order.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|one| one.first_offset);
        Self {
            to_come: aborted.into(),
            ..Self::default()
        }
    }

    /// Takes the next batch into account; answers whether it can be discarded: data of an aborted transaction, or a marker
    /// without data before it.
    ///
    /// # Errors
    /// A control batch that cannot be read.
    pub(crate) fn read(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
    ) -> Result<bool, RecordError> {
        self.begin_up_to(header.last_offset());
        if header.is_control() {
            return self.read_control(header, batch);
        }
        if !header.is_transactional() {
            return Ok(false);
        }
        if let Some((_, seen)) = self.aborted.get_mut(&header.producer_id) {
            *seen = true;
            return Ok(true);
        }
        self.committed.insert(header.producer_id);
        Ok(false)
    }

    fn read_control(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<bool, RecordError> {
        let Some(record) = RecordIter::new(batch, MAX_MARKER)?.next().transpose()? else {
            // Emptied by an earlier cleaning.
            return Ok(true);
        };
        let Some(marker) = EndTransactionMarker::from_record(&record) else {
            return Ok(false);
        };
        Ok(match marker.result {
            TransactionResult::Commit => !self.committed.remove(&header.producer_id),
            TransactionResult::Abort => match self.aborted.remove(&header.producer_id) {
                Some((aborted, true)) => {
                    self.remaining.push(aborted);
                    false
                }
                Some((_, false)) | None => true,
            },
        })
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(next) = self
            .to_come
            .pop_front_if(|next| next.first_offset <= offset)
        {
            self.aborted
                .entry(next.producer_id.0)
                .or_insert((next, false));
        }
    }

    /// The aborted transactions whose markers were read since the last call and whose batches may remain.
    pub(crate) fn take_remaining(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use types::builder::end_transaction_batch;
    use types::{BatchBuilder, ProducerEpoch, ProducerId, batch};

    use super::*;

    fn data(offset: i64, producer: i64) -> Bytes {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(offset))
            .producer(ProducerId(producer), ProducerEpoch(0), 0)
            .transactional();
        builder.push(0, Some(b"k"), Some(b"v"));
        builder.build().expect("builds")
    }

    fn marker(offset: i64, producer: i64, result: TransactionResult) -> Bytes {
        let marker = EndTransactionMarker {
            result,
            coordinator_epoch: 0,
        };
        let producer = (ProducerId(producer), ProducerEpoch(0));
        let mut bytes = end_transaction_batch(producer, marker, 0)
            .expect("builds")
            .to_vec();
        batch::set_base_offset(&mut bytes, Offset(offset));
        Bytes::from(bytes)
    }

    fn aborted(producer: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    fn read(transactions: &mut Transactions, batch: &Bytes) -> bool {
        let header = BatchHeader::parse(batch).expect("parses");
        transactions.read(&header, batch).expect("reads")
    }

    #[test]
    fn only_aborted_data_and_markers_without_data_can_be_discarded() {
        use TransactionResult::{Abort, Commit};
        let mut txns = Transactions::new(vec![aborted(1, 5, 9), aborted(2, 2, 3)]);
        for (batch, discarded) in [
            (data(0, 1), false),
            (marker(1, 1, Commit), false),
            // Its data went earlier.
            (marker(3, 2, Abort), true),
            (data(4, 2), false),
            (data(5, 1), true),
            (marker(6, 2, Commit), false),
            (data(7, 1), true),
            (marker(9, 1, Abort), false),
            (marker(10, 1, Commit), true),
            (marker(11, 7, Abort), true),
            // Seen again after its marker.
            (data(12, 1), false),
        ] {
            let offset = BatchHeader::parse(&batch).expect("parses").base_offset;
            assert_eq!(read(&mut txns, &batch), discarded, "{offset}");
        }
        assert_eq!(txns.take_remaining(), [aborted(1, 5, 9)]);
        assert!(txns.take_remaining().is_empty());
    }
}
