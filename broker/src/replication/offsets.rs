//! Which offsets does a partition have: the ends, by time, by leader epoch?

use broker_core::partition::check_epoch;
use broker_log::TimestampedOffset;
use types::{ErrorCode, LeaderEpoch, Offset};

use super::fetch::readable_end;
use super::manager::ReplicaManager;
use super::model::{
    EpochEnd, Isolation, ListedOffset, OffsetSpec, PartitionError, TopicIdPartition,
};
use super::replica::{Replica, State};

impl ReplicaManager {
    /// Answers a ListOffsets question of a client.
    ///
    /// # Errors
    /// Not the leader, another leader epoch, `OFFSET_NOT_AVAILABLE` while a new leader's HW may lie behind what its
    /// predecessor told (KIP-207).
    pub fn list_offsets(
        &self,
        partition: &TopicIdPartition,
        spec: OffsetSpec,
        isolation: Isolation,
        current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<ListedOffset, PartitionError> {
        let replica = self
            .find(partition)
            .ok_or_else(|| self.absence(partition))?;
        let state = replica.lock();
        let epoch = led(&state, current_leader_epoch)?;
        let settled = state
            .core
            .leader()
            .is_some_and(|leader| leader.settled_high_watermark().is_some());
        let upper = readable_end(&state, isolation);
        match spec {
            OffsetSpec::Earliest => {
                let start = state.log.log_start_offset();
                Ok(ListedOffset {
                    offset: Some(start),
                    timestamp_ms: None,
                    leader_epoch: state.log.leader_epochs().epoch_at(start),
                })
            }
            OffsetSpec::Latest if !settled => {
                Err(PartitionError::new(ErrorCode::OffsetNotAvailable))
            }
            OffsetSpec::Latest => Ok(ListedOffset {
                offset: Some(upper),
                timestamp_ms: None,
                leader_epoch: Some(epoch),
            }),
            OffsetSpec::MaxTimestamp => {
                found(&replica, state.log.max_timestamp_offset(upper), settled)
            }
            OffsetSpec::Timestamp(at) => {
                found(&replica, state.log.offset_for_timestamp(at, upper), settled)
            }
        }
    }

    /// Where `epoch` ended in the leader's log (KIP-320).
    ///
    /// # Errors
    /// Not the leader, another leader epoch.
    pub fn offset_for_leader_epoch(
        &self,
        partition: &TopicIdPartition,
        current_leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<EpochEnd, PartitionError> {
        let replica = self
            .find(partition)
            .ok_or_else(|| self.absence(partition))?;
        let state = replica.lock();
        led(&state, current_leader_epoch)?;
        let end = state.log.log_end_offset();
        let found = state.log.leader_epochs().end_offset_for(epoch, end);
        Ok(EpochEnd {
            leader_epoch: found.map(|(epoch, _)| epoch),
            end_offset: found.map(|(_, end)| end),
        })
    }
}

/// The leader epoch, if this replica leads and the client speaks of it.
fn led(state: &State, client: Option<LeaderEpoch>) -> Result<LeaderEpoch, PartitionError> {
    let failed = |code| PartitionError {
        code,
        leader_hint: Replica::hint(state),
    };
    if state.closed {
        return Err(state.absence());
    }
    if let Some(epoch) = state.core.leader_epoch() {
        check_epoch(epoch, client).map_err(|fence| failed(fence.code()))?;
    }
    state
        .core
        .leader()
        .map(|leader| leader.leader_epoch())
        .ok_or_else(|| failed(ErrorCode::NotLeaderOrFollower))
}

fn found(
    replica: &Replica,
    result: Result<Option<TimestampedOffset>, broker_log::LogError>,
    settled: bool,
) -> Result<ListedOffset, PartitionError> {
    match result {
        Ok(Some(record)) => Ok(ListedOffset {
            offset: Some(record.offset),
            timestamp_ms: Some(record.timestamp),
            leader_epoch: Some(record.leader_epoch),
        }),
        // The record may lie above our HW and below the predecessor's.
        Ok(None) if !settled => Err(PartitionError::new(ErrorCode::OffsetNotAvailable)),
        Ok(None) => Ok(ListedOffset {
            offset: None::<Offset>,
            timestamp_ms: None,
            leader_epoch: None,
        }),
        Err(error) => {
            replica.fail(&error);
            Err(PartitionError::new(error.code()))
        }
    }
}
