//! What is a broker process made of: the shells around the pure cores?

pub mod names;
pub mod peer;

pub mod quorum;

pub mod replication;
