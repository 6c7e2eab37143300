//! How does committed metadata reach every part of every node?
//!
//! On a controller the quorum applies entries to the [`MetadataMachine`]; on any other node the observer does, fed by
//! a stream from some controller. Either way the image goes to the [`MetadataPublisher`], from which the parts of
//! this node take states and their differences, and from which controllers feed observers.

mod publisher;

mod service;

mod observer;

#[cfg(test)]
mod tests;

pub use observer::Observer;
pub use publisher::{MetadataMachine, MetadataPublisher, MetadataStream};
pub use service::MetadataService;
