//! Does the whole thing, from YAML to records on three disks, hold under faults and changes?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controller;
mod faults;
mod gitops;
mod lifecycle;
mod replication;
