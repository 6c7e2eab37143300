//! How does a test start an Apache Kafka to compare with?

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client_programs::kafka_jars;

/// Ports of its clients; each has the controller's, 100 higher. Linux hands out those from 32768 on to outgoing connections.
const PORTS: std::ops::Range<u16> = 23_000..23_100;

/// One broker that is its own controller, on loopback; stopped and deleted when dropped.
#[derive(Debug)]
pub struct ApacheKafka {
    home: TempDir,
    port: u16,
}

impl ApacheKafka {
    /// Starts it and waits until it serves; `None` without Java or Apache Kafka's jars.
    ///
    /// # Panics
    /// With what it printed when it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let jars = kafka_jars()?;
        Command::new("java").arg("-version").output().ok()?;
        Some(Self::with(&jars))
    }

    fn with(jars: &Path) -> Self {
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let port = PORTS
            .into_iter()
            .find(|port| free(*port) && free(port + 100));
        let kafka = Self {
            home: tempfile::Builder::new()
                .prefix("tidemark-kafka-")
                .tempdir()
                .expect("a temporary folder"),
            port: port.expect("two ports of a hundred are free"),
        };
        let output = script("kafka-up", jars)
            .arg("-d")
            .arg(kafka.folder())
            .args(["-p", &kafka.port.to_string(), "-H", "256m"])
            .output()
            .expect("a shell runs");
        assert!(
            output.status.success(),
            "Apache Kafka does not start: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        kafka
    }

    /// Where it serves.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("kafka")
    }
}

impl Drop for ApacheKafka {
    fn drop(&mut self) {
        let jars = kafka_jars().unwrap_or_default();
        // Best effort: the test's own result matters more.
        drop(
            script("kafka-down", &jars)
                .arg("-d")
                .arg(self.folder())
                .output(),
        );
    }
}

fn script(name: &str, jars: &Path) -> Command {
    let folder = crate::root().join("tests/platform/kafka/bin");
    let mut command = Command::new(folder.join(name));
    command.env("KP_LIB", jars);
    command
}
