//! What is done from time to time: ISR checks, retention, checkpoints, write-back, expiry?

use std::collections::BTreeMap;
use std::time::Duration;

use broker_log::{LogError, OffsetCheckpoint, OffsetCheckpoints, RealVfs};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use types::{Offset, TopicPartition};

use super::log_starts;
use super::manager::ReplicaManager;
use super::replica::Replica;
use super::shared::{stopped, wall_ms};
use super::stragglers;

/// How often ISRs are looked at; a lagging member goes within this after `replica.lag.time.max.ms`. Joining does not
/// wait for it.
const ISR_CHECK: Duration = Duration::from_millis(500);
/// How often HW, recovery points and log starts are written down (Kafka: every 5 s and every 60 s).
const CHECKPOINT: Duration = Duration::from_secs(5);
/// Batches stay in the tail cache for this long.
const TAIL_KEPT_MS: i64 = 2_000;
const TAIL_CHECK: Duration = Duration::from_secs(1);

/// Runs until the manager stops.
pub(crate) async fn run(
    manager: ReplicaManager,
    retention_interval: Duration,
    mut shutdown: watch::Receiver<bool>,
) {
    let ticker = |period: Duration| {
        let mut ticker = tokio::time::interval_at(Instant::now() + period, period);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticker
    };
    let (mut isr, mut tails) = (ticker(ISR_CHECK), ticker(TAIL_CHECK));
    let mut checkpoints = ticker(CHECKPOINT);
    let mut retention = ticker(retention_interval.max(Duration::from_millis(1)));
    let mut stragglers = stragglers::Reporter::default();
    loop {
        tokio::select! {
            _ = isr.tick() => {
                stragglers.look(&manager);
                check_isrs(&manager);
            }
            _ = tails.tick() => {
                expire_tails(&manager);
                on_disk(&manager, look_for_room).await;
            }
            _ = checkpoints.tick() => on_disk(&manager, checkpoint).await,
            _ = retention.tick() => on_disk(&manager, clean).await,
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// Runs a pass over the disk off the runtime's threads; an error stops the broker.
pub(crate) async fn on_disk(
    manager: &ReplicaManager,
    pass: fn(&ReplicaManager) -> Result<(), LogError>,
) {
    let running = manager.clone();
    // The task cannot panic and is never cancelled.
    let done = tokio::task::spawn_blocking(move || pass(&running)).await;
    if let Ok(Err(error)) = done {
        manager.inner().shared.fail(&error);
    }
}

fn check_isrs(manager: &ReplicaManager) {
    for replica in manager.all_replicas() {
        replica.check_isr();
    }
}

fn expire_tails(manager: &ReplicaManager) {
    for replica in manager.all_replicas() {
        let before = replica.now_ms() - TAIL_KEPT_MS;
        replica.lock().tail.expire(before);
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one pass over the disk of several"
)]
fn look_for_room(manager: &ReplicaManager) -> Result<(), LogError> {
    manager.inner().shared.room.look();
    Ok(())
}

/// What the checkpoint files say of one log.
struct Positions {
    name: TopicPartition,
    first_dirty: Offset,
    checkpointed_dirty: Offset,
    recovery_point: Offset,
    log_start: Offset,
    high_watermark: Offset,
}

fn positions(replica: &Replica) -> Positions {
    let state = replica.lock();
    Positions {
        name: replica.partition.topic_partition(),
        first_dirty: state.log.first_dirty_offset(),
        checkpointed_dirty: state.log.checkpointed_first_dirty_offset(),
        recovery_point: state.log.recovery_point(),
        log_start: state.log.log_start_offset(),
        high_watermark: state.core.high_watermark(),
    }
}

/// Writes the checkpoints, and queues for write-back what was appended since the last pass.
fn checkpoint(manager: &ReplicaManager) -> Result<(), LogError> {
    for replica in &manager.all_replicas() {
        if replica.lock().unflushed_bytes > 0 {
            manager.inner().shared.flush.request(replica);
        }
    }
    // Until the metadata has named all logs, the files still speak of those that wait.
    if manager.inner().directory.has_waiting() {
        return Ok(());
    }
    write_cleaner_checkpoint(manager)?;
    log_starts::write(manager)?;
    let mut checkpoints = manager.inner().directory.checkpoints();
    let all: Vec<_> = manager
        .all_replicas()
        .iter()
        .map(|replica| positions(replica))
        .collect();
    write_positions(&mut checkpoints, &all)
}

/// Writes down how far logs are durable and replicated.
fn write_positions(
    checkpoints: &mut OffsetCheckpoints<RealVfs>,
    all: &[Positions],
) -> Result<(), LogError> {
    let offsets = |of: fn(&Positions) -> Offset| {
        all.iter()
            .map(|one| (one.name.clone(), of(one)))
            .collect::<BTreeMap<_, _>>()
    };
    let recovery = offsets(|one| one.recovery_point);
    checkpoints.write(OffsetCheckpoint::RecoveryPoint, recovery)?;
    let watermarks = offsets(|one| one.high_watermark);
    checkpoints.write(OffsetCheckpoint::HighWatermark, watermarks)
}

/// Of logs that were cleaned, also those that are not compacted any more: recovery relies on it, and they may be again.
fn cleaned(all: &[Positions]) -> BTreeMap<TopicPartition, Offset> {
    all.iter()
        .filter(|one| one.first_dirty > Offset(0))
        .map(|one| (one.name.clone(), one.first_dirty))
        .collect()
}

/// Writes down how far logs are clean, and tells them. Also done after each cleaning: the next one may rely on it.
pub(crate) fn write_cleaner_checkpoint(manager: &ReplicaManager) -> Result<(), LogError> {
    // What was read last is written last.
    let mut checkpoints = manager.inner().directory.checkpoints();
    let replicas = manager.all_replicas();
    let all: Vec<_> = replicas.iter().map(|replica| positions(replica)).collect();
    checkpoints.write(OffsetCheckpoint::Cleaner, cleaned(&all))?;
    for (replica, one) in replicas.iter().zip(&all) {
        if one.checkpointed_dirty != one.first_dirty {
            let told = replica.lock().log.on_cleaner_checkpoint(one.first_dirty);
            told?;
        }
    }
    Ok(())
}

/// Retention, rolling, removal of deleted segments, expiry of producers.
fn clean(manager: &ReplicaManager) -> Result<(), LogError> {
    let now_ms = wall_ms();
    for replica in manager.all_replicas() {
        let mut guard = replica.lock();
        let state = &mut *guard;
        if state.closed {
            continue;
        }
        let high_watermark = state.core.high_watermark();
        state.log.roll_if_needed(now_ms)?;
        let deleted = state.log.enforce_retention(now_ms, high_watermark)?;
        for segment in deleted {
            tracing::info!(partition = %replica.partition, base = %segment.base_offset, bytes = segment.size, reason = ?segment.reason, "deleted a segment");
        }
        state.log.purge_deleted(now_ms)?;
        state.log.expire_producers(now_ms);
        state.after_log_start();
    }
    Ok(())
}

/// Closes every log and writes the checkpoints and the clean-shutdown file.
pub(crate) fn close_all(manager: &ReplicaManager) -> Result<(), LogError> {
    let inner = manager.inner();
    let _no_metadata_meanwhile = inner.applying.lock();
    let replicas = manager.all_replicas();
    for replica in &replicas {
        replica.close();
        replica.lock().log.close()?;
    }
    let mut all: Vec<_> = replicas.iter().map(|replica| positions(replica)).collect();
    for closed in inner.directory.close_waiting()? {
        all.push(Positions {
            name: closed.name,
            first_dirty: closed.first_dirty,
            checkpointed_dirty: closed.first_dirty,
            recovery_point: closed.recovery_point,
            log_start: closed.log_start,
            high_watermark: closed.high_watermark,
        });
    }
    let directory = &inner.directory;
    let mut checkpoints = directory.checkpoints();
    checkpoints.write(OffsetCheckpoint::Cleaner, cleaned(&all))?;
    let starts = all.iter().map(|one| (one.name.clone(), one.log_start));
    checkpoints.write(OffsetCheckpoint::LogStart, starts.collect())?;
    write_positions(&mut checkpoints, &all)?;
    let epoch = inner.shared.broker_epoch().0;
    directory
        .dir()
        .mark_clean_shutdown((epoch >= 0).then_some(epoch))
}
