//! How does one pod live: from its volumes over its processes and their restarts to its end?
//!
//! One task per pod. It waits for whatever comes next (a change of the pod or of what it refers to, the end of a
//! process, a probe's verdict, a back-off's end), acts, and writes the status when it changed.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::environment::{Downward, Sources, expand, variables};
use super::probes::{self, Target, Verdict};
use super::process::{Launch, Process, program};
use super::status::{ContainerState, Exit, Phase, Snapshot};
use super::unsupported::not_honoured;
use super::volumes::{self, Claims, VolumeError};
use crate::node::view::View;
use crate::node::{claims, logs, orphans};

/// What all workers of an agent share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) view: View,
    pub(crate) recorder: Recorder,
    pub(crate) data_dir: PathBuf,
    pub(crate) exe: PathBuf,
    pub(crate) node_name: String,
    pub(crate) stop_within: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("data_dir", &self.data_dir)
            .field("exe", &self.exe)
            .finish_non_exhaustive()
    }
}

/// A probe's verdict about container `slot` in its run number `run`.
#[derive(Debug, Clone, Copy)]
struct Report {
    slot: usize,
    run: u32,
    verdict: Verdict,
}

/// One pod's task.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    namespace: String,
    name: String,
    address: Ipv4Addr,
    port_offset: u16,
    hosts: PathBuf,
    folder: PathBuf,
    started: Timestamp,
    slots: Vec<Slot>,
    init_count: usize,
    last_status: Option<Value>,
    /// Why a container cannot start, and since when.
    blocked: Option<(String, Instant)>,
    /// The blockage was told in an event.
    told: bool,
    ending: bool,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

/// One container of the pod.
#[derive(Debug)]
struct Slot {
    container: Container,
    state: ContainerState,
    process: Option<Process>,
    probes: Option<AbortHandle>,
    /// When to start it next; `None` while it runs or must not run.
    due: Option<Instant>,
    backoff: u32,
    run_since: Instant,
    /// When a stopping container is killed.
    kill_at: Option<Instant>,
}

/// The first restart comes at once, the next ones after 1 s, 2 s, 4 s ... at most a minute; ten minutes up forget it.
fn backoff(restarts: u32) -> Duration {
    match restarts {
        0 | 1 => Duration::from_millis(20),
        n => Duration::from_secs(1 << (n - 2).min(6)).min(Duration::from_secs(60)),
    }
}

const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// Mounted ConfigMaps and Secrets are looked at again this often, and logs rotated.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Reasons of containers that wait for something the pod refers to.
const BLOCKED: [&str; 2] = ["CreateContainerConfigError", "FailedMount"];

/// A container that cannot start for this long says why in an event.
const WORTH_TELLING: Duration = Duration::from_millis(900);

/// How the worker was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The pod was deleted: stop, then remove the object.
    Deleted,
    /// The agent stops: stop, keep the object for the next run.
    Agent,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        address: Ipv4Addr,
        port_offset: u16,
        hosts: PathBuf,
    ) -> Self {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let uid = pod.uid().unwrap_or_default();
        let folder = shared
            .data_dir
            .join("pods")
            .join(format!("{namespace}_{name}"));
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let init_count = init.len();
        let now = Instant::now();
        let restarts = previous_restarts(&pod);
        let slots =
            init.into_iter()
                .chain(spec.containers)
                .enumerate()
                .map(|(index, container)| {
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
        let started = Timestamp::now();
        tracing::debug!(pod = %name, %uid, %address, "a pod is taken on");
        // One verdict per probe change; probes wait when the worker is behind.
        let (report, reports) = mpsc::channel(16);
        Self {
            slots: slots.collect(),
            shared,
            pod,
            namespace,
            name,
            address,
            port_offset,
            hosts,
            folder,
            started,
            init_count,
            report,
            reports,
            last_status: None,
            blocked: None,
            told: false,
            ending: false,
        }
    }

    /// Runs the pod until it is deleted or the agent stops.
    pub(crate) async fn run(
        mut self,
        mut pods: watch::Receiver<Arc<Pod>>,
        stop: CancellationToken,
    ) {
        self.report_not_honoured().await;
        self.end_leftovers().await;
        let mut moved = self.shared.view.moved();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let (mut ending, mut hurried) = (None, false);
        loop {
            self.pod = pods.borrow_and_update().clone();
            if ending.is_none() {
                ending = self.wanted_ending(&stop);
                if let Some(why) = ending {
                    self.begin_end(why);
                }
            }
            match ending {
                Some(why) if self.all_stopped() => return self.finish(why).await,
                Some(_) => self.kill_overdue(),
                None => {
                    self.kill_overdue();
                    self.advance().await;
                }
            }
            self.write_status(ending == Some(Ending::Deleted)).await;
            let wake = self.next_deadline();
            tokio::select! {
                () = stop.cancelled(), if !hurried => {
                    hurried = true;
                    self.hurry();
                }
                changed = pods.changed() => {
                    if changed.is_err() && ending.is_none() {
                        // The object is gone without our doing (deleted with no grace): stop what runs.
                        ending = Some(Ending::Deleted);
                        self.begin_end(Ending::Deleted);
                    }
                }
                // What a blocked pod waits for may just have come.
                _ = moved.changed(), if self.blocked.is_some() && ending.is_none() => self.retry_blocked(),
                (index, result) = exited(&mut self.slots) => self.on_exit(index, result),
                Some(report) = self.reports.recv() => self.on_verdict(report).await,
                _ = housekeeping.tick() => self.keep_house(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn wanted_ending(&self, stop: &CancellationToken) -> Option<Ending> {
        if stop.is_cancelled() {
            Some(Ending::Agent)
        } else if self.pod.metadata.deletion_timestamp.is_some() {
            Some(Ending::Deleted)
        } else {
            None
        }
    }

    fn begin_end(&mut self, why: Ending) {
        let own = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(30);
        let grace = match why {
            Ending::Deleted => Duration::from_secs(own),
            Ending::Agent => self.shared.stop_within,
        };
        self.ending = true;
        let kill_at = Instant::now() + grace;
        for slot in &mut self.slots {
            slot.due = None;
            slot.stop_probes();
            slot.state.ready = false;
            if let Some(process) = &slot.process {
                process.signal(Signal::TERM);
                slot.kill_at = Some(kill_at);
            }
        }
    }

    /// The agent stops while the pod terminates: its grace ends with the agent's.
    fn hurry(&mut self) {
        let latest = Instant::now() + self.shared.stop_within;
        for at in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.kill_at.as_mut())
        {
            *at = latest.min(*at);
        }
    }

    fn kill_overdue(&mut self) {
        let now = Instant::now();
        for slot in &mut self.slots {
            if slot.kill_at.is_some_and(|at| at <= now) {
                slot.kill_at = None;
                if let Some(process) = &slot.process {
                    process.signal(Signal::KILL);
                }
            }
        }
    }

    fn all_stopped(&self) -> bool {
        self.slots.iter().all(|slot| slot.process.is_none())
    }

    async fn finish(mut self, why: Ending) {
        if why == Ending::Agent {
            self.write_status(false).await;
            return;
        }
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            tracing::debug!(pod = %self.name, error = %e, "failed to remove a pod's folder");
        }
        let preconditions = Preconditions {
            uid: self.pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        for attempt in 0..10_u32 {
            match self.api().delete(&self.name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return,
                Err(e) => {
                    tracing::debug!(pod = %self.name, attempt, error = %e, "failed to remove a stopped pod; retrying");
                }
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt.min(5))).await;
        }
        tracing::warn!(pod = %self.name, "a stopped pod could not be removed; the next start removes it");
    }

    /// Starts what is due: init containers one after the other, then all the others.
    async fn advance(&mut self) {
        let done =
            |slot: &Slot| matches!(&slot.state.phase, Phase::Terminated(exit) if exit.code == 0);
        let first_init = self.slots[..self.init_count]
            .iter()
            .position(|slot| !done(slot));
        let any_main = self.slots[self.init_count..]
            .iter()
            .any(|slot| slot.state.phase != Phase::Created);
        let candidates = match first_init {
            Some(index) if !any_main => index..index + 1,
            _ => self.init_count..self.slots.len(),
        };
        let now = Instant::now();
        for index in candidates {
            let slot = &self.slots[index];
            let new = slot.process.is_none()
                && slot.due.is_none()
                && !matches!(slot.state.phase, Phase::Terminated(_));
            if new || slot.due.is_some_and(|due| due <= now) {
                self.start(index).await;
            }
        }
    }

    async fn start(&mut self, index: usize) {
        let launch = match self.prepare(index) {
            Ok(launch) => launch,
            Err(e) => return self.block(index, &e).await,
        };
        self.blocked = None;
        let slot = &mut self.slots[index];
        match launch.start() {
            Ok(process) => {
                let now = Instant::now();
                slot.state.phase = Phase::Running {
                    pid: process.pid(),
                    since: Timestamp::now(),
                };
                (slot.due, slot.run_since, slot.process) = (None, now, Some(process));
                (slot.state.started, slot.state.ready) = (false, false);
                if index >= self.init_count {
                    let target = Target {
                        address: self.address,
                        port_offset: self.port_offset,
                        exe: self.shared.exe.clone(),
                        env: launch.env,
                    };
                    slot.start_probes(index, target, self.report.clone());
                }
            }
            Err(e) => {
                let message = format!("failed to start {}: {e}", launch.program.display());
                slot.fail_to_start("RunContainerError", &message);
                self.event(EventType::Warning, "Failed", &message).await;
            }
        }
    }

    /// Something the pod refers to is not there: say so once, try again when anything moves.
    async fn block(&mut self, index: usize, error: &VolumeError) {
        let text = match error {
            VolumeError::Io { source, .. } => format!("{error}: {source}"),
            VolumeError::Missing(_) | VolumeError::Unsupported { .. } => error.to_string(),
        };
        let (reason, wait) = match error {
            VolumeError::Missing(_) => (BLOCKED[0], Duration::from_secs(1)),
            VolumeError::Io { .. } | VolumeError::Unsupported { .. } => {
                (BLOCKED[1], Duration::from_secs(5))
            }
        };
        let slot = &mut self.slots[index];
        slot.state.phase = Phase::Waiting {
            reason: reason.to_owned(),
            message: text.clone(),
        };
        // Blocked starts are tried again on every change; the timer is the safety net.
        let now = Instant::now();
        slot.due = Some(now + wait);
        let since = match self.blocked.take() {
            Some((before, since)) if before == text => since,
            _ => {
                self.told = false;
                now
            }
        };
        self.blocked = Some((text.clone(), since));
        // What comes within a moment (a claim being bound) is not worth an event.
        if !self.told && since.elapsed() >= WORTH_TELLING {
            self.told = true;
            self.event(EventType::Warning, reason, &text).await;
        }
    }

    fn retry_blocked(&mut self) {
        for slot in &mut self.slots {
            if matches!(&slot.state.phase, Phase::Waiting { reason, .. } if BLOCKED.contains(&reason.as_str()))
            {
                slot.due = Some(Instant::now());
            }
        }
    }

    fn prepare(&self, index: usize) -> Result<Launch, VolumeError> {
        let container = &self.slots[index].container;
        let downward = Downward {
            pod: &self.pod,
            address: self.address,
            node: &self.shared.node_name,
        };
        let root = self.folder.join("volumes");
        let volumes = volumes::materialise(&self.pod, &root, downward, self, self)?;
        let mut env = variables(container, downward, self)?;
        let mounts = volumes::mounts(container, &volumes, &env)?;
        let expand_all = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter()
                .flatten()
                .map(|text| mounts.rewrite(&expand(text, &env)))
                .collect()
        };
        let (command, rest) = program(&expand_all(&container.command), &self.shared.exe);
        let args = rest
            .into_iter()
            .chain(expand_all(&container.args))
            .collect();
        for (_, value) in &mut env {
            *value = mounts.rewrite(value);
        }
        let address = self.address.to_string();
        for (name, value) in [
            ("HOSTNAME", self.name.clone()),
            ("TIDEMARK_MOUNTS", mounts.variable()),
            ("TIDEMARK_HOSTS", self.hosts.display().to_string()),
            ("TIDEMARK_BIND_HOST", address.clone()),
            ("TIDEMARK_ADVERTISED_HOST", address),
        ] {
            env.push((name.to_owned(), value));
        }
        if self.port_offset > 0 {
            env.push((
                "TIDEMARK_PORT_OFFSET".to_owned(),
                self.port_offset.to_string(),
            ));
        }
        Ok(Launch {
            program: command,
            args,
            env,
            log: logs::log_file(
                &self.shared.data_dir,
                &self.namespace,
                &self.name,
                &container.name,
            ),
            record: self.record_file(&container.name),
        })
    }

    fn record_file(&self, container: &str) -> PathBuf {
        self.folder.join(format!("{container}.process"))
    }

    fn on_exit(&mut self, index: usize, result: std::io::Result<std::process::ExitStatus>) {
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.clone())
            .unwrap_or_else(|| "Always".to_owned());
        let init = index < self.init_count;
        let slot = &mut self.slots[index];
        slot.stop_probes();
        (slot.process, slot.kill_at) = (None, None);
        let exit = slot.exit_of(result);
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

    async fn on_verdict(&mut self, report: Report) {
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

    fn next_deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        self.slots
            .iter()
            .flat_map(|slot| [slot.due, slot.kill_at])
            .flatten()
            .min()
            .unwrap_or(far)
    }

    /// Rotates logs and brings mounted ConfigMaps and Secrets up to date.
    fn keep_house(&mut self) {
        for slot in &self.slots {
            let log = logs::log_file(
                &self.shared.data_dir,
                &self.namespace,
                &self.name,
                &slot.container.name,
            );
            if let Err(e) = logs::rotate(&log) {
                tracing::warn!(log = %log.display(), error = %e, "failed to rotate a log");
            }
        }
        if self.slots.iter().any(|slot| slot.process.is_some()) {
            let downward = Downward {
                pod: &self.pod,
                address: self.address,
                node: &self.shared.node_name,
            };
            if let Err(e) = volumes::materialise(
                &self.pod,
                &self.folder.join("volumes"),
                downward,
                self,
                self,
            ) {
                tracing::debug!(pod = %self.name, error = %e, "failed to refresh volumes; the running content stays");
            }
        }
    }

    async fn write_status(&mut self, terminating: bool) {
        let (init, main): (Vec<_>, Vec<_>) = {
            let states: Vec<ContainerState> =
                self.slots.iter().map(|slot| slot.state.clone()).collect();
            (
                states[..self.init_count].to_vec(),
                states[self.init_count..].to_vec(),
            )
        };
        let snapshot = Snapshot {
            pod: &self.pod,
            address: self.address,
            started: self.started,
            init: &init,
            main: &main,
            terminating,
        };
        let status = snapshot.wire(self.last_status.as_ref(), Timestamp::now());
        if self.last_status.as_ref() == Some(&status) {
            return;
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        match self
            .api()
            .patch_status(&self.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => self.last_status = Some(status),
            Err(kube::Error::Api(e)) if e.code == 404 || e.code == 409 => {
                self.last_status = Some(status);
            }
            Err(e) => {
                tracing::debug!(pod = %self.name, error = %e, "failed to write a pod's status; the next change retries");
            }
        }
    }

    async fn report_not_honoured(&self) {
        let list = not_honoured(&self.pod);
        if !list.is_empty() {
            let text = format!("not applied on the local node: {}", list.join("; "));
            self.event(EventType::Normal, "NotEnforced", &text).await;
        }
    }

    async fn end_leftovers(&self) {
        for slot in &self.slots {
            orphans::end_recorded(&self.record_file(&slot.container.name)).await;
        }
    }

    async fn event(&self, type_: EventType, reason: &str, note: &str) {
        let mut note = note.to_owned();
        note.truncate(
            (0..=1000.min(note.len()))
                .rev()
                .find(|i| note.is_char_boundary(*i))
                .unwrap_or(0),
        );
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Run".to_owned(),
            secondary: None,
        };
        if let Err(e) = self
            .shared
            .recorder
            .publish(&event, &self.pod.object_ref(&()))
            .await
        {
            tracing::debug!(pod = %self.name, reason, error = %e, "failed to record an event");
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.namespace)
    }
}

/// The next container that ends; pending for ever when none runs.
async fn exited(slots: &mut [Slot]) -> (usize, std::io::Result<std::process::ExitStatus>) {
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
    fn start_probes(&mut self, index: usize, target: Target, sink: mpsc::Sender<Report>) {
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

    fn stop_probes(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
    }

    fn fail_to_start(&mut self, reason: &str, message: &str) {
        self.backoff += 1;
        self.state.phase = Phase::Waiting {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        self.due = Some(Instant::now() + backoff(self.backoff + 1));
    }

    fn restart_later(&mut self, exit: Exit) {
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

    fn exit_of(&self, result: std::io::Result<std::process::ExitStatus>) -> Exit {
        use std::os::unix::process::ExitStatusExt as _;
        let (pid, started) = match self.state.phase {
            Phase::Running { pid, since } => (pid, since),
            Phase::Created | Phase::Waiting { .. } | Phase::Terminated(_) => (0, Timestamp::now()),
        };
        let (code, signal, message) = match &result {
            Ok(status) => match (status.code(), status.signal()) {
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

impl Sources for Worker {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.shared
            .view
            .config_maps
            .get(&ObjectRef::new(name).within(&self.namespace))
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.shared
            .view
            .secrets
            .get(&ObjectRef::new(name).within(&self.namespace))
    }
}

impl Claims for Worker {
    fn folder(&self, claim: &str) -> Option<PathBuf> {
        let found = self
            .shared
            .view
            .claims
            .get(&ObjectRef::new(claim).within(&self.namespace))?;
        let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        bound.then(|| claims::folder(&self.shared.data_dir, &self.namespace, claim))
    }
}
