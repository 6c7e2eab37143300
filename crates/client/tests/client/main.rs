//! Does the client keep its promises when brokers fail, move, hang and lie?

#![allow(clippy::unwrap_used, clippy::panic)]

mod connection;
mod consumer;
mod fake_broker;
mod fake_reads;
mod producer;
mod read_committed;
