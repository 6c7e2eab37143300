//! Which producer id is next? From a block that the controller gave to this broker alone (KIP-730).

use broker_core::controller::request::{
    AllocateProducerIdsRequest, ControllerRequest, ControllerResponse, ProducerIdBlock,
};
use tokio::sync::Mutex;
use tracing::warn;
use types::{ErrorCode, ProducerId};

use crate::broker::Broker;

/// The block in use. What is left of it is lost when the process ends: ids are never given twice.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Option<Block>>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// An id that no producer had before.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while no controller can be reached, which clients retry.
    pub(crate) async fn next(&self, broker: &Broker) -> Result<ProducerId, ErrorCode> {
        // Held while the controller is asked, so that a burst of producers costs one block.
        let mut block = self.block.lock().await;
        let mut current = match *block {
            Some(current) if current.next < current.end => current,
            _ => allocate(broker).await?,
        };
        let id = ProducerId(current.next);
        current.next += 1;
        *block = Some(current);
        Ok(id)
    }
}

async fn allocate(broker: &Broker) -> Result<Block, ErrorCode> {
    let unavailable = |reason: &str| {
        warn!(reason, "failed to get producer ids from the controller");
        ErrorCode::CoordinatorLoadInProgress
    };
    let epoch = broker
        .metadata
        .borrow()
        .broker(broker.node_id)
        .map(|registered| registered.epoch)
        .ok_or_else(|| unavailable("this broker is not registered"))?;
    let asked = ControllerRequest::AllocateProducerIds(AllocateProducerIdsRequest {
        node_id: broker.node_id,
        broker_epoch: epoch,
    });
    let answer = broker.controller.submit(asked, broker.request_timeout());
    match answer.await {
        Ok(ControllerResponse::AllocateProducerIds(Ok(ProducerIdBlock { first, count }))) => {
            Ok(Block {
                next: first.0,
                end: first.0 + i64::from(count),
            })
        }
        Ok(ControllerResponse::AllocateProducerIds(Err(error))) => {
            Err(unavailable(&error.to_string()))
        }
        Ok(other) => Err(unavailable(&format!("unexpected answer {other:?}"))),
        Err(error) => Err(unavailable(&error)),
    }
}
