//! Brokers as processes of the test: how are they started, watched, signalled, slowed?

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::broker_process::prepare;
use tests::cluster::send_signal;
use tests::tidemark;

use crate::network::{BROKERS, CLIENTS, Network};
use crate::workload::TOPIC;

/// Short, so that a short run has followers leave the ISR and come back.
const SETTINGS: &str = "  default.replication.factor: '3'
  min.insync.replicas: '2'
  offsets.topic.replication.factor: '3'
  transaction.state.log.replication.factor: '3'
  transaction.state.log.min.isr: '2'
  replica.lag.time.max.ms: '5000'
  group.initial.rebalance.delay.ms: '0'
";

/// A broker's clock and disk, as tests/checker/faults.c reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) clock_ns: i64,
    pub(crate) write_us: i64,
    pub(crate) sync_us: i64,
}

/// Replicas of a partition.
pub(crate) const REPLICAS: usize = 3;
/// Brokers from this one on are no controllers.
const CONTROLLERS: usize = 3;

/// A partition of the workload's topic, as clients are told.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: u64,
    pub(crate) leader: usize,
    pub(crate) in_sync: Vec<usize>,
}

impl Partition {
    /// From what `kcat -L -J` prints; `None` without a leader.
    fn read(from: &Value) -> Option<Self> {
        let broker = |id: &Value| usize::try_from(id.as_i64()?).ok();
        let in_sync = from["isrs"].as_array()?.iter();
        Some(Self {
            id: from["partition"].as_u64()?,
            leader: broker(&from["leader"])?,
            in_sync: in_sync.filter_map(|one| broker(&one["id"])).collect(),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Brokers {
    folder: PathBuf,
    pub(crate) network: Network,
    /// The library that moves clocks and slows disks, when it could be built.
    library: Option<PathBuf>,
    processes: Vec<Option<Child>>,
    /// Processes that ended by themselves.
    pub(crate) died: Vec<String>,
}

fn node(broker: usize) -> String {
    format!("node-{broker}")
}

/// Builds the library with the C compiler that links Rust too.
fn build_library(folder: &Path) -> Result<PathBuf, String> {
    let library = folder.join("faults.so");
    let source = tests::root().join("tests/checker/faults.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]);
    command.arg(&library).arg(source).arg("-ldl");
    let output = command.output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        Ok(library)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Brokers {
    /// Starts the brokers with their data in `folder`; what this machine cannot do comes with them.
    pub(crate) fn start(folder: &Path) -> (Self, Vec<String>) {
        let (network, no_namespaces) = Network::new();
        let mut missing: Vec<String> = Vec::new();
        missing.extend(no_namespaces.map(|why| format!("partitions: {why}")));
        let library = build_library(folder)
            .map_err(|why| missing.push(format!("clock skew and slow disks: {why}")))
            .ok();
        let mut brokers = Self {
            folder: folder.to_owned(),
            network,
            library,
            processes: (0..BROKERS).map(|_| None).collect(),
            died: Vec::new(),
        };
        std::fs::write(folder.join("broker.yaml"), brokers.config()).expect("a file");
        for broker in 0..BROKERS {
            brokers.set(broker, Conditions::default());
            brokers.run(broker);
        }
        (brokers, missing)
    }

    fn config(&self) -> String {
        let nodes: String = (0..BROKERS)
            .map(|broker| {
                let (name, host) = (node(broker), self.network.address(broker));
                let roles = if broker < CONTROLLERS {
                    "controller, broker"
                } else {
                    "broker"
                };
                format!("- {{name: {name}, id: {broker}, roles: [{roles}], host: {host}}}\n")
            })
            .collect();
        format!(
            "apiVersion: tidemark.dev/broker/v1\nclusterId: Y2hlY2tlci1jaGVja2VyIQ\nnodes:\n{nodes}dataDir: /data\n\
             listeners:\n- {{name: internal, port: 9092}}\nconfig:\n{SETTINGS}"
        )
    }

    pub(crate) fn bootstrap(&self) -> String {
        let all: Vec<String> = (0..BROKERS)
            .map(|broker| format!("{}:9092", self.network.address(broker)))
            .collect();
        all.join(",")
    }

    pub(crate) const fn has_library(&self) -> bool {
        self.library.is_some()
    }

    /// Starts a broker's process.
    pub(crate) fn run(&mut self, broker: usize) {
        let mut command = self.network.command(broker, &tidemark());
        let host = self.network.address(broker);
        prepare(&mut command, &self.folder, &node(broker), &host);
        if let Some(library) = &self.library {
            command
                .env("LD_PRELOAD", library)
                .env("CHECKER_FAULTS", self.conditions(broker));
        }
        self.processes[broker] = Some(command.spawn().expect("the binary runs"));
    }

    fn conditions(&self, broker: usize) -> PathBuf {
        self.folder.join(format!("{}.faults", node(broker)))
    }

    /// Sets a broker's clock and disk.
    pub(crate) fn set(&self, broker: usize, conditions: Conditions) {
        let file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.conditions(broker))
            .expect("a file");
        let values = [conditions.clock_ns, conditions.write_us, conditions.sync_us];
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        file.write_all_at(&bytes, 0).expect("a writable file");
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&mut self, broker: usize, signal: &str) {
        self.watch();
        if let Some(process) = &self.processes[broker] {
            send_signal(process.id(), signal);
        }
    }

    pub(crate) fn kill(&mut self, broker: usize) {
        self.watch();
        if let Some(mut process) = self.processes[broker].take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// Notes those that ended by themselves, and starts them again.
    pub(crate) fn watch(&mut self) {
        for broker in 0..BROKERS {
            let Some(process) = &mut self.processes[broker] else {
                continue;
            };
            if let Some(status) = process.try_wait().expect("a child can be asked") {
                self.died.push(format!("{} ended: {status}", node(broker)));
                self.run(broker);
            }
        }
    }

    /// The partitions of the workload's topic that have a leader; none when no broker answers soon.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        let mut kcat = self.network.command(CLIENTS, Path::new("kcat"));
        kcat.args(["-b", &self.bootstrap(), "-L", "-J", "-t", TOPIC, "-m", "2"]);
        let output = kcat.stderr(Stdio::null()).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let told: Value = serde_json::from_slice(&text).unwrap_or_default();
        let partitions = told["topics"][0]["partitions"].as_array();
        partitions
            .into_iter()
            .flatten()
            .filter_map(Partition::read)
            .collect()
    }

    /// Whether every broker says that it is ready.
    pub(crate) fn are_ready(&self) -> bool {
        (0..BROKERS).all(|broker| {
            let url = format!("http://{}:9404/readyz", self.network.address(broker));
            let mut curl = self.network.command(CLIENTS, Path::new("curl"));
            curl.args(["-sf", "-m", "1", "-o", "/dev/null", &url]);
            curl.status().is_ok_and(|status| status.success())
        })
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            // Both fail when it has already ended, which is what is wanted.
            drop(process.kill());
            drop(process.wait());
        }
    }
}
