//! Which settings of a topic does its log obey?

/// The settings of one log. Fields carry Kafka's topic configuration names; the shell fills them from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it would grow past this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment that is not empty is rolled after this time, in ms.
    pub segment_ms: i64,
    /// `retention.bytes`: oldest segments go while the log stays at least this large; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: segments whose newest record is older go; `None` keeps all.
    pub retention_ms: Option<i64>,
    /// Whether `cleanup.policy` contains `delete`: without it, size and age delete nothing.
    pub delete: bool,
    /// Whether `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `delete.retention.ms`: how long a tombstone stays after it was first compacted.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: records younger than this are not compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: records older than this are compacted whatever the dirty ratio; with `compact`, segments
    /// are rolled at this age at the latest.
    pub max_compaction_lag_ms: i64,
    /// `index.interval.bytes`: how many bytes of batches lie between two index entries.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest batch that a leader accepts. The log itself does not check it, since a
    /// follower takes what its leader took.
    pub max_message_bytes: u32,
    /// `file.delete.delay.ms`: how long a deleted segment's files stay, renamed to `.deleted`.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`: a producer without a transaction is forgotten after this silence (KIP-854).
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 168 * HOUR_MS,
            retention_bytes: None,
            retention_ms: Some(168 * HOUR_MS),
            delete: true,
            compact: false,
            delete_retention_ms: 24 * HOUR_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 24 * HOUR_MS,
        }
    }
}
