//! How long does a stopped cluster need until it acknowledges a record?

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{Figure, Target, cluster, produce};

/// Longest wait for a cluster to answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to reach a broker that does not listen yet.
const PACE: Duration = Duration::from_millis(2);

/// Runs a command to its end.
pub(crate) fn shell(command: &str) -> anyhow::Result<()> {
    ended(command, Command::new("sh").args(["-c", command]))
}

/// Runs a command to its end, with a broker's id as NODE.
pub(crate) fn shell_for(command: &str, node: i32) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    ended(
        command,
        shell.args(["-c", command]).env("NODE", node.to_string()),
    )
}

fn ended(text: &str, command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("failed to run {text:?}"))?;
    if !status.success() {
        bail!("{text:?} ended with {status}");
    }
    Ok(())
}

/// The COMMAND of `NAME=COMMAND` for a target.
pub(crate) fn command<'a>(
    given: &'a [String],
    target: &Target,
    option: &str,
) -> anyhow::Result<&'a str> {
    given
        .iter()
        .filter_map(|text| text.split_once('='))
        .find(|(name, _)| *name == target.name)
        .map(|(_, command)| command)
        .with_context(|| format!("this load needs {option} {}=COMMAND", target.name))
}

/// Starts a stopped cluster, creates a topic, produces one record with acks=all, stops it again; seconds from the start
/// of the command to the acknowledgement.
pub(crate) fn run(
    target: &Target,
    topic: &str,
    replication_factor: i16,
    start: &str,
    stop: &str,
) -> anyhow::Result<Vec<Figure>> {
    let began = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", start])
        .stdout(Stdio::null())
        .spawn()
        .context("failed to run the start command")?;
    while let Err(error) = cluster::ensure_topic(target, topic, 1, replication_factor) {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            let patience = PATIENCE.as_secs();
            return Err(error.context(format!("no answer {patience} s after {start:?}")));
        }
        std::thread::park_timeout(PACE);
    }
    for (leader, partitions) in &cluster::leaders(target, topic)? {
        produce::await_writable(leader, topic, partitions)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = child.wait()?;
    if !status.success() {
        bail!("{start:?} ended with {status}");
    }
    shell(stop)?;
    Ok(vec![Figure::new(
        target,
        "start to first acknowledged record",
        "s",
        seconds,
    )])
}
