//! Which settings has a consumer?

use std::time::Duration;

use types::Offset;

use crate::error::ClientError;

/// Where to begin when nothing is committed, or what is committed is gone (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end.
    Latest,
    /// Nowhere: `poll` fails.
    Fail,
}

/// Where reading of an assigned partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the group's committed offset, or by `offset_reset` when there is none.
    Committed,
    /// At the log start offset.
    Earliest,
    /// At the end.
    Latest,
    /// At an offset.
    Offset(Offset),
    /// At the first record not older than this (ms since the epoch), or at the end.
    Timestamp(i64),
}

/// Settings of a [`crate::Consumer`], with the names and meanings of Kafka's.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The group (`group.id`): needed for `subscribe` and for commits.
    pub group_id: Option<String>,
    /// The name of a static member (`group.instance.id`).
    pub group_instance_id: Option<String>,
    /// Where to begin without a committed offset.
    pub offset_reset: OffsetReset,
    /// Whether what `poll` returned is committed by later polls, by rebalances and by `close`.
    pub auto_commit: bool,
    /// How often (`auto.commit.interval.ms`).
    pub auto_commit_interval: Duration,
    /// A member that is silent for so long is put out of the group (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often a member says that it lives (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// A member that does not poll for so long stops its heartbeats (`max.poll.interval.ms`).
    pub max_poll_interval: Duration,
    /// Whether records of open and aborted transactions are hidden (`isolation.level`).
    pub read_committed: bool,
    /// A broker answers with less only after `fetch_max_wait` (`fetch.min.bytes`).
    pub fetch_min_bytes: i32,
    /// An answer has at most about this many bytes (`fetch.max.bytes`).
    pub fetch_max_bytes: i32,
    /// One partition of it at most about this many (`max.partition.fetch.bytes`).
    pub partition_fetch_bytes: i32,
    /// How long a broker waits for `fetch_min_bytes` (`fetch.max.wait.ms`).
    pub fetch_max_wait: Duration,
    /// Records that `poll` returns at most (`max.poll.records`).
    pub max_poll_records: usize,
    /// A batch may decompress to at most this many bytes.
    pub max_batch_bytes: usize,
    /// The consumer's rack, to read from a near replica (`client.rack`, KIP-392).
    pub rack: Option<String>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            offset_reset: OffsetReset::Latest,
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            read_committed: false,
            fetch_min_bytes: 1,
            fetch_max_bytes: 16 << 20,
            partition_fetch_bytes: 1 << 20,
            fetch_max_wait: Duration::from_millis(500),
            max_poll_records: 10_000,
            max_batch_bytes: 128 << 20,
            rack: None,
        }
    }
}

impl ConsumerOptions {
    /// The defaults for a group, beginning with the earliest record.
    #[must_use]
    pub fn group(group_id: impl Into<String>) -> Self {
        Self {
            group_id: Some(group_id.into()),
            offset_reset: OffsetReset::Earliest,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.heartbeat_interval >= self.session_timeout {
            return Err(ClientError::Config(
                "heartbeat_interval must be below session_timeout".to_owned(),
            ));
        }
        if self.max_poll_records == 0 {
            return Err(ClientError::Config(
                "max_poll_records must be at least 1".to_owned(),
            ));
        }
        Ok(())
    }

    pub(crate) fn group_id(&self) -> Result<&str, ClientError> {
        let id = self.group_id.as_deref();
        id.ok_or_else(|| ClientError::Config("this needs a group_id".to_owned()))
    }
}

/// A duration in the protocol's int32 of milliseconds.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
