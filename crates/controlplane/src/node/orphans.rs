//! Does a child of an earlier agent still run, and how is it ended before its data is used again?
//!
//! A process id alone may have been reused, so its start time is recorded with it and both must match. Children end by
//! themselves when their parent's pipe closes; this waits for that and only then kills.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::addresses::replace_file;

/// What identifies a process across agent restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat` field 22); `None` where that does not exist.
    pub(crate) started: Option<u64>,
}

impl ProcessRecord {
    /// The record of a process that runs now.
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            started: start_time(pid),
        }
    }

    /// Whether that very process still runs (a zombie does not).
    pub(crate) fn alive(&self) -> bool {
        match (self.started, start_time(self.pid)) {
            (Some(recorded), Some(now)) => recorded == now,
            _ => false,
        }
    }

    pub(crate) fn save(&self, path: &Path) -> std::io::Result<()> {
        replace_file(path, &serde_json::to_vec(self)?)
    }

    fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// `None` when the process does not run.
fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may itself hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A child ends within this when its parent's pipe closes: a controlled shutdown is bounded by 5 s.
const GRACE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(20);

/// Ends what an earlier agent recorded in `path`; returns whether something had to be waited for.
pub(crate) async fn end_recorded(path: &Path) -> bool {
    let Some(record) = ProcessRecord::load(path) else {
        return false;
    };
    if !record.alive() {
        return false;
    }
    tracing::warn!(
        pid = record.pid,
        "a child of an earlier run still runs; waiting for it to end"
    );
    let deadline = tokio::time::Instant::now() + GRACE;
    while record.alive() {
        if tokio::time::Instant::now() >= deadline {
            kill(record.pid);
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(Err(e)) =
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL))
    {
        tracing::debug!(error = %e, "failed to kill a leftover child; it may just have ended");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_very_process_that_was_recorded_counts() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .unwrap();
        let record = ProcessRecord::of(child.id());
        assert!(record.alive());
        let other = ProcessRecord {
            started: record.started.map(|s| s + 1),
            ..record.clone()
        };
        assert!(!other.alive(), "a reused pid is somebody else");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!record.alive());
    }
}
