//! What does a controller answer to another controller?

use std::sync::Arc;

use bytes::BytesMut;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::Snapshot;
use rpc::limits::MESSAGE_BYTES_MAX;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::raft_server::{Raft as RaftApi, RaftServer};
use tonic::{Request, Response, Status, Streaming};

use super::runtime::Shared;
use super::types::SnapshotData;
use super::{PROTOCOL_VERSION, codec};

/// Largest serialised image that is accepted: a million partitions are a few hundred MiB.
const SNAPSHOT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// The gRPC service of one controller.
#[derive(Debug, Clone)]
pub struct RaftService {
    pub(crate) shared: Arc<Shared>,
}

impl RaftService {
    /// The service, ready to be added to a server.
    #[must_use]
    pub fn into_server(self) -> RaftServer<Self> {
        RaftServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn admit(&self, version: u32, cluster_id: &str) -> Result<(), Status> {
        if version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "quorum message version {version} is unknown here, want {PROTOCOL_VERSION}"
            )));
        }
        if cluster_id != self.shared.config.cluster_id {
            return Err(Status::failed_precondition(format!(
                "this node belongs to cluster {}, the sender to {cluster_id}",
                self.shared.config.cluster_id
            )));
        }
        Ok(())
    }

    /// Refuses what is meant for another disk, such as the one that this disk replaced.
    fn admit_to(&self, version: u32, cluster_id: &str, to_raft_id: u64) -> Result<(), Status> {
        self.admit(version, cluster_id)?;
        let own = self.shared.me.raft_id();
        if to_raft_id != own {
            return Err(Status::failed_precondition(format!(
                "the message is for disk {to_raft_id:016x}, this is disk {own:016x}"
            )));
        }
        Ok(())
    }
}

fn malformed(error: codec::CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the quorum stopped on this node: {error}"))
}

#[tonic::async_trait]
impl RaftApi for RaftService {
    async fn hello(
        &self,
        request: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloResponse>, Status> {
        let request = request.into_inner();
        self.admit(request.version, &request.cluster_id)?;
        // Without a sender somebody only asks who leads.
        if let Some(sender) = request.sender {
            let sender = codec::member_from_wire(sender).map_err(malformed)?;
            if request.sender_initialized {
                self.shared.signals.note_cluster_exists();
            }
            self.shared.offer_member(sender);
        }
        Ok(Response::new(self.shared.hello_response()))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::PreVoteRequest>,
    ) -> Result<Response<wire::PreVoteResponse>, Status> {
        let request = request.into_inner();
        self.admit_to(request.version, &request.cluster_id, request.to_raft_id)?;
        let last = request.last_log_id.map(codec::log_id_from_wire);
        let granted = self.shared.would_vote(request.from_raft_id, last);
        Ok(Response::new(wire::PreVoteResponse { granted }))
    }

    async fn request_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let request = request.into_inner();
        self.admit_to(request.version, &request.cluster_id, request.to_raft_id)?;
        let vote = codec::vote_from_wire(request.vote).map_err(malformed)?;
        let last = request.last_log_id.map(codec::log_id_from_wire);
        let response = self.shared.raft.vote(VoteRequest::new(vote, last)).await;
        let response = response.map_err(stopped)?;
        if response.vote_granted {
            self.shared.signals.elects(vote.leader_id.node_id);
        }
        Ok(Response::new(wire::VoteResponse {
            vote: Some(codec::vote_to_wire(response.vote)),
            vote_granted: response.vote_granted,
            last_log_id: response.last_log_id.map(codec::log_id_to_wire),
        }))
    }

    async fn append_entries(
        &self,
        request: Request<wire::AppendEntriesRequest>,
    ) -> Result<Response<wire::AppendEntriesResponse>, Status> {
        let request = request.into_inner();
        self.admit_to(request.version, &request.cluster_id, request.to_raft_id)?;
        let vote = codec::vote_from_wire(request.vote).map_err(malformed)?;
        if let Some(result) = self.shared.hear_leader(vote, &request) {
            return Ok(Response::new(wire::AppendEntriesResponse {
                result: Some(result),
            }));
        }
        let entries = request
            .entries
            .into_iter()
            .map(codec::entry_from_wire)
            .collect::<Result<_, _>>()
            .map_err(malformed)?;
        let response = self
            .shared
            .raft
            .append_entries(AppendEntriesRequest {
                vote,
                prev_log_id: request.prev_log_id.map(codec::log_id_from_wire),
                entries,
                leader_commit: request.leader_commit.map(codec::log_id_from_wire),
            })
            .await
            .map_err(stopped)?;
        use wire::append_entries_response::Result as Outcome;
        let result = match response {
            AppendEntriesResponse::Success => Outcome::Success(true),
            AppendEntriesResponse::PartialSuccess(matching) => {
                Outcome::Partial(wire::PartialSuccess {
                    matching: matching.map(codec::log_id_to_wire),
                })
            }
            AppendEntriesResponse::Conflict => Outcome::Conflict(true),
            AppendEntriesResponse::HigherVote(vote) => {
                Outcome::HigherVote(codec::vote_to_wire(vote))
            }
        };
        if !matches!(result, Outcome::HigherVote(_)) {
            self.shared.signals.hear(vote);
        }
        Ok(Response::new(wire::AppendEntriesResponse {
            result: Some(result),
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("an empty snapshot stream"))?;
        let header = first
            .header
            .ok_or_else(|| malformed(codec::CodecError::Missing("header")))?;
        self.admit_to(header.version, &header.cluster_id, header.to_raft_id)?;
        if header.total_bytes > SNAPSHOT_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "a metadata snapshot of {} bytes is beyond {SNAPSHOT_BYTES_MAX}",
                header.total_bytes
            )));
        }
        let vote = codec::vote_from_wire(header.vote).map_err(malformed)?;
        let meta = header
            .meta
            .ok_or(codec::CodecError::Missing("meta"))
            .and_then(codec::snapshot_meta_from_wire)
            .map_err(malformed)?;
        let mut data = BytesMut::from(first.data.as_ref());
        while (data.len() as u64) < header.total_bytes {
            let chunk = chunks.message().await?;
            let chunk = chunk.ok_or_else(|| Status::data_loss("the snapshot was cut short"))?;
            data.extend_from_slice(&chunk.data);
            self.shared.signals.hear(vote);
        }
        let snapshot = Snapshot {
            meta,
            snapshot: Box::new(SnapshotData(data.freeze())),
        };
        let response = self.shared.raft.install_full_snapshot(vote, snapshot).await;
        let response = response.map_err(stopped)?;
        Ok(Response::new(wire::SnapshotResponse {
            vote: Some(codec::vote_to_wire(response.vote)),
        }))
    }

    async fn elect(
        &self,
        request: Request<wire::ElectRequest>,
    ) -> Result<Response<wire::ElectResponse>, Status> {
        let request = request.into_inner();
        self.admit_to(request.version, &request.cluster_id, request.to_raft_id)?;
        let wanted = request.last_log_id.map(codec::log_id_from_wire);
        let started = self.shared.last_log_id() >= wanted;
        if started {
            self.shared.signals.elects(self.shared.me.raft_id());
            self.shared.raft.trigger().elect().await.map_err(stopped)?;
        }
        Ok(Response::new(wire::ElectResponse { started }))
    }
}
