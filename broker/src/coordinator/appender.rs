//! How do the coordinator's records get into the log in its order, and what does a failure mean to clients?

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use broker_core::group::{Append, AppendId, AppendKind, TransactionalCommit};
use futures::future::BoxFuture;
use types::{BatchBuilder, Compression, ErrorCode, LeaderEpoch};

use super::log::{CoordinatorBatch, OffsetsLog, OffsetsLogError};
use crate::replication::{Marker, TransactionRule};

/// Result of an append, for the coordinator and for the partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) id: AppendId,
    /// The code clients get.
    pub(super) result: Result<(), ErrorCode>,
    /// The log may hold the records although the coordinator took them back: it has to be loaded again.
    pub(super) reload: bool,
}

/// Appends under way, oldest first.
#[derive(Default)]
pub(super) struct Appender {
    running: VecDeque<(AppendId, BoxFuture<'static, Result<(), OffsetsLogError>>)>,
}

impl Appender {
    /// Puts the records into the log, behind those of earlier calls.
    pub(super) async fn start(
        &mut self,
        log: &dyn OffsetsLog,
        (partition, epoch): (i32, LeaderEpoch),
        append: Append,
        wall_ms: i64,
    ) {
        let mut running = match batch(&append, wall_ms) {
            Ok(batch) => log.append(partition, epoch, batch),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        };
        // Run to the first wait: the batch has its place in the log now.
        let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = first {
            running = Box::pin(std::future::ready(result));
        }
        self.running.push_back((append.id, running));
    }

    /// The result of the oldest append; pending while there is none.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Appended> {
        let Some((id, running)) = self.running.front_mut() else {
            return Poll::Pending;
        };
        let id = *id;
        match running.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.running.pop_front();
                Poll::Ready(Appended {
                    id,
                    result: result.map_err(|error| client_code(error.code)),
                    reload: result.is_err_and(|error| error.maybe_appended),
                })
            }
        }
    }
}

fn batch(append: &Append, wall_ms: i64) -> Result<CoordinatorBatch, OffsetsLogError> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "failed to build a batch for the offsets topic");
        OffsetsLogError {
            code: ErrorCode::RecordListTooLarge,
            maybe_appended: false,
        }
    };
    let builder = BatchBuilder::new().compression(Compression::None);
    let (mut builder, rule) = match append.kind {
        AppendKind::Plain => (builder, TransactionRule::Free),
        AppendKind::Transactional(TransactionalCommit { producer, guard }) => (
            builder.producer(producer.0, producer.1, -1).transactional(),
            TransactionRule::Offsets { guard },
        ),
        AppendKind::Marker(end) => {
            let marker = Marker {
                producer: end.producer,
                marker: end.marker,
                bumped: end.bumped,
            };
            return Ok(CoordinatorBatch {
                bytes: marker.batch(wall_ms).map_err(|error| failed(&error))?,
                rule: marker.rule(),
            });
        }
    };
    for record in &append.records {
        let (key, value) = record.encode();
        builder.push(wall_ms, Some(&key), value.as_deref());
    }
    Ok(CoordinatorBatch {
        bytes: builder.build().map_err(|error| failed(&error))?,
        rule,
    })
}

/// The code a client of the coordinator gets for a code of the log, as Kafka translates it.
pub(crate) fn client_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::KafkaStorageError
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownTopicId => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::InvalidCommitOffsetSize,
        other => other,
    }
}
