//! What is a broker process made of: the shells around the pure cores?

pub mod run;

mod node;

pub mod kafka;

mod broker;
mod coordinator;
mod follow_metadata;
mod offsets_log;
mod parts;
mod producer_ids;
mod topic_creation;
mod transactions;

pub mod replication;

pub mod control_plane;

pub mod broker_meta;
pub mod lifecycle;
pub mod registered;

pub mod controller;
pub mod metadata;
pub mod quorum;

pub mod admin;
pub mod grpc;
pub mod names;
pub mod peer;

mod clock;
mod http;
mod limits;
mod metrics;

#[cfg(test)]
mod patience;

pub use follow_metadata::FollowError;
pub use kafka::ListenError;
pub use node::{BrokerOptions, OptionsError};
pub use run::{BrokerError, run};
