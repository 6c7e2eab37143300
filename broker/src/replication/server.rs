//! How does a leader answer the streams that followers open to it?
//!
//! Per stream there is one task that reads the follower's frames (starts, progress, credit), and the stream of
//! frames to it, which the gRPC server polls itself: between an append and its frame there is one wake-up.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use rpc::replication::v1 as proto;
use rpc::replication::v1::replication_server::{Replication, ReplicationServer};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId};

use super::convert::{self, PartitionKey};
use super::manager::ReplicaManager;
use super::push::{PushPartition, PushStream, StreamKind};
use super::replica::Replica;
use super::throttle::Pace;

/// The frames of one stream.
pub(crate) type FrameStream =
    Pin<Box<dyn Stream<Item = Result<proto::LeaderFrame, Status>> + Send + 'static>>;

/// The gRPC service that followers replicate from.
#[derive(Debug, Clone)]
pub struct ReplicationService {
    manager: ReplicaManager,
}

impl ReplicationService {
    /// The service over the replicas of `manager`, ready for a router.
    #[must_use]
    pub fn server(manager: ReplicaManager) -> ReplicationServer<Self> {
        ReplicationServer::new(Self { manager })
            .max_decoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
    }

    fn open(&self, kind: StreamKind, frames: Streaming<proto::FollowerFrame>) -> FrameStream {
        let (ready, opened) = tokio::sync::oneshot::channel();
        let serving = Serving {
            manager: self.manager.clone(),
            kind,
            started: HashMap::new(),
        };
        // Ends with the follower's half of the stream, which ends with the connection.
        tokio::spawn(serving.run(frames, ready));
        Box::pin(futures::stream::unfold(
            Outgoing::Opening(opened),
            |outgoing| async move {
                match outgoing.stream().await {
                    Ok(Some(stream)) => {
                        let frame = stream.next_frame().await?;
                        Some((Ok(frame), Outgoing::Open(stream)))
                    }
                    Ok(None) => None,
                    Err(status) => Some((Err(*status), Outgoing::Ended)),
                }
            },
        ))
    }
}

enum Outgoing {
    Opening(tokio::sync::oneshot::Receiver<Result<Arc<PushStream>, Box<Status>>>),
    Open(Arc<PushStream>),
    Ended,
}

impl Outgoing {
    async fn stream(self) -> Result<Option<Arc<PushStream>>, Box<Status>> {
        match self {
            // The reading task ends without an answer only when the follower went away.
            Self::Opening(opened) => opened.await.map_or(Ok(None), |stream| stream.map(Some)),
            Self::Open(stream) => Ok(Some(stream)),
            Self::Ended => Ok(None),
        }
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    type LiveStream = FrameStream;
    type CatchUpStream = FrameStream;

    async fn live(
        &self,
        request: Request<Streaming<proto::FollowerFrame>>,
    ) -> Result<Response<FrameStream>, Status> {
        Ok(Response::new(
            self.open(StreamKind::Live, request.into_inner()),
        ))
    }

    async fn catch_up(
        &self,
        request: Request<Streaming<proto::FollowerFrame>>,
    ) -> Result<Response<FrameStream>, Status> {
        Ok(Response::new(
            self.open(StreamKind::CatchUp, request.into_inner()),
        ))
    }
}

/// The reading half of one stream.
struct Serving {
    manager: ReplicaManager,
    kind: StreamKind,
    started: HashMap<PartitionKey, Arc<PushPartition>>,
}

impl Serving {
    async fn run(
        mut self,
        mut frames: Streaming<proto::FollowerFrame>,
        ready: tokio::sync::oneshot::Sender<Result<Arc<PushStream>, Box<Status>>>,
    ) {
        let Ok(Some(first)) = frames.message().await else {
            return;
        };
        let stream = match self.greet(&first) {
            Ok(stream) => stream,
            Err(status) => {
                tracing::warn!(%status, "refused a replication stream");
                // The follower may be gone already.
                let _ = ready.send(Err(Box::new(status)));
                return;
            }
        };
        if ready.send(Ok(Arc::clone(&stream))).is_err() {
            return;
        }
        tracing::debug!(peer = %stream.peer, kind = ?self.kind, "replication stream opened");
        self.handle(&stream, first);
        loop {
            match frames.message().await {
                Ok(Some(frame)) => self.handle(&stream, frame),
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(peer = %stream.peer, %status, "replication stream ended");
                    break;
                }
            }
        }
        stream.close();
        for push in self.started.into_values() {
            push.replica.unsubscribe(&push);
        }
    }

    fn greet(&self, frame: &proto::FollowerFrame) -> Result<Arc<PushStream>, Status> {
        let hello = frame
            .hello
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("the first frame carries no hello"))?;
        if frame.version == 0 || frame.version > convert::PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "replication protocol version {} is not spoken here, {} is",
                frame.version,
                convert::PROTOCOL_VERSION
            )));
        }
        let identity = self.manager.identity();
        if hello.cluster_id != *identity.cluster_id {
            return Err(Status::failed_precondition(format!(
                "this broker belongs to cluster {}, the follower to {}",
                identity.cluster_id, hello.cluster_id
            )));
        }
        if hello.leader_node_id != identity.node.0 {
            return Err(Status::failed_precondition(format!(
                "this is node {}, the follower looks for node {}",
                identity.node, hello.leader_node_id
            )));
        }
        let peer = NodeId(hello.node_id);
        let credit = i64::try_from(hello.initial_credit_bytes).unwrap_or(i64::MAX / 4);
        Ok(PushStream::new(
            peer,
            BrokerEpoch(hello.broker_epoch),
            self.kind,
            credit,
            self.manager.traffic(peer),
        ))
    }

    fn handle(&mut self, stream: &Arc<PushStream>, frame: proto::FollowerFrame) {
        for progress in &frame.progress {
            self.progress(stream, progress);
        }
        for partition in &frame.stop {
            let key = convert::topic_id(&partition.topic_id).map(|id| (id, partition.partition));
            if let Some(push) = key.and_then(|key| self.started.remove(&key)) {
                push.replica.unsubscribe(&push);
            }
        }
        for position in &frame.start {
            self.start(stream, position);
        }
        for allowed in &frame.allowances {
            self.allow(allowed);
        }
        if frame.credit_bytes > 0 {
            stream.grant(frame.credit_bytes);
        }
    }

    fn progress(&self, stream: &PushStream, progress: &proto::FollowerProgress) {
        let Some(topic_id) = convert::topic_id(&progress.topic_id) else {
            return;
        };
        if let Some(push) = self.started.get(&(topic_id, progress.partition)) {
            push.replica.on_follower_ack(
                stream.session(progress.session),
                LeaderEpoch(progress.leader_epoch),
                convert::progress_position(progress),
            );
            // If it is in sync now, nothing holds it back any more.
            push.release();
        }
    }

    fn allow(&self, allowed: &proto::PartitionAllowance) {
        let key = convert::topic_id(&allowed.topic_id).map(|id| (id, allowed.partition));
        let push = key.and_then(|key| self.started.get(&key));
        if let (Some(push), Some(allowance)) = (push, &allowed.allowance) {
            push.set_pace(Pace::new(Instant::now(), allowance));
        }
    }

    fn start(&mut self, stream: &Arc<PushStream>, position: &proto::FetchPosition) {
        let key = convert::topic_id(&position.topic_id).map(|id| (id, position.partition));
        let replica = key.and_then(|key| self.manager.replica(key));
        let (Some(key), Some(replica)) = (key, replica) else {
            // We have not applied the metadata yet, or the topic is gone: the follower asks again.
            stream.answer(convert::error_message(
                position,
                ErrorCode::UnknownTopicOrPartition,
            ));
            return;
        };
        if let Some(old) = self.started.remove(&key) {
            old.replica.unsubscribe(&old);
        }
        if let Some(push) = Replica::subscribe(&replica, stream, position) {
            self.started.insert(key, push);
        }
    }
}
