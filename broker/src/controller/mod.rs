//! How do requests to change the metadata reach the active controller and become committed records?
//!
//! On every controller one [`Writer`] task owns the decisions while its node leads the quorum. Brokers reach it through
//! a [`ControllerClient`], which finds the active controller wherever it is.

mod writer;

mod sessions;

mod service;

mod client;

mod quorum_view;

#[cfg(test)]
mod tests;

pub(crate) use client::LocalController;
pub use client::{ControllerClient, ControllerClientError};
pub use service::ControllerService;
pub use sessions::Sessions;
pub use writer::{ControllerHandle, NotActive, Writer, WriterConfig};
