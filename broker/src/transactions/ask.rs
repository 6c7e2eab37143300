//! Are these partitions in a producer's transaction? Asked of its coordinator, wherever that is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker_core::txn::TransactionVersion;
use broker_core::txn::request::{AddPartitions, Producer};
use rpc::transaction::v1 as proto;
use rpc::transaction::v1::transactions_client::TransactionsClient;
use tokio::time::Instant;
use types::{ErrorCode, TopicId, TopicPartition};

use super::TRANSACTIONS_TOPIC;
use super::markers::{Written, all, named, results};
use crate::broker::Broker;
use crate::replication::{TopicIdPartition, Verification};

/// How long a coordinator may take: it appends at most one record.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to ask again while the last transaction is being completed, before the client has to come again
/// (`add.partitions.to.txn.retry.backoff.max.ms`), and the pause between (Kafka: 20 ms; a completion takes one or two).
const CONCURRENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(3));

/// What a leader wants to know of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) transactional_id: String,
    pub(crate) producer: Producer,
    /// Only ask; add nothing.
    pub(crate) verify_only: bool,
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

impl Membership {
    /// The request to the coordinator. Who adds partitions by producing speaks version 2.
    pub(super) fn request(&self) -> AddPartitions {
        AddPartitions {
            transactional_id: self.transactional_id.clone(),
            producer: self.producer,
            partitions: self.partitions.clone(),
            version: TransactionVersion::V2,
        }
    }

    /// One code for all partitions.
    fn all(&self, code: ErrorCode) -> Written {
        all(self.partitions.iter().cloned().collect(), code)
    }
}

/// What may be appended to a partition: the guard that goes with the append, `None` where the transaction is open by
/// now; or why nothing may.
pub(crate) type Verified = Vec<(TopicPartition, Result<Option<u64>, ErrorCode>)>;

/// Asks the coordinator of the transactional id whether the partitions are in its transaction: one result for each.
///
/// Each attempt has guards of its own. While the coordinator says that the transaction before is being completed, its
/// marker may still come, and makes every guard void that was given before it.
pub(crate) async fn ask_coordinator(broker: &Broker, membership: &Membership) -> Verified {
    let give_up = Instant::now() + CONCURRENT.0;
    loop {
        let guards = guards(broker, membership);
        let answers = ask(broker, membership).await;
        let concurrent = |(_, code): &(_, ErrorCode)| *code == ErrorCode::ConcurrentTransactions;
        if !answers.iter().any(concurrent) || Instant::now() >= give_up {
            let verified = answers.into_iter().map(|(partition, code)| {
                let answer = match code {
                    ErrorCode::None => Ok(guards.get(&partition).copied()),
                    code => Err(code),
                };
                (partition, answer)
            });
            return verified.collect();
        }
        tokio::time::sleep(CONCURRENT.1).await;
    }
}

/// Guards for the partitions where the transaction is not open.
fn guards(broker: &Broker, membership: &Membership) -> HashMap<TopicPartition, u64> {
    let mut guards = HashMap::new();
    for partition in &membership.partitions {
        let target = TopicIdPartition::new(
            TopicId::ZERO,
            Arc::clone(&partition.topic),
            partition.partition,
        );
        if let Verification::Needed(guard) =
            broker
                .replicas
                .verification(&target, membership.producer, None)
        {
            guards.insert(partition.clone(), guard);
        }
    }
    guards
}

async fn ask(broker: &Broker, membership: &Membership) -> Written {
    let Some(partition) = broker
        .transactions
        .partition_of(&membership.transactional_id)
    else {
        return membership.all(ErrorCode::CoordinatorNotAvailable);
    };
    let image = broker.metadata.borrow().clone();
    let leader = image
        .topic_by_name(TRANSACTIONS_TOPIC)
        .and_then(|topic| topic.partition(partition)?.leader)
        .and_then(|leader| image.broker(leader));
    let Some(leader) = leader else {
        return membership.all(ErrorCode::CoordinatorNotAvailable);
    };
    if leader.node_id == broker.node_id {
        return answer(broker, membership).await;
    }
    let partitions: Vec<TopicPartition> = membership.partitions.iter().cloned().collect();
    let request = proto::AddPartitionsToTxnRequest {
        version: 1,
        transactional_id: membership.transactional_id.clone(),
        producer_id: membership.producer.0.0,
        producer_epoch: i32::from(membership.producer.1.0),
        verify_only: membership.verify_only,
        partitions: named(&partitions),
    };
    let channel = broker.peers.channel(&leader.rpc.host, leader.rpc.port);
    let mut client = TransactionsClient::new(channel);
    let asked = client.add_partitions_to_txn(request);
    match tokio::time::timeout(RPC_TIMEOUT, asked).await {
        Ok(Ok(response)) => {
            let response = response.into_inner();
            let code = i16::try_from(response.error_code).ok();
            match code.and_then(ErrorCode::from_code) {
                Some(ErrorCode::None) => results(response.results),
                Some(code) => membership.all(code),
                None => membership.all(ErrorCode::UnknownServerError),
            }
        }
        Ok(Err(status)) => {
            tracing::debug!(coordinator = %leader.node_id, %status, "failed to ask about a transaction");
            membership.all(ErrorCode::NetworkException)
        }
        Err(_) => membership.all(ErrorCode::NetworkException),
    }
}

/// What the coordinator says, which is on this broker.
pub(super) async fn answer(broker: &Broker, membership: &Membership) -> Written {
    let request = membership.request();
    let image = broker.metadata.borrow().clone();
    let is_there = |partition: &TopicPartition| {
        let topic = image.topic_by_name(&partition.topic);
        topic.is_some_and(|topic| topic.partition(partition.partition).is_some())
    };
    let answered = if membership.verify_only {
        broker.transactions.verify_partitions(&request)
    } else if !membership.partitions.iter().all(is_there) {
        // The leader's metadata is newer than ours, where the markers' partitions are looked up: comes again.
        Err(ErrorCode::CoordinatorLoadInProgress)
    } else {
        let added = broker.transactions.add_partitions(&request).await;
        added.map(|()| membership.all(ErrorCode::None))
    };
    answered.unwrap_or_else(|code| membership.all(code))
}
