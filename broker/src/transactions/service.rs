//! Which coordinator answers for a transactional id, and how do coordinators come and go with leadership?

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker_core::txn::request::{
    AddPartitions, EndTransaction, InitProducerId, ListedTransaction, Producer,
    TransactionDescription,
};
use broker_core::txn::{Step, TransactionConfig, TransactionCoordinator};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{ErrorCode, LeaderEpoch, ProducerId, TopicPartition};

use super::markers::Markers;
use super::partition::{Partition, PartitionContext};
use crate::clock::Clock;
use crate::coordinator::{OffsetsLog, partition_for};

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
    state: Mutex<Partitions>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Partitions {
    /// Number of partitions of the topic; 0 while it does not exist.
    count: i32,
    led: HashMap<i32, Arc<Partition>>,
}

impl TransactionService {
    pub(crate) fn new(config: TransactionServiceConfig) -> Self {
        Self {
            config,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Tells how many partitions the topic has.
    pub(crate) fn set_partition_count(&self, count: i32) {
        self.state.lock().count = count;
    }

    /// This broker leads a partition of the topic from `epoch` on: load it.
    pub(crate) fn became_leader(&self, partition: i32, epoch: LeaderEpoch) {
        let mut state = self.state.lock();
        if (state.led.get(&partition)).is_some_and(|running| running.cx.epoch >= epoch) {
            return;
        }
        let new = Partition::new(PartitionContext {
            partition,
            epoch,
            log: self.config.log.clone(),
            markers: self.config.markers.clone(),
            config: self.config.transactions,
            abort_interval: self.config.abort_interval,
            expiry_interval: self.config.expiry_interval,
            clock: self.config.clock,
            tasks: self.tasks.clone(),
            stop: CancellationToken::new(),
        });
        self.tasks.spawn(new.clone().run());
        if let Some(old) = state.led.insert(partition, new) {
            old.cx.stop.cancel();
        }
    }

    /// This broker does not lead the partition any more.
    pub(crate) fn lost_leadership(&self, partition: i32) {
        if let Some(old) = self.state.lock().led.remove(&partition) {
            old.cx.stop.cancel();
        }
    }

    /// These, and only these, are the partitions that this broker leads.
    pub(crate) fn reconcile(&self, led: &[(i32, LeaderEpoch)]) {
        let lost: Vec<i32> = {
            let state = self.state.lock();
            let known = state.led.keys().copied();
            known
                .filter(|partition| led.iter().all(|(other, _)| other != partition))
                .collect()
        };
        for partition in lost {
            self.lost_leadership(partition);
        }
        for (partition, epoch) in led {
            self.became_leader(*partition, *epoch);
        }
    }

    /// Ends all coordinators.
    pub(crate) async fn stop(&self) {
        for (_, partition) in self.state.lock().led.drain() {
            partition.cx.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The partition of the topic that a transactional id belongs to, once there is a topic.
    pub(crate) fn partition_of(&self, id: &str) -> Option<i32> {
        let count = self.state.lock().count;
        (count > 0).then(|| partition_for(id, count))
    }

    fn coordinator(&self, id: &str) -> Result<Arc<Partition>, ErrorCode> {
        let partition = self.partition_of(id).ok_or(ErrorCode::NotCoordinator)?;
        let state = self.state.lock();
        let led = state.led.get(&partition).cloned();
        led.ok_or(ErrorCode::NotCoordinator)
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
        let led: BTreeSet<i32> = self.state.lock().led.keys().copied().collect();
        let mut all = Vec::new();
        for partition in led {
            let Some(partition) = self.state.lock().led.get(&partition).cloned() else {
                continue;
            };
            match partition.with(|transactions, now| all.extend(transactions.list(now))) {
                Ok(_) | Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}
