//! Which coordinator answers for a transactional id, and how do coordinators come and go with leadership?

use std::sync::Arc;
use std::time::Duration;

use broker_core::txn::request::{
    AddPartitions, EndTransaction, InitProducerId, ListedTransaction, Producer,
    TransactionDescription,
};
use broker_core::txn::{Step, TransactionConfig, TransactionCoordinator};
use types::{ErrorCode, LeaderEpoch, ProducerId, TopicPartition};

use super::markers::Markers;
use super::partition::{Partition, PartitionContext};
use crate::clock::Clock;
use crate::coordinator::{Begun, LedPartitions, OffsetsLog, Place};

/// What the service is made with.
pub(crate) struct TransactionServiceConfig {
    /// Configuration of the transactions.
    pub(crate) transactions: TransactionConfig,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub(crate) abort_interval: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub(crate) expiry_interval: Duration,
    /// The log below.
    pub(crate) log: Arc<dyn OffsetsLog>,
    /// The way to partition leaders.
    pub(crate) markers: Arc<dyn Markers>,
    /// The clocks.
    pub(crate) clock: Clock,
}

/// The coordinators of the partitions that this broker leads.
pub(crate) struct TransactionService {
    config: TransactionServiceConfig,
    led: LedPartitions<Partition>,
}

impl TransactionService {
    pub(crate) fn new(config: TransactionServiceConfig) -> Self {
        Self {
            config,
            led: LedPartitions::new(),
        }
    }

    /// Tells how many partitions the topic has.
    pub(crate) fn set_partition_count(&self, count: i32) {
        self.led.set_count(count);
    }

    /// This broker leads a partition of the topic from `epoch` on: load it.
    pub(crate) fn became_leader(&self, partition: i32, epoch: LeaderEpoch) {
        self.led
            .became_leader(partition, epoch, |place| self.begin(place));
    }

    /// This broker does not lead the partition any more.
    pub(crate) fn lost_leadership(&self, partition: i32) {
        self.led.lost_leadership(partition);
    }

    /// These, and only these, are the partitions that this broker leads.
    pub(crate) fn reconcile(&self, led: &[(i32, LeaderEpoch)]) {
        self.led.reconcile(led, |place| self.begin(place));
    }

    /// Ends all coordinators.
    pub(crate) async fn stop(&self) {
        self.led.stop().await;
    }

    fn begin(&self, place: Place) -> Begun<Partition> {
        let partition = Partition::new(PartitionContext {
            partition: place.partition,
            epoch: place.epoch,
            log: self.config.log.clone(),
            markers: self.config.markers.clone(),
            config: self.config.transactions,
            abort_interval: self.config.abort_interval,
            expiry_interval: self.config.expiry_interval,
            clock: self.config.clock,
            tasks: place.tasks,
            stop: place.stop,
        });
        let life = Box::pin(partition.clone().run());
        (partition, life)
    }

    /// The partition of the topic that a transactional id belongs to, once there is a topic.
    pub(crate) fn partition_of(&self, id: &str) -> Option<i32> {
        self.led.partition_of(id)
    }

    fn coordinator(&self, id: &str) -> Result<Arc<Partition>, ErrorCode> {
        self.led.of(id).ok_or(ErrorCode::NotCoordinator)
    }

    /// Carries out a request; `fresh` gives a new producer id when one is needed.
    async fn transact<F>(
        &self,
        id: &str,
        fresh: F,
        act: impl Fn(
            &mut TransactionCoordinator,
            broker_core::group::Now,
            Option<ProducerId>,
        ) -> Result<Step, ErrorCode>,
    ) -> Result<Producer, ErrorCode>
    where
        F: Future<Output = Result<ProducerId, ErrorCode>>,
    {
        let partition = self.coordinator(id)?;
        let (mut generation, mut step) = partition.with(|all, now| act(all, now, None))?;
        if step == Ok(Step::NeedsProducerId) {
            let id = fresh.await?;
            (generation, step) = partition.with(|all, now| act(all, now, Some(id)))?;
        }
        match step? {
            Step::Done(producer) => Ok(producer),
            Step::Write(write) => partition.finish((generation, write)).await,
            Step::NeedsProducerId => Err(ErrorCode::UnknownServerError),
        }
    }

    /// `InitProducerId` with a transactional id.
    ///
    /// # Errors
    /// As [`TransactionCoordinator::init_producer_id`], and of the coordinator's partition.
    pub(crate) async fn init_producer_id(
        &self,
        request: &InitProducerId,
        fresh: impl Future<Output = Result<ProducerId, ErrorCode>>,
    ) -> Result<Producer, ErrorCode> {
        let id = request.transactional_id.as_str();
        self.transact(id, fresh, |all, now, fresh| {
            all.init_producer_id(now, request, fresh)
        })
        .await
    }

    /// `EndTxn`.
    ///
    /// # Errors
    /// As [`TransactionCoordinator::end`], and of the coordinator's partition.
    pub(crate) async fn end(
        &self,
        request: &EndTransaction,
        fresh: impl Future<Output = Result<ProducerId, ErrorCode>>,
    ) -> Result<Producer, ErrorCode> {
        let id = request.transactional_id.as_str();
        self.transact(id, fresh, |all, now, fresh| all.end(now, request, fresh))
            .await
    }

    /// Adds partitions to a transaction.
    ///
    /// # Errors
    /// As [`TransactionCoordinator::add_partitions`], and of the coordinator's partition.
    pub(crate) async fn add_partitions(&self, request: &AddPartitions) -> Result<(), ErrorCode> {
        let never = std::future::ready(Err(ErrorCode::UnknownServerError));
        let id = request.transactional_id.as_str();
        self.transact(id, never, |all, now, _| all.add_partitions(now, request))
            .await
            .map(|_| ())
    }

    /// Whether partitions are in a transaction.
    ///
    /// # Errors
    /// As [`TransactionCoordinator::verify_partitions`], and of the coordinator's partition.
    pub(crate) fn verify_partitions(
        &self,
        request: &AddPartitions,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let partition = self.coordinator(&request.transactional_id)?;
        partition.with(|all, _| all.verify_partitions(request))?.1
    }

    /// `DescribeTransactions`, one of them.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`, and of the coordinator's partition.
    pub(crate) fn describe(&self, id: &str) -> Result<TransactionDescription, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let described = self.coordinator(id)?.with(|all, _| all.describe(id))?.1;
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// `ListTransactions`: those of every partition led here.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while one of them is loading.
    pub(crate) fn list(&self) -> Result<Vec<ListedTransaction>, ErrorCode> {
        let mut all = Vec::new();
        for partition in self.led.all() {
            match partition.with(|transactions, now| all.extend(transactions.list(now))) {
                Ok(_) | Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}
