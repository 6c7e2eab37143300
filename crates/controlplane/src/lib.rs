//! What stands in for Kubernetes on one machine? The in-process API server and the local node agent.
//!
//! [`ControlPlane`] is an object store behind a `tower::Service` given to [`kube::Client`]: the operator's controllers
//! talk to it as to any API server, without a socket. It answers with kube-apiserver's shapes, codes and texts for the
//! kinds it serves (our CRDs and the core kinds our builders use), and with a clear 4xx for everything else.
//!
//! Deviations from a real API server, all deliberate: no authentication or authorization (the caller is this process);
//! Services get no cluster IP (names resolve to pod addresses); no strategic merge patch; one version per core kind;
//! CEL cost budgets are not counted.

mod admission;
mod api;
mod api_error;
mod cel;
mod comparison;
mod control_plane;
mod faults;
mod field_set;
mod gc;
mod kinds;
mod managed_fields;
pub mod node;
mod quantity;
mod request;
mod schema;
mod selector;
mod server_side_apply;
mod service;
mod store;

pub use api_error::ApiError;
pub use control_plane::{ControlPlane, ControlPlaneConfig, OpenError};
pub use faults::{FaultPlan, FaultyService};
pub use node::{NodeAgent, NodeConfig, NodeError, Resolver};
pub use schema::parse::SchemaError;
pub use service::{ApiService, ResponseBody};
pub use store::journal::JournalError;
