//! Do the programs that are built upon Kafka's clients keep their promises on us while brokers are killed with -9?
//!
//! `TIDEMARK_SECONDS` says how long each load runs (and is killed into), `TIDEMARK_KILLS` how often brokers are killed
//! under the copiers, `TIDEMARK_RATE` how many records a second flow through the others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connect;
mod copiers;
mod groups;
mod load;
mod mirror_maker;
mod programs;
mod streams;
