//! Which APIs does the broker serve, in which versions, and who answers them?
//!
//! [`APIS`] is the whole truth: ApiVersions is derived from it, and what is not in it is refused.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tracing::{debug, info, warn};
use wire::messages::ApiVersionsResponse;
use wire::{ApiKey, FrameError, Request, RequestFrame, encode_response, encode_response_chunks};

use super::connection::{Answer, Peer, Service};
use super::context::RequestContext;
use super::handlers;
use crate::broker::Broker;

/// How a handler answers.
pub(crate) enum Reply<R> {
    /// With a response.
    Send(R),
    /// With nothing (produce with acks=0).
    Silent,
    /// By closing the connection (a failed produce with acks=0).
    Close,
}

impl<R> From<R> for Reply<R> {
    fn from(response: R) -> Self {
        Self::Send(response)
    }
}

/// One row of the table.
pub(crate) struct Api {
    /// The API.
    pub(crate) key: ApiKey,
    /// First and last version served.
    pub(crate) versions: (i16, i16),
    /// The first version that ApiVersions claims.
    pub(crate) advertised_min: i16,
    /// Whether requests may overlap on one connection.
    overlaps: bool,
    call: fn(RequestContext, RequestFrame) -> BoxFuture<'static, Answer>,
}

macro_rules! api {
    ($key:ident $min:literal - $max:literal => $handler:ident) => {
        Api {
            key: ApiKey::$key,
            versions: ($min, $max),
            advertised_min: $min,
            overlaps: false,
            call: |cx, frame| Box::pin(answer(cx, frame, handlers::$handler::handle)),
        }
    };
}

/// The APIs in the order of their keys.
pub(crate) const APIS: &[Api] = &[
    Api {
        overlaps: true,
        // librdkafka takes a broker without version 0 for one that cannot decompress (KAFKA-18659).
        advertised_min: 0,
        ..api!(Produce 3-13 => produce)
    },
    api!(Fetch 4-18 => fetch),
    api!(ListOffsets 1-10 => list_offsets),
    api!(Metadata 0-13 => metadata),
    api!(OffsetCommit 2-10 => offset_commit),
    api!(OffsetFetch 1-10 => offset_fetch),
    api!(FindCoordinator 0-6 => find_coordinator),
    api!(JoinGroup 0-9 => join_group),
    api!(Heartbeat 0-4 => heartbeat),
    api!(LeaveGroup 0-5 => leave_group),
    api!(SyncGroup 0-5 => sync_group),
    api!(DescribeGroups 0-6 => describe_groups),
    api!(ListGroups 0-5 => list_groups),
    api!(SaslHandshake 1-1 => sasl_handshake),
    api!(ApiVersions 0-4 => api_versions),
    api!(CreateTopics 2-7 => create_topics),
    api!(DeleteTopics 1-6 => delete_topics),
    api!(DeleteRecords 0-2 => delete_records),
    api!(InitProducerId 0-5 => init_producer_id),
    api!(OffsetForLeaderEpoch 2-4 => offset_for_leader_epoch),
    api!(AddPartitionsToTxn 0-5 => add_partitions_to_txn),
    api!(AddOffsetsToTxn 0-4 => add_offsets_to_txn),
    api!(EndTxn 0-5 => end_txn),
    api!(WriteTxnMarkers 1-2 => write_txn_markers),
    api!(TxnOffsetCommit 0-5 => txn_offset_commit),
    api!(DescribeConfigs 1-4 => describe_configs),
    api!(AlterConfigs 0-2 => alter_configs),
    // Version 5 tells of directories that take no new logs: there are none.
    api!(DescribeLogDirs 1-4 => describe_log_dirs),
    api!(SaslAuthenticate 0-2 => sasl_authenticate),
    api!(CreatePartitions 0-3 => create_partitions),
    api!(DeleteGroups 0-2 => delete_groups),
    api!(ElectLeaders 0-2 => elect_leaders),
    api!(IncrementalAlterConfigs 0-1 => incremental_alter_configs),
    api!(AlterPartitionReassignments 0-1 => alter_partition_reassignments),
    api!(ListPartitionReassignments 0-0 => list_partition_reassignments),
    api!(OffsetDelete 0-0 => offset_delete),
    api!(DescribeQuorum 0-2 => describe_quorum),
    api!(UpdateFeatures 0-2 => update_features),
    api!(DescribeCluster 0-2 => describe_cluster),
    api!(DescribeProducers 0-0 => describe_producers),
    api!(DescribeTransactions 0-0 => describe_transactions),
    // Version 2 has a regular expression.
    api!(ListTransactions 0-2 => list_transactions),
    api!(ConsumerGroupHeartbeat 0-1 => consumer_group_heartbeat),
    api!(ConsumerGroupDescribe 0-1 => consumer_group_describe),
    api!(ListConfigResources 0-1 => list_config_resources),
    api!(DescribeTopicPartitions 0-0 => describe_topic_partitions),
];

fn find(key: ApiKey, version: i16) -> Option<&'static Api> {
    APIS.iter()
        .find(|api| api.key == key && (api.versions.0..=api.versions.1).contains(&version))
}

/// Decodes a request, lets its handler answer and encodes the response.
async fn answer<R, H, F, A>(cx: RequestContext, frame: RequestFrame, handle: H) -> Answer
where
    R: Request,
    H: FnOnce(RequestContext, R) -> F,
    F: Future<Output = A>,
    A: Into<Reply<R::Response>>,
{
    let request: R = match frame.decode() {
        Ok(request) => request,
        Err(error) => {
            debug!(peer = %cx.peer.address, api = %frame.api_key, %error, "malformed request");
            return Answer::Close;
        }
    };
    let (correlation_id, version) = (frame.correlation_id, frame.version);
    drop(frame);
    match handle(cx, request).await.into() {
        Reply::Send(response) => match encode_response_chunks(correlation_id, version, &response) {
            Ok(chunks) => Answer::Frame(chunks),
            Err(error) => {
                warn!(api = %R::KEY, version, %error, "failed to encode a response");
                Answer::Close
            }
        },
        Reply::Silent => Answer::Silent,
        Reply::Close => Answer::Close,
    }
}

/// Answers the requests of all connections.
pub(crate) struct Dispatcher {
    broker: Arc<Broker>,
}

impl Dispatcher {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Service for Dispatcher {
    fn may_overlap(&self, frame: &RequestFrame) -> bool {
        // A transactional produce may have to ask the coordinator before its append, so nothing may pass it.
        find(frame.api_key, frame.version).is_some_and(|api| api.overlaps)
            && !handlers::produce::is_transactional(frame)
    }

    fn call(&self, peer: &Arc<Peer>, frame: RequestFrame) -> BoxFuture<'static, Answer> {
        let Some(api) = find(frame.api_key, frame.version) else {
            return Box::pin(std::future::ready(unsupported(peer, &frame)));
        };
        let cx = RequestContext {
            broker: self.broker.clone(),
            peer: peer.clone(),
            client_id: frame.client_id.clone(),
            version: frame.version,
        };
        let metrics = self.broker.metrics.clone();
        let started = Instant::now();
        let (key, version) = (frame.api_key, frame.version);
        let correlation_id = frame.correlation_id;
        let client_id = frame.client_id.clone();
        let peer = peer.address;
        let mut answer = (api.call)(cx, frame);
        Box::pin(async move {
            let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
            let local = started.elapsed();
            let answer = match first {
                Poll::Ready(answer) => answer,
                Poll::Pending => answer.await,
            };
            let total = started.elapsed();
            metrics.requests.observe(key, local, total);
            if total >= SLOW && !waits_by_design(key) {
                info!(
                    api = %key, version, correlation_id, client_id, %peer, ?total, ?local,
                    remote = ?total.saturating_sub(local), "slow request"
                );
            }
            debug!(
                target: "tidemark::request",
                api = %key, version, correlation_id, client_id, %peer, ?total, "answered"
            );
            answer
        })
    }

    fn unknown(&self, _error: &FrameError) -> Answer {
        Answer::Close
    }
}

/// A request that took longer is worth a line.
const SLOW: Duration = Duration::from_secs(1);

/// Whether the client itself asks to be kept waiting.
fn waits_by_design(api: ApiKey) -> bool {
    matches!(api, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Kafka answers ApiVersions in any version, so that client and broker can agree (KIP-511), and closes the connection on
/// everything else that it does not serve.
fn unsupported(peer: &Peer, frame: &RequestFrame) -> Answer {
    debug!(peer = %peer.address, api = %frame.api_key, version = frame.version, "unsupported request");
    if frame.api_key != ApiKey::ApiVersions {
        return Answer::Close;
    }
    let response: ApiVersionsResponse = handlers::api_versions::unsupported_version();
    match encode_response(frame.correlation_id, 0, &response) {
        Ok(bytes) => Answer::Frame(vec![bytes]),
        Err(error) => {
            warn!(%error, "failed to encode the answer to an unknown ApiVersions version");
            Answer::Close
        }
    }
}

#[cfg(test)]
mod tests {
    use super::APIS;

    #[test]
    fn every_api_is_served_in_versions_that_the_codec_knows() {
        for api in APIS {
            let known = api.key.valid_versions();
            let (min, max) = api.versions;
            assert!(min <= max, "{}", api.key);
            assert!(known.contains(&min) && known.contains(&max), "{}", api.key);
        }
    }

    #[test]
    fn keys_are_in_order_and_unique() {
        let sorted = APIS
            .windows(2)
            .all(|pair| pair[0].key.as_i16() < pair[1].key.as_i16());
        assert!(sorted);
    }
}
