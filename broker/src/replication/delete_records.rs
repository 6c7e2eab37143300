//! How do records go before their time (DeleteRecords, KIP-107)?
//!
//! The leader moves the start of its log and tells its followers; the request is answered when all live replicas have
//! written down that their logs begin there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use types::{ErrorCode, Offset};

use super::log_starts;
use super::manager::ReplicaManager;
use super::model::TopicIdPartition;
use super::replica::Replica;
use super::waiters::Outcome;

/// Up to where records shall be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteBefore {
    /// Everything that is replicated.
    HighWatermark,
    /// What lies below this offset.
    Offset(Offset),
}

/// One that was begun: the replica and what tells of its end.
type Begun = (Arc<Replica>, oneshot::Receiver<Outcome>);

impl ReplicaManager {
    /// Deletes records from the beginning of partitions; one result each, in order: the smallest log start offset of all
    /// live replicas, as it is written down there.
    ///
    /// # Errors
    /// Kafka's codes: `OFFSET_OUT_OF_RANGE` above the HW, `POLICY_VIOLATION` for a topic that is only compacted,
    /// `REQUEST_TIMED_OUT` if a live replica did not follow in time.
    pub async fn delete_records(
        &self,
        wanted: Vec<(TopicIdPartition, DeleteBefore)>,
        timeout: Duration,
    ) -> Vec<Result<Offset, ErrorCode>> {
        let deadline = tokio::time::Instant::now() + timeout;
        let manager = self.clone();
        let count = wanted.len();
        let begun = tokio::task::spawn_blocking(move || manager.begin_all(&wanted)).await;
        // The task is never cancelled.
        let begun = begun.unwrap_or_else(|_panicked| {
            let failed = (0..count).map(|_| Err(ErrorCode::UnknownServerError));
            failed.collect()
        });
        let mut results = Vec::with_capacity(begun.len());
        for begun in begun {
            results.push(match begun {
                Ok(begun) => finished(begun, deadline).await,
                Err(code) => Err(code),
            });
        }
        results
    }

    fn begin_all(
        &self,
        wanted: &[(TopicIdPartition, DeleteBefore)],
    ) -> Vec<Result<Begun, ErrorCode>> {
        let mut begun: Vec<_> = wanted
            .iter()
            .map(|(partition, before)| {
                let replica = self.find(partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
                let waiting = replica.begin_delete(*before)?;
                Ok((replica, waiting))
            })
            .collect();
        if begun.iter().any(Result::is_ok)
            && let Err(error) = log_starts::write(self)
        {
            self.inner().shared.fail(&error);
            for one in &mut begun {
                if one.is_ok() {
                    *one = Err(error.code());
                }
            }
        }
        begun
    }
}

impl Replica {
    /// Moves the start of the log; what it gives completes when all live replicas, this one too, have written that down.
    fn begin_delete(&self, before: DeleteBefore) -> Result<oneshot::Receiver<Outcome>, ErrorCode> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let Some(leader) = state.core.leader() else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        if !state.log.config().delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = leader.high_watermark();
        let offset = match before {
            DeleteBefore::HighWatermark => high_watermark,
            DeleteBefore::Offset(offset) => offset,
        };
        if offset < Offset(0) || offset > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if let Err(error) = state.log.advance_log_start_offset(offset) {
            self.fail(&error);
            return Err(error.code());
        }
        let waiting = state.deletes.push(offset);
        state.after_log_start();
        Ok(waiting)
    }
}

async fn finished(
    (replica, waiting): Begun,
    deadline: tokio::time::Instant,
) -> Result<Offset, ErrorCode> {
    match tokio::time::timeout_at(deadline, waiting).await {
        Ok(Ok(outcome)) => outcome?,
        // The partition went away with those who waited.
        Ok(Err(_)) => return Err(ErrorCode::NotLeaderOrFollower),
        Err(_) => return Err(ErrorCode::RequestTimedOut),
    }
    let state = replica.lock();
    state.low_watermark().ok_or(ErrorCode::NotLeaderOrFollower)
}
