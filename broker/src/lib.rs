//! What is a broker process made of: the shells around the pure cores?

pub mod control_plane;

pub mod broker_meta;
pub mod lifecycle;

pub mod controller;
pub mod metadata;
pub mod quorum;

pub mod admin;
pub mod grpc;
pub mod names;
pub mod peer;

pub mod replication;
