//! What does the whole cluster agree on, and how does that change?
//!
//! The metadata is an image that changes only by replaying committed records, in order. Every node replays the same
//! records, so every node has the same image; a snapshot is the records that lead from nothing to an image.
//!
//! A. [`MetadataImage::apply`] is the only writer. It is a function of the image and the records alone.
//! B. A snapshot plus the records after it gives the live image, byte for byte ([`MetadataImage::to_snapshot`]).
//! C. A record that does not fit the image is an error, never skipped: the node that meets one must stop.

pub mod record;

pub mod image;

pub mod replay;

pub mod codec;
pub mod delta;
pub mod health;
pub mod snapshot;

#[cfg(test)]
mod tests;

pub use codec::{RecordError, decode_records, encode_records};
pub use delta::MetadataDelta;
pub use health::{ClusterHealth, RestartRisk};
pub use image::{BrokerImage, MetadataImage, TopicImage};
pub use record::{BrokerEndpoint, BrokerUuid, ConfigResource, Incarnation, MetadataRecord};
pub use replay::ReplayError;
pub use snapshot::SnapshotError;
