//! What is a broker process made of: the shells around the pure cores?

pub mod replication;
