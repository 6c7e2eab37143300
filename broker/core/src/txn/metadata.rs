//! What is known of one transactional id, and which changes of it exist?

use std::collections::BTreeSet;

use types::{ProducerEpoch, ProducerId, TopicPartition, TransactionResult};

/// Where a transaction is in its life. Codes and names are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// The producer has begun none.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// It will be committed, whatever happens.
    PrepareCommit,
    /// It will be aborted, whatever happens.
    PrepareAbort,
    /// It was committed on all partitions.
    CompleteCommit,
    /// It was aborted on all partitions.
    CompleteAbort,
    /// The transactional id has expired.
    Dead,
    /// An older instance is being fenced. Never written: fencing and the abort are one record.
    PrepareEpochFence,
}

impl TransactionState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// The code in records.
    #[must_use]
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// The state of a code.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The name in `DescribeTransactions` and `ListTransactions`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Whether the outcome is decided and the markers are not known to be written.
    #[must_use]
    pub const fn is_completing(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// The protocol of a transaction (`transaction.version`), as its client's requests say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TransactionVersion(pub i16);

impl TransactionVersion {
    /// Clients before KIP-890.
    pub const V1: Self = Self(0);
    /// KIP-890: the epoch moves on at every end, a produce adds its partition.
    pub const V2: Self = Self(2);

    /// Whether each end moves the producer to its next epoch.
    #[must_use]
    pub const fn bumps_epoch(self) -> bool {
        self.0 >= 2
    }
}

/// From this epoch on a producer gets a new id instead of a higher epoch: the last one is left for fencing.
const EXHAUSTED: i16 = i16::MAX - 1;

/// Whether a producer of this epoch cannot be moved to a higher one any more.
#[must_use]
pub const fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch.0 >= EXHAUSTED
}

/// One transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionMetadata {
    /// Its producer.
    pub producer_id: ProducerId,
    /// The producer id before the last change, so that a retry of what exhausted the epoch is recognized.
    pub previous_producer_id: Option<ProducerId>,
    /// The id that follows when this transaction is complete, the epoch being exhausted.
    pub next_producer_id: Option<ProducerId>,
    /// The producer's epoch; -1 before the first is given.
    pub producer_epoch: ProducerEpoch,
    /// The epoch before, if the client continued under its own name: a retry of the same request has it. Not in records.
    pub last_producer_epoch: Option<ProducerEpoch>,
    /// How long a transaction may be open, ms.
    pub timeout_ms: i32,
    /// Where the transaction is.
    pub state: TransactionState,
    /// Where it wrote, or may have written.
    pub partitions: BTreeSet<TopicPartition>,
    /// Wall clock of its begin, ms.
    pub start_ms: Option<i64>,
    /// Wall clock of the last change, ms.
    pub last_update_ms: i64,
    /// What the client's requests said.
    pub version: TransactionVersion,
}

impl TransactionMetadata {
    /// A transactional id that nobody used before.
    #[must_use]
    pub const fn new(producer_id: ProducerId, timeout_ms: i32, wall_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: None,
            next_producer_id: None,
            producer_epoch: ProducerEpoch(-1),
            last_producer_epoch: None,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: None,
            last_update_ms: wall_ms,
            version: TransactionVersion::V1,
        }
    }

    /// The same, changed at `wall_ms`.
    fn changed(&self, wall_ms: i64) -> Self {
        Self {
            previous_producer_id: Some(self.producer_id),
            last_update_ms: wall_ms,
            ..self.clone()
        }
    }

    pub(super) fn with_epoch(
        &self,
        epoch: ProducerEpoch,
        last: Option<ProducerEpoch>,
        timeout_ms: i32,
        wall_ms: i64,
    ) -> Self {
        Self {
            producer_epoch: epoch,
            last_producer_epoch: last,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: None,
            ..self.changed(wall_ms)
        }
    }

    pub(super) fn with_producer_id(
        &self,
        id: ProducerId,
        last: Option<ProducerEpoch>,
        timeout_ms: i32,
        wall_ms: i64,
    ) -> Self {
        Self {
            producer_id: id,
            ..self.with_epoch(ProducerEpoch(0), last, timeout_ms, wall_ms)
        }
    }

    pub(super) fn with_partitions(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        version: TransactionVersion,
        wall_ms: i64,
    ) -> Self {
        let mut next = self.changed(wall_ms);
        next.partitions.extend(partitions.iter().cloned());
        if self.state != TransactionState::Ongoing {
            next.start_ms = Some(wall_ms);
        }
        next.state = TransactionState::Ongoing;
        next.version = version;
        next
    }

    /// The decision to end the transaction. The epoch moves on with version 2; from the last one to `next_id`.
    pub(super) fn prepared(
        &self,
        result: TransactionResult,
        version: TransactionVersion,
        next_id: Option<ProducerId>,
        wall_ms: i64,
    ) -> Self {
        let mut next = self.changed(wall_ms);
        next.state = match result {
            TransactionResult::Commit => TransactionState::PrepareCommit,
            TransactionResult::Abort => TransactionState::PrepareAbort,
        };
        next.version = version;
        next.next_producer_id = next_id;
        if version.bumps_epoch() {
            next.last_producer_epoch = Some(self.producer_epoch);
            next.producer_epoch = ProducerEpoch(self.producer_epoch.0.saturating_add(1));
        }
        if self.state != TransactionState::Ongoing {
            // With version 2 a transaction without partitions can be aborted: it began now, not when the one before did.
            next.start_ms = Some(wall_ms);
        }
        next
    }

    /// The decision to abort the transaction of an instance that must not go on: its epoch is left behind, by one more
    /// than an end of its own would, so that it is not taken for one.
    pub(super) fn fenced(&self, wall_ms: i64) -> Self {
        let fence = Self {
            producer_epoch: ProducerEpoch(self.producer_epoch.0.saturating_add(1)),
            ..self.clone()
        };
        let mut next = fence.prepared(TransactionResult::Abort, self.version, None, wall_ms);
        next.last_producer_epoch = None;
        next
    }

    /// After the last marker.
    pub(super) fn completed(&self, wall_ms: i64) -> Self {
        let mut next = self.changed(wall_ms);
        next.state = if self.state == TransactionState::PrepareCommit {
            TransactionState::CompleteCommit
        } else {
            TransactionState::CompleteAbort
        };
        next.partitions.clear();
        if let Some(id) = next.next_producer_id.take() {
            next.producer_id = id;
            next.producer_epoch = ProducerEpoch(0);
            next.last_producer_epoch = None;
        }
        next
    }
}
