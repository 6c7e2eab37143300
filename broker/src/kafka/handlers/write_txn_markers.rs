//! WriteTxnMarkers (key 27): an administrator ends a transaction that nobody else will (KIP-664).

use types::{
    EndTransactionMarker, ErrorCode, ProducerEpoch, ProducerId, TopicPartition, TransactionResult,
};
use wire::messages::write_txn_markers_request::WritableTxnMarker;
use wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::transactional::by_topic;
use crate::kafka::context::RequestContext;
use crate::replication::Marker;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(&cx, marker).await);
    }
    WriteTxnMarkersResponse {
        markers,
        ..WriteTxnMarkersResponse::default()
    }
}

async fn write(cx: &RequestContext, request: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer: (
            ProducerId(request.producer_id),
            ProducerEpoch(request.producer_epoch),
        ),
        marker: EndTransactionMarker {
            result: if request.transaction_result {
                TransactionResult::Commit
            } else {
                TransactionResult::Abort
            },
            coordinator_epoch: request.coordinator_epoch,
        },
        bumped: request.transaction_version >= 2,
    };
    let partitions = request.topics.iter().flat_map(|topic| {
        let indexes = topic.partition_indexes.iter();
        indexes.map(move |index| TopicPartition::new(topic.name.as_str(), *index))
    });
    let written = (cx.broker.marker_writer).write(marker, partitions.collect());
    WritableTxnMarkerResult {
        producer_id: request.producer_id,
        topics: by_topic(written.await)
            .into_iter()
            .map(|(name, partitions)| topic_result(name, partitions))
            .collect(),
        ..WritableTxnMarkerResult::default()
    }
}

fn topic_result(name: String, partitions: Vec<(i32, ErrorCode)>) -> WritableTxnMarkerTopicResult {
    WritableTxnMarkerTopicResult {
        name,
        partitions: partitions
            .into_iter()
            .map(|(partition_index, code)| WritableTxnMarkerPartitionResult {
                partition_index,
                error_code: code.code(),
                ..WritableTxnMarkerPartitionResult::default()
            })
            .collect(),
        ..WritableTxnMarkerTopicResult::default()
    }
}
