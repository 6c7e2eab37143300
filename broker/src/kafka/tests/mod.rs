//! Does a connection survive whatever clients send, and are answers in the order of the requests?

mod admin;
mod connection;
mod consumer_groups;
mod fake;
mod idempotence;
mod reassignment;
mod semantics;
mod solo;
mod transactions;
