//! How does a pod end: asked first, killed when its grace is over, and then forgotten?

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};
use rustix::process::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::node::orphans;

/// How the worker was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The pod was deleted: stop, then remove the object.
    Deleted,
    /// The agent stops: stop, keep the object for the next run.
    Agent,
}

impl Worker {
    pub(super) fn wanted_ending(&self, stop: &CancellationToken) -> Option<Ending> {
        if stop.is_cancelled() {
            Some(Ending::Agent)
        } else if self.pod.metadata.deletion_timestamp.is_some() {
            Some(Ending::Deleted)
        } else {
            None
        }
    }

    pub(super) fn begin_end(&mut self, why: Ending) {
        let own = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(30);
        let grace = match why {
            Ending::Deleted => Duration::from_secs(own),
            Ending::Agent => self.shared.stop_within,
        };
        self.ending = true;
        let kill_at = Instant::now() + grace;
        for slot in &mut self.slots {
            slot.due = None;
            slot.stop_probes();
            slot.state.ready = false;
            if let Some(process) = &slot.process {
                process.signal(Signal::TERM);
                slot.kill_at = Some(kill_at);
            }
        }
    }

    /// The agent stops while the pod terminates: its grace ends with the agent's.
    pub(super) fn hurry(&mut self) {
        let latest = Instant::now() + self.shared.stop_within;
        for at in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.kill_at.as_mut())
        {
            *at = latest.min(*at);
        }
    }

    pub(super) fn kill_overdue(&mut self) {
        let now = Instant::now();
        for slot in &mut self.slots {
            if slot.kill_at.is_some_and(|at| at <= now) {
                slot.kill_at = None;
                if let Some(process) = &slot.process {
                    process.signal(Signal::KILL);
                }
            }
        }
    }

    pub(super) fn all_stopped(&self) -> bool {
        self.slots.iter().all(|slot| slot.process.is_none())
    }

    pub(super) async fn finish(mut self, why: Ending) {
        if why == Ending::Agent {
            self.write_status(false).await;
            return;
        }
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            tracing::debug!(pod = %self.name, error = %e, "failed to remove a pod's folder");
        }
        let preconditions = Preconditions {
            uid: self.pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        for attempt in 0..10_u32 {
            match self.api().delete(&self.name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return,
                Err(e) => {
                    tracing::debug!(pod = %self.name, attempt, error = %e, "failed to remove a stopped pod; retrying");
                }
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt.min(5))).await;
        }
        tracing::warn!(pod = %self.name, "a stopped pod could not be removed; the next start removes it");
    }

    pub(super) async fn end_leftovers(&self) {
        for slot in &self.slots {
            orphans::end_recorded(&self.record_file(&slot.container.name)).await;
        }
    }
}
