//! How does a partition's log live on disk, and how does it survive a crash at any byte?
//!
//! Every file has Kafka's own name and format, so Kafka's tools read them. The crate is synchronous, has no clock
//! (`now_ms` is an argument) and sees files only through [`Vfs`]. See `docs/internals/log.md`.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod config;
pub mod error;
pub mod vfs;

mod log;
mod log_dir;
mod offset_checkpoints;

mod read;
mod timestamps;

mod listing;
mod recovery;
mod retention;
mod truncation;

mod compaction;

mod flush;
mod segment;

mod index;
mod time_index;
mod txn_index;

mod scan;

mod leader_epoch_cache;
mod producer_snapshot;
mod producer_state;

mod checkpoint;
mod partition_metadata;

pub mod faulty;

#[cfg(test)]
mod tests;

pub use compaction::{
    Backlog, Compaction, CompactionSettings, CompactionStats, LogAccess, Pace, Room, compact,
};
pub use config::LogConfig;
pub use error::LogError;
pub use flush::{FlushHandle, Flushed};
pub use leader_epoch_cache::LeaderEpochCache;
pub use log::{AppendInfo, Log, OpenMode};
pub use log_dir::{DeletedDir, FoundLog, LogDir, LogDirContents, OffsetCheckpoint};
pub use offset_checkpoints::OffsetCheckpoints;
pub use producer_state::{ProducerCheck, ProducerEntry};
pub use read::{ReadOutcome, ReadPlan, ReadSlice};
pub use recovery::RecoveryReport;
pub use retention::{DeleteReason, DeletedSegment};
pub use timestamps::TimestampedOffset;
pub use txn_index::AbortedTransaction;
pub use vfs::{DirEntry, RealVfs, Vfs, VfsFile};
