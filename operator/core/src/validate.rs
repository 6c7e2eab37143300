//! Is a custom resource sensible beyond what the CRD's schema can say, and what is it once checked?
//!
//! The API server has already applied schema and CEL rules. What is here needs tables (configuration keys), arithmetic, or must hold even
//! when an older CRD let something pass. The result is a type that cannot be wrong; everything after works on it.

mod cluster;
mod config_keys;
mod topic;

pub use cluster::{ValidatedCluster, ValidatedPool, cluster};
pub use topic::{ValidatedTopic, topic, topic_name};

/// Everything that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Invalid {
    /// At least one error.
    pub errors: Vec<FieldError>,
}

impl Invalid {
    fn text(&self) -> String {
        self.errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// `Ok` when nothing is wrong.
    fn check(errors: Vec<FieldError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self { errors })
        }
    }
}

/// One thing that is wrong: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}: {fix}")]
pub struct FieldError {
    /// Path of the field, for example `spec.pools[main].storage.size`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub fix: String,
}

impl FieldError {
    fn new(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

#[cfg(test)]
mod tests;
