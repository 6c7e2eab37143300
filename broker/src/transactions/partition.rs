//! Who coordinates the transactional ids of one partition of `__transaction_state`, from becoming its leader to losing it?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::Now;
use broker_core::txn::request::Producer;
use broker_core::txn::{
    Completion, Step, TransactionConfig, TransactionCoordinator, TransactionRecord, Write,
};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use types::{BatchBuilder, BatchIter, ErrorCode, LeaderEpoch, Offset, RecordIter, TopicPartition};

use super::markers::Markers;
use crate::clock::Clock;
use crate::coordinator::{CoordinatorBatch, OffsetsLog, client_code};
use crate::replication::TransactionRule;

/// Pause before loading again what failed to load while this broker is still the leader.
const LOAD_RETRY: Duration = Duration::from_millis(200);
/// First and longest pause before markers are tried again that a leader did not take: it may just be moving.
const MARKERS_RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Most a batch of the topic may unpack to: one record, of a transaction with some ten thousand partitions.
const MAX_BATCH: usize = 64 * 1024 * 1024;

/// What a partition needs.
pub(super) struct PartitionContext {
    pub(super) partition: i32,
    pub(super) epoch: LeaderEpoch,
    pub(super) log: Arc<dyn OffsetsLog>,
    pub(super) markers: Arc<dyn Markers>,
    pub(super) config: TransactionConfig,
    /// How often transactions that are open for too long are looked for.
    pub(super) abort_interval: Duration,
    /// How often transactional ids that nobody uses are looked for.
    pub(super) expiry_interval: Duration,
    pub(super) clock: Clock,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// One coordinated partition.
pub(super) struct Partition {
    pub(super) cx: PartitionContext,
    phase: Mutex<Phase>,
    /// The state may not be that of the log any more.
    reload: Notify,
}

enum Phase {
    Loading {
        generation: u64,
    },
    Active {
        coordinator: Box<TransactionCoordinator>,
        /// Counts the loads: what was begun before one means nothing after it.
        generation: u64,
    },
    Ended,
}

/// A write and the load that it belongs to.
pub(super) type Begun = (u64, Write);

impl Partition {
    pub(super) fn new(cx: PartitionContext) -> Arc<Self> {
        Arc::new(Self {
            cx,
            phase: Mutex::new(Phase::Loading { generation: 0 }),
            reload: Notify::new(),
        })
    }

    fn now(&self) -> Now {
        self.cx.clock.now()
    }

    /// Looks at the transactions, or begins a change of them; gives the load that this is about, too.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while loading, `NOT_COORDINATOR` after leadership was lost.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&mut TransactionCoordinator, Now) -> R,
    ) -> Result<(u64, R), ErrorCode> {
        self.with_load(|generation, transactions, now| (generation, act(transactions, now)))
    }

    fn with_load<R>(
        &self,
        act: impl FnOnce(u64, &mut TransactionCoordinator, Now) -> R,
    ) -> Result<R, ErrorCode> {
        match &mut *self.phase.lock() {
            Phase::Active {
                coordinator,
                generation,
            } => Ok(act(*generation, coordinator, self.now())),
            Phase::Loading { .. } => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Ended => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Appends what a request has begun, and takes the result into account. It goes on when the client does not wait.
    ///
    /// # Errors
    /// Why it is not committed, or what the request is answered with.
    pub(super) async fn finish(self: &Arc<Self>, begun: Begun) -> Result<Producer, ErrorCode> {
        let this = self.clone();
        let task = self.cx.tasks.spawn(async move { this.append(begun).await });
        // The task does not panic and is not aborted.
        task.await.unwrap_or(Err(ErrorCode::UnknownServerError))
    }

    async fn append(self: &Arc<Self>, (generation, write): Begun) -> Result<Producer, ErrorCode> {
        if !self.is_current(generation) {
            return Err(ErrorCode::CoordinatorLoadInProgress); // nobody would know of the record
        }
        let result = match batch(&write.record, self.now().wall_ms) {
            Ok(batch) => {
                let (partition, epoch) = (self.cx.partition, self.cx.epoch);
                self.cx.log.append(partition, epoch, batch).await
            }
            Err(code) => {
                return self.settle(generation, &write, Err(code));
            }
        };
        match result {
            Ok(()) => self.settle(generation, &write, Ok(())),
            Err(error) if error.maybe_appended => {
                warn!(partition = self.cx.partition, %error, "loading transactions again");
                self.unload(generation);
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            Err(error) => self.settle(generation, &write, Err(client_code(error.code))),
        }
    }

    fn settle(
        self: &Arc<Self>,
        generation: u64,
        write: &Write,
        result: Result<(), ErrorCode>,
    ) -> Result<Producer, ErrorCode> {
        let completion = self.with_load(|current, transactions, now| {
            // Loaded anew since: the load has the record, or it was not written.
            let is_known = current == generation;
            is_known.then(|| transactions.appended(now, write, result))
        })?;
        let completion = completion.ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        if let Some(completion) = completion {
            self.complete_soon(generation, completion);
        }
        result.and(write.answer)
    }

    /// The state may not be that of the log: it is loaded again.
    fn unload(&self, generation: u64) {
        let mut phase = self.phase.lock();
        if let Phase::Active {
            generation: current,
            ..
        } = &*phase
            && *current == generation
        {
            *phase = Phase::Loading { generation };
            self.reload.notify_one();
        }
    }

    fn complete_soon(self: &Arc<Self>, generation: u64, completion: Completion) {
        let completing = self.clone().complete(generation, completion);
        self.cx.tasks.spawn(completing);
    }

    /// Writes the markers of a transaction wherever they are missing, and then that it is complete.
    fn complete(
        self: Arc<Self>,
        generation: u64,
        completion: Completion,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let work = async {
                if self.write_markers(generation, &completion).await {
                    self.write_complete(generation, &completion).await;
                }
            };
            tokio::select! {
                () = self.cx.stop.cancelled() => {}
                () = work => {}
            }
        })
    }

    fn is_current(&self, generation: u64) -> bool {
        self.with(|_, _| ())
            .is_ok_and(|(current, ())| current == generation)
    }

    /// Whether all partitions have them.
    async fn write_markers(&self, generation: u64, completion: &Completion) -> bool {
        let mut missing: BTreeSet<TopicPartition> = completion.partitions.iter().cloned().collect();
        let mut pause = MARKERS_RETRY.0;
        let mut is_told = false;
        while !missing.is_empty() {
            let asked: Vec<TopicPartition> = missing.iter().cloned().collect();
            let writing = self.cx.markers.write(completion, self.cx.epoch, asked);
            for (partition, code) in writing.await {
                match code {
                    // A producer that is further on there: this transaction is over.
                    ErrorCode::None | ErrorCode::InvalidProducerEpoch => {
                        missing.remove(&partition);
                    }
                    ErrorCode::TransactionCoordinatorFenced => {
                        warn!(%partition, "a newer coordinator ends transactions");
                        return false;
                    }
                    code => debug!(%partition, %code, "a marker was not written yet"),
                }
            }
            if missing.is_empty() {
                break;
            }
            if !self.is_current(generation) {
                return false;
            }
            if pause == MARKERS_RETRY.1 && !is_told {
                is_told = true;
                warn!(
                    id = %completion.transactional_id, ?missing,
                    "markers are not written yet: readers of committed records wait"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MARKERS_RETRY.1);
        }
        true
    }

    async fn write_complete(self: &Arc<Self>, generation: u64, completion: &Completion) {
        let mut pause = MARKERS_RETRY.0;
        loop {
            let step = self.with(|transactions, now| transactions.markers_written(now, completion));
            let write = match step {
                Ok((current, Ok(Step::Write(write)))) if current == generation => write,
                _ => return, // whoever coordinates now completes it
            };
            match self.append((generation, write)).await {
                Ok(_) => return,
                Err(error) => {
                    debug!(id = %completion.transactional_id, %error, "not complete yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MARKERS_RETRY.1);
        }
    }

    /// Loads the partition and looks after its transactions until the context's `stop`.
    pub(super) async fn run(self: Arc<Self>) {
        let lead = async {
            loop {
                if self.load().await {
                    self.drive().await;
                } else {
                    tokio::time::sleep(LOAD_RETRY).await;
                }
            }
        };
        tokio::select! {
            () = self.cx.stop.cancelled() => {}
            () = lead => {}
        }
        *self.phase.lock() = Phase::Ended;
    }

    async fn load(self: &Arc<Self>) -> bool {
        let partition = self.cx.partition;
        let mut coordinator = TransactionCoordinator::new(self.cx.config);
        let log = self.cx.log.clone();
        if let Err(error) = load(&*log, partition, &mut coordinator).await {
            debug!(partition, %error, "failed to load transactions");
            return false;
        }
        let completions = coordinator.loaded(self.now());
        let (epoch, completing) = (self.cx.epoch, completions.len());
        info!(partition, completing, %epoch, "loaded transactions");
        let generation = {
            let mut phase = self.phase.lock();
            let generation = match &*phase {
                Phase::Loading { generation } | Phase::Active { generation, .. } => generation + 1,
                Phase::Ended => return false,
            };
            *phase = Phase::Active {
                coordinator: Box::new(coordinator),
                generation,
            };
            generation
        };
        for completion in completions {
            self.complete_soon(generation, completion);
        }
        true
    }

    /// Ends when the partition has to be loaded again.
    async fn drive(self: &Arc<Self>) {
        let interval = |period: Duration| {
            let mut interval = tokio::time::interval(period.max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let mut abort = interval(self.cx.abort_interval);
        let mut expiry = interval(self.cx.expiry_interval);
        loop {
            let begun = tokio::select! {
                () = self.reload.notified() => {
                    if self.with(|_, _| ()).is_err() {
                        return;
                    }
                    continue; // it was loaded again meanwhile
                }
                _ = abort.tick() => self.with(TransactionCoordinator::abort_timed_out),
                _ = expiry.tick() => self.with(TransactionCoordinator::expire),
            };
            let Ok((generation, writes)) = begun else {
                return;
            };
            let writes = writes.into_iter().map(|write| async move {
                let (id, aborts) = {
                    let record = &write.record;
                    (record.transactional_id.clone(), record.value.is_some())
                };
                match self.finish((generation, write)).await {
                    Ok(_) if aborts => {
                        info!(%id, "aborted a transaction that was open for too long");
                    }
                    Ok(_) | Err(ErrorCode::InvalidProducerIdMapping) => {
                        debug!(%id, "removed a transactional id that nobody uses");
                    }
                    Err(error) => debug!(%id, %error, "not written, tried again later"),
                }
            });
            join_all(writes).await;
        }
    }
}

fn batch(record: &TransactionRecord, wall_ms: i64) -> Result<CoordinatorBatch, ErrorCode> {
    let (key, value) = record.encode();
    let mut builder = BatchBuilder::new();
    builder.push(wall_ms, Some(&key), value.as_deref());
    let bytes = builder.build().map_err(|error| {
        warn!(%error, "failed to build a batch for the transactions topic");
        ErrorCode::UnknownServerError
    })?;
    Ok(CoordinatorBatch {
        bytes,
        rule: TransactionRule::Free,
    })
}

/// Reads every record up to the log end of this moment, waiting until the high watermark has passed it: what the former
/// leader acknowledged may lie beyond the high watermark that this broker knew as a follower.
async fn load(
    log: &dyn OffsetsLog,
    partition: i32,
    coordinator: &mut TransactionCoordinator,
) -> Result<(), ErrorCode> {
    let corrupt = |error: &dyn std::fmt::Display| {
        warn!(partition, %error, "failed to read the transactions topic");
        ErrorCode::CorruptMessage
    };
    let (mut next, end): (Offset, Offset) = log.bounds(partition)?;
    while next < end {
        let from = next;
        for chunk in log.read(partition, next).await? {
            for batch in BatchIter::new(&chunk) {
                let (header, bytes) = batch.map_err(|error| corrupt(&error))?;
                next = next.max(header.next_offset());
                if header.is_control() || header.record_count == 0 {
                    continue;
                }
                let records = RecordIter::new(&chunk.slice_ref(bytes), MAX_BATCH)
                    .map_err(|error| corrupt(&error))?;
                for record in records {
                    let record = record.map_err(|error| corrupt(&error))?;
                    if record.offset < from {
                        continue; // the batch began before the offset asked for
                    }
                    let key = record.key.unwrap_or_default();
                    match TransactionRecord::decode(&key, record.value.as_deref()) {
                        Ok(record) => coordinator.load(record),
                        // One bad record must not take the other ids of the partition down with it.
                        Err(error) => warn!(partition, %error, "skipped a record"),
                    }
                }
            }
        }
    }
    Ok(())
}
