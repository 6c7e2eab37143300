//! Which compacted log is cleaned next, by whom, and how fast?
//!
//! `log.cleaner.threads` threads take the dirtiest log that is due, one at a time, leaders and followers alike; when none
//! is due they look again after `log.cleaner.backoff.ms`. How a log is cleaned is decided in `broker_log::compact`. A log
//! that could not be cleaned is left alone for a while, or from then on (`broker_core::cleaning`), and counted; the
//! cleaners go on with the others.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use broker_core::cleaning::{Setback, pause_ms};
use broker_log::{
    Backlog, Compaction, CompactionSettings, CompactionStats, LogAccess, LogError, RealVfs, Room,
    compact,
};
use config::BrokerSettings;
use parking_lot::{Condvar, Mutex};

use super::housekeeping::write_cleaner_checkpoint;
use super::manager::ReplicaManager;
use super::model::TopicIdPartition;
use super::replica::{DiskLog, Replica};
use super::shared::wall_ms;

/// After so many bytes a cleaner looks whether it has to end.
const LOOK_EVERY: u64 = 1 << 20;
/// So many bytes of the disk a copy leaves free: what producers append while it is made.
const LEFT_FREE: u64 = 16 << 20;
/// A throttled cleaner waits at least this long at once: shorter waits cost more than they even out.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// The cleaners of a broker.
#[derive(Debug)]
pub(crate) struct Cleaners {
    threads: usize,
    backoff_ms: i64,
    bytes_per_second: f64,
    settings: CompactionSettings,
    state: Mutex<State>,
    stopping: Condvar,
    bytes: AtomicU64,
    runs: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// When the throttle lets the next bytes pass.
    free_at: Option<Instant>,
    /// The threads that run; one that panicked is missed.
    handles: Vec<std::thread::JoinHandle<()>>,
    /// What each thread did last.
    last: Vec<Option<LastRun>>,
    /// When logs were last looked at, by the broker's clock in ms.
    looked_ms: Option<i64>,
    max_dirty_ratio: f64,
    max_overdue_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct LastRun {
    stats: CompactionStats,
    took: Duration,
}

/// What the cleaners do, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CleanerStatus {
    /// Cleanings that were done.
    pub runs: u64,
    /// Bytes that were read and written for them.
    pub bytes: u64,
    /// Logs that were not cleaned when it was tried last, by reason in the order of [`Setback::ALL`].
    pub held_back_partitions: [usize; Setback::ALL.len()],
    /// Those of them that are not tried again: damaged ones, and those at which a cleaner panicked.
    pub uncleanable_partitions: usize,
    /// Bytes of those that were never compacted.
    pub uncleanable_bytes: u64,
    /// The dirtiest log's share of dirty bytes at the last look, percent.
    pub max_dirty_percent: f64,
    /// How far beyond `max.compaction.lag.ms` a record was at the last look, ms.
    pub max_compaction_delay_ms: i64,
    /// Ms since logs were last looked at; `None` before the first time.
    pub since_last_run_ms: Option<i64>,
    /// How much of what the last cleanings read was written again, percent.
    pub recopy_percent: f64,
    /// The longest of the last cleanings, ms.
    pub max_clean_time_ms: u64,
    /// How full the fullest offset map of the last cleanings was, percent.
    pub max_buffer_utilization_percent: f64,
    /// Threads that ended though they should not.
    pub dead_threads: usize,
}

impl Cleaners {
    pub(crate) fn new(settings: &BrokerSettings) -> Self {
        let threads = usize::try_from(settings.log_cleaner_threads).unwrap_or(0);
        let share = threads.max(1);
        let map = u64::try_from(settings.log_cleaner_dedupe_buffer_size).unwrap_or(0);
        let buffers = usize::try_from(settings.log_cleaner_io_buffer_size).unwrap_or(0);
        Self {
            threads,
            backoff_ms: settings.log_cleaner_backoff_ms,
            bytes_per_second: settings.log_cleaner_io_max_bytes_per_second,
            settings: CompactionSettings {
                map_bytes: map / share as u64,
                load_factor: settings.log_cleaner_io_buffer_load_factor,
                // One buffer to read and one to write.
                buffer_bytes: (buffers / share / 2).max(4096),
                hash_seed: rand::random(),
                left_free: LEFT_FREE,
                room: Room::default(),
            },
            state: Mutex::new(State {
                last: vec![None; threads],
                ..State::default()
            }),
            stopping: Condvar::new(),
            bytes: AtomicU64::new(0),
            runs: AtomicU64::new(0),
        }
    }

    /// Starts the threads.
    pub(crate) fn start(&self, manager: &ReplicaManager) -> std::io::Result<()> {
        for index in 0..self.threads {
            let running = manager.clone();
            let thread = std::thread::Builder::new()
                .name(format!("log-cleaner-{index}"))
                .spawn(move || run(&running, index))?;
            self.state.lock().handles.push(thread);
        }
        Ok(())
    }

    /// Ends the threads, in the middle of a cleaning if need be, and waits for them.
    pub(crate) fn stop(&self) {
        let handles = {
            let mut state = self.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.handles)
        };
        self.stopping.notify_all();
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a log cleaner panicked");
            }
        }
    }

    /// Waits until `until` or the stop; `true` if it is the stop.
    fn stopped_before(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.stopped {
            if self.stopping.wait_until(&mut state, until).timed_out() {
                return state.stopped;
            }
        }
        true
    }

    /// How long a thread waits that found nothing to do.
    fn pause(&self) -> Duration {
        Duration::from_millis(u64::try_from(pause_ms(self.backoff_ms)).unwrap_or(u64::MAX))
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Counts bytes and waits as long as the throttle asks; `true` if the cleaners are to stop.
    fn throttle(&self, bytes: u64) -> bool {
        self.bytes.fetch_add(bytes, Relaxed);
        let wait_until = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let Some(free_at) = free_at(state.free_at, now, bytes, self.bytes_per_second) else {
                return state.stopped;
            };
            state.free_at = Some(free_at);
            if free_at < now + LEAST_WAIT {
                return state.stopped;
            }
            free_at
        };
        self.stopped_before(wait_until)
    }

    fn note_look(&self, now_ms: i64, backlogs: &[(Arc<Replica>, Backlog)]) {
        let mut state = self.state.lock();
        state.looked_ms = Some(now_ms);
        let ratios = backlogs.iter().map(|(_, backlog)| backlog.dirty_ratio());
        state.max_dirty_ratio = ratios.fold(0.0, f64::max);
        let overdue = backlogs.iter().map(|(_, backlog)| backlog.overdue_ms).max();
        state.max_overdue_ms = overdue.unwrap_or(0);
    }

    fn status(&self, now_ms: i64) -> CleanerStatus {
        let state = self.state.lock();
        let runs = || state.last.iter().flatten();
        let sum = |of: fn(&CompactionStats) -> u64| runs().map(|run| of(&run.stats)).sum::<u64>();
        let (read, written) = (sum(|s| s.bytes_before), sum(|s| s.bytes_after));
        let took = runs().map(|run| run.took).max().unwrap_or_default();
        let fullest = runs().map(|run| run.stats.map_utilization);
        let dead = state.handles.iter().filter(|handle| handle.is_finished());
        CleanerStatus {
            runs: self.runs.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            max_dirty_percent: 100.0 * state.max_dirty_ratio,
            max_compaction_delay_ms: state.max_overdue_ms,
            since_last_run_ms: state.looked_ms.map(|at| now_ms - at),
            recopy_percent: if read == 0 {
                0.0
            } else {
                100.0 * written as f64 / read as f64
            },
            max_clean_time_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            max_buffer_utilization_percent: 100.0 * fullest.fold(0.0, f64::max),
            dead_threads: dead.count(),
            ..CleanerStatus::default()
        }
    }
}

/// When the next bytes may pass after these; `None` where no throttle is set that could be felt.
fn free_at(
    before: Option<Instant>,
    now: Instant,
    bytes: u64,
    bytes_per_second: f64,
) -> Option<Instant> {
    if bytes_per_second <= 0.0 {
        return None;
    }
    let takes = Duration::try_from_secs_f64(bytes as f64 / bytes_per_second).ok()?;
    before.map_or(now, |at| at.max(now)).checked_add(takes)
}

/// The log of a replica, as long as it is not closed.
struct ReplicaLog<'r>(&'r Replica);

impl LogAccess<RealVfs> for ReplicaLog<'_> {
    fn with<R>(&self, step: impl FnOnce(&mut DiskLog) -> R) -> Option<R> {
        let mut state = self.0.lock();
        (!state.closed).then(|| step(&mut state.log))
    }
}

/// A thread's life.
fn run(manager: &ReplicaManager, index: usize) {
    let cleaners = &manager.inner().cleaners;
    while !cleaners.is_stopped() {
        let cleaned = manager
            .take_dirtiest()
            .is_some_and(|replica| manager.clean(&replica, index));
        if !cleaned && cleaners.stopped_before(Instant::now() + cleaners.pause()) {
            return;
        }
    }
}

impl ReplicaManager {
    /// What the cleaners do.
    #[must_use]
    pub fn cleaner_status(&self) -> CleanerStatus {
        let mut status = self
            .inner()
            .cleaners
            .status(self.inner().shared.clock.now_ms());
        for replica in self.all_replicas() {
            let record = replica.cleaning.record();
            for (at, setback) in Setback::ALL.into_iter().enumerate() {
                status.held_back_partitions[at] += usize::from(record.setback() == Some(setback));
            }
            if record.is_final() {
                status.uncleanable_partitions += 1;
                // It may panic again.
                let known = record.setback() != Some(Setback::Panicked);
                let backlog = known.then(|| replica.backlog()).flatten();
                let backlog = backlog.and_then(Result::ok);
                status.uncleanable_bytes += backlog.map_or(0, |backlog| backlog.dirty_bytes);
            }
        }
        status
    }

    /// The dirtiest log that is due, marked as being cleaned.
    fn take_dirtiest(&self) -> Option<Arc<Replica>> {
        // Until the metadata has named all logs, no checkpoint is written, which cleaning relies on.
        if self.inner().directory.has_waiting() {
            return None;
        }
        let cleaners = &self.inner().cleaners;
        let now_ms = self.inner().shared.clock.now_ms();
        let mut backlogs = Vec::new();
        for replica in self.all_replicas() {
            let record = replica.cleaning.record();
            if !replica.settings().cleanup_policy.compact || record.is_final() {
                continue;
            }
            // Those that wait for another try are looked at, too: the metrics tell how much waits.
            match guarded(&replica.partition, || replica.backlog().transpose()) {
                Ok(None) => {}
                Ok(Some(backlog)) => backlogs.push((replica, backlog)),
                // It may be what the log waits for already.
                Err(_) if !record.may_start(now_ms) => {}
                Err(error) => replica.cleaning_failed(&error, cleaners.backoff_ms),
            }
        }
        cleaners.note_look(now_ms, &backlogs);
        backlogs.retain(|(replica, backlog)| {
            backlog.is_due(replica.settings().min_cleanable_dirty_ratio)
        });
        backlogs.sort_by(|(_, a), (_, b)| b.dirty_ratio().total_cmp(&a.dirty_ratio()));
        let mut free = backlogs.into_iter().map(|(replica, _)| replica);
        free.find(|replica| replica.cleaning.begin(now_ms))
    }

    /// Cleans a log that [`Self::take_dirtiest`] gave; whether something came of it. Even a panic costs that log only.
    fn clean(&self, replica: &Arc<Replica>, thread: usize) -> bool {
        let result = guarded(&replica.partition, || {
            let started = Instant::now();
            let result = self.compact(replica)?;
            Ok(self.note_result(replica, thread, result, started.elapsed()))
        });
        let done = result.unwrap_or_else(|error| {
            replica.cleaning_failed(&error, self.inner().cleaners.backoff_ms);
            false
        });
        replica.cleaning.end();
        done
    }

    fn compact(&self, replica: &Replica) -> Result<Compaction, LogError> {
        let cleaners = &self.inner().cleaners;
        let high_watermark = replica.lock().core.high_watermark();
        let mut since_look = 0;
        let mut pace = |bytes: u64| {
            let stop = cleaners.throttle(bytes);
            since_look += bytes;
            let look = since_look >= LOOK_EVERY;
            if look {
                since_look = 0;
            }
            if stop || (look && !replica.is_compacted()) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        compact(
            &ReplicaLog(replica),
            &cleaners.settings,
            wall_ms(),
            high_watermark,
            &mut pace,
        )
    }

    fn note_result(
        &self,
        replica: &Replica,
        thread: usize,
        result: Compaction,
        took: Duration,
    ) -> bool {
        let cleaners = &self.inner().cleaners;
        match result {
            Compaction::Done(stats) => {
                replica.cleaning.on_done();
                tracing::info!(partition = %replica.partition, from = %stats.from, to = %stats.to, bytes_before = stats.bytes_before, bytes_after = stats.bytes_after, records_before = stats.records_read, records_after = stats.records_kept, ms = took.as_millis(), "compacted a log");
                if stats.keyless_records > 0 {
                    tracing::warn!(partition = %replica.partition, records = stats.keyless_records, "records without a key were dropped: they were produced before the topic was compacted");
                }
                cleaners.state.lock().last[thread] = Some(LastRun { stats, took });
                cleaners.runs.fetch_add(1, Relaxed);
                let written = write_cleaner_checkpoint(self);
                if let Err(error) = &written {
                    self.inner().shared.fail(error);
                }
                written.is_ok()
            }
            Compaction::Nothing | Compaction::Interrupted => {
                replica.put_off(Setback::Interrupted, cleaners.backoff_ms);
                false
            }
            Compaction::NoRoom { needed, free } => {
                let again_in_ms = replica.put_off(Setback::NoRoom, cleaners.backoff_ms);
                tracing::warn!(partition = %replica.partition, needed, free, again_in_ms, "the disk has no room for a copy of the segments that compaction would replace: put off");
                false
            }
        }
    }
}

/// Runs `step` on a log; a panic is an error, of that log.
fn guarded<R>(
    log: &TopicIdPartition,
    step: impl FnOnce() -> Result<R, LogError>,
) -> Result<R, LogError> {
    // What a panic may leave half done is the log's memory, and then `compact` took the log offline.
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|panic| Err(LogError::panicked(log.to_string(), &*panic)))
}

impl Replica {
    /// What compaction would find; `None` for a closed replica.
    fn backlog(&self) -> Option<Result<Backlog, LogError>> {
        let state = self.lock();
        let high_watermark = state.core.high_watermark();
        (!state.closed).then(|| state.log.compaction_backlog(wall_ms(), high_watermark))
    }

    fn is_compacted(&self) -> bool {
        self.settings().cleanup_policy.compact && !self.lock().closed
    }

    /// Another try comes later, in so many ms.
    fn put_off(&self, setback: Setback, backoff_ms: i64) -> Option<i64> {
        let again_in_ms = self.cleaning.on_setback(self.now_ms(), setback, backoff_ms);
        let reason = setback.name();
        tracing::debug!(partition = %self.partition, reason, again_in_ms, "the log was not compacted");
        again_in_ms
    }

    fn cleaning_failed(&self, error: &LogError, backoff_ms: i64) {
        if self.is_deleted() {
            return;
        }
        let setback = match error {
            LogError::DiskFull { .. } => Setback::NoRoom,
            LogError::Panicked { .. } => Setback::Panicked,
            error if error.is_damage() => Setback::Damaged,
            _ => Setback::IoError,
        };
        let source = std::error::Error::source(error).map(ToString::to_string);
        let reason = setback.name();
        match self.put_off(setback, backoff_ms) {
            Some(again_in_ms) => {
                tracing::warn!(partition = %self.partition, reason, %error, source, again_in_ms, "the log could not be compacted: tried again later");
            }
            None => {
                tracing::error!(partition = %self.partition, reason, %error, source, "the log cannot be compacted: it is left alone until the broker is started anew");
            }
        }
        let offline = self.lock().log.offline_reason().is_some();
        if offline {
            // It happened while files were swapped: as after any failed write, the disk's state is not known.
            self.fail(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_log_that_it_happened_at() {
        let log = TopicIdPartition::new(types::TopicId([7; 16]), "profiles", 3);
        let done = guarded(&log, || Ok(1));
        assert!(matches!(done, Ok(1)), "{done:?}");
        let failed = guarded(&log, || -> Result<(), LogError> { panic!("a bug") });
        let Err(LogError::Panicked { log, reason }) = failed else {
            panic!("{failed:?}");
        };
        assert!(log.contains("profiles"), "{log}");
        assert_eq!(reason, "a bug");
    }

    #[test]
    fn a_throttle_spreads_bytes_over_time_and_saves_nothing_up() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(free_at(None, now, 500, 1000.0), Some(now + second / 2));
        let busy = Some(now + second);
        assert_eq!(free_at(busy, now, 1000, 1000.0), Some(now + 2 * second));
        let idle = Some(now);
        assert_eq!(
            free_at(idle, now + 5 * second, 1000, 1000.0),
            Some(now + 6 * second)
        );
        assert_eq!(free_at(None, now, 1 << 30, f64::MAX), Some(now));
    }
}
