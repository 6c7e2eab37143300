//! How is a running `tidemark up` stopped?

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::args::{DataDir, complain};
use crate::state::Layout;

/// Long enough for the controlled shutdown of every broker (5 s by contract) and then some.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// Also delete the data directory: topics, offsets, everything
    #[arg(long)]
    delete_data: bool,
}

pub(crate) fn run(args: &DownArgs) -> anyhow::Result<ExitCode> {
    let layout = Layout::new(&args.data_dir.data_dir);
    match layout.holder()? {
        Some(pid) => stop(&layout, pid)?,
        None if !args.delete_data => {
            complain(&format!(
                "no `tidemark up` runs on {}: nothing to stop",
                layout.root.display()
            ));
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    if args.delete_data {
        let lock = layout.acquire()?;
        std::fs::remove_dir_all(&layout.root)
            .with_context(|| format!("failed to delete {}", layout.root.display()))?;
        drop(lock);
        complain(&format!("stopped; {} deleted", layout.root.display()));
    } else {
        complain(&format!("stopped; data stays in {}", layout.root.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends SIGTERM to the holder and waits until it let go of the lock.
fn stop(layout: &Layout, pid: u32) -> anyhow::Result<()> {
    let target = Pid::from_raw(pid.cast_signed()).context("the lock holds no PID")?;
    kill_process(target, Signal::TERM).with_context(|| format!("failed to signal PID {pid}"))?;
    let deadline = Instant::now() + PATIENCE;
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    while layout.holder()? == Some(pid) {
        if Instant::now() > deadline {
            bail!(
                "PID {pid} did not stop within {} s: see {}",
                PATIENCE.as_secs(),
                layout.up_log().display()
            );
        }
        // A bounded look at the lock; nothing is ever sent on this channel.
        if never.recv_timeout(LOOK_EVERY).is_ok() {
            break;
        }
    }
    Ok(())
}
