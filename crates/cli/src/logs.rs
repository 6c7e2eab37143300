//! What did a pod print?

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, bail};
use notify::Watcher as _;

use crate::args::DataDir;
use crate::state::Layout;

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Name of the pod; without it, every pod's log, each line with the pod's name
    pod: Option<String>,
    /// Go on printing what is added
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    data_dir: DataDir,
}

/// A log file that is printed as far as it was read.
struct Tail {
    path: PathBuf,
    name: String,
    file: File,
    at: u64,
    prefixed: bool,
}

impl Tail {
    fn open(path: &Path, prefixed: bool) -> anyhow::Result<Self> {
        let name = pod_of(path).unwrap_or_default();
        let file =
            File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            name,
            file,
            at: 0,
            prefixed,
        })
    }

    /// Prints the whole lines that were added since the last call.
    fn print_new(&mut self) -> anyhow::Result<()> {
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.at += whole as u64;
        let mut out = std::io::stdout().lock();
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            if self.prefixed {
                write!(out, "{}  ", self.name)?;
            }
            out.write_all(line)?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let folder = Layout::new(&args.data_dir.data_dir).logs();
    let mut tails = Vec::new();
    for path in log_files(&folder, args.pod.as_deref())? {
        tails.push(Tail::open(&path, args.pod.is_none())?);
    }
    for tail in &mut tails {
        tail.print_new()?;
    }
    if args.follow {
        follow(&folder, args.pod.as_deref(), tails)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn log_files(folder: &Path, pod: Option<&str>) -> anyhow::Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("no logs: failed to read {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    all.sort();
    let Some(pod) = pod else { return Ok(all) };
    let found: Vec<PathBuf> = all
        .iter()
        .filter(|path| pod_of(path).as_deref() == Some(pod))
        .cloned()
        .collect();
    if found.is_empty() {
        let names: Vec<_> = all.iter().filter_map(|path| pod_of(path)).collect();
        bail!("no log of a pod {pod:?}: there are {}", names.join(", "));
    }
    Ok(found)
}

/// Logs are called `NAMESPACE_POD_CONTAINER.log`.
fn pod_of(path: &Path) -> Option<String> {
    path.file_stem()?
        .to_str()?
        .split('_')
        .nth(1)
        .map(str::to_owned)
}

/// Prints what is added, and the logs of pods that come later, until the process is ended.
fn follow(folder: &Path, pod: Option<&str>, mut tails: Vec<Tail>) -> anyhow::Result<()> {
    // One pending wake-up is enough: a wake-up prints everything that is new.
    let (wake, woken) = sync_channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // The result is of no interest: a full channel means that a wake-up is already pending.
        let _ = wake.try_send(());
    })?;
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    loop {
        // The timeout only covers events that the file system did not report.
        if woken.recv_timeout(Duration::from_secs(1))
            == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
        {
            bail!("the file watcher ended");
        }
        for path in log_files(folder, pod)? {
            if !tails.iter().any(|tail| tail.path == path) {
                tails.push(Tail::open(&path, pod.is_none())?);
            }
        }
        for tail in &mut tails {
            tail.print_new()?;
        }
    }
}
