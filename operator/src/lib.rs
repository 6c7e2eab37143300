//! How does the world come to match the custom resources?
//!
//! The shell around `operator-core`: it watches, reads, asks the core what should be, and writes. It keeps no state outside the API
//! server; every reconcile may be the first one after a crash. Read in this order: [`run`] below, `controllers` (what wakes whom),
//! `cluster` and `topic` (one reconcile of each kind), `apply` (how an object is written), [`admin`] (what is asked of Kafka).

pub mod admin;

mod apply;
mod caught;
mod cluster;
mod context;
mod controllers;
mod events;
mod http;
mod lease;
mod metrics;
mod retry;
mod topic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
pub use operator_core::build::Settings;

use crate::admin::KafkaAdmin;
pub use crate::lease::LeaseConfig;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// What the operator brings to every cluster: image, DNS domain, defaults.
    pub settings: Settings,
    /// Watch these namespaces only, none of them twice; empty is all of them.
    pub namespaces: Vec<String>,
    /// How Kafka clusters are asked and changed.
    pub admin: Arc<dyn KafkaAdmin>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None` serves nothing.
    pub http: Option<SocketAddr>,
    /// Wait for this Lease before doing anything; `None` when there is only one operator by construction.
    pub lease: Option<LeaseConfig>,
    /// How often a Ready topic or cluster is compared with Kafka again, to notice what was changed by hand.
    pub drift_interval: Duration,
    /// Name of this process in events, usually the pod's.
    pub instance: String,
}

impl OperatorConfig {
    /// A configuration with everything at its default: all namespaces, no server, no lease, drift noticed within a minute.
    #[must_use]
    pub fn new(admin: Arc<dyn KafkaAdmin>) -> Self {
        Self {
            settings: Settings::default(),
            namespaces: Vec::new(),
            admin,
            http: None,
            lease: None,
            drift_interval: Duration::from_secs(60),
            instance: "tidemark-operator".into(),
        }
    }
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The port for metrics and probes cannot be had.
    #[error("failed to listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process took the Lease; this one must stop at once.
    #[error("lost the lease {name}: another operator took over")]
    LeaseLost {
        /// Name of the Lease.
        name: String,
    },
    /// A controller ended although nobody asked it to.
    #[error("failed to keep the controllers running: one ended by itself")]
    ControllerEnded,
}

/// Runs the controllers until `shutdown` resolves, then lets reconciles under way finish.
///
/// # Guarantees
/// Requests go only through `client` and [`OperatorConfig::admin`]. On shutdown no reconcile is cut in the middle.
///
/// # Errors
/// See [`OperatorError`]; a cluster that cannot be reconciled is not an error here but a condition on that cluster.
pub async fn run(
    client: Client,
    config: OperatorConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), OperatorError> {
    controllers::run(client, config, shutdown).await
}
