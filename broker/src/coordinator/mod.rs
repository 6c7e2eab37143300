//! How do groups live on the partitions of `__consumer_offsets` that this broker leads?
//!
//! [`LedPartitions`] begins and ends what coordinates a partition as leadership comes and goes; [`GroupService`] finds the partition of a group and the handle that coordinates it. A partition's task loads the log
//! when leadership comes, drives timers and appends, and ends when leadership goes. Decisions are those of
//! `broker_core::group`.

mod appender;
mod led;
mod load;
mod log;
mod partition;
mod routing;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use appender::client_code;
pub(crate) use led::{Begun, LedPartitions, Place};
pub(crate) use log::{CoordinatorBatch, OffsetsLog, OffsetsLogError};
pub(crate) use routing::partition_for;
pub(crate) use service::{GroupService, GroupServiceConfig};

/// The topic that holds committed offsets and group metadata.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
