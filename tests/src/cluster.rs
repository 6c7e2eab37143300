//! How does a test start, disturb and stop a cluster that `tidemark up` runs?

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Next free third byte of a loopback address base; one test binary runs at a time.
static NEXT_BASE: AtomicU8 = AtomicU8::new(40);

/// Longest wait for any single condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `look` until it gives a value.
///
/// # Panics
/// After [`PATIENCE`], with `what`.
#[track_caller]
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "gave up after {} s waiting until {what}",
            PATIENCE.as_secs()
        );
        // Paces the looks.
        let nothing = never.recv_timeout(Duration::from_millis(20));
        assert!(nothing.is_err(), "nothing is ever sent");
    }
}

/// Calls `look` until it is true.
#[track_caller]
pub fn await_true(what: &str, mut look: impl FnMut() -> bool) {
    await_some(what, || look().then_some(()));
}

/// A pod of a running cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Pod name.
    pub name: String,
    /// Loopback address.
    pub ip: String,
    /// Process id, when it runs.
    pub pid: Option<u32>,
    /// Whether the pod's Ready condition is true.
    pub ready: bool,
    /// How often it was restarted.
    pub restarts: i64,
}

/// A `tidemark up --detach` on a folder of manifests of its own; stopped and deleted when dropped.
#[derive(Debug)]
pub struct Cluster {
    home: TempDir,
    address_base: String,
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Cluster {
    /// Copies `manifests` (a folder of `examples/`), starts it and waits until everything is Ready.
    ///
    /// # Panics
    /// With the output of `up` when it is not Ready in time.
    #[must_use]
    pub fn up(manifests: &str) -> Self {
        let cluster = Self::prepare(manifests);
        cluster.start();
        cluster
    }

    /// As [`Cluster::up`] without starting it.
    ///
    /// # Panics
    /// When the manifests cannot be copied.
    #[must_use]
    pub fn prepare(manifests: &str) -> Self {
        let home = tempfile::Builder::new()
            .prefix("tidemark-test-")
            .tempdir()
            .expect("a temporary folder");
        let third = NEXT_BASE.fetch_add(1, Ordering::Relaxed);
        let cluster = Self {
            home,
            address_base: format!("127.0.{third}.0"),
        };
        std::fs::create_dir(cluster.manifests()).expect("a folder for manifests");
        for entry in std::fs::read_dir(crate::root().join(manifests)).expect("the example exists") {
            let path = entry.expect("a readable folder").path();
            std::fs::copy(
                &path,
                cluster
                    .manifests()
                    .join(path.file_name().expect("a file name")),
            )
            .expect("copied");
        }
        cluster
    }

    /// The folder whose YAML the cluster follows.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.home.path().join("manifests")
    }

    /// The `--data-dir`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A free folder for the test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// `up --detach`.
    ///
    /// # Panics
    /// When not everything is Ready in time.
    pub fn start(&self) {
        let output = self.try_start();
        assert!(
            output.status.success(),
            "up failed: {}\n--- up.log\n{}",
            text(&output),
            self.up_log()
        );
    }

    /// `up --detach`, whatever comes of it.
    #[must_use]
    pub fn try_start(&self) -> Output {
        self.command(&[
            "up",
            self.manifests().to_str().expect("UTF-8"),
            "--detach",
            "--timeout",
            "60s",
            "--address-base",
            &self.address_base,
        ])
    }

    fn up_log(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("up.log")).unwrap_or_default()
    }

    /// `down`, keeping the data.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&self) {
        let output = self.command(&["down"]);
        assert!(
            output.status.success(),
            "down failed: {}\n--- up.log\n{}",
            text(&output),
            self.up_log()
        );
    }

    /// `tidemark ARGS --data-dir ...`.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(crate::tidemark())
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()
            .expect("the binary runs")
    }

    /// The parsed `status -o json`, as far as there is one.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.command(&["status", "-o", "json"]).stdout).ok()
    }

    /// HOST:PORT list of the (only) cluster.
    ///
    /// # Panics
    /// When the status has none.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let status = self.status().expect("a status");
        status["objects"]
            .as_array()
            .expect("objects")
            .iter()
            .find_map(|object| object["bootstrap"].as_str())
            .expect("a bootstrap address")
            .to_owned()
    }

    /// The pods, by name.
    #[must_use]
    pub fn pods(&self) -> Vec<Pod> {
        let Some(status) = self.status() else {
            return Vec::new();
        };
        let mut pods: Vec<Pod> = status["pods"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| Pod {
                name: pod["name"].as_str().unwrap_or_default().to_owned(),
                ip: pod["ip"].as_str().unwrap_or_default().to_owned(),
                pid: pod["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
                ready: pod["ready"].as_bool().unwrap_or_default(),
                restarts: pod["restarts"].as_i64().unwrap_or_default(),
            })
            .collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    }

    /// The pod of a name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn pod(&self, name: &str) -> Pod {
        self.pods()
            .into_iter()
            .find(|pod| pod.name == name)
            .unwrap_or_else(|| panic!("no pod {name}: {:?}", self.pods()))
    }

    /// Sends `signal` (`KILL`, `STOP`, `CONT`, `TERM`) to a pod's process.
    ///
    /// # Panics
    /// When the pod has no process.
    pub fn signal(&self, pod: &str, signal: &str) {
        let pid = self
            .pod(pod)
            .pid
            .unwrap_or_else(|| panic!("pod {pod} runs no process"));
        let status = Command::new("kill")
            .args([format!("-{signal}"), pid.to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -{signal} {pid}");
    }

    /// A pod's metrics page.
    #[must_use]
    pub fn metrics(&self, pod: &Pod) -> Option<String> {
        let url = format!("http://{}:9404/metrics", pod.ip);
        let output = Command::new("curl")
            .args(["-s", "-m", "2", &url])
            .output()
            .expect("curl runs");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The pod whose broker is the active controller, when one says so.
    #[must_use]
    pub fn active_controller(&self) -> Option<Pod> {
        self.pods().into_iter().find(|pod| {
            self.metrics(pod).is_some_and(|page| {
                page.lines().any(|line| {
                    line.starts_with("kafka_controller_activecontrollercount")
                        && line.ends_with(" 1")
                })
            })
        })
    }

    /// Waits until every pod is ready and `up` says that all objects are.
    pub fn await_ready(&self) {
        await_true("everything is Ready again", || {
            self.status().is_some_and(|status| status["ready"] == true)
                && self.pods().iter().all(|pod| pod.ready)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.command(&["down"]);
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("tidemark-failed-{}", std::process::id()));
            // Best effort: the logs of a failed test are worth more than a tidy temporary folder.
            drop(std::fs::create_dir_all(&kept));
            drop(
                Command::new("cp")
                    .arg("-r")
                    .arg(self.data_dir())
                    .arg(&kept)
                    .status(),
            );
            crate::skipped(
                "cleanup",
                &format!("the failed cluster's data is kept in {}", kept.display()),
            );
        }
        if !output.status.success() && !std::thread::panicking() {
            panic!("down failed: {}", text(&output));
        }
    }
}
