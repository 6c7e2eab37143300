//! How do markers get to the leaders of a transaction's partitions?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::TransactionEnd;
use broker_core::metadata::MetadataImage;
use broker_core::txn::Completion;
use futures::future::{BoxFuture, join_all};
use rpc::transaction::v1 as proto;
use rpc::transaction::v1::transactions_client::TransactionsClient;
use tokio::sync::watch;
use types::{EndTransactionMarker, ErrorCode, LeaderEpoch, NodeId, TopicPartition};

use crate::coordinator::{GroupService, OFFSETS_TOPIC};
use crate::peer::Peers;
use crate::replication::{Marker, ReplicaManager, TopicIdPartition};

/// How long a marker may take to reach the high watermark; it is written again then, which changes nothing.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a leader may take to answer: its own patience and a little more.
const RPC_TIMEOUT: Duration = Duration::from_secs(7);

/// Markers, and what became of each.
pub(crate) type Written = Vec<(TopicPartition, ErrorCode)>;

/// The way to the leaders of partitions.
pub(crate) trait Markers: Send + Sync + 'static {
    /// Writes the end of a transaction to `partitions`. `coordinator` is the leader epoch of its coordinator.
    fn write<'a>(
        &'a self,
        completion: &'a Completion,
        coordinator: LeaderEpoch,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'a, Written>;
}

/// Writes markers to partitions that this broker leads.
#[derive(Clone)]
pub(crate) struct MarkerWriter {
    pub(crate) replicas: ReplicaManager,
    pub(crate) groups: Arc<GroupService>,
    pub(crate) metadata: watch::Receiver<Arc<MetadataImage>>,
}

impl MarkerWriter {
    /// Done, for each partition, when its marker is below the high watermark.
    pub(crate) async fn write(&self, marker: Marker, partitions: Vec<TopicPartition>) -> Written {
        let image = self.metadata.borrow().clone();
        let writes = partitions.into_iter().map(|partition| {
            let topic = image.topic_by_name(&partition.topic).map(|topic| topic.id);
            async move {
                let code = match topic {
                    None => ErrorCode::UnknownTopicOrPartition,
                    Some(id) => self.write_one(marker, id, &partition).await,
                };
                (partition, code)
            }
        });
        join_all(writes).await
    }

    async fn write_one(
        &self,
        marker: Marker,
        topic: types::TopicId,
        partition: &TopicPartition,
    ) -> ErrorCode {
        if &*partition.topic == OFFSETS_TOPIC {
            // In the order of the group's own records.
            let end = TransactionEnd {
                producer: marker.producer,
                marker: marker.marker,
                bumped: marker.bumped,
            };
            return self.groups.end_transaction(partition.partition, end).await;
        }
        let target = TopicIdPartition::new(topic, partition.topic.clone(), partition.partition);
        let written = (self.replicas).write_marker(&target, marker, APPEND_TIMEOUT);
        match written.await {
            Ok(()) => ErrorCode::None,
            Err(error) => error.code,
        }
    }
}

/// Writes markers to partitions wherever they are led.
pub(crate) struct ClusterMarkers {
    pub(crate) node_id: NodeId,
    pub(crate) writer: MarkerWriter,
    pub(crate) peers: Peers,
    /// The newest metadata, also what this broker has not acted on yet. It is at least as new as what made this broker the
    /// coordinator, and so as what the partitions were added by.
    pub(crate) newest: watch::Receiver<Arc<MetadataImage>>,
}

impl Markers for ClusterMarkers {
    fn write<'a>(
        &'a self,
        completion: &'a Completion,
        coordinator: LeaderEpoch,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'a, Written> {
        Box::pin(async move {
            let image = self.newest.borrow().clone();
            let mut done = Vec::new();
            let mut by_leader: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
            for partition in partitions {
                let registration = image
                    .topic_by_name(&partition.topic)
                    .and_then(|topic| topic.partition(partition.partition));
                match registration.map(|registration| registration.leader) {
                    // The topic was deleted, and its transaction with it.
                    None => done.push((partition, ErrorCode::None)),
                    Some(None) => done.push((partition, ErrorCode::LeaderNotAvailable)),
                    Some(Some(leader)) => by_leader.entry(leader).or_default().push(partition),
                }
            }
            let image = &image;
            let writes = by_leader
                .into_iter()
                .map(|(leader, partitions)| async move {
                    if leader == self.node_id {
                        let marker = marker(completion, coordinator);
                        self.writer.write(marker, partitions).await
                    } else {
                        let request = request(completion, coordinator, &partitions);
                        match self.ask(image, leader, request).await {
                            Some(written) => written,
                            None => all(partitions, ErrorCode::NetworkException),
                        }
                    }
                });
            done.extend(join_all(writes).await.into_iter().flatten());
            done
        })
    }
}

impl ClusterMarkers {
    async fn ask(
        &self,
        image: &MetadataImage,
        leader: NodeId,
        request: proto::WriteTxnMarkersRequest,
    ) -> Option<Written> {
        let rpc = &image.broker(leader)?.rpc;
        let channel = self.peers.channel(&rpc.host, rpc.port);
        let mut client = TransactionsClient::new(channel);
        let asked = client.write_txn_markers(request);
        match tokio::time::timeout(RPC_TIMEOUT, asked).await {
            Ok(Ok(response)) => Some(results(response.into_inner().results)),
            Ok(Err(status)) => {
                tracing::debug!(%leader, %status, "markers were not written");
                None
            }
            Err(_) => None,
        }
    }
}

pub(super) fn results(results: Vec<proto::TxnPartitionResult>) -> Written {
    results
        .into_iter()
        .map(|result| {
            let code = i16::try_from(result.error_code)
                .ok()
                .and_then(ErrorCode::from_code)
                .unwrap_or(ErrorCode::UnknownServerError);
            (TopicPartition::new(result.topic, result.partition), code)
        })
        .collect()
}

pub(super) fn all(partitions: Vec<TopicPartition>, code: ErrorCode) -> Written {
    let partitions = partitions.into_iter();
    partitions.map(|partition| (partition, code)).collect()
}

fn marker(completion: &Completion, coordinator: LeaderEpoch) -> Marker {
    Marker {
        producer: completion.producer,
        marker: EndTransactionMarker {
            result: completion.result,
            coordinator_epoch: coordinator.0,
        },
        bumped: completion.version.bumps_epoch(),
    }
}

fn request(
    completion: &Completion,
    coordinator: LeaderEpoch,
    partitions: &[TopicPartition],
) -> proto::WriteTxnMarkersRequest {
    proto::WriteTxnMarkersRequest {
        version: 1,
        producer_id: completion.producer.0.0,
        producer_epoch: i32::from(completion.producer.1.0),
        commit: completion.result == types::TransactionResult::Commit,
        coordinator_epoch: coordinator.0,
        transaction_version: i32::from(completion.version.0),
        partitions: named(partitions),
    }
}

pub(super) fn named(partitions: &[TopicPartition]) -> Vec<proto::TxnPartition> {
    partitions
        .iter()
        .map(|partition| proto::TxnPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition,
        })
        .collect()
}
