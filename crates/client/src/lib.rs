//! How do the operator, the mirror, the command line and the tests speak to a Kafka cluster?
//!
//! [`Client`] keeps connections and metadata; [`Admin`], [`Producer`] and [`Consumer`] are built on it and share it.
//! Every queue, buffer and retry is bounded by a setting.

pub mod error;
pub mod options;

pub mod connection;
pub mod connector;

pub mod client;
mod leader;
pub mod metadata;
mod retry;

pub mod admin;
pub mod partitioner;
pub mod producer;

pub mod consumer;

pub use admin::Admin;
pub use client::{Client, CoordinatorKind};
pub use connection::{BrokerVersions, Connection, InFlight};
pub use connector::{Authenticator, BoxFuture, Connector, Stream, TcpConnector};
pub use consumer::{
    Consumer, ConsumerOptions, ConsumerRecord, FetchedBatches, OffsetReset, StartAt,
};
pub use error::ClientError;
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata};
pub use options::ClientOptions;
pub use producer::{
    Acks, Delivery, Producer, ProducerOptions, ProducerRecord, RawAck, RecordMetadata,
};
