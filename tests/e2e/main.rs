//! Does the whole thing, from YAML to records on three disks, hold under faults and changes?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod controller;
mod crashes;
mod disks;
mod faults;
mod full_disk;
mod gitops;
mod idempotence;
mod lifecycle;
mod quick_kills;
mod readme;
mod reassignment;
mod replication;
mod separate_pools;
mod transactions;
