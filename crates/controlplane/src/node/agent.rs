//! How do the parts of the node agent run together? One loop over "something moved", one task per pod.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::addresses::{AddressError, Addresses};
use super::names::{Endpoint, Names, Place, Resolver};
use super::pod::worker::{Shared, Worker};
use super::view::View;
use super::workload::{NODE_NAME, ready, terminating};
use super::{budgets, claims, deployment, statefulset};

/// How to run a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// How the API is reached.
    pub client: Client,
    /// Volumes, logs, pods' files and the address table live below it.
    pub data_dir: PathBuf,
    /// The binary that every container image stands for.
    pub exe: PathBuf,
    /// Pods get the addresses after this one (`127.0.10.0` gives 127.0.10.1 and up).
    pub address_base: Ipv4Addr,
    /// For systems with one loopback address: all pods share 127.0.0.1. The first pod's ports are this much higher than
    /// its spec says (`TIDEMARK_PORT_OFFSET`), those of every further pod [`PORTS_APART`] more.
    pub port_base: Option<u16>,
    /// When the agent stops, children have this long between SIGTERM and SIGKILL.
    pub stop_within: Duration,
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("data_dir", &self.data_dir)
            .field("exe", &self.exe)
            .field("address_base", &self.address_base)
            .field("port_base", &self.port_base)
            .finish_non_exhaustive()
    }
}

impl NodeConfig {
    /// The usual settings: this very binary, 127.0.10.0, five seconds.
    pub fn new(client: Client, data_dir: impl Into<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            client,
            data_dir: data_dir.into(),
            exe: std::env::current_exe()?,
            address_base: Ipv4Addr::new(127, 0, 10, 0),
            port_base: None,
            stop_within: Duration::from_secs(5),
        })
    }
}

/// A node that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its address table cannot be used.
    #[error("failed to open the address table")]
    Addresses(#[from] AddressError),
    /// Its folder cannot be used.
    #[error("failed to use {path}")]
    Io {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The node agent.
#[derive(Debug)]
pub struct NodeAgent {
    config: NodeConfig,
    addresses: Addresses,
    resolver: Resolver,
}

/// A running pod's task.
#[derive(Debug)]
struct Running {
    /// `namespace/name`.
    key: String,
    /// `None` once the object is gone; the task then ends its processes.
    pods: Option<watch::Sender<Arc<Pod>>>,
    task: JoinHandle<()>,
    place: Place,
}

/// Pods that share an address are this far apart in ports: more than the ports of one pod lie apart (9090 to 9404), and
/// round, so that people can tell the third broker's port.
pub const PORTS_APART: u16 = 1000;

/// After a failed round the next one comes at the latest after this.
const RETRY: Duration = Duration::from_millis(200);
/// And without any reason after this: the safety net under the watches.
const RESYNC: Duration = Duration::from_secs(30);

impl NodeAgent {
    /// Prepares the data directory; nothing runs yet.
    pub fn new(mut config: NodeConfig) -> Result<Self, NodeError> {
        let folder = config.data_dir.join("node");
        let io = |path: &PathBuf| {
            let path = path.clone();
            move |source| NodeError::Io { path, source }
        };
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        config.data_dir = std::fs::canonicalize(&config.data_dir).map_err(io(&config.data_dir))?;
        let addresses = Addresses::open(&folder, config.address_base)?;
        Ok(Self {
            config,
            addresses,
            resolver: Resolver::default(),
        })
    }

    /// Resolves the names of pods and services of this node; usable before and while it runs.
    pub fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }

    /// Runs until `stop` is cancelled; returns when every child has ended.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let view = View::start(&self.config.client, &mut tasks).await;
        let reporter = Reporter {
            controller: "tidemark-node".to_owned(),
            instance: Some(NODE_NAME.to_owned()),
        };
        let shared = Arc::new(Shared {
            client: self.config.client.clone(),
            view,
            recorder: Recorder::new(self.config.client.clone(), reporter),
            data_dir: self.config.data_dir.clone(),
            exe: self.config.exe.clone(),
            node_name: NODE_NAME.to_owned(),
            stop_within: self.config.stop_within,
        });
        let names = Names::new(&self.config.data_dir.join("node"), self.resolver.clone());
        let mut node = Node {
            shared,
            addresses: self.addresses,
            port_base: self.config.port_base,
            names,
            running: HashMap::new(),
            stop: stop.clone(),
        };
        let mut moved = node.shared.view.moved();
        loop {
            moved.mark_unchanged();
            let wait = if node.round().await { RESYNC } else { RETRY };
            tokio::select! {
                () = stop.cancelled() => break,
                _ = moved.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        node.drain().await;
        tasks.shutdown().await;
    }
}

/// The state of the loop.
#[derive(Debug)]
struct Node {
    shared: Arc<Shared>,
    addresses: Addresses,
    port_base: Option<u16>,
    names: Names,
    /// By pod uid.
    running: HashMap<String, Running>,
    stop: CancellationToken,
}

impl Node {
    /// One look at everything; false when something failed and should be tried again soon.
    async fn round(&mut self) -> bool {
        let view = self.shared.view.clone();
        let client = self.shared.client.clone();
        let pods = view.pods.state();
        let claim_list = view.claims.state();
        let data_dir = &self.shared.data_dir;
        let here = |namespace: Option<String>| -> Vec<Arc<Pod>> {
            pods.iter()
                .filter(|pod| pod.namespace() == namespace)
                .cloned()
                .collect()
        };
        let sets = async |set: Arc<StatefulSet>| {
            let plan = statefulset::plan(&set, &here(set.namespace()), &claim_list);
            let result = statefulset::reconcile(&client, data_dir, &set, plan).await;
            note(
                "StatefulSet",
                &set.name_any(),
                result.map_err(|e| chain(&e)),
            )
        };
        let deployments = async |item: Arc<Deployment>| {
            let plan = deployment::plan(&item, &here(item.namespace()));
            let result = deployment::reconcile(&client, &item, plan).await;
            note(
                "Deployment",
                &item.name_any(),
                result.map_err(|e| chain(&e)),
            )
        };
        let bind = async |claim: &Arc<PersistentVolumeClaim>| {
            let result = claims::reconcile(&client, data_dir, claim, &pods).await;
            note(
                "PersistentVolumeClaim",
                &claim.name_any(),
                result.map_err(|e| chain(&e)),
            )
        };
        let count = async |budget: Arc<PodDisruptionBudget>| {
            let result = budgets::reconcile(&client, &budget, &pods).await;
            note(
                "PodDisruptionBudget",
                &budget.name_any(),
                result.map_err(|e| chain(&e)),
            )
        };
        // All at once: each answer waits for the disk, and waits are shared.
        let (a, b, c, d) = tokio::join!(
            join_all(view.stateful_sets.state().into_iter().map(sets)),
            join_all(view.deployments.state().into_iter().map(deployments)),
            join_all(claim_list.iter().map(bind)),
            join_all(view.budgets.state().into_iter().map(count)),
        );
        let fine = [a, b, c, d].concat().into_iter().all(|fine| fine);
        fine & self.run_pods(pods).await
    }

    /// Starts, updates and forgets pod tasks, then renews the name table.
    async fn run_pods(&mut self, mut pods: Vec<Arc<Pod>>) -> bool {
        pods.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
        let mut fine = true;
        let mut present = Vec::new();
        for pod in &pods {
            let uid = pod.uid().unwrap_or_default();
            present.push(uid.clone());
            if let Some(sender) = self
                .running
                .get(&uid)
                .and_then(|running| running.pods.as_ref())
            {
                sender.send_if_modified(|current| {
                    let newer = current.resource_version() != pod.resource_version();
                    *current = Arc::clone(pod);
                    newer
                });
                continue;
            }
            fine &= self.take_on(pod, &pods).await;
        }
        for (uid, running) in &mut self.running {
            if !present.contains(uid) {
                // Without its sender the task knows that the object is gone.
                running.pods = None;
            }
        }
        self.running
            .retain(|_, running| running.pods.is_some() || !running.task.is_finished());
        fine & self.renew_names(&pods)
    }

    async fn take_on(&mut self, pod: &Arc<Pod>, pods: &[Arc<Pod>]) -> bool {
        let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        if !self.predecessor_ended(&key) {
            return false;
        }
        let assigned = pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .unwrap_or_default();
        if !assigned.is_empty() && assigned != NODE_NAME {
            return true;
        }
        if assigned.is_empty() && !terminating(pod) {
            // Scheduling: there is one node. The change comes back through the watch.
            return self.assign(pod).await;
        }
        let exists = |name: &str| {
            pods.iter()
                .any(|p| format!("{}/{}", p.namespace().unwrap_or_default(), p.name_any()) == name)
        };
        let address = match self.addresses.of(&key, exists) {
            Ok(address) => address,
            Err(e) => {
                tracing::error!(pod = key, error = %chain(&e), "a pod gets no address");
                return false;
            }
        };
        let place = match self.port_base {
            None => Place {
                address,
                port_offset: 0,
            },
            Some(base) => Place {
                address: Ipv4Addr::LOCALHOST,
                // An offset past the last port is refused by the pod's own program, with the port that does not fit.
                port_offset: base
                    .saturating_add(PORTS_APART.saturating_mul(self.addresses.index(address))),
            },
        };
        let hosts = self.names.file(&pod.namespace().unwrap_or_default());
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(pod), place, hosts);
        let (sender, receiver) = watch::channel(Arc::clone(pod));
        let task = tokio::spawn(worker.run(receiver, self.stop.clone()));
        self.running.insert(
            pod.uid().unwrap_or_default(),
            Running {
                key,
                pods: Some(sender),
                task,
                place,
            },
        );
        true
    }

    /// A pod's namesake (same name, earlier uid) must have ended before its data is used again.
    fn predecessor_ended(&self, key: &str) -> bool {
        !self
            .running
            .values()
            .any(|running| running.key == key && !running.task.is_finished())
    }

    async fn assign(&self, pod: &Pod) -> bool {
        let api: Api<Pod> = Api::namespaced(
            self.shared.client.clone(),
            &pod.namespace().unwrap_or_default(),
        );
        let patch =
            Patch::Merge(json!({"metadata": {"uid": pod.uid()}, "spec": {"nodeName": NODE_NAME}}));
        match api
            .patch(&pod.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => true,
            Err(e) => {
                tracing::debug!(pod = %pod.name_any(), error = %e, "failed to assign a pod; the next round retries");
                false
            }
        }
    }

    fn renew_names(&mut self, pods: &[Arc<Pod>]) -> bool {
        let endpoints: Vec<Endpoint> = pods
            .iter()
            .filter_map(|pod| {
                let running = self.running.get(&pod.uid()?)?;
                let is_ready = ready(pod) && !terminating(pod);
                Some(Endpoint {
                    pod: Arc::clone(pod),
                    place: running.place,
                    ready: is_ready,
                })
            })
            .collect();
        match self
            .names
            .update(&self.shared.view.services.state(), &endpoints)
        {
            Ok(()) => true,
            Err(e) => {
                tracing::error!(error = %e, "failed to write the hosts table");
                false
            }
        }
    }

    /// Every pod task sees the cancelled token and stops its children; this waits for all of them.
    async fn drain(&mut self) {
        for (_, running) in self.running.drain() {
            if let Err(e) = running.task.await {
                tracing::error!(error = %e, "a pod's task ended badly");
            }
        }
    }
}

/// Says what failed; whether nothing did.
fn note(what: &str, name: &str, result: Result<(), String>) -> bool {
    match result {
        Ok(()) => true,
        Err(e) => {
            tracing::warn!(
                kind = what,
                name,
                error = e,
                "a controller failed; it tries again"
            );
            false
        }
    }
}

/// An error with its causes, for one line of log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
