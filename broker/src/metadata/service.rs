//! How does a controller feed the nodes that are not voters?

use std::time::Duration;

use rpc::limits::SNAPSHOT_PART_BYTES;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::metadata_frame::Frame;
use rpc::quorum::v1::metadata_server::{Metadata, MetadataServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::MetadataPublisher;
use crate::quorum::PROTOCOL_VERSION;

/// Frames in the way to one observer: the stream's window holds a few more.
const FRAMES: usize = 16;
/// Pause between frames while nothing changes; observers look for another controller after a few.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);

/// The gRPC service of one controller.
#[derive(Debug, Clone)]
pub struct MetadataService {
    cluster_id: String,
    publisher: MetadataPublisher,
}

type Frames = mpsc::Sender<Result<wire::MetadataFrame, Status>>;

impl MetadataService {
    /// Serves what `publisher` publishes to nodes of `cluster_id`.
    #[must_use]
    pub fn new(cluster_id: String, publisher: MetadataPublisher) -> Self {
        Self {
            cluster_id,
            publisher,
        }
    }

    /// The service, ready to be added to a server.
    #[must_use]
    pub fn into_server(self) -> MetadataServer<Self> {
        MetadataServer::new(self).max_encoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Metadata for MetadataService {
    type SubscribeStream = ReceiverStream<Result<wire::MetadataFrame, Status>>;

    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        if request.version != PROTOCOL_VERSION || request.cluster_id != self.cluster_id {
            return Err(Status::failed_precondition(format!(
                "want version {PROTOCOL_VERSION} and cluster {}, not {} and {}",
                self.cluster_id, request.version, request.cluster_id
            )));
        }
        tracing::debug!(
            node = request.node_id,
            from = request.from_offset,
            "an observer subscribes"
        );
        let (frames, stream) = mpsc::channel(FRAMES);
        // Ends when the observer is gone: heartbeats notice that even while nothing changes.
        tokio::spawn(feed(self.publisher.clone(), request.from_offset, frames));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends everything from offset `next` on, until the observer is gone.
async fn feed(publisher: MetadataPublisher, mut next: u64, frames: Frames) {
    let mut images = publisher.watch();
    loop {
        images.mark_unchanged();
        let sent = match publisher.batches_from(next) {
            Some(batches) => send_batches(&mut next, batches, &frames).await,
            None => send_snapshot(&publisher, &mut next, &frames).await,
        };
        if sent.is_err() {
            return;
        }
        match tokio::time::timeout(HEARTBEAT, images.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_elapsed) => {
                let committed_offset = publisher.image().offset();
                let heartbeat = Frame::Heartbeat(wire::MetadataHeartbeat { committed_offset });
                if send(&frames, heartbeat).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The observer is gone.
struct Gone;

async fn send(frames: &Frames, frame: Frame) -> Result<(), Gone> {
    let frame = wire::MetadataFrame { frame: Some(frame) };
    frames.send(Ok(frame)).await.map_err(|_| Gone)
}

async fn send_batches(
    next: &mut u64,
    batches: Vec<(u64, bytes::Bytes)>,
    frames: &Frames,
) -> Result<(), Gone> {
    for (offset, records) in batches {
        send(
            frames,
            Frame::Records(wire::MetadataRecords { offset, records }),
        )
        .await?;
        *next = offset + 1;
    }
    Ok(())
}

async fn send_snapshot(
    publisher: &MetadataPublisher,
    next: &mut u64,
    frames: &Frames,
) -> Result<(), Gone> {
    let image = publisher.image();
    let offset = image.offset();
    let mut data = tokio::task::spawn_blocking(move || image.to_snapshot())
        .await
        .map_err(|_| Gone)?;
    loop {
        let part = data.split_to(data.len().min(SNAPSHOT_PART_BYTES));
        let last = data.is_empty();
        let part = wire::MetadataSnapshot {
            offset,
            data: part,
            last,
        };
        send(frames, Frame::Snapshot(part)).await?;
        if last {
            *next = offset + 1;
            return Ok(());
        }
    }
}
