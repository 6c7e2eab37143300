//! Which configuration keys does a broker have, and what are their effective values?
//!
//! Names, types and defaults are Apache Kafka 4's (broker configuration reference) unless the documentation of the
//! key says otherwise. Whoever implements a key that is refused moves it here.

mod refused;

use crate::key::{ConfigKey, KeyError, Scope, Support, Validator, nearest};
use crate::layers::BrokerLayers;
use crate::topic_keys::{CLEANUP_POLICIES, COMPRESSION_TYPES, TIMESTAMP_TYPES};
use crate::value::{
    CleanupPolicy, CompressionType, ConsumerAssignors, MigrationPolicy, ReplicaSelector,
    TimestampType, keys,
};

pub use refused::NOT_EFFECTIVE;

use Support::Effective;
use Validator::{Any, AtLeast, BetweenDouble, ListOf, OneOf, OneOfAnyCase};

/// What the coordinator can compute.
const CONSUMER_ASSIGNORS: &[&str] = &["uniform", "range"];

keys! {
    /// The effective configuration of a broker.
    struct BrokerSettings;
    /// Every broker key that has an effect.
    table EFFECTIVE;
    /// Whether a topic is created when a client first asks for its metadata or produces to it.
    auto_create_topics_enable: bool = "auto.create.topics.enable" Some("true"), Any, Static, Effective;
    /// Whether the controller moves leadership back to the preferred replicas by itself.
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable" Some("true"), Any, Static, Effective;
    /// How often a broker tells the controller that it lives. (Kafka: 2000.)
    broker_heartbeat_interval_ms: i32 = "broker.heartbeat.interval.ms" Some("500"), AtLeast(1), Static, Effective;
    /// How long a silent broker is trusted before it is fenced. A broker whose process is gone is fenced at once.
    /// (Kafka: 9000.)
    broker_session_timeout_ms: i32 = "broker.session.timeout.ms" Some("3000"), AtLeast(1), Static, Effective;
    /// How batches are stored: as the producer compressed them, or recompressed by the leader to one codec.
    compression_type: CompressionType = "compression.type" Some("producer"), OneOf(COMPRESSION_TYPES), ClusterWide, Effective;
    /// How long a client connection may be idle.
    connections_max_idle_ms: i64 = "connections.max.idle.ms" Some("600000"), Any, Static, Effective;
    /// Replication factor of topics created without one.
    default_replication_factor: i32 = "default.replication.factor" Some("1"), AtLeast(1), Static, Effective;
    /// Whether topics can be deleted.
    delete_topic_enable: bool = "delete.topic.enable" Some("true"), Any, Static, Effective;
    /// The most bytes a fetch returns whatever the client asks for.
    fetch_max_bytes: i32 = "fetch.max.bytes" Some("57671680"), AtLeast(1024), Static, Effective;
    /// The most bytes a second that this broker's throttled replicas take while they are not in sync (KIP-73).
    follower_replication_throttled_rate: i64 = "follower.replication.throttled.rate" Some("9223372036854775807"), AtLeast(0), PerBroker, Effective;
    /// The assignors that members of consumer groups (KIP-848) may choose; the first is the default.
    group_consumer_assignors: ConsumerAssignors = "group.consumer.assignors" Some("uniform,range"), ListOf(CONSUMER_ASSIGNORS), Static, Effective;
    /// How often a member of a consumer group is told to send a heartbeat.
    group_consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms" Some("5000"), AtLeast(1), Static, Effective;
    /// The most members of a consumer group.
    group_consumer_max_size: i32 = "group.consumer.max.size" Some("2147483647"), AtLeast(1), Static, Effective;
    /// Which way a group may change its protocol while it has members: to the consumer protocol (KIP-848) when somebody
    /// joins by it, and back when the last one of it is gone. With `disabled`, members of the classic protocol do not get
    /// into consumer groups either.
    group_consumer_migration_policy: MigrationPolicy = "group.consumer.migration.policy" Some("bidirectional"), OneOfAnyCase(MigrationPolicy::NAMES), Static, Effective;
    /// Silence after which a member of a consumer group is removed.
    group_consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms" Some("45000"), AtLeast(1), Static, Effective;
    /// How long the first rebalance of an empty group waits for more members.
    group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms" Some("3000"), AtLeast(0), Static, Effective;
    /// The longest session timeout a group member may ask for.
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms" Some("1800000"), AtLeast(1), Static, Effective;
    /// The most members of a group.
    group_max_size: i32 = "group.max.size" Some("2147483647"), AtLeast(1), Static, Effective;
    /// The shortest session timeout a group member may ask for.
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms" Some("6000"), AtLeast(1), Static, Effective;
    /// How often the controller looks for leaders that are not the preferred replica.
    leader_imbalance_check_interval_seconds: i64 = "leader.imbalance.check.interval.seconds" Some("300"), AtLeast(1), Static, Effective;
    /// The most bytes a second that this broker, as leader, sends to throttled replicas that are not in sync (KIP-73).
    leader_replication_throttled_rate: i64 = "leader.replication.throttled.rate" Some("9223372036854775807"), AtLeast(0), PerBroker, Effective;
    /// How long a cleaner waits when no log is dirty enough, or when it could not clean one.
    log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms" Some("15000"), AtLeast(0), Static, Effective;
    /// The most bytes of all cleaners' offset maps together, 24 for each key. A cleaner takes as much as the keys of its
    /// log may need. (Kafka can change it at run time.)
    log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size" Some("134217728"), AtLeast(1_048_576), Static, Effective;
    /// Default of topics' `delete.retention.ms`.
    log_cleaner_delete_retention_ms: i64 = "log.cleaner.delete.retention.ms" Some("86400000"), AtLeast(0), ClusterWide, Effective;
    /// How full an offset map may get. (Kafka can change it at run time.)
    log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor" Some("0.9"), BetweenDouble(0.01, 1.0), Static, Effective;
    /// Bytes of all cleaners' read and write buffers together. (Kafka can change it at run time.)
    log_cleaner_io_buffer_size: i32 = "log.cleaner.io.buffer.size" Some("524288"), AtLeast(0), Static, Effective;
    /// The most bytes that all cleaners together read and write in a second. (Kafka can change it at run time.)
    log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second" Some("1.7976931348623157E308"), Any, Static, Effective;
    /// Default of topics' `max.compaction.lag.ms`.
    log_cleaner_max_compaction_lag_ms: i64 = "log.cleaner.max.compaction.lag.ms" Some("9223372036854775807"), AtLeast(1), ClusterWide, Effective;
    /// Default of topics' `min.cleanable.dirty.ratio`.
    log_cleaner_min_cleanable_ratio: f64 = "log.cleaner.min.cleanable.ratio" Some("0.5"), BetweenDouble(0.0, 1.0), ClusterWide, Effective;
    /// Default of topics' `min.compaction.lag.ms`.
    log_cleaner_min_compaction_lag_ms: i64 = "log.cleaner.min.compaction.lag.ms" Some("0"), AtLeast(0), ClusterWide, Effective;
    /// How many threads compact logs; 0 for no compaction. (Kafka can change it at run time.)
    log_cleaner_threads: i32 = "log.cleaner.threads" Some("1"), AtLeast(0), Static, Effective;
    /// Default of topics' `cleanup.policy`.
    log_cleanup_policy: CleanupPolicy = "log.cleanup.policy" Some("delete"), ListOf(CLEANUP_POLICIES), ClusterWide, Effective;
    /// Bytes that are kept free on the disk: below it clients may not produce, below half of it followers take no more either. 0: none. (Not a
    /// key of Kafka's.)
    log_dir_reserve_bytes: i64 = "log.dir.reserve.bytes" Some("67108864"), AtLeast(0), Static, Effective;
    /// Default of topics' `index.interval.bytes`.
    log_index_interval_bytes: i32 = "log.index.interval.bytes" Some("4096"), AtLeast(0), ClusterWide, Effective;
    /// Default of topics' `message.timestamp.after.max.ms`.
    log_message_timestamp_after_max_ms: i64 = "log.message.timestamp.after.max.ms" Some("3600000"), AtLeast(0), ClusterWide, Effective;
    /// Default of topics' `message.timestamp.before.max.ms`.
    log_message_timestamp_before_max_ms: i64 = "log.message.timestamp.before.max.ms" Some("9223372036854775807"), AtLeast(0), ClusterWide, Effective;
    /// Default of topics' `message.timestamp.type`.
    log_message_timestamp_type: TimestampType = "log.message.timestamp.type" Some("CreateTime"), OneOf(TIMESTAMP_TYPES), ClusterWide, Effective;
    /// Default of topics' `retention.bytes`.
    log_retention_bytes: i64 = "log.retention.bytes" Some("-1"), AtLeast(-1), ClusterWide, Effective;
    /// How often segments past their retention are looked for.
    log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms" Some("300000"), AtLeast(1), Static, Effective;
    /// Default of topics' `retention.ms` in hours; `log.retention.minutes` and `log.retention.ms` go before it.
    log_retention_hours: i32 = "log.retention.hours" Some("168"), Any, Static, Effective;
    /// Default of topics' `retention.ms` in minutes; `log.retention.ms` goes before it.
    log_retention_minutes: Option<i32> = "log.retention.minutes" None, Any, Static, Effective;
    /// Default of topics' `retention.ms`.
    log_retention_ms: Option<i64> = "log.retention.ms" None, AtLeast(-1), ClusterWide, Effective;
    /// Default of topics' `segment.ms` in hours; `log.roll.ms` goes before it.
    log_roll_hours: i32 = "log.roll.hours" Some("168"), AtLeast(1), Static, Effective;
    /// Default of topics' `segment.ms`.
    log_roll_ms: Option<i64> = "log.roll.ms" None, AtLeast(1), ClusterWide, Effective;
    /// Default of topics' `segment.bytes`.
    log_segment_bytes: i32 = "log.segment.bytes" Some("1073741824"), AtLeast(1_048_576), ClusterWide, Effective;
    /// Default of topics' `file.delete.delay.ms`.
    log_segment_delete_delay_ms: i64 = "log.segment.delete.delay.ms" Some("60000"), AtLeast(0), ClusterWide, Effective;
    /// The most client connections of the broker. (Kafka can change it at run time.)
    max_connections: i32 = "max.connections" Some("2147483647"), AtLeast(0), Static, Effective;
    /// The most client connections from one address. (Kafka can change it at run time.)
    max_connections_per_ip: i32 = "max.connections.per.ip" Some("2147483647"), AtLeast(0), Static, Effective;
    /// The most fetch sessions kept for clients (KIP-227).
    max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots" Some("1000"), AtLeast(0), Static, Effective;
    /// Default of topics' `max.message.bytes`.
    message_max_bytes: i32 = "message.max.bytes" Some("1048588"), AtLeast(0), ClusterWide, Effective;
    /// Default of topics' `min.insync.replicas`.
    min_insync_replicas: i32 = "min.insync.replicas" Some("1"), AtLeast(1), ClusterWide, Effective;
    /// Partitions of topics created without a number.
    num_partitions: i32 = "num.partitions" Some("1"), AtLeast(1), Static, Effective;
    /// The most bytes of metadata beside a committed offset.
    offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes" Some("4096"), Any, Static, Effective;
    /// How long an offset commit waits for the replicas of the offsets topic.
    offsets_commit_timeout_ms: i32 = "offsets.commit.timeout.ms" Some("5000"), AtLeast(1), Static, Effective;
    /// How often expired offsets are looked for.
    offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms" Some("600000"), AtLeast(1), Static, Effective;
    /// How long the offsets of an empty group are kept.
    offsets_retention_minutes: i32 = "offsets.retention.minutes" Some("10080"), AtLeast(1), Static, Effective;
    /// Partitions of the offsets topic, fixed when it is created.
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions" Some("50"), AtLeast(1), Static, Effective;
    /// Replication factor of the offsets topic when it is created.
    offsets_topic_replication_factor: i32 = "offsets.topic.replication.factor" Some("3"), AtLeast(1), Static, Effective;
    /// `segment.bytes` of the offsets topic.
    offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes" Some("104857600"), AtLeast(1_048_576), Static, Effective;
    /// How long an idle idempotent producer is remembered (KIP-854). (Kafka can change it at run time.)
    producer_id_expiration_ms: i32 = "producer.id.expiration.ms" Some("86400000"), AtLeast(1), Static, Effective;
    /// How long a follower may stay behind the leader's log end before it leaves the ISR.
    replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms" Some("30000"), AtLeast(1), Static, Effective;
    /// From which replica a client that names its rack reads: the leader, or one in that rack (KIP-392). (Kafka: any class.)
    replica_selector_class: Option<ReplicaSelector> = "replica.selector.class" None, OneOf(ReplicaSelector::CLASSES), Static, Effective;
    /// The largest request that is read from a client.
    socket_request_max_bytes: i32 = "socket.request.max.bytes" Some("104857600"), AtLeast(1), Static, Effective;
    /// How often transactions that are open for too long are looked for.
    transaction_abort_interval_ms: i32 = "transaction.abort.timed.out.transaction.cleanup.interval.ms" Some("10000"), AtLeast(1), Static, Effective;
    /// The longest transaction timeout a producer may ask for.
    transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms" Some("900000"), AtLeast(1), Static, Effective;
    /// How often transactional ids that nobody uses are looked for.
    transaction_expiry_interval_ms: i32 = "transaction.remove.expired.transaction.cleanup.interval.ms" Some("3600000"), AtLeast(1), Static, Effective;
    /// `min.insync.replicas` of the transactions topic when it is created.
    transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr" Some("2"), AtLeast(1), Static, Effective;
    /// Partitions of the transactions topic, fixed when it is created.
    transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions" Some("50"), AtLeast(1), Static, Effective;
    /// Replication factor of the transactions topic when it is created.
    transaction_state_log_replication_factor: i32 = "transaction.state.log.replication.factor" Some("3"), AtLeast(1), Static, Effective;
    /// `segment.bytes` of the transactions topic.
    transaction_state_log_segment_bytes: i32 = "transaction.state.log.segment.bytes" Some("104857600"), AtLeast(1_048_576), Static, Effective;
    /// How long an unused transactional id is remembered.
    transactional_id_expiration_ms: i32 = "transactional.id.expiration.ms" Some("604800000"), AtLeast(1), Static, Effective;
    /// Default of topics' `unclean.leader.election.enable`.
    unclean_leader_election_enable: bool = "unclean.leader.election.enable" Some("false"), Any, ClusterWide, Effective;
}

/// All broker keys, effective or not, in the tables' order.
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
        what: "broker",
        name: name.to_owned(),
        nearest: nearest(name, all().map(|key| key.name)).map(str::to_owned),
    })
}

/// Whether `name` may be set to `value` in a broker's file.
///
/// # Errors
/// What is wrong with the name or the value, in Kafka's words where Kafka has some.
pub fn check(name: &str, value: &str) -> Result<(), KeyError> {
    get(name)?.check(value)
}

/// Whether `name` may be set to `value` on a running broker: as [`check`], and the key is dynamic.
///
/// # Errors
/// As [`check`], and [`KeyError::ReadOnly`] for static keys.
pub fn check_dynamic(name: &str, value: &str) -> Result<(), KeyError> {
    check(name, value)?;
    check_updatable(name)
}

/// Whether `name` is a key that can be changed on a running broker.
///
/// # Errors
/// [`KeyError::Unknown`] and [`KeyError::ReadOnly`].
pub fn check_updatable(name: &str) -> Result<(), KeyError> {
    match get(name)?.scope {
        Scope::Static => Err(KeyError::ReadOnly {
            name: name.to_owned(),
        }),
        Scope::PerBroker | Scope::ClusterWide => Ok(()),
    }
}

impl BrokerSettings {
    /// The effective values on a broker with these layers.
    ///
    /// # Errors
    /// The first value that its key does not accept.
    pub fn resolve(layers: &BrokerLayers<'_>) -> Result<Self, KeyError> {
        Self::read(|key| layers.set_value(key.name).map(str::to_owned))
    }
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self::read(|_| None).expect("a test reads every default")
    }
}
