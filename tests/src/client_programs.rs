//! How does a test run a real Kafka client, and what did it produce and consume?

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A stock client that the tests drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// kcat on Debian's librdkafka 2.0.2.
    Kcat,
    /// confluent-kafka on librdkafka 2.16.
    Confluent,
    /// kafka-python 3.
    KafkaPython,
    /// aiokafka 0.14.
    Aiokafka,
    /// Java kafka-clients 4.x.
    Java,
}

fn cache() -> PathBuf {
    std::env::var_os("TIDEMARK_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from)
                .join("tidemark")
        },
        PathBuf::from,
    )
}

/// The Python with the clients, when `tests/platform/setup` made it.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let path = std::env::var_os("TIDEMARK_PYTHON")
        .map_or_else(|| cache().join("venv/bin/python"), PathBuf::from);
    path.is_file().then_some(path)
}

/// The folder of Apache Kafka's jars, when `tests/platform/setup` fetched them.
#[must_use]
pub fn kafka_jars() -> Option<PathBuf> {
    let path = cache().join("kafka/lib");
    path.join(".version").is_file().then_some(path)
}

/// A command of Apache Kafka's own tools, such as `org.apache.kafka.tools.DumpLogSegments`.
#[must_use]
pub fn java_class(class: &str) -> Option<Command> {
    let jars = kafka_jars()?;
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(class);
    Some(command)
}

impl Client {
    /// Produces `count` records `PREFIX-0`, `PREFIX-1`, ... from `first` on to `topic` with acks=all.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn produce(
        self,
        bootstrap: &str,
        topic: &str,
        prefix: &str,
        first: u32,
        count: u32,
    ) -> Result<Output, String> {
        let range = [first.to_string(), count.to_string()];
        if self == Self::Kcat {
            let lines: String = (first..first + count)
                .map(|n| format!("{prefix}-{n}\n"))
                .collect();
            let mut command = Command::new("kcat");
            command.args(["-P", "-b", bootstrap, "-t", topic, "-X", "acks=all"]);
            return with_input(command, lines.as_bytes()).map_err(|error| format!("kcat: {error}"));
        }
        self.program(&["produce", bootstrap, topic, prefix, &range[0], &range[1]])
    }

    /// Consumes as a member of `group` until `count` records were seen, commits, leaves; values on standard output.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn consume(
        self,
        bootstrap: &str,
        topic: &str,
        group: &str,
        count: u32,
    ) -> Result<Output, String> {
        if self == Self::Kcat {
            let mut command = Command::new("kcat");
            command.args([
                "-q",
                "-b",
                bootstrap,
                "-G",
                group,
                "-X",
                "auto.offset.reset=earliest",
                "-c",
                &count.to_string(),
                topic,
            ]);
            return command.output().map_err(|error| format!("kcat: {error}"));
        }
        self.program(&["consume", bootstrap, topic, group, &count.to_string()])
    }

    fn program(self, args: &[&str]) -> Result<Output, String> {
        let folder = crate::root().join("tests/clients");
        let mut command = match self {
            Self::Java => {
                let jars = kafka_jars().ok_or("Apache Kafka's jars: run tests/platform/setup")?;
                let mut command = Command::new("java");
                command
                    .arg("-cp")
                    .arg(format!("{}/*", jars.display()))
                    .arg(folder.join("java/RoundTrip.java"));
                command
            }
            Self::Kcat | Self::Confluent | Self::KafkaPython | Self::Aiokafka => {
                let python = python().ok_or("the Python clients: run tests/platform/setup")?;
                let script = match self {
                    Self::KafkaPython => "kafka_python_client.py",
                    Self::Aiokafka => "aiokafka_client.py",
                    Self::Kcat | Self::Confluent | Self::Java => "confluent_client.py",
                };
                let mut command = Command::new(python);
                command.arg(folder.join("python").join(script));
                command
            }
        };
        command
            .args(args)
            .output()
            .map_err(|error| format!("{self:?}: {error}"))
    }
}

/// Runs a command with bytes on its standard input.
fn with_input(mut command: Command, input: &[u8]) -> std::io::Result<Output> {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("piped").write_all(input)?;
    child.wait_with_output()
}
