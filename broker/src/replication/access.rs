//! How do a running broker's replicas reach their peers and the controller?

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use broker_core::metadata::MetadataImage;
use broker_core::partition::AlterPartitionAnswer;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::transport::Channel;
use types::NodeId;

use super::isr::{IsrController, IsrRequest};
use super::links::{PeerConnector, PeerError};
use super::metadata::{alter_partition_answers, alter_partition_request};
use crate::peer::Peers;

/// How long one request for ISR changes may look for the active controller. The leaders' periodic check asks again.
const ALTER_PARTITION_TIMEOUT: Duration = Duration::from_secs(5);

/// Peers at the addresses that the newest metadata has for them.
#[derive(Debug, Clone)]
pub struct MetadataPeers {
    peers: Peers,
    metadata: watch::Receiver<Arc<MetadataImage>>,
}

impl MetadataPeers {
    /// Peers as `metadata` names them at each attempt.
    #[must_use]
    pub const fn new(peers: Peers, metadata: watch::Receiver<Arc<MetadataImage>>) -> Self {
        Self { peers, metadata }
    }
}

#[tonic::async_trait]
impl PeerConnector for MetadataPeers {
    async fn connect(&self, node: NodeId) -> Result<Channel, PeerError> {
        let address = {
            let image = self.metadata.borrow();
            image
                .broker(node)
                .map(|broker| (broker.rpc.host.clone(), broker.rpc.port))
        };
        let (host, port) = address.ok_or_else(|| PeerError {
            node,
            reason: "the metadata has no address for it".to_owned(),
        })?;
        // Each stream has a connection of its own, made when it is first used.
        Ok(self.peers.dedicated_channel(&host, port))
    }
}

/// Asks the active controller, wherever it is, until the timeout.
pub type Submit = Arc<
    dyn Fn(ControllerRequest, Duration) -> BoxFuture<'static, Result<ControllerResponse, String>>
        + Send
        + Sync,
>;

/// ISR changes through the cluster's controller.
#[derive(Clone)]
pub struct ControllerIsr {
    node: NodeId,
    submit: Submit,
}

impl std::fmt::Debug for ControllerIsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerIsr")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl ControllerIsr {
    /// The changes of leaders on `node`, sent with `submit`.
    #[must_use]
    pub const fn new(node: NodeId, submit: Submit) -> Self {
        Self { node, submit }
    }
}

#[tonic::async_trait]
impl IsrController for ControllerIsr {
    async fn alter_partitions(&self, requests: &[IsrRequest]) -> Vec<AlterPartitionAnswer> {
        let unknown = || vec![AlterPartitionAnswer::Unknown; requests.len()];
        let Some(first) = requests.first() else {
            return Vec::new();
        };
        let request = alter_partition_request(self.node, first.broker_epoch, requests);
        match (self.submit)(request, ALTER_PARTITION_TIMEOUT).await {
            Ok(ControllerResponse::AlterPartition(response)) => {
                alter_partition_answers(requests, response)
            }
            Ok(other) => {
                tracing::error!(?other, "the controller answered another question");
                unknown()
            }
            Err(error) => {
                tracing::debug!(error, "no answer to ISR changes");
                unknown()
            }
        }
    }
}
