//! Which configuration keys does a topic have, and what are their effective values?
//!
//! Names, types and defaults are Apache Kafka 4's (topic configuration reference; KIP-1030 for the newer defaults
//! and bounds).

use std::collections::BTreeMap;

use crate::key::{ConfigKey, KeyError, Support, Validator, nearest};
use crate::layers::BrokerLayers;
use crate::value::{CleanupPolicy, CompressionType, ThrottledReplicas, TimestampType, keys};

use Support::{Effective, OnlyDefault, Refused};
use Validator::{Any, AtLeast, Between, BetweenDouble, ListOf, OneOf, Replicas};

const NO_TIERED_STORAGE: &str = "tiered storage is not implemented";
const CODEC_LEVEL: &str = "the level of a codec cannot be set yet";
const USE_DURABILITY: &str =
    "flushing is chosen for a whole broker by `durability: replicated` or `durability: fsync`";

/// Milliseconds in one of the unit of a broker key that gives a topic key in milliseconds.
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

pub(crate) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(crate) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(crate) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];

keys! {
    /// The effective configuration of a topic.
    struct TopicSettings;
    /// Every topic key that has an effect.
    table EFFECTIVE;
    /// What happens to old segments: `delete` by time and size, `compact` to the last record of each key, or both.
    cleanup_policy: CleanupPolicy = "cleanup.policy" Some("delete"), ListOf(CLEANUP_POLICIES), ClusterWide, Effective,
        from &[("log.cleanup.policy", 1)];
    /// How batches are stored: as the producer compressed them, or recompressed by the leader to one codec.
    compression_type: CompressionType = "compression.type" Some("producer"), OneOf(COMPRESSION_TYPES), ClusterWide, Effective,
        from &[("compression.type", 1)];
    /// How long a tombstone is kept after it was first compacted, so that readers learn of the deletion.
    delete_retention_ms: i64 = "delete.retention.ms" Some("86400000"), AtLeast(0), ClusterWide, Effective,
        from &[("log.cleaner.delete.retention.ms", 1)];
    /// Replicas that take no more than their broker's `follower.replication.throttled.rate` while they are not in sync:
    /// `*` or a list of `partition:broker` (KIP-73).
    follower_replication_throttled_replicas: ThrottledReplicas = "follower.replication.throttled.replicas" Some(""), Replicas, ClusterWide, Effective;
    /// How long a deleted segment's files stay on disk, renamed to `.deleted`.
    file_delete_delay_ms: i64 = "file.delete.delay.ms" Some("60000"), AtLeast(0), ClusterWide, Effective,
        from &[("log.segment.delete.delay.ms", 1)];
    /// Bytes of log between two entries of the offset index.
    index_interval_bytes: i32 = "index.interval.bytes" Some("4096"), AtLeast(0), ClusterWide, Effective,
        from &[("log.index.interval.bytes", 1)];
    /// Leaders that send no more than their broker's `leader.replication.throttled.rate` to replicas that are not in sync:
    /// `*` or a list of `partition:broker` (KIP-73).
    leader_replication_throttled_replicas: ThrottledReplicas = "leader.replication.throttled.replicas" Some(""), Replicas, ClusterWide, Effective;
    /// Age at which records are compacted whatever the dirty ratio; a compacted topic's segments are rolled at this age at
    /// the latest (KIP-354).
    max_compaction_lag_ms: i64 = "max.compaction.lag.ms" Some("9223372036854775807"), AtLeast(1), ClusterWide, Effective,
        from &[("log.cleaner.max.compaction.lag.ms", 1)];
    /// The largest record batch, after compression, that a producer may send.
    max_message_bytes: i32 = "max.message.bytes" Some("1048588"), AtLeast(0), ClusterWide, Effective,
        from &[("message.max.bytes", 1)];
    /// How far a record's CreateTime may lie after the broker's clock (KIP-937).
    message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms" Some("3600000"), AtLeast(0), ClusterWide, Effective,
        from &[("log.message.timestamp.after.max.ms", 1)];
    /// How far a record's CreateTime may lie before the broker's clock (KIP-937).
    message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms" Some("9223372036854775807"), AtLeast(0), ClusterWide, Effective,
        from &[("log.message.timestamp.before.max.ms", 1)];
    /// Whose clock stamps the records: the producer's (CreateTime) or the leader's (LogAppendTime).
    message_timestamp_type: TimestampType = "message.timestamp.type" Some("CreateTime"), OneOf(TIMESTAMP_TYPES), ClusterWide, Effective,
        from &[("log.message.timestamp.type", 1)];
    /// The share of a log's bytes that were never compacted above which it is compacted. A lower one saves disk, a higher
    /// one work.
    min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio" Some("0.5"), BetweenDouble(0.0, 1.0), ClusterWide, Effective,
        from &[("log.cleaner.min.cleanable.ratio", 1)];
    /// How long a record is safe from compaction (KIP-58).
    min_compaction_lag_ms: i64 = "min.compaction.lag.ms" Some("0"), AtLeast(0), ClusterWide, Effective,
        from &[("log.cleaner.min.compaction.lag.ms", 1)];
    /// With acks=all, the fewest in-sync replicas that must have a record before it is acknowledged.
    min_insync_replicas: i32 = "min.insync.replicas" Some("1"), AtLeast(1), ClusterWide, Effective,
        from &[("min.insync.replicas", 1)];
    /// Bytes a partition may grow to before its oldest segments are deleted; -1 is no bound.
    retention_bytes: i64 = "retention.bytes" Some("-1"), AtLeast(-1), ClusterWide, Effective,
        from &[("log.retention.bytes", 1)];
    /// How long records are kept, by the largest timestamp of their segment; -1 is for ever.
    retention_ms: i64 = "retention.ms" Some("604800000"), AtLeast(-1), ClusterWide, Effective,
        from &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE), ("log.retention.hours", HOUR)];
    /// Bytes at which a new segment begins.
    segment_bytes: i32 = "segment.bytes" Some("1073741824"), AtLeast(1_048_576), ClusterWide, Effective,
        from &[("log.segment.bytes", 1)];
    /// Age at which a new segment begins even when the old one is not full.
    segment_ms: i64 = "segment.ms" Some("604800000"), AtLeast(1), ClusterWide, Effective,
        from &[("log.roll.ms", 1), ("log.roll.hours", HOUR)];
    /// Whether a replica outside the ISR may be elected leader when no other is left, which loses records.
    unclean_leader_election_enable: bool = "unclean.leader.election.enable" Some("false"), Any, ClusterWide, Effective,
        from &[("unclean.leader.election.enable", 1)];
}

keys! {
    /// Keys with one accepted value: read only to keep their types beside the others.
    struct UnimplementedTopicSettings;
    /// Topic keys of Kafka that cannot be changed (yet), each with its reason.
    table NOT_EFFECTIVE;
    /// Level of gzip when the broker recompresses.
    compression_gzip_level: i32 = "compression.gzip.level" Some("-1"), Between(-1, 9), ClusterWide, OnlyDefault(CODEC_LEVEL),
        from &[("compression.gzip.level", 1)];
    /// Level of lz4 when the broker recompresses.
    compression_lz4_level: i32 = "compression.lz4.level" Some("9"), Between(1, 17), ClusterWide, OnlyDefault(CODEC_LEVEL),
        from &[("compression.lz4.level", 1)];
    /// Level of zstd when the broker recompresses.
    compression_zstd_level: i32 = "compression.zstd.level" Some("3"), Between(-131_072, 22), ClusterWide, OnlyDefault(CODEC_LEVEL),
        from &[("compression.zstd.level", 1)];
    /// Records after which the log is flushed.
    flush_messages: i64 = "flush.messages" Some("9223372036854775807"), AtLeast(1), ClusterWide, OnlyDefault(USE_DURABILITY),
        from &[("log.flush.interval.messages", 1)];
    /// Time after which the log is flushed.
    flush_ms: i64 = "flush.ms" Some("9223372036854775807"), AtLeast(0), ClusterWide, OnlyDefault(USE_DURABILITY),
        from &[("log.flush.interval.ms", 1)];
    /// Whether segment files are allocated at full size.
    preallocate: bool = "preallocate" Some("false"), Any, ClusterWide, OnlyDefault("files grow as they are written"),
        from &[("log.preallocate", 1)];
    /// The largest size of an index file.
    segment_index_bytes: i32 = "segment.index.bytes" Some("10485760"), AtLeast(4), ClusterWide, OnlyDefault("indexes grow with their segment"),
        from &[("log.index.size.max.bytes", 1)];
    /// A random delay of time-based rolls.
    segment_jitter_ms: i64 = "segment.jitter.ms" Some("0"), AtLeast(0), ClusterWide, OnlyDefault("rolls are not jittered"),
        from &[("log.roll.jitter.ms", 1)];
    /// Whether old segments go to remote storage.
    remote_storage_enable: bool = "remote.storage.enable" Some("false"), Any, ClusterWide, OnlyDefault(NO_TIERED_STORAGE);
    /// Local retention in bytes under tiered storage.
    local_retention_bytes: i64 = "local.retention.bytes" Some("-2"), AtLeast(-2), ClusterWide, Refused(NO_TIERED_STORAGE);
    /// Local retention in time under tiered storage.
    local_retention_ms: i64 = "local.retention.ms" Some("-2"), AtLeast(-2), ClusterWide, Refused(NO_TIERED_STORAGE);
    /// Whether tiered storage is read-only.
    remote_log_copy_disable: bool = "remote.log.copy.disable" Some("false"), Any, ClusterWide, Refused(NO_TIERED_STORAGE);
    /// Whether disabling tiered storage deletes what it holds.
    remote_log_delete_on_disable: bool = "remote.log.delete.on.disable" Some("false"), Any, ClusterWide, Refused(NO_TIERED_STORAGE);
}

/// All topic keys, effective or not, in the tables' order.
pub fn all() -> impl Iterator<Item = &'static ConfigKey> {
    EFFECTIVE.iter().chain(NOT_EFFECTIVE)
}

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ConfigKey> {
    all().find(|key| key.name == name)
}

/// The key of that name, or an error that names the nearest known one.
///
/// # Errors
/// [`KeyError::Unknown`].
pub fn get(name: &str) -> Result<&'static ConfigKey, KeyError> {
    find(name).ok_or_else(|| KeyError::Unknown {
        what: "topic",
        name: name.to_owned(),
        nearest: nearest(name, all().map(|key| key.name)).map(str::to_owned),
    })
}

/// Whether `name` may be set to `value` on a topic.
///
/// # Errors
/// What is wrong with the name or the value, in Kafka's words where Kafka has some.
pub fn check(name: &str, value: &str) -> Result<(), KeyError> {
    get(name)?.check(value)
}

/// Whether all of a topic's overrides are acceptable together.
///
/// # Errors
/// The first mistake in key order, or [`KeyError::Conflict`].
pub fn check_all(overrides: &BTreeMap<String, String>) -> Result<(), KeyError> {
    for (name, value) in overrides {
        check(name, value)?;
    }
    let integer = |name: &str| {
        overrides
            .get(name)
            .map(String::as_str)
            .or(find(name).and_then(|key| key.default))
            .and_then(|text| text.trim().parse::<i64>().ok())
    };
    let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    if let (Some(low), Some(high)) = (integer(min), integer(max))
        && low > high
    {
        return Err(KeyError::Conflict {
            problem: format!("conflict topic config setting {min} ({low}) > {max} ({high})"),
        });
    }
    Ok(())
}

impl TopicSettings {
    /// The effective values of a topic with these overrides on a broker with these layers.
    ///
    /// # Errors
    /// The first value that its key does not accept: only possible for one that was stored by another version.
    pub fn resolve(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerLayers<'_>,
    ) -> Result<Self, KeyError> {
        Self::read(|key| match overrides.get(key.name) {
            Some(value) => Some(value.clone()),
            None => broker.topic_default(key),
        })
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self::read(|_| None).expect("a test reads every default")
    }
}
