//! A coordinator whose log says yes, in the words of the tests.

use types::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition, TransactionResult};

use crate::group::Now;
use crate::txn::request::{AddPartitions, EndTransaction, InitProducerId, Producer};
use crate::txn::{
    Completion, Step, TransactionConfig, TransactionCoordinator, TransactionMetadata,
    TransactionRecord, TransactionState, TransactionVersion, Write,
};

pub(super) const V1: TransactionVersion = TransactionVersion::V1;
pub(super) const V2: TransactionVersion = TransactionVersion::V2;
pub(super) const COMMIT: TransactionResult = TransactionResult::Commit;
pub(super) const ABORT: TransactionResult = TransactionResult::Abort;
pub(super) const TIMEOUT_MS: i32 = 60_000;

pub(super) const fn producer(id: i64, epoch: i16) -> Producer {
    (ProducerId(id), ProducerEpoch(epoch))
}

pub(super) fn add(id: &str, from: Producer, version: TransactionVersion) -> AddPartitions {
    AddPartitions {
        transactional_id: id.to_owned(),
        producer: from,
        partitions: [TopicPartition::new("t", 0), TopicPartition::new("u", 1)].into(),
        version,
    }
}

/// The coordinator of the id `x`.
pub(super) struct One {
    pub(super) coordinator: TransactionCoordinator,
    pub(super) now_ms: i64,
    pub(super) log: Vec<TransactionRecord>,
    pub(super) completions: Vec<Completion>,
    next_id: i64,
}

impl One {
    pub(super) fn new() -> Self {
        Self {
            coordinator: TransactionCoordinator::new(TransactionConfig::default()),
            now_ms: 1_000,
            log: Vec::new(),
            completions: Vec::new(),
            next_id: 100,
        }
    }

    /// A producer with the id 100 whose epoch is `epoch`.
    pub(super) fn at_epoch(epoch: i16) -> Self {
        let mut one = Self::new();
        one.init(None).unwrap();
        let mut record = one.log.pop().unwrap();
        record.value.as_mut().unwrap().producer_epoch = ProducerEpoch(epoch);
        one.coordinator.load(record.clone());
        one.log.push(record);
        one
    }

    pub(super) const fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            wall_ms: self.now_ms + 1_000_000,
        }
    }

    fn fresh(&mut self) -> ProducerId {
        self.next_id += 1;
        ProducerId(self.next_id - 1)
    }

    fn finish(&mut self, step: Step) -> Result<Producer, ErrorCode> {
        match step {
            Step::Done(producer) => Ok(producer),
            Step::Write(write) => self.append(&write),
            Step::NeedsProducerId => unreachable!("one was given"),
        }
    }

    pub(super) fn append(&mut self, write: &Write) -> Result<Producer, ErrorCode> {
        self.log.push(write.record.clone());
        let completion = self.coordinator.appended(self.now(), write, Ok(()));
        self.completions.extend(completion);
        write.answer
    }

    pub(super) fn init(&mut self, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let request = InitProducerId {
            transactional_id: "x".to_owned(),
            timeout_ms: TIMEOUT_MS,
            expected,
        };
        let now = self.now();
        let mut step = self.coordinator.init_producer_id(now, &request, None)?;
        if step == Step::NeedsProducerId {
            let fresh = self.fresh();
            step = self
                .coordinator
                .init_producer_id(now, &request, Some(fresh))?;
        }
        self.finish(step)
    }

    pub(super) fn add(
        &mut self,
        from: Producer,
        version: TransactionVersion,
    ) -> Result<Producer, ErrorCode> {
        let step = self
            .coordinator
            .add_partitions(self.now(), &add("x", from, version))?;
        self.finish(step)
    }

    pub(super) fn end(
        &mut self,
        from: Producer,
        result: TransactionResult,
        version: TransactionVersion,
    ) -> Result<Producer, ErrorCode> {
        let request = EndTransaction {
            transactional_id: "x".to_owned(),
            producer: from,
            result,
            version,
        };
        let now = self.now();
        let mut step = self.coordinator.end(now, &request, None)?;
        if step == Step::NeedsProducerId {
            let fresh = self.fresh();
            step = self.coordinator.end(now, &request, Some(fresh))?;
        }
        self.finish(step)
    }

    /// The markers that wait are written; gives them.
    pub(super) fn complete(&mut self) -> Vec<Completion> {
        let completions = std::mem::take(&mut self.completions);
        for completion in &completions {
            let step = self.coordinator.markers_written(self.now(), completion);
            self.finish(step.unwrap()).unwrap();
        }
        completions
    }

    pub(super) fn state(&self) -> TransactionState {
        self.coordinator.describe("x").unwrap().state
    }

    /// What another coordinator has that loads the log.
    pub(super) fn reloaded(&self) -> (TransactionCoordinator, Vec<Completion>) {
        let mut other = TransactionCoordinator::new(TransactionConfig::default());
        for record in &self.log {
            let (key, value) = record.encode();
            let read = TransactionRecord::decode(&key, value.as_deref()).unwrap();
            other.load(read);
        }
        let completions = other.loaded(self.now());
        (other, completions)
    }
}

pub(super) fn metadata(state: TransactionState) -> TransactionMetadata {
    TransactionMetadata {
        state,
        ..TransactionMetadata::new(ProducerId(7), TIMEOUT_MS, 5)
    }
}
