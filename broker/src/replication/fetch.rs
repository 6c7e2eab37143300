//! How does a client read from a leader, or from a follower near it (KIP-392), and wait when there is nothing?
//!
//! A fetch reads all its partitions; if that is less than `min_bytes` it reads once more, this time leaving a waiter
//! under each partition's lock, and sleeps until one of them has something (or stops being led here) or its time is
//! over. Nothing polls.

use std::sync::Arc;

use broker_core::partition::{EpochFence, Role, check_epoch, epochs::find_divergence};
use broker_log::{LogError, ReadOutcome, ReadPlan, RealVfs};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use types::{ErrorCode, Offset};

use super::manager::ReplicaManager;
use super::model::{
    AbortedTransaction, FetchPartition, FetchPartitionData, FetchRequestModel, Isolation, Reader,
};
use super::replica::{History, Replica, State};

/// What one partition gives before files are read.
enum Found {
    Done(FetchPartitionData),
    File(Box<FileRead>),
}

struct FileRead {
    plan: ReadPlan<RealVfs>,
    data: FetchPartitionData,
    upper: Offset,
    limit: Limit,
}

/// How much may be read.
#[derive(Debug, Clone, Copy)]
struct Limit {
    max_bytes: usize,
    at_least_one_batch: bool,
}

/// One pass over all partitions.
struct Pass {
    answers: Vec<FetchPartitionData>,
    bytes: usize,
    /// An error, or a divergence: answered at once.
    urgent: bool,
}

impl ReplicaManager {
    /// Reads for a client; waits up to `max_wait` for `min_bytes`. One answer per partition, in order.
    pub async fn fetch(&self, request: &FetchRequestModel) -> Vec<FetchPartitionData> {
        let pass = self.read_all(request, None).await;
        let enough = |pass: &Pass| pass.bytes >= request.min_bytes || pass.urgent;
        if enough(&pass) || request.max_wait.is_zero() || request.partitions.is_empty() {
            return pass.answers;
        }
        let deadline = Instant::now() + request.max_wait;
        let waiter = Arc::new(Notify::new());
        loop {
            let pass = self.read_all(request, Some(&waiter)).await;
            if enough(&pass) {
                return pass.answers;
            }
            // Without a wake-up nothing came since that pass, so its answers are still right.
            if tokio::time::timeout_at(deadline, waiter.notified())
                .await
                .is_err()
            {
                return pass.answers;
            }
        }
    }

    async fn read_all(&self, request: &FetchRequestModel, waiter: Option<&Arc<Notify>>) -> Pass {
        let mut pass = Pass {
            answers: Vec::with_capacity(request.partitions.len()),
            bytes: 0,
            urgent: false,
        };
        for partition in &request.partitions {
            let limit = Limit {
                max_bytes: partition
                    .max_bytes
                    .min(request.max_bytes.saturating_sub(pass.bytes)),
                at_least_one_batch: pass.bytes == 0,
            };
            let replica = self.find(&partition.partition);
            let data = match replica {
                Some(replica) => {
                    let reading = (request.isolation, &request.reader);
                    let found = replica.read_for_client(partition, reading, limit, waiter);
                    finish(&replica, found).await
                }
                None => {
                    let error = self.absence(&partition.partition);
                    FetchPartitionData::failed(error.code, error.leader_hint)
                }
            };
            pass.urgent |= data.error != ErrorCode::None || data.is_redirect();
            pass.bytes += data.bytes();
            pass.answers.push(data);
        }
        pass
    }
}

async fn finish(replica: &Arc<Replica>, found: Found) -> FetchPartitionData {
    let file = match found {
        Found::Done(data) => return data,
        Found::File(file) => file,
    };
    let FileRead {
        mut plan,
        mut data,
        upper,
        limit,
    } = *file;
    // Once a segment: a hole ends where the next one begins.
    loop {
        // The disk may be slow: not on a thread that serves connections.
        let read = tokio::task::spawn_blocking(move || plan.outcome()).await;
        // The task cannot panic and is never cancelled.
        let Ok(read) = read else {
            return FetchPartitionData::failed(ErrorCode::UnknownServerError, None);
        };
        let next = match read {
            Ok(ReadOutcome::Found(slice)) => {
                data.records.push(slice.bytes);
                return data;
            }
            Ok(ReadOutcome::TooLarge) => return data,
            // Else the client would ask for the same offset for ever.
            Ok(ReadOutcome::Hole(end)) => replica.read_after_hole(end, upper, limit),
            Err(error) => Err(error),
        };
        plan = match next {
            Ok(Some(next)) => next,
            Ok(None) => return data,
            Err(error) => {
                if !matches!(error, LogError::OffsetOutOfRange { .. }) {
                    replica.fail(&error);
                }
                return FetchPartitionData::failed(error.code(), None);
            }
        };
    }
}

impl Replica {
    fn read_for_client(
        &self,
        request: &FetchPartition,
        (isolation, reader): (Isolation, &Reader),
        limit: Limit,
        waiter: Option<&Arc<Notify>>,
    ) -> Found {
        let mut guard = self.lock();
        let state = &mut *guard;
        let data = match checked(state, request, reader) {
            Ok(data) => data,
            Err(data) => return Found::Done(*data),
        };
        let upper = readable_end(state, isolation);
        if let Some(waiter) = waiter {
            state.fetches.push(upper.max(request.fetch_offset), waiter);
        }
        if data.is_redirect() || request.fetch_offset >= upper {
            return Found::Done(data);
        }
        self.read(state, request, isolation, (upper, limit), data)
    }

    fn read(
        &self,
        state: &State,
        request: &FetchPartition,
        isolation: Isolation,
        (upper, limit): (Offset, Limit),
        mut data: FetchPartitionData,
    ) -> Found {
        let from = request.fetch_offset;
        if isolation == Isolation::ReadCommitted {
            match state.log.aborted_transactions(from, upper) {
                Ok(aborted) => {
                    data.aborted = aborted
                        .into_iter()
                        .map(|one| AbortedTransaction {
                            producer_id: one.producer_id,
                            first_offset: one.first_offset,
                        })
                        .collect();
                }
                Err(error) => {
                    self.fail(&error);
                    return Found::Done(FetchPartitionData::failed(error.code(), None));
                }
            }
        }
        if limit.max_bytes == 0 && !limit.at_least_one_batch {
            return Found::Done(data);
        }
        if let Some((chunks, _)) = state.tail.read(from, upper, limit.max_bytes) {
            let bytes: usize = chunks.iter().map(Bytes::len).sum();
            if bytes <= limit.max_bytes || limit.at_least_one_batch {
                data.records = chunks;
            }
            return Found::Done(data);
        }
        match state
            .log
            .plan_read(from, limit.max_bytes, upper, limit.at_least_one_batch)
        {
            Ok(Some(plan)) => Found::File(Box::new(FileRead {
                plan,
                data,
                upper,
                limit,
            })),
            Ok(None) => Found::Done(data),
            Err(error) => {
                if !matches!(error, LogError::OffsetOutOfRange { .. }) {
                    self.fail(&error);
                }
                Found::Done(FetchPartitionData::failed(error.code(), None))
            }
        }
    }
}

impl Replica {
    /// How a read goes on behind a hole that compaction left at a segment's end; `None` if nothing readable is there.
    fn read_after_hole(
        &self,
        from: Offset,
        upper: Offset,
        limit: Limit,
    ) -> Result<Option<ReadPlan<RealVfs>>, LogError> {
        let state = self.lock();
        if state.closed {
            return Ok(None);
        }
        let (max_bytes, one) = (limit.max_bytes, limit.at_least_one_batch);
        state.log.plan_read(from, max_bytes, upper, one)
    }
}

/// The answer without records; an error if this replica must not be read from.
fn checked(
    state: &State,
    request: &FetchPartition,
    reader: &Reader,
) -> Result<FetchPartitionData, Box<FetchPartitionData>> {
    let failed = |code| Box::new(FetchPartitionData::failed(code, Replica::hint(state)));
    if state.closed {
        return Err(failed(state.absence().code));
    }
    let fenced = |fence: EpochFence| failed(fence.code());
    if let Some(epoch) = state.core.leader_epoch() {
        check_epoch(epoch, request.current_leader_epoch).map_err(fenced)?;
    }
    let preferred_read_replica = match state.core.role() {
        Role::Leader(leader) => leader.closest_replica(&reader.near, request.fetch_offset),
        // Before its log was compared with the leader's, it may hold what is to be truncated.
        Role::Follower(follower) if reader.may_read_followers && follower.is_matched() => None,
        Role::Follower(_) | Role::Offline => return Err(failed(ErrorCode::NotLeaderOrFollower)),
    };
    let (start, end) = (state.log.log_start_offset(), state.log.log_end_offset());
    let position = request.fetch_offset;
    let diverging_epoch = find_divergence(
        &History(&state.log),
        end,
        position,
        request.last_fetched_epoch,
    );
    let mut data = FetchPartitionData {
        error: ErrorCode::None,
        high_watermark: Some(state.core.high_watermark()),
        last_stable_offset: Some(readable_end(state, Isolation::ReadCommitted)),
        log_start_offset: Some(start),
        records: Vec::new(),
        aborted: Vec::new(),
        diverging_epoch,
        leader_hint: None,
        preferred_read_replica,
    };
    if diverging_epoch.is_none() && (position < start || position > end) {
        data.error = ErrorCode::OffsetOutOfRange;
        return Err(Box::new(data));
    }
    Ok(data)
}

/// The offset up to which the isolation level may read.
pub(crate) fn readable_end(state: &State, isolation: Isolation) -> Offset {
    let high_watermark = state.core.high_watermark();
    match isolation {
        Isolation::ReadUncommitted => high_watermark,
        Isolation::ReadCommitted => state
            .log
            .first_unstable_offset()
            .map_or(high_watermark, |unstable| unstable.min(high_watermark)),
    }
}
