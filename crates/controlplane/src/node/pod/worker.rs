//! How does one pod live: from its volumes over its processes and their restarts to its end?
//!
//! One task per pod. It waits for whatever comes next (a change of the pod or of what it refers to, the end of a
//! process, a probe's verdict, a back-off's end), acts, and writes the status when it changed.

mod containers;
mod ending;
mod reporting;
mod starting;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::events::Recorder;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::names::Place;
use crate::node::view::View;
use containers::{Report, Slot, exited, slots_of};
use ending::Ending;
use upkeep::Mounted;

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

/// One pod's task.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    namespace: String,
    name: String,
    place: Place,
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
    /// Which versions of ConfigMaps and Secrets the volumes show.
    mounted: Mounted,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

/// Logs are looked at this often, and mounted ConfigMaps and Secrets that could not be brought up to date before.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, pod: Arc<Pod>, place: Place, hosts: PathBuf) -> Self {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let uid = pod.uid().unwrap_or_default();
        let folder = shared
            .data_dir
            .join("pods")
            .join(format!("{namespace}_{name}"));
        let (slots, init_count) = slots_of(&pod);
        tracing::debug!(pod = %name, %uid, %place, "a pod is taken on");
        // One verdict per probe change; probes wait when the worker is behind.
        let (report, reports) = mpsc::channel(16);
        Self {
            slots,
            shared,
            pod,
            namespace,
            name,
            place,
            hosts,
            folder,
            started: Timestamp::now(),
            init_count,
            report,
            reports,
            last_status: None,
            blocked: None,
            told: false,
            ending: false,
            mounted: Mounted::default(),
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
                // What a blocked pod waits for may just have come, or what a running one has mounted changed.
                Ok(()) = moved.changed(), if ending.is_none() => {
                    self.retry_blocked();
                    self.refresh_volumes();
                }
                (index, result) = exited(&mut self.slots) => self.on_exit(index, result),
                Some(report) = self.reports.recv() => self.on_verdict(report).await,
                _ = housekeeping.tick() => self.keep_house(),
                () = tokio::time::sleep_until(wake) => {}
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

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.namespace)
    }
}
