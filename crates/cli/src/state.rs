//! What does a running `tidemark up` leave in its data directory for the other commands?
//!
//! `lock` is held (flock) by the running process and holds its PID; `status.json` is replaced atomically at
//! every change.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// One object as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectStatus {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ready: bool,
    pub(crate) phase: String,
    pub(crate) message: String,
    /// HOST:PORT list of a KafkaCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bootstrap: Option<String>,
}

/// One pod as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ip: String,
    /// How much higher its ports are than its manifest says (`--port-base`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) port_offset: u16,
    pub(crate) ready: bool,
    pub(crate) restarts: i32,
    pub(crate) phase: String,
    /// Process id of the pod's container, when it runs.
    pub(crate) pid: Option<u32>,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// The content of `status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) pid: u32,
    /// Whether every object of the manifests was Ready when this was written.
    pub(crate) ready: bool,
    pub(crate) objects: Vec<ObjectStatus>,
    pub(crate) pods: Vec<PodStatus>,
    /// Problems with manifests, one line each.
    pub(crate) problems: Vec<String>,
}

/// The files of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }

    /// Where `up --detach` writes its own output.
    pub(crate) fn up_log(&self) -> PathBuf {
        self.root.join("up.log")
    }

    /// Where the pods' logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Takes the lock for this process.
    ///
    /// # Errors
    /// Says which PID holds it.
    pub(crate) fn acquire(&self) -> anyhow::Result<Lock> {
        std::fs::create_dir_all(&self.root)
            .with_context(|| format!("failed to create {}", self.root.display()))?;
        let path = self.lock();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            bail!(
                "the data directory {} is held by the running `tidemark up` with PID {}: stop it with `tidemark down`, \
                 or give another --data-dir",
                self.root.display(),
                pid.trim()
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// The PID of the running `up`, if one holds the lock.
    pub(crate) fn holder(&self) -> anyhow::Result<Option<u32>> {
        let Ok(mut file) = File::open(self.lock()) else {
            return Ok(None);
        };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        Ok(pid.trim().parse().ok())
    }

    /// Replaces `status.json`.
    pub(crate) fn write_status(&self, status: &Status) -> anyhow::Result<()> {
        let temporary = self.root.join("status.json.new");
        std::fs::write(&temporary, serde_json::to_vec_pretty(status)?)
            .with_context(|| format!("failed to write {}", temporary.display()))?;
        std::fs::rename(&temporary, self.status()).context("failed to replace status.json")?;
        Ok(())
    }

    /// The last status that was written, if any.
    pub(crate) fn read_status(&self) -> anyhow::Result<Option<Status>> {
        match std::fs::read(self.status()) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).context("failed to read status.json")?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read status.json"),
        }
    }

    /// Removes the last status, so that nobody takes an older run's for this one's.
    pub(crate) fn clear_status(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.status()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("failed to remove the last status.json")
            }
            _ => Ok(()),
        }
    }

    /// The status of the `up` that runs now.
    ///
    /// # Errors
    /// Says how to start one when none runs.
    pub(crate) fn running_status(&self) -> anyhow::Result<Status> {
        match (self.holder()?, self.read_status()?) {
            (Some(_), Some(status)) => Ok(status),
            (Some(pid), None) => {
                bail!("`tidemark up` (PID {pid}) has not reported yet: try again in a moment")
            }
            (None, _) => bail!(
                "no `tidemark up` runs on {}: start one with `tidemark up DIR`, name its --data-dir, or give \
                 --bootstrap-server",
                self.root.display()
            ),
        }
    }
}

/// Holds a data directory; released when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let lock = layout.acquire().unwrap();
        let error = layout.acquire().unwrap_err().to_string();
        assert!(
            error.contains(&format!("PID {}", std::process::id())),
            "{error}"
        );
        assert_eq!(layout.holder().unwrap(), Some(std::process::id()));
        drop(lock);
        assert_eq!(layout.holder().unwrap(), None);
        layout.acquire().unwrap();
    }

    #[test]
    fn a_status_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(layout.read_status().unwrap(), None);
        let status = Status {
            pid: 7,
            ready: true,
            ..Status::default()
        };
        layout.write_status(&status).unwrap();
        assert_eq!(layout.read_status().unwrap(), Some(status));
        assert!(
            layout
                .running_status()
                .unwrap_err()
                .to_string()
                .contains("no `tidemark up` runs")
        );
    }
}
