//! Who runs the pods? The local node agent: built-in controllers and a kubelet whose containers are child processes.
//!
//! It speaks to the API only through a [`kube::Client`], as the operator does. The parts, in the order a StatefulSet
//! travels through them: [`statefulset`] and [`deployment`] make pods and claims, [`claims`] gives claims directories,
//! [`addresses`] and [`names`] give each pod an address and names, [`pod`] runs it, [`budgets`] counts what may be
//! disrupted.
//!
//! Deviations from a cluster, all deliberate: one node named `local`; no container filesystem (paths below mounts are
//! rewritten in args and env, see [`pod::mounts`]); resource limits, security contexts and placement are reported as an
//! event and not enforced; a Deployment owns its pods without a ReplicaSet between; probes run every 50 ms until they
//! first succeed, then at their own period.

mod addresses;
mod agent;
mod budgets;
mod claims;
mod deployment;
pub mod logs;
mod names;
mod orphans;
pub(crate) mod pod;
mod statefulset;
mod view;
mod workload;

pub use addresses::AddressError;
pub use agent::{NodeAgent, NodeConfig, NodeError, PORTS_APART};
pub use names::Resolver;
