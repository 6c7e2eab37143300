//! What does a handler know about the request it answers, beside the request?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::request::{ApiError, ControllerRequest, ControllerResponse};
use broker_core::metadata::{BrokerImage, MetadataImage};
use types::{ErrorCode, NodeId};

use super::connection::Peer;
use crate::broker::Broker;
use crate::replication::LeaderHint;

/// One request's surroundings.
#[derive(Clone)]
pub(crate) struct RequestContext {
    /// The broker.
    pub(crate) broker: Arc<Broker>,
    /// The connection's other end.
    pub(crate) peer: Arc<Peer>,
    /// The client's name for itself.
    pub(crate) client_id: Option<String>,
    /// The version of the request and of its response.
    pub(crate) version: i16,
}

/// Where clients of one listener reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node_id: NodeId,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
}

impl RequestContext {
    /// The metadata of this moment; take it once per request, so that one answer shows one state.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.broker.metadata.borrow().clone()
    }

    /// The address of a broker on this connection's listener.
    pub(crate) fn endpoint(&self, broker: &BrokerImage) -> Option<Endpoint> {
        let endpoint = broker.endpoint(&self.peer.listener)?;
        Some(Endpoint {
            node_id: broker.node_id,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: broker.rack.clone(),
        })
    }

    /// Where the leaders are that `hints` name, each once.
    pub(crate) fn leaders(&self, hints: &[LeaderHint]) -> Vec<Endpoint> {
        if hints.is_empty() {
            return Vec::new();
        }
        let image = self.image();
        let nodes: BTreeSet<NodeId> = hints.iter().filter_map(|hint| hint.leader).collect();
        nodes
            .into_iter()
            .filter_map(|node| self.endpoint(image.broker(node)?))
            .collect()
    }

    /// The client's address, written as Kafka does in group descriptions.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.peer.address.ip())
    }

    /// Asks the active controller.
    ///
    /// # Errors
    /// Why no controller answered in time.
    pub(crate) async fn controller(
        &self,
        request: ControllerRequest,
        timeout: Duration,
    ) -> Result<ControllerResponse, String> {
        self.broker.controller.submit(request, timeout).await
    }

    /// The error for a client whose request the controller did not answer, or not in kind (which it never does).
    pub(crate) fn unanswered(answer: Result<ControllerResponse, String>) -> ApiError {
        match answer {
            Err(reason) => ApiError::new(ErrorCode::RequestTimedOut, reason),
            Ok(other) => {
                debug_assert!(false, "an answer of another kind: {other:?}");
                ApiError::new(ErrorCode::UnknownServerError, "unexpected answer")
            }
        }
    }
}

/// A client's timeout, never negative and bounded: what a request may hold a connection for.
pub(crate) fn timeout_of(timeout_ms: i32) -> Duration {
    const MAX: u64 = 10 * 60 * 1000;
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).min(MAX))
}
