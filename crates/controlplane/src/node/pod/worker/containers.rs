//! What is known of each container of a pod, and what follows from its end and from its probes' verdicts?

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::runtime::events::EventType;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Worker;
use crate::node::logs;
use crate::node::pod::probes::{self, Target, Verdict};
use crate::node::pod::process::Process;
use crate::node::pod::status::{ContainerState, Exit, Phase};

/// A probe's verdict about container `slot` in its run number `run`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) slot: usize,
    pub(super) run: u32,
    pub(super) verdict: Verdict,
}

/// One container of the pod.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) container: Container,
    pub(super) state: ContainerState,
    pub(super) process: Option<Process>,
    pub(super) probes: Option<AbortHandle>,
    /// When to start it next; `None` while it runs or must not run.
    pub(super) due: Option<Instant>,
    pub(super) backoff: u32,
    pub(super) run_since: Instant,
    /// When a stopping container is killed.
    pub(super) kill_at: Option<Instant>,
}

/// The first restart comes at once, the next ones after 1 s, 2 s, 4 s ... at most a minute; ten minutes up forget it.
fn backoff(restarts: u32) -> Duration {
    match restarts {
        0 | 1 => Duration::from_millis(20),
        n => Duration::from_secs(1 << (n - 2).min(6)).min(Duration::from_secs(60)),
    }
}

const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The containers of a pod, init containers first, and how many of those there are.
pub(super) fn slots_of(pod: &Pod) -> (Vec<Slot>, usize) {
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let init_count = init.len();
    let now = Instant::now();
    let restarts = previous_restarts(pod);
    let all = init.into_iter().chain(spec.containers).enumerate();
    let slots = all.map(|(index, container)| {
        let mut state = ContainerState::default();
        if index >= init_count {
            state.restarts = restarts(&container.name);
        }
        Slot {
            container,
            state,
            process: None,
            probes: None,
            due: None,
            backoff: 0,
            run_since: now,
            kill_at: None,
        }
    });
    (slots.collect(), init_count)
}

impl Worker {
    pub(super) fn on_exit(
        &mut self,
        index: usize,
        result: std::io::Result<std::process::ExitStatus>,
    ) {
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.clone())
            .unwrap_or_else(|| "Always".to_owned());
        let init = index < self.init_count;
        let log = self.log_file(&self.slots[index].container.name);
        let slot = &mut self.slots[index];
        slot.stop_probes();
        (slot.process, slot.kill_at) = (None, None);
        let exit = slot.exit_of(result, &log);
        tracing::debug!(pod = %self.name, container = %slot.container.name, code = exit.code, "a container ended");
        let again = match policy.as_str() {
            "Always" => !init || exit.code != 0,
            "OnFailure" => exit.code != 0,
            _ => false,
        };
        (slot.state.ready, slot.state.started) = (false, false);
        if !again || self.ending {
            slot.state.phase = Phase::Terminated(exit);
            return;
        }
        slot.restart_later(exit);
    }

    pub(super) async fn on_verdict(&mut self, report: Report) {
        let Report {
            slot: index,
            run,
            verdict,
        } = report;
        let name = self.slots[index].container.name.clone();
        let slot = &mut self.slots[index];
        // A verdict of an earlier run of the container says nothing about this one.
        if slot.state.restarts != run || slot.process.is_none() || slot.kill_at.is_some() {
            return;
        }
        match verdict {
            Verdict::Started => slot.state.started = true,
            Verdict::Ready(ready) => slot.state.ready = ready,
            Verdict::Unhealthy(which) => {
                slot.stop_probes();
                slot.state.ready = false;
                let grace = self
                    .pod
                    .spec
                    .as_ref()
                    .and_then(|s| s.termination_grace_period_seconds)
                    .unwrap_or(30);
                slot.kill_at =
                    Some(Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
                if let Some(process) = &slot.process {
                    process.signal(Signal::TERM);
                }
                let text = format!("Container {name} failed {which} probe, will be restarted");
                self.event(EventType::Warning, "Unhealthy", &text).await;
            }
        }
    }
}

/// The next container that ends; pending for ever when none runs.
pub(super) async fn exited(
    slots: &mut [Slot],
) -> (usize, std::io::Result<std::process::ExitStatus>) {
    let running = slots
        .iter_mut()
        .enumerate()
        .filter_map(|(index, slot)| Some((index, slot.process.as_mut()?)));
    let waits: Vec<_> = running
        .map(|(index, process)| Box::pin(async move { (index, process.wait().await) }))
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waits).await.0
}

impl Slot {
    pub(super) fn start_probes(
        &mut self,
        index: usize,
        target: Target,
        sink: mpsc::Sender<Report>,
    ) {
        let run = self.state.restarts;
        // Verdicts of one run pass through a small channel of their own; four probes cannot fill it for long.
        let (report, mut verdicts) = mpsc::channel(4);
        let container = self.container.clone();
        let task = tokio::spawn(async move {
            let forward = async {
                while let Some(verdict) = verdicts.recv().await {
                    if sink
                        .send(Report {
                            slot: index,
                            run,
                            verdict,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            };
            tokio::join!(probes::run(container, target, report), forward);
        });
        self.probes = Some(task.abort_handle());
    }

    pub(super) fn stop_probes(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
    }

    pub(super) fn fail_to_start(&mut self, reason: &str, message: &str) {
        self.backoff += 1;
        self.state.phase = Phase::Waiting {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        self.due = Some(Instant::now() + backoff(self.backoff + 1));
    }

    pub(super) fn restart_later(&mut self, exit: Exit) {
        self.backoff = if self.run_since.elapsed() >= FORGIVEN_AFTER {
            1
        } else {
            self.backoff + 1
        };
        self.state.restarts += 1;
        let wait = backoff(self.backoff);
        self.due = Some(Instant::now() + wait);
        let reason = if self.backoff > 1 {
            "CrashLoopBackOff"
        } else {
            "ContainerCreating"
        };
        let message = format!(
            "back-off {}s restarting container {} (exit code {})",
            wait.as_secs(),
            self.container.name,
            exit.code
        );
        self.state.phase = Phase::Waiting {
            reason: reason.to_owned(),
            message,
        };
        self.state.last = Some(exit);
    }

    /// `log` is the output, for containers that want its end as their termination message.
    pub(super) fn exit_of(
        &self,
        result: std::io::Result<std::process::ExitStatus>,
        log: &Path,
    ) -> Exit {
        use std::os::unix::process::ExitStatusExt as _;
        let (pid, started) = match self.state.phase {
            Phase::Running { pid, since } => (pid, since),
            Phase::Created | Phase::Waiting { .. } | Phase::Terminated(_) => (0, Timestamp::now()),
        };
        let from_log =
            self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let last_words = || match logs::tail(log) {
            Ok(text) => text,
            Err(error) => format!("failed to read {}: {error}", log.display()),
        };
        let (code, signal, message) = match &result {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) if code != 0 && from_log => (code, None, last_words()),
                (Some(code), _) => (code, None, String::new()),
                (None, Some(signal)) => (128 + signal, Some(signal), String::new()),
                (None, None) => (255, None, String::new()),
            },
            Err(e) => (255, None, format!("failed to wait for the process: {e}")),
        };
        Exit {
            code,
            signal,
            started,
            finished: Timestamp::now(),
            pid,
            message,
        }
    }
}

/// Restart counts survive the agent: a pod that runs again after a stop counts one more.
fn previous_restarts(pod: &Pod) -> impl Fn(&str) -> u32 + use<> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.clone())
        .unwrap_or_default();
    move |name| {
        let found = statuses.iter().find(|s| s.name == name);
        let ran = found
            .and_then(|s| s.state.as_ref())
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        let count = found.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0));
        count + u32::from(ran)
    }
}
