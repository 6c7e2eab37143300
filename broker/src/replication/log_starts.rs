//! How is the start of a log on the disk before anybody is told of it?
//!
//! A log begins where `log-start-offset-checkpoint` says; without it, records come back that were deleted inside a
//! segment. So what a follower acknowledges to its leader, and what a DeleteRecords waits for, is the start that was
//! written down. A task writes it at once: one file for all logs that moved meanwhile.

use broker_log::{LogError, OffsetCheckpoint};
use rpc::replication::v1 as proto;
use tokio::sync::watch;
use types::{NodeId, Offset};

use super::housekeeping::on_disk;
use super::manager::ReplicaManager;
use super::replica::{Replica, State};
use super::shared::stopped;

/// Where a log begins, beyond what the log itself knows.
#[derive(Debug, Default)]
pub(crate) struct LogStart {
    /// What the checkpoint says; until it was written by this process, nothing is relied on.
    written: Offset,
    /// Up to where the leader deleted and this log, of a follower, has not yet.
    delete_below: Option<Offset>,
}

impl LogStart {
    /// The log was cut: its leader says anew where it begins.
    pub(crate) fn on_truncated(&mut self) {
        self.delete_below = None;
    }
}

/// Runs until the manager stops.
pub(crate) async fn run(manager: ReplicaManager, mut shutdown: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = manager.inner().shared.log_starts.notified() => on_disk(&manager, follow).await,
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// Deletes what leaders deleted and writes down where logs begin.
fn follow(manager: &ReplicaManager) -> Result<(), LogError> {
    for replica in manager.all_replicas() {
        replica.delete_as_leader();
    }
    write(manager)
}

/// Writes down where logs begin, and tells those who wait for that. While the metadata has not named all logs the file
/// still speaks of those that wait: it is written when it has.
pub(crate) fn write(manager: &ReplicaManager) -> Result<(), LogError> {
    let inner = manager.inner();
    // What was read last is written last.
    let mut checkpoints = inner.directory.checkpoints();
    if inner.directory.has_waiting() {
        return Ok(());
    }
    let replicas = manager.all_replicas();
    let starts: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let start = replica.lock().log.log_start_offset();
            (replica.partition.topic_partition(), start)
        })
        .collect();
    checkpoints.write(OffsetCheckpoint::LogStart, starts.iter().cloned().collect())?;
    for (replica, (_, start)) in replicas.iter().zip(starts) {
        if let Some((leader, progress)) = replica.on_log_start_written(start) {
            inner.links.progress(leader, &progress);
        }
    }
    Ok(())
}

impl Replica {
    /// The leader's log begins at `offset`: this one will, too, and says so when that is written down.
    pub(crate) fn delete_below(&self, state: &mut State, offset: Offset) {
        state.log_start.delete_below = Some(offset);
        self.shared.log_starts.notify_one();
    }

    fn delete_as_leader(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(offset) = state.log_start.delete_below.take() else {
            return;
        };
        if state.closed {
            return;
        }
        if let Err(error) = state.log.advance_log_start_offset(offset) {
            return self.fail(&error);
        }
        // It may lead by now.
        state.after_log_start();
    }

    /// Gives what the leader is to be told.
    fn on_log_start_written(&self, written: Offset) -> Option<(NodeId, proto::FollowerProgress)> {
        let mut state = self.lock();
        if state.closed || state.log_start.written == written {
            return None;
        }
        state.log_start.written = written;
        state.settle_deletes();
        let leader = state.core.follower()?.leader()?;
        let durable = self.durable_end(&state);
        Some((leader, self.progress(&state, durable)))
    }

    /// Where the log begins, for its leader; what is not written down yet is, soon.
    pub(crate) fn log_start_for_leader(&self, state: &State) -> Offset {
        let written = state.written_log_start();
        if written < state.log.log_start_offset() {
            self.shared.log_starts.notify_one();
        }
        written
    }
}

impl State {
    /// Where the log begins whatever happens.
    pub(crate) fn written_log_start(&self) -> Offset {
        self.log.log_start_offset().min(self.log_start.written)
    }

    /// The smallest log start of all live replicas that is written down there; nothing, if this one does not lead.
    pub(crate) fn low_watermark(&self) -> Option<Offset> {
        let leader = self.core.leader()?;
        Some(leader.low_watermark().min(self.written_log_start()))
    }
}
