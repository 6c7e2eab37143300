//! How does a test start, disturb and stop a cluster that `tidemark up` runs?

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Loopback networks 127.0.N.0/24 that clusters of tests may have.
const NETWORKS: std::ops::Range<u8> = 20..250;
/// Bound on the last address of a network while a cluster has it, so that test binaries may run side by side.
const CLAIM_PORT: u16 = 9;

/// Longest wait for any single condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `look` until it gives a value.
///
/// # Panics
/// After [`PATIENCE`], with `what`.
#[track_caller]
pub fn await_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    await_some_within(PATIENCE, what, look)
}

/// As [`await_some`], for what takes longer than any single condition: a load of minutes.
///
/// # Panics
/// After `patience`, with `what`.
#[track_caller]
pub fn await_some_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "gave up after {} s waiting until {what}",
            patience.as_secs()
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
    /// How much higher its ports are than its manifest says.
    pub port_offset: u16,
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
    /// The arguments of `up` that say where pods are.
    network: [String; 2],
    /// Held as long as the cluster is there.
    _claim: TcpListener,
    first_address: String,
}

/// A network that no other cluster of any test has, and the claim on it.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn claim_network() -> (u8, TcpListener) {
    NETWORKS
        .into_iter()
        .find_map(|third| {
            let claim = TcpListener::bind((Ipv4Addr::new(127, 0, third, 254), CLAIM_PORT)).ok()?;
            Some((third, claim))
        })
        .expect("one of 230 loopback networks is free")
}

/// A `tidemark up` that is a child of the test; killed when dropped.
#[derive(Debug)]
pub struct Foreground {
    child: Child,
    output: PathBuf,
}

impl Foreground {
    /// The process id of `up`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Sends `signal` (`INT`, `HUP`, `TERM`, `KILL`).
    pub fn signal(&self, signal: &str) {
        send_signal(self.pid(), signal);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Both fail when it has already ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends a detached `up` on the `.tidemark` of a folder when dropped: a test that fails before its own `down` leaves nothing running.
#[derive(Debug)]
pub struct DownWhenDropped<'a>(pub &'a Path);

impl Drop for DownWhenDropped<'_> {
    fn drop(&mut self) {
        // None may run any more, or the folder may be gone, which is what is wanted.
        drop(
            Command::new(crate::tidemark())
                .arg("down")
                .current_dir(self.0)
                .output(),
        );
    }
}

/// Sends `signal` (`HUP`, `INT`, `TERM`, `KILL`) to a process.
///
/// # Panics
/// When there is no such process.
pub fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
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
        let (third, network) = claim_network();
        let cluster = Self {
            home,
            network: ["--address-base".to_owned(), format!("127.0.{third}.0")],
            _claim: network,
            first_address: format!("127.0.{third}.1"),
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

    /// All pods on 127.0.0.1, their ports moved by `base` and more; before it is started.
    #[must_use]
    pub fn on_one_address(mut self, base: u16) -> Self {
        self.network = ["--port-base".to_owned(), base.to_string()];
        self
    }

    /// The folder whose YAML the cluster follows.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.home.path().join("manifests")
    }

    /// Adds entries to the `config` of the quickstart's cluster, before it is started.
    ///
    /// # Panics
    /// When the manifests have none.
    pub fn configure(&self, entries: &[(&str, &str)]) {
        let shop = self.manifests().join("shop.yaml");
        let text = std::fs::read_to_string(&shop).expect("the quickstart's cluster");
        let config = "  config:\n";
        assert!(text.contains(config), "the example sets some config");
        let mut more = config.to_owned();
        for (key, value) in entries {
            more.push_str(&format!("    {key}: \"{value}\"\n"));
        }
        std::fs::write(&shop, text.replacen(config, &more, 1)).expect("written");
    }

    /// The `--data-dir`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The address of the first pod that is started.
    #[must_use]
    pub fn first_address(&self) -> &str {
        &self.first_address
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
        self.try_start_with(&["--timeout", "60s"])
    }

    /// `up --detach` with more arguments, whatever comes of it.
    #[must_use]
    pub fn try_start_with(&self, more: &[&str]) -> Output {
        let mut command = self.up_command();
        command.arg("--detach").args(more);
        command.output().expect("the binary runs")
    }

    fn up_command(&self) -> Command {
        let mut command = Command::new(crate::tidemark());
        command
            .arg("up")
            .arg(self.manifests())
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.network);
        command
    }

    /// Starts `up` as a child of the test.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn foreground(&self, more: &[&str]) -> Foreground {
        let output = self.scratch().join("foreground.txt");
        let file = std::fs::File::create(&output).expect("a file for the output");
        let child = self
            .up_command()
            .args(more)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the binary runs");
        Foreground { child, output }
    }

    /// What `up --detach` printed.
    #[must_use]
    pub fn up_log(&self) -> String {
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

    /// As [`Cluster::command`] with `input` on its standard input.
    ///
    /// # Panics
    /// When the binary does not run.
    #[must_use]
    pub fn command_with_input(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let mut child = Command::new(crate::tidemark())
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut pipe = child.stdin.take().expect("piped");
        pipe.write_all(input.as_bytes()).expect("it reads");
        drop(pipe);
        child.wait_with_output().expect("it ends")
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
                port_offset: pod["portOffset"]
                    .as_u64()
                    .and_then(|offset| u16::try_from(offset).ok())
                    .unwrap_or_default(),
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
        send_signal(pid, signal);
    }

    /// Kills a pod with -9 and waits until it runs again and everything is Ready.
    ///
    /// # Panics
    /// When the pod has no process, or does not come back.
    pub fn kill(&self, pod: &Pod) {
        self.signal(&pod.name, "KILL");
        await_true("the pod runs again with another process", || {
            let mut pods = self.pods().into_iter();
            let now = pods.find(|one| one.name == pod.name);
            now.is_some_and(|now| now.ready && now.pid.is_some() && now.pid != pod.pid)
        });
        self.await_ready();
    }

    /// A pod's metrics page.
    #[must_use]
    pub fn metrics(&self, pod: &Pod) -> Option<String> {
        let url = format!("http://{}:{}/metrics", pod.ip, 9404 + pod.port_offset);
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
