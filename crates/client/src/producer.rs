//! How are records written to a cluster, in order, once, and many at a time?
//!
//! [`Producer::send`] puts a record into its partition's open batch; a background task sends batches to the leaders,
//! several partitions in one request, up to five requests per broker without an answer.
//!
//! Guarantees with `idempotence` (the default): records of one partition are in the log in the order of `send`, each
//! once, whatever fails, until a [`Delivery`] reports an error. Without it a retry can duplicate and reorder.

mod accumulator;
mod batch;
mod options;
mod request;
mod sender;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{ErrorCode, Offset, TopicPartition};

use crate::client::Client;
use crate::error::ClientError;
use crate::partitioner::partition_for_key;
use accumulator::Accumulator;
pub use batch::{Delivery, RecordMetadata};
pub use options::{Acks, ProducerOptions};

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; `None`: by the key's hash, or any when there is no key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Creation time in ms since the epoch; `None`: now.
    pub timestamp: Option<i64>,
}

impl ProducerRecord {
    /// A record with a value only.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Bytes in a batch at most: lengths and deltas take five bytes each.
    fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) + 5;
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + 5 + len(value))
            .sum();
        21 + len(&self.key) + len(&self.value) + headers
    }
}

/// What a leader said about a batch that was sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAck {
    /// Offset of the batch's first record; `None` with acks=0.
    pub base_offset: Option<Offset>,
    /// When the broker appended it, in ms since the epoch, if the topic uses append time.
    pub log_append_time_ms: Option<i64>,
    /// The partition's log start offset.
    pub log_start_offset: Option<Offset>,
}

/// Writes records; dropping it abandons what is not sent, [`Producer::close`] waits for it.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    accumulator: Arc<Accumulator>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Producer {
    /// Starts a producer on the client's connections.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(client: Client, options: ProducerOptions) -> Result<Self, ClientError> {
        options.check()?;
        let accumulator = Arc::new(Accumulator::new(&options));
        let stop = CancellationToken::new();
        let sender = sender::Sender::new(client.clone(), options.clone(), Arc::clone(&accumulator));
        let task = tokio::spawn(sender.run(stop.clone()));
        Ok(Self {
            client,
            options,
            accumulator,
            stop,
            task,
        })
    }

    /// Queues a record; its place among its partition's records is fixed when this returns. Waits while `buffer_memory`
    /// is full.
    ///
    /// # Errors
    /// The topic or partition does not exist, the record is too large, the buffer stays full for too long, or the
    /// producer is closed. What happens to the record later is told by the [`Delivery`].
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let size = record.size();
        if size > self.options.max_request_bytes {
            return Err(self.refuse(&record, format!("{size} bytes are over max_request_bytes")));
        }
        let partitions = self.partitions(&record.topic).await?;
        if let Some(partition) = record.partition
            && !(0..partitions).contains(&partition)
        {
            return Err(self.refuse(&record, format!("the topic has {partitions} partitions")));
        }
        self.accumulator
            .reserve(size, self.client.options().api_timeout)
            .await?;
        let by_key = |key: &Bytes| partition_for_key(key, partitions);
        let partition = record.partition.or_else(|| record.key.as_ref().map(by_key));
        self.accumulator
            .append(record, partition, partitions, size, now_ms())
    }

    /// Queues a record and waits until it is acknowledged.
    ///
    /// # Errors
    /// As [`Producer::send`], and what its [`Delivery`] says.
    pub async fn send_and_wait(
        &self,
        record: ProducerRecord,
    ) -> Result<RecordMetadata, ClientError> {
        self.send(record).await?.wait().await
    }

    /// Sends record batches as they are to a partition's leader and waits for the answer. They pass by the queues, so
    /// their order is the caller's business, and so is idempotence: a retry may write them twice unless they carry
    /// producer id and sequence.
    ///
    /// # Errors
    /// The leader refuses, or does not answer in time.
    pub async fn send_batch_raw(
        &self,
        partition: &TopicPartition,
        batches: Bytes,
    ) -> Result<RawAck, ClientError> {
        request::send_raw(&self.client, &self.options, partition, batches).await
    }

    /// Sends everything that was queued before this call and waits until each is acknowledged or has failed.
    pub async fn flush(&self) {
        for batch in self.accumulator.start_flush() {
            batch.wait().await;
        }
    }

    /// Flushes and stops; further records are refused.
    pub async fn close(self) {
        self.accumulator.close();
        self.flush().await;
        self.stop.cancel();
    }

    /// Whether the background task still runs: it ends only with the producer.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    fn refuse(&self, record: &ProducerRecord, reason: String) -> ClientError {
        let partition = record
            .partition
            .map_or_else(String::new, |p| format!("-{p}"));
        ClientError::Build {
            topic_partition: format!("{}{partition}", record.topic),
            reason,
        }
    }

    /// The number of the topic's partitions, asking (and letting the broker create the topic, if it does) when unknown.
    async fn partitions(&self, topic: &Arc<str>) -> Result<i32, ClientError> {
        let count = |topics: &BTreeMap<String, crate::TopicMetadata>| {
            topics.get(&**topic).map(|t| t.partitions.len())
        };
        let mut known = count(&self.client.metadata().topics);
        if known.is_none() {
            let names = [topic.to_string()];
            let fresh = self
                .client
                .refresh(Some(&names), self.options.allow_auto_create)
                .await?;
            let code = fresh.missing.get(&**topic).copied();
            known = match (count(&fresh.topics), code) {
                (Some(known), _) => Some(known),
                // just being created: wait for it
                (None, Some(code)) if code.is_retriable() && self.options.allow_auto_create => {
                    self.wait_for_topic(topic).await?
                }
                (None, code) => {
                    let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
                    return Err(ClientError::Broker {
                        what: format!("find topic {topic}"),
                        code,
                        message: None,
                    });
                }
            };
        }
        Ok(i32::try_from(known.unwrap_or(0)).unwrap_or(i32::MAX))
    }

    async fn wait_for_topic(&self, topic: &Arc<str>) -> Result<Option<usize>, ClientError> {
        let what = || format!("find topic {topic}");
        let names = [topic.to_string()];
        let attempt = || async {
            let metadata = self.client.refresh(Some(&names), true).await?;
            match (
                metadata.topics.get(&**topic),
                metadata.missing.get(&**topic),
            ) {
                (Some(found), _) => Ok(Some(found.partitions.len())),
                (None, code) => {
                    let code = code.copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
                    Err(ClientError::Broker {
                        what: what(),
                        code,
                        message: None,
                    })
                }
            }
        };
        crate::retry::until_done(self.client.options(), what, attempt).await
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
