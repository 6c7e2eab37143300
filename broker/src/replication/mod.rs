//! How does a broker hold replicas: take produces, serve reads, replicate to followers and from leaders?
//!
//! What must be right is decided in `broker_core::partition`; here are the lock around it and the log, the streams
//! between brokers, and those who wait. The protocol and the states are in `docs/internals/replication.md`.

pub mod model;

pub mod manager;

pub mod changes;

pub mod metadata;

mod replica;

mod validate;

mod append;

mod transactions;

mod fetch;

mod offsets;

mod delete_records;

mod waiters;

mod tail_cache;

mod server;

mod push;

mod push_read;

mod links;

mod follow;

mod throttle;

mod isr;

mod convert;

mod directory;

mod room;

mod flusher;

mod cleaner;

mod housekeeping;

mod stragglers;

mod log_starts;

mod shared;

#[cfg(test)]
mod tests;

pub use changes::{PartitionChange, ReplicaChanges};
pub use cleaner::CleanerStatus;
pub use delete_records::DeleteBefore;
pub use directory::Volume;
pub use isr::{IsrController, IsrRequest};
pub use links::{PeerConnector, PeerError};
pub use manager::{ManagerConfig, ReplicaManager, StartError};
pub use model::{
    AbortedTransaction, AppendChecks, EpochEnd, FetchPartition, FetchPartitionData,
    FetchRequestModel, Isolation, LeaderChange, LeaderChangeKind, LeaderHint, ListedOffset,
    OffsetSpec, PartitionError, PartitionSnapshot, ProduceError, ProduceOk, Reader,
    TopicIdPartition,
};
pub use push::PeerTraffic;
pub use server::ReplicationService;
pub use shared::Identity;
pub use stragglers::Held;
pub use transactions::{ActiveProducer, FirstSequence, Marker, TransactionRule, Verification};
pub use validate::Origin;
