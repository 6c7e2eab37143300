//! How does a Raft message reach another controller?

use std::future::Future;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{AnyError, OptionalSend};
use rpc::limits::{MESSAGE_BYTES_MAX, SNAPSHOT_PART_BYTES};
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::raft_client::RaftClient;
use tonic::transport::Channel;

use super::PROTOCOL_VERSION;
use super::codec;
use super::directory::Directory;
use super::types::{Member, TypeConfig};

/// Pauses between attempts to reach a controller that is down: failover must not wait for a long one.
const BACKOFF: Duration = Duration::from_millis(50);
/// A snapshot that takes longer is tried again.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// A gRPC client of a controller's Raft service.
pub(crate) fn client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Makes the links to other controllers.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) cluster_id: String,
    pub(crate) directory: Directory,
}

/// The link to one disk.
pub(crate) struct Link {
    cluster_id: String,
    target: u64,
    client: RaftClient<Channel>,
}

impl RaftNetworkFactory<TypeConfig> for Transport {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Member) -> Link {
        Link {
            cluster_id: self.cluster_id.clone(),
            target,
            client: client(self.directory.channel(node)),
        }
    }
}

/// A peer that is down or is another disk by now needs a pause; only a message that got lost does not.
fn unreachable<E: std::error::Error>(
    status: &tonic::Status,
) -> RPCError<u64, Member, RaftError<u64, E>> {
    RPCError::Unreachable(Unreachable::new(status))
}

fn malformed<E: std::error::Error>(
    error: &codec::CodecError,
) -> RPCError<u64, Member, RaftError<u64, E>> {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let request = wire::AppendEntriesRequest {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            to_raft_id: self.target,
            vote: Some(codec::vote_to_wire(rpc.vote)),
            prev_log_id: rpc.prev_log_id.map(codec::log_id_to_wire),
            entries: rpc.entries.iter().map(codec::entry_to_wire).collect(),
            leader_commit: rpc.leader_commit.map(codec::log_id_to_wire),
        };
        let response = self.client.append_entries(request).await;
        let response = response
            .map_err(|status| unreachable(&status))?
            .into_inner();
        use wire::append_entries_response::Result as Outcome;
        match response.result {
            Some(Outcome::Success(_)) => Ok(AppendEntriesResponse::Success),
            Some(Outcome::Partial(partial)) => Ok(AppendEntriesResponse::PartialSuccess(
                partial.matching.map(codec::log_id_from_wire),
            )),
            Some(Outcome::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Some(Outcome::HigherVote(vote)) => codec::vote_from_wire(Some(vote))
                .map(AppendEntriesResponse::HigherVote)
                .map_err(|error| malformed(&error)),
            None => Err(malformed(&codec::CodecError::Missing("result"))),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let request = wire::VoteRequest {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            to_raft_id: self.target,
            vote: Some(codec::vote_to_wire(rpc.vote)),
            last_log_id: rpc.last_log_id.map(codec::log_id_to_wire),
        };
        let response = self.client.request_vote(request).await;
        let response = response
            .map_err(|status| unreachable(&status))?
            .into_inner();
        Ok(VoteResponse {
            vote: codec::vote_from_wire(response.vote).map_err(|error| malformed(&error))?,
            vote_granted: response.vote_granted,
            last_log_id: response.last_log_id.map(codec::log_id_from_wire),
        })
    }

    async fn full_snapshot(
        &mut self,
        vote: super::types::Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let data = snapshot.snapshot.0;
        let header = wire::SnapshotHeader {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster_id.clone(),
            to_raft_id: self.target,
            vote: Some(codec::vote_to_wire(vote)),
            meta: Some(codec::snapshot_meta_to_wire(&snapshot.meta)),
            total_bytes: data.len() as u64,
        };
        let mut chunks = vec![wire::SnapshotChunk {
            header: Some(header),
            data: data.slice(..data.len().min(SNAPSHOT_PART_BYTES)),
        }];
        let mut sent = chunks[0].data.len();
        while sent < data.len() {
            let end = data.len().min(sent + SNAPSHOT_PART_BYTES);
            chunks.push(wire::SnapshotChunk {
                header: None,
                data: data.slice(sent..end),
            });
            sent = end;
        }
        let call = self.client.install_snapshot(tokio_stream::iter(chunks));
        let response = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            response = tokio::time::timeout(SNAPSHOT_TIMEOUT, call) => response,
        };
        let failed = |error: AnyError| StreamingError::Unreachable(Unreachable::from(error));
        let response = response
            .map_err(|error| failed(AnyError::new(&error)))?
            .map_err(|status| failed(AnyError::new(&status)))?
            .into_inner();
        let vote =
            codec::vote_from_wire(response.vote).map_err(|error| failed(AnyError::new(&error)))?;
        Ok(SnapshotResponse::new(vote))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
