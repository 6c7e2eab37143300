//! How is one container started, watched and stopped as a child process?
//!
//! A child's standard input is a pipe whose other end this process holds and never writes: when the agent dies in any
//! way, the child reads EOF (`TIDEMARK_PARENT_FD=0`) and ends. Output goes straight to the log file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, ChildStdin, Command};

use super::super::logs;
use super::super::orphans::ProcessRecord;

/// Everything a child is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: PathBuf,
    /// Where the process is recorded for the next agent.
    pub(crate) record: PathBuf,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: u32,
    /// Closing it is what tells the child that nobody is there any more.
    _parent_pipe: Option<ChildStdin>,
}

/// Variables of this process that children need to run at all, or that developers expect to reach them.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_ALL",
    "TIDEMARK_LOG",
    "TIDEMARK_LOG_FORMAT",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
];

impl Launch {
    /// Starts the child and records it.
    pub(crate) fn start(&self) -> io::Result<Process> {
        let log = logs::open(&self.log)?;
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(inherited)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .env("TIDEMARK_PARENT_FD", "0")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own group: a Ctrl-C on the terminal reaches the agent alone, which then stops its children in order.
            .process_group(0)
            .spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("the child ended before it could be recorded"))?;
        if let Some(folder) = self.record.parent() {
            std::fs::create_dir_all(folder)?;
        }
        ProcessRecord::of(pid).save(&self.record)?;
        let parent_pipe = child.stdin.take();
        Ok(Process {
            child,
            pid,
            _parent_pipe: parent_pipe,
        })
    }
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end; cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(e) = rustix::process::kill_process(pid, signal) {
            tracing::debug!(pid = self.pid, error = %e, "failed to signal a child; it may just have ended");
        }
    }
}

/// The program of a container: the image is always the running binary, so no command, or one that names it, is `exe`.
pub(crate) fn program(command: &[String], exe: &Path) -> (PathBuf, Vec<String>) {
    match command.split_first() {
        None => (exe.to_owned(), Vec::new()),
        Some((first, rest)) => {
            let ours = Path::new(first)
                .file_name()
                .is_some_and(|name| name == "tidemark");
            (
                if ours {
                    exe.to_owned()
                } else {
                    PathBuf::from(first)
                },
                rest.to_vec(),
            )
        }
    }
}
