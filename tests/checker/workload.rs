//! How is the program of clients run, and how far has it come?

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tests::cluster::await_true;
use tests::root;

use crate::brokers::Brokers;
use crate::network::CLIENTS;

/// The topic that everything is about.
pub(crate) const TOPIC: &str = "checked";
/// Flushing, open transactions that time out and reading to the end each have 60 s.
const LONGEST_END: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Workload {
    child: Child,
    history: PathBuf,
    errors: PathBuf,
    read: u64,
    acked: usize,
}

impl Workload {
    pub(crate) fn start(
        python: &Path,
        brokers: &Brokers,
        folder: &Path,
        (seconds, seed): (u64, u64),
    ) -> Self {
        let (history, errors) = (folder.join("history.jsonl"), folder.join("workload.log"));
        let mut command = brokers.network.command(CLIENTS, python);
        command.arg(root().join("tests/clients/python/queue_workload.py"));
        command.args([
            &brokers.bootstrap(),
            TOPIC,
            &seconds.to_string(),
            &seed.to_string(),
        ]);
        let child = command
            .arg(&history)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).expect("a file"))
            .spawn()
            .expect("python runs");
        Self {
            child,
            history,
            errors,
            read: 0,
            acked: 0,
        }
    }

    /// Acknowledgements so far.
    pub(crate) fn acked(&mut self) -> usize {
        let mut new = String::new();
        let Ok(mut file) = std::fs::File::open(&self.history) else {
            return 0;
        };
        if file.seek(std::io::SeekFrom::Start(self.read)).is_ok()
            && file.read_to_string(&mut new).is_ok()
        {
            // The rest of a line that is being written is read the next time.
            let whole = new.rfind('\n').map_or("", |end| &new[..=end]);
            self.read += whole.len() as u64;
            self.acked += whole.matches("\"type\":\"ack\"").count();
        }
        self.acked
    }

    /// Waits for the end by itself; what it had to say, if that was not the right one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let deadline = Instant::now() + LONGEST_END;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            let look = Instant::now();
            await_true("the workload ended, or a second is over", || {
                ended = self.child.try_wait().expect("a child can be asked");
                ended.is_some() || look.elapsed() > Duration::from_secs(1)
            });
        }
        if ended.is_some_and(|status| status.success()) {
            return None;
        }
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        Some(format!(
            "the workload did not end well ({ended:?}): {errors}"
        ))
    }

    pub(crate) fn history(&self) -> &Path {
        &self.history
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail when it has already ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
