//! How do these tests run brokers whose file sets what they say, and ask them?

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::broker_process::{self, prepare};
use tests::cluster::{await_some, await_true, claim_network};
use tests::raw::Raw;
use tests::tidemark;
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

/// Kafka's numbers of what has a configuration.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
/// The broker that most tests ask, by its id.
pub(super) const FIRST: &str = "0";
/// The name of what holds for all brokers.
pub(super) const ALL_BROKERS: &str = "";

/// Kafka's numbers of what is done to a key.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Keys and values.
pub(super) type Settings<'a> = [(&'a str, &'a str)];

/// Brokers of one cluster, as processes on addresses of their own; they end with the test.
pub(super) struct Brokers {
    folder: TempDir,
    addresses: Vec<String>,
    /// Those that run.
    processes: Mutex<BTreeMap<usize, Child>>,
    /// Held as long as the addresses are used.
    _claim: TcpListener,
}

/// The text of a broker's file.
pub(super) fn file(addresses: &[String], config: &Settings<'_>) -> String {
    let nodes = addresses.iter().enumerate().map(|(id, host)| {
        format!("- {{name: node-{id}, id: {id}, roles: [controller, broker], host: {host}}}\n")
    });
    let config = config
        .iter()
        .map(|(key, value)| format!("  {key}: '{value}'\n"));
    format!(
        "apiVersion: tidemark.dev/broker/v1\nclusterId: Y29uZmlndXJhdGlvbmtleQ\nnodes:\n{}dataDir: /data\n\
         listeners:\n- {{name: internal, port: 9092}}\nconfig:\n{}",
        nodes.collect::<String>(),
        config.collect::<String>()
    )
}

impl Brokers {
    /// Starts `count` brokers with these keys in their file, and waits until they are ready.
    pub(super) fn start(count: usize, config: &Settings<'_>) -> Self {
        let (third, claim) = claim_network();
        let brokers = Self {
            folder: tempfile::tempdir().unwrap(),
            addresses: (1..=count)
                .map(|host| format!("127.0.{third}.{host}"))
                .collect(),
            processes: Mutex::default(),
            _claim: claim,
        };
        let text = file(&brokers.addresses, config);
        std::fs::write(brokers.folder.path().join("broker.yaml"), text).unwrap();
        for broker in 0..count {
            brokers.run(broker);
        }
        for broker in 0..count {
            brokers.await_ready(broker);
        }
        brokers
    }

    /// Starts a broker that does not run.
    fn run(&self, broker: usize) {
        let mut command = Command::new(tidemark());
        let (name, host) = (format!("node-{broker}"), &self.addresses[broker]);
        prepare(&mut command, self.folder.path(), &name, host);
        let process = command.spawn().expect("the binary runs");
        self.processes().insert(broker, process);
    }

    /// Also after a test has failed that held them: they have to be ended.
    fn processes(&self) -> MutexGuard<'_, BTreeMap<usize, Child>> {
        let held = self.processes.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    fn await_ready(&self, broker: usize) {
        await_true(
            &format!("broker {broker} is ready: {}", self.log(broker)),
            || self.page(broker, "readyz").is_some(),
        );
    }

    /// Kills a broker and waits for its end.
    pub(super) fn kill(&self, broker: usize) {
        let process = self.processes().remove(&broker);
        let mut process = process.expect("it runs");
        process.kill().expect("a child can be killed");
        process.wait().expect("a child can be waited for");
    }

    fn signal(&self, broker: usize, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid(broker).to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Keeps a broker from doing anything; waits until each of its threads has noticed.
    pub(super) fn freeze(&self, broker: usize) {
        self.signal(broker, "STOP");
        let threads = format!("/proc/{}/task", self.pid(broker));
        await_true("all threads are stopped", || {
            let mut threads = std::fs::read_dir(&threads).expect("it runs");
            threads.all(|thread| {
                let status = thread.expect("its folder").path().join("status");
                let status = std::fs::read_to_string(status).unwrap_or_default();
                status.contains("\nState:\tT")
            })
        });
    }

    /// Lets a frozen broker go on.
    pub(super) fn thaw(&self, broker: usize) {
        self.signal(broker, "CONT");
    }

    /// Stops a broker as whoever started it does, by closing its standard input, and starts it again.
    pub(super) fn restart(&self, broker: usize) {
        let process = self.processes().remove(&broker);
        let mut process = process.expect("it runs");
        drop(process.stdin.take());
        let ended = process.wait().expect("a child can be waited for");
        assert!(ended.success(), "{ended}: {}", self.log(broker));
        self.run(broker);
        self.await_ready(broker);
    }

    pub(super) fn pid(&self, broker: usize) -> u32 {
        self.processes().get(&broker).expect("it runs").id()
    }

    /// What a broker printed.
    fn log(&self, broker: usize) -> String {
        let path = self.folder.path().join(format!("node-{broker}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// A page of a broker's HTTP port, if it answers and is ready to.
    fn page(&self, broker: usize, page: &str) -> Option<String> {
        broker_process::page(&self.addresses[broker], page)
    }

    /// A number of the first broker's metrics.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let page = self.page(0, "metrics").expect("it is ready");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect(name).parse().expect("a number")
    }

    /// Where a broker keeps a topic's first partition.
    pub(super) fn log_folder(&self, broker: usize, topic: &str) -> PathBuf {
        let data = self.folder.path().join(format!("node-{broker}"));
        let mut logs = tests::disk::log_dirs(&data);
        logs.extend(tests::disk::log_dirs(self.folder.path()));
        let its = format!("node-{broker}");
        let mut its = logs.into_iter().filter(|dir| {
            dir.components()
                .any(|part| part.as_os_str() == its.as_str())
        });
        its.next()
            .expect("a log directory")
            .join(format!("{topic}-0"))
    }

    pub(super) fn address(&self, broker: usize) -> String {
        format!("{}:9092", self.addresses[broker])
    }

    /// A connection to the first broker.
    pub(super) fn raw(&self) -> Raw {
        self.raw_to(0)
    }

    pub(super) fn raw_to(&self, broker: usize) -> Raw {
        Raw::connect(&self.address(broker))
    }

    /// Sets keys of a resource on the running brokers; `None` takes a key back. What is refused, with the words.
    pub(super) fn alter(
        &self,
        resource: (i8, &str),
        changes: &[(&str, Option<&str>)],
    ) -> Result<(), (i16, String)> {
        self.alter_at(0, resource, changes)
    }

    /// The same, asked of another broker than the first.
    pub(super) fn alter_at(
        &self,
        asked: usize,
        (resource_type, name): (i8, &str),
        changes: &[(&str, Option<&str>)],
    ) -> Result<(), (i16, String)> {
        let configs = changes.iter().map(|(key, value)| AlterableConfig {
            name: (*key).to_owned(),
            config_operation: if value.is_some() { SET } else { DELETE },
            value: value.map(str::to_owned),
            ..Default::default()
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name: name.to_owned(),
                configs: configs.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut raw = self.raw_to(asked);
        let answer = raw.call(1, &request).responses.remove(0);
        match answer.error_code {
            0 => Ok(()),
            code => Err((code, answer.error_message.unwrap_or_default())),
        }
    }

    /// Every row of a resource's configuration, once the first broker knows the resource.
    pub(super) fn describe(&self, resource: (i8, &str)) -> Vec<DescribeConfigsResourceResult> {
        describe(&self.address(0), resource)
    }

    /// Waits until the value of a resource's key is `value`.
    pub(super) fn await_value(&self, resource: (i8, &str), key: &str, value: &str) {
        await_true(&format!("{key} of {resource:?} is {value}"), || {
            let rows = self.describe(resource);
            let mut rows = rows.iter();
            rows.any(|row| row.name == key && row.value.as_deref() == Some(value))
        });
    }
}

/// Every row of a resource's configuration, once the broker at `address` knows the resource.
pub(super) fn describe(
    address: &str,
    (resource_type, name): (i8, &str),
) -> Vec<DescribeConfigsResourceResult> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: None,
            ..Default::default()
        }],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    await_some(&format!("{name:?} is described"), || {
        let mut answer = Raw::connect(address).call(4, &request);
        let result = answer.results.remove(0);
        (result.error_code == 0).then_some(result.configs)
    })
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for process in self.processes().values_mut() {
            // Both fail when it has already ended, which is what is wanted.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Whether `look` says so at each look for so long: what does not happen can only be waited for.
pub(super) fn holds_for(duration: Duration, mut look: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + duration;
    let mut held = true;
    await_true("the time is over", || {
        held &= look();
        !held || Instant::now() >= until
    });
    held
}
