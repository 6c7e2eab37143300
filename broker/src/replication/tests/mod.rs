//! Replica managers over real logs, connected by real gRPC on the loopback.

mod clients;
mod cluster;
mod compaction;
mod dead_leaders;
mod delete_records;
mod follower_reads;
mod reassignment;
mod replicas;
mod transactions;
