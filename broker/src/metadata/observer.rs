//! How does a node that is no voter follow the metadata?
//!
//! It subscribes to any controller from the offset it lacks, and to another one when that stream ends or falls
//! silent. Records that it cannot apply end it: a node must not serve what it does not understand.

use std::time::Duration;

use bytes::BytesMut;
use rpc::limits::MESSAGE_BYTES_MAX;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::metadata_client::MetadataClient;
use rpc::quorum::v1::metadata_frame::Frame;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::NodeId;

use super::MetadataMachine;
use super::service::HEARTBEAT;
use crate::quorum::{ControllerNode, Directory, Machine as _, MachineError, PROTOCOL_VERSION};

/// Silence after which another controller is asked.
const SILENCE: Duration = Duration::from_millis(4 * HEARTBEAT.as_millis() as u64);
/// Pause after every controller was tried.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows the metadata from the controllers.
#[derive(Debug)]
pub struct Observer {
    /// Of this cluster only.
    pub cluster_id: String,
    /// This node.
    pub node_id: NodeId,
    /// The controllers.
    pub directory: Directory,
    /// What is fed.
    pub machine: MetadataMachine,
}

enum End {
    /// Another controller may do better.
    Stream(Status),
    /// No controller can help.
    Machine(MachineError),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Stream(status)
    }
}

impl Observer {
    /// Follows until `stop`.
    ///
    /// # Errors
    /// When the metadata makes no sense to this build; the process must end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), MachineError> {
        let controllers: Vec<_> = self.directory.controllers().values().cloned().collect();
        // Not everybody asks the same controller.
        let first = usize::try_from(self.node_id.0).unwrap_or(0) % controllers.len().max(1);
        for turn in first.. {
            let Some(controller) = controllers.get(turn % controllers.len().max(1)) else {
                return Ok(());
            };
            let end = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                end = self.follow(controller) => end,
            };
            match end {
                End::Machine(error) => return Err(error),
                End::Stream(status) => {
                    tracing::debug!(controller = %controller.node_id, %status, "the metadata stream ended");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    async fn follow(&mut self, controller: &ControllerNode) -> End {
        match self.stream_from(controller).await {
            Ok(()) => End::Stream(Status::unavailable("the stream ended")),
            Err(end) => end,
        }
    }

    async fn stream_from(&mut self, controller: &ControllerNode) -> Result<(), End> {
        let channel = self.directory.controller_channel(controller);
        let mut client = MetadataClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = wire::SubscribeRequest {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id.0,
            from_offset: match self.machine.offset() {
                0 => 0,
                offset => offset + 1,
            },
        };
        let silence = |_| End::Stream(Status::deadline_exceeded("the controller is silent"));
        let call = client.subscribe(request);
        let response = tokio::time::timeout(SILENCE, call)
            .await
            .map_err(silence)??;
        let mut frames = response.into_inner();
        let mut snapshot = BytesMut::new();
        loop {
            let next = tokio::time::timeout(SILENCE, frames.message());
            let Some(frame) = next.await.map_err(silence)?? else {
                return Ok(());
            };
            match frame.frame {
                Some(Frame::Records(batch)) => self
                    .machine
                    .apply(batch.offset, &batch.records)
                    .map_err(End::Machine)?,
                Some(Frame::Snapshot(part)) => {
                    snapshot.extend_from_slice(&part.data);
                    // A controller that was away itself may offer less than what is here.
                    if part.last && part.offset > self.machine.offset() {
                        let image = std::mem::take(&mut snapshot).freeze();
                        self.machine
                            .restore(part.offset, &image)
                            .map_err(End::Machine)?;
                    }
                }
                Some(Frame::Heartbeat(_)) | None => {}
            }
        }
    }
}
