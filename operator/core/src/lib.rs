//! What should exist in Kubernetes for a given custom resource, and is that resource sensible?
//!
//! `operator-core` is pure: no client, no clock, no randomness. The shell (`operator`) reads the world, hands it in as arguments,
//! and carries out what is returned. Read in this order: [`api`] (what users write), [`validate`] (what cannot be built is refused),
//! [`identity`] (cluster id and node ids), [`storage`] (which volumes grow), [`build`] (the objects), [`roll`] (which pod may restart next),
//! [`conditions`] (what status says), [`crds()`] and [`manifests`] (what `kubectl apply` needs first).

pub mod api;
pub mod build;
pub mod conditions;
mod crds;
pub mod identity;
pub mod manifests;
pub mod names;
pub mod quantity;
pub mod roll;
pub mod storage;
pub mod topic;
pub mod validate;

pub use crds::{crd_file_name, crd_yaml, crds};
