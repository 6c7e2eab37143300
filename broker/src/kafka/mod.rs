//! How does the broker speak the Kafka protocol to its clients?
//!
//! `listener.rs` accepts, `connection.rs` frames and orders, `dispatch.rs` is the table of APIs, `handlers/` has one
//! file per API key: from the wire's structs to the model, to whoever decides, and back.

pub(crate) mod listener;

pub(crate) mod connection;
mod frames;

pub(crate) mod dispatch;
pub(crate) mod server;

pub(crate) mod context;
pub(crate) mod fetch_session;
mod handlers;
pub(crate) mod liveness;
mod topics;

pub use listener::ListenError;

#[cfg(test)]
mod tests;
