//! How does the YAML of a folder become true on this machine?

mod apply;
mod controllers;
mod manifests;
mod report;
mod screen;
mod session;

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::args::{DataDir, Output, complain};
use crate::state::{Layout, Status};
use screen::Screen;

const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UpArgs {
    /// Folder with the manifests: KafkaCluster, KafkaTopic
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// Return when everything is Ready; exit code 1 and the reasons when it is not within --timeout
    #[arg(long)]
    detach: bool,
    /// How long --detach waits: 60s, 2m
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Pods get the addresses from this one on; it ends in .0
    #[arg(long, default_value = "127.0.10.0", env = "TIDEMARK_ADDRESS_BASE")]
    pub(crate) address_base: Ipv4Addr,
    /// All pods on 127.0.0.1, for systems without 127.x addresses: the first pod's ports are N higher than its manifest
    /// says, those of each further pod 1000 more (0 gives 9092, 10092, 11092 ...)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=40_000), conflicts_with = "address_base")]
    pub(crate) port_base: Option<u16>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => {
            return Err(format!(
                "{text:?} is no duration: want for example 60s, 2m or 1h"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration: want for example 60s, 2m or 1h"))?;
    Ok(Duration::from_secs(number * factor))
}

pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    if !args.dir.is_dir() {
        bail!(
            "{} is not a folder: `tidemark up` wants the folder that holds the manifests",
            args.dir.display()
        );
    }
    let layout = Layout::new(&args.data_dir.data_dir);
    if args.detach {
        drop(layout.acquire()?);
        return detach(&args, &layout);
    }
    let lock = layout.acquire()?;
    layout.clear_status()?;
    let code = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(session::run(args, layout))?;
    drop(lock);
    Ok(code)
}

/// Starts a second process in the background and watches its status until all is Ready.
fn detach(args: &UpArgs, layout: &Layout) -> anyhow::Result<ExitCode> {
    layout.clear_status()?;
    let mut child = spawn(args, layout)?;
    let deadline = Instant::now() + args.timeout;
    let mut screen = Screen::new(args.output, layout.root.clone());
    let mut seen = Status::default();
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    loop {
        if let Some(status) = layout
            .read_status()?
            .filter(|status| status.pid == child.id() && *status != seen)
        {
            screen.show(&status, true)?;
            seen = status;
        }
        if seen.ready {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(code) = child.try_wait()? {
            bail!(
                "`tidemark up` ended with {code}:\n{}",
                tail(&layout.up_log())
            );
        }
        let settled = !seen.problems.is_empty() && seen.objects.iter().all(|object| object.ready);
        if settled || Instant::now() > deadline {
            return Ok(not_ready(&seen, args, layout));
        }
        // A bounded look at the status file; nothing is ever sent on this channel.
        if never.recv_timeout(LOOK_EVERY).is_ok() {
            bail!("nothing is ever sent");
        }
    }
}

fn not_ready(seen: &Status, args: &UpArgs, layout: &Layout) -> ExitCode {
    let waiting: Vec<_> = seen.objects.iter().filter(|object| !object.ready).collect();
    for problem in &seen.problems {
        complain(problem);
    }
    for object in &waiting {
        complain(&format!(
            "{} {} is {}: {}",
            object.kind, object.name, object.phase, object.message
        ));
    }
    if seen.objects.is_empty() && seen.problems.is_empty() {
        complain(&format!(
            "nothing was reported within {} s: see {}",
            args.timeout.as_secs(),
            layout.up_log().display()
        ));
    }
    complain(
        "not everything is Ready; it goes on in the background: `tidemark status`, `tidemark logs`, `tidemark down`",
    );
    ExitCode::FAILURE
}

fn spawn(args: &UpArgs, layout: &Layout) -> anyhow::Result<Child> {
    let log = std::fs::File::create(layout.up_log())
        .with_context(|| format!("failed to create {}", layout.up_log().display()))?;
    let exe = std::env::current_exe().context("failed to find the running binary")?;
    let mut command = Command::new(exe);
    command
        .arg("up")
        .arg(&args.dir)
        .arg("--data-dir")
        .arg(&layout.root)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in this terminal is not meant for what goes on in the background.
        .process_group(0);
    match args.port_base {
        Some(base) => command.arg("--port-base").arg(base.to_string()),
        None => command
            .arg("--address-base")
            .arg(args.address_base.to_string()),
    };
    command
        .spawn()
        .context("failed to start `tidemark up` in the background")
}

fn tail(path: &Path) -> String {
    const LINES: usize = 20;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert!(duration("soon").is_err());
    }
}
