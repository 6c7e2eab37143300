//! What does a controller answer to brokers?

use std::pin::Pin;
use std::time::Duration;

use broker_core::controller::request::ControllerRequest;
use broker_core::metadata::Incarnation;
use futures::Stream;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::controller_server::{Controller, ControllerServer};
use rpc::quorum::v1::submit_response::Outcome;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::NodeId;

use super::sessions::Sessions;
use super::writer::ControllerHandle;
use crate::quorum::{Member, PROTOCOL_VERSION, QuorumStatus, member_to_wire};

/// The gRPC service of one controller.
#[derive(Debug, Clone)]
pub struct ControllerService {
    cluster_id: String,
    handle: ControllerHandle,
    sessions: Sessions,
    status: watch::Receiver<QuorumStatus>,
}

impl ControllerService {
    /// Serves the writer behind `handle` to nodes of `cluster_id`.
    #[must_use]
    pub fn new(
        cluster_id: String,
        handle: ControllerHandle,
        sessions: Sessions,
        status: watch::Receiver<QuorumStatus>,
    ) -> Self {
        Self {
            cluster_id,
            handle,
            sessions,
            status,
        }
    }

    /// The service, ready to be added to a server.
    #[must_use]
    pub fn into_server(self) -> ControllerServer<Self> {
        ControllerServer::new(self)
            .max_decoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
    }

    fn admit(&self, version: u32, cluster_id: &str) -> Result<(), Status> {
        if version != PROTOCOL_VERSION || cluster_id != self.cluster_id {
            return Err(Status::failed_precondition(format!(
                "want version {PROTOCOL_VERSION} and cluster {}, not {version} and {cluster_id}",
                self.cluster_id
            )));
        }
        Ok(())
    }

    fn leader(&self) -> Option<Member> {
        self.status.borrow().leader.clone()
    }

    fn not_controller(&self) -> Outcome {
        Outcome::NotController(wire::NotController {
            leader: self.leader().as_ref().map(member_to_wire),
        })
    }
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn submit(
        &self,
        request: Request<wire::SubmitRequest>,
    ) -> Result<Response<wire::SubmitResponse>, Status> {
        let request = request.into_inner();
        self.admit(request.version, &request.cluster_id)?;
        let outcome = if self.handle.is_active() {
            let decoded = ControllerRequest::decode(&request.request)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let timeout = Duration::from_millis(u64::from(request.timeout_ms));
            match tokio::time::timeout(timeout, self.handle.submit(decoded)).await {
                Ok(Ok(response)) => Outcome::Response(response.encode()),
                Ok(Err(_not_active)) => self.not_controller(),
                Err(_elapsed) => {
                    return Err(Status::deadline_exceeded("the change is not committed yet"));
                }
            }
        } else {
            self.not_controller()
        };
        Ok(Response::new(wire::SubmitResponse {
            outcome: Some(outcome),
        }))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<wire::SessionReply, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut frames = request.into_inner();
        let first = frames.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("an empty session"))?;
        self.admit(first.version, &first.cluster_id)?;
        let incarnation: [u8; 16] = first
            .incarnation
            .as_ref()
            .try_into()
            .map_err(|_| Status::invalid_argument("an incarnation has 16 bytes"))?;
        if !self.handle.is_active() {
            return Err(Status::unavailable(
                "this node is not the active controller",
            ));
        }
        // The reply's sender lives as long as the session; its end tells the broker to look for the new controller.
        let (replies, stream) = mpsc::channel(1);
        let node = NodeId(first.node_id);
        let session = hold(
            self.sessions.clone(),
            self.handle.active(),
            (node, Incarnation::from_bytes(incarnation)),
            frames,
            replies,
        );
        tokio::spawn(session);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Keeps one session until the broker's process or this node's leadership ends.
async fn hold(
    sessions: Sessions,
    mut active: watch::Receiver<Option<u64>>,
    (node, incarnation): (NodeId, Incarnation),
    mut frames: Streaming<wire::SessionFrame>,
    replies: mpsc::Sender<Result<wire::SessionReply, Status>>,
) {
    let term = *active.borrow_and_update();
    sessions.opened(node, incarnation).await;
    let accepted = wire::SessionReply {
        version: PROTOCOL_VERSION,
        accepted: true,
    };
    if replies.send(Ok(accepted)).await.is_ok() {
        let frames_end = async { while let Ok(Some(_)) = frames.message().await {} };
        tokio::select! {
            () = frames_end => {}
            // An error means that the writer is gone, and leadership with it.
            _ = active.wait_for(|current| *current != term || current.is_none()) => {}
        }
    }
    sessions.closed(node, incarnation).await;
}
