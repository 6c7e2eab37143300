//! How does this broker answer others that end transactions here, or ask about those coordinated here?

use std::sync::Arc;

use rpc::transaction::v1 as proto;
use rpc::transaction::v1::transactions_server::{Transactions, TransactionsServer};
use tonic::{Request, Response, Status};
use types::{EndTransactionMarker, ProducerEpoch, ProducerId, TopicPartition, TransactionResult};

use super::ask::{Membership, answer};
use super::markers::Written;
use crate::broker::Broker;
use crate::replication::Marker;

/// Version of the messages.
const VERSION: u32 = 1;

/// The gRPC service of one broker.
#[derive(Clone)]
pub(crate) struct TransactionRpc {
    broker: Arc<Broker>,
}

impl TransactionRpc {
    /// The service, ready for a router.
    pub(crate) fn server(broker: Arc<Broker>) -> TransactionsServer<Self> {
        TransactionsServer::new(Self { broker })
    }
}

fn admit(version: u32) -> Result<(), Status> {
    if version == VERSION {
        Ok(())
    } else {
        let text = format!("want version {VERSION}, not {version}");
        Err(Status::failed_precondition(text))
    }
}

fn epoch(epoch: i32) -> Result<ProducerEpoch, Status> {
    i16::try_from(epoch)
        .map(ProducerEpoch)
        .map_err(|_| Status::invalid_argument(format!("{epoch} is no producer epoch")))
}

fn partitions(named: Vec<proto::TxnPartition>) -> Vec<TopicPartition> {
    named
        .into_iter()
        .map(|one| TopicPartition::new(one.topic, one.partition))
        .collect()
}

fn results(written: Written) -> Vec<proto::TxnPartitionResult> {
    written
        .into_iter()
        .map(|(partition, code)| proto::TxnPartitionResult {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            error_code: i32::from(code.code()),
        })
        .collect()
}

#[tonic::async_trait]
impl Transactions for TransactionRpc {
    async fn write_txn_markers(
        &self,
        request: Request<proto::WriteTxnMarkersRequest>,
    ) -> Result<Response<proto::WriteTxnMarkersResponse>, Status> {
        let request = request.into_inner();
        admit(request.version)?;
        let marker = Marker {
            producer: (
                ProducerId(request.producer_id),
                epoch(request.producer_epoch)?,
            ),
            marker: EndTransactionMarker {
                result: if request.commit {
                    TransactionResult::Commit
                } else {
                    TransactionResult::Abort
                },
                coordinator_epoch: request.coordinator_epoch,
            },
            bumped: request.transaction_version >= 2,
        };
        let writer = &self.broker.marker_writer;
        let written = writer.write(marker, partitions(request.partitions)).await;
        Ok(Response::new(proto::WriteTxnMarkersResponse {
            results: results(written),
        }))
    }

    async fn add_partitions_to_txn(
        &self,
        request: Request<proto::AddPartitionsToTxnRequest>,
    ) -> Result<Response<proto::AddPartitionsToTxnResponse>, Status> {
        let request = request.into_inner();
        admit(request.version)?;
        let membership = Membership {
            transactional_id: request.transactional_id,
            producer: (
                ProducerId(request.producer_id),
                epoch(request.producer_epoch)?,
            ),
            verify_only: request.verify_only,
            partitions: partitions(request.partitions).into_iter().collect(),
        };
        let answered = answer(&self.broker, &membership).await;
        Ok(Response::new(proto::AddPartitionsToTxnResponse {
            error_code: 0,
            results: results(answered),
        }))
    }
}
