//! How do coordinators use the replicas of their topic, `__consumer_offsets` or `__transaction_state`?

use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::MetadataImage;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use types::{ErrorCode, LeaderEpoch, Offset, TopicId};

use crate::coordinator::{CoordinatorBatch, OffsetsLog, OffsetsLogError};
use crate::replication::{
    FetchPartition, FetchRequestModel, Isolation, Reader, ReplicaManager, TopicIdPartition,
};

/// Bytes read at once while loading.
const READ_BYTES: usize = 1024 * 1024;
/// How long a read waits for the high watermark to move on.
const READ_WAIT: Duration = Duration::from_millis(500);

/// A coordinator's topic in the replica manager.
#[derive(Debug)]
pub(crate) struct ReplicatedOffsetsLog {
    pub(crate) topic: &'static str,
    pub(crate) replicas: ReplicaManager,
    pub(crate) metadata: watch::Receiver<Arc<MetadataImage>>,
    /// `offsets.commit.timeout.ms`
    pub(crate) commit_timeout: Duration,
}

impl ReplicatedOffsetsLog {
    fn partition(&self, partition: i32) -> TopicIdPartition {
        let image = self.metadata.borrow();
        let id = image
            .topic_by_name(self.topic)
            .map_or(TopicId::ZERO, |topic| topic.id);
        TopicIdPartition::new(id, self.topic, partition)
    }
}

impl OffsetsLog for ReplicatedOffsetsLog {
    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode> {
        let snapshot = self
            .replicas
            .partition_snapshot(&self.partition(partition))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if snapshot.is_leader {
            Ok((snapshot.log_start_offset, snapshot.log_end_offset))
        } else {
            Err(ErrorCode::NotLeaderOrFollower)
        }
    }

    fn read(
        &self,
        partition: i32,
        from: Offset,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, ErrorCode>> {
        let replicas = self.replicas.clone();
        let request = FetchRequestModel {
            max_wait: READ_WAIT,
            min_bytes: 1,
            max_bytes: READ_BYTES,
            isolation: Isolation::ReadUncommitted,
            reader: Reader::default(),
            partitions: vec![FetchPartition {
                partition: self.partition(partition),
                fetch_offset: from,
                max_bytes: READ_BYTES,
                current_leader_epoch: None,
                last_fetched_epoch: None,
            }],
        };
        Box::pin(async move {
            match replicas.fetch(&request).await.pop() {
                Some(data) if data.error.is_none() => Ok(data.records),
                Some(data) => Err(data.error),
                None => Err(ErrorCode::UnknownServerError),
            }
        })
    }

    fn append(
        &self,
        partition: i32,
        epoch: LeaderEpoch,
        batch: CoordinatorBatch,
    ) -> BoxFuture<'static, Result<(), OffsetsLogError>> {
        let replicas = self.replicas.clone();
        let target = self.partition(partition);
        let timeout = self.commit_timeout;
        Box::pin(async move {
            let CoordinatorBatch { bytes, rule } = batch;
            let appended = replicas.append_in_transaction(&target, epoch, bytes, rule, timeout);
            match appended.await {
                Ok(_) => Ok(()),
                Err(error) => Err(OffsetsLogError {
                    code: error.code,
                    maybe_appended: matches!(
                        error.code,
                        ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend
                    ),
                }),
            }
        })
    }
}
