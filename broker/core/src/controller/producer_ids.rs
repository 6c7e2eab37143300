//! Which producer ids may a broker hand out (KIP-730)?
//!
//! Blocks are never given twice: the record that moves the counter is committed before the block is answered.

use types::{ErrorCode, ProducerId};

use super::request::{AllocateProducerIdsRequest, ApiError, ProducerIdBlock};
use super::{Controller, Decision};
use crate::metadata::MetadataRecord;
use crate::metadata::record::ProducerIds;

/// Ids in one block, as in Kafka.
const BLOCK: i32 = 1_000;

impl Controller {
    pub(super) fn allocate_producer_ids(
        &self,
        request: &AllocateProducerIdsRequest,
    ) -> Decision<Result<ProducerIdBlock, ApiError>> {
        if let Err(error) = self.check_epoch(request.node_id, request.broker_epoch) {
            return Decision::answer(Err(error));
        }
        let first = self.image.next_producer_id();
        let Some(next) = first.0.checked_add(i64::from(BLOCK)) else {
            return Decision::answer(Err(ApiError::new(
                ErrorCode::UnknownServerError,
                "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit",
            )));
        };
        Decision {
            records: vec![MetadataRecord::ProducerIds(ProducerIds {
                node_id: request.node_id,
                broker_epoch: request.broker_epoch,
                next: ProducerId(next),
            })],
            response: Ok(ProducerIdBlock {
                first,
                count: BLOCK,
            }),
        }
    }
}
