//! Which kinds does the operator serve?

pub mod v1alpha1;

/// The API group of every kind.
pub const GROUP: &str = "tidemark.dev";
