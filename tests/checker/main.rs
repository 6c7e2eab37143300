//! Does a cluster under faults only show its clients what a correct one would?
//!
//! docs/internals/checker.md says what is run and what is checked.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod brokers;
mod check;
mod history;
mod nemesis;
mod network;
mod run;
mod workload;
