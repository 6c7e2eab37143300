//! What does a broker do with each new state of the metadata?
//!
//! First its replicas act on it, then requests see it: a broker never answers from metadata that its replicas do not
//! know, and never tells the controller that it is caught up before it is. Coordinators follow the leaderships that the
//! replicas report.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_core::metadata::{MetadataDelta, MetadataImage};
use tokio::sync::{broadcast, watch};
use tracing::{debug, warn};
use types::{BrokerEpoch, NodeId};

use crate::broker::Broker;
use crate::coordinator::OFFSETS_TOPIC;
use crate::lifecycle::BrokerStatus;
use crate::metadata::MetadataStream;
use crate::replication::{LeaderChange, LeaderChangeKind, ReplicaManager};
use crate::transactions::TRANSACTIONS_TOPIC;

/// Metadata that this broker cannot act on; it has to stop.
#[derive(Debug, thiserror::Error)]
#[error("failed to apply the metadata to the logs: {0}")]
pub struct FollowError(String);

/// Applies metadata to the parts of one broker.
pub(crate) struct MetadataFollower {
    node_id: NodeId,
    replicas: ReplicaManager,
    /// What requests see.
    applied: watch::Sender<Arc<MetadataImage>>,
    /// The registration that the replicas know of.
    epoch: Option<BrokerEpoch>,
    /// Whether the next state has to be applied as a whole.
    whole: bool,
}

impl MetadataFollower {
    pub(crate) fn new(
        node_id: NodeId,
        replicas: ReplicaManager,
        applied: watch::Sender<Arc<MetadataImage>>,
    ) -> Self {
        Self {
            node_id,
            replicas,
            applied,
            epoch: None,
            whole: true,
        }
    }

    /// Follows the metadata until there is no more of it.
    ///
    /// # Errors
    /// [`FollowError`]; the broker has to stop.
    pub(crate) async fn run(
        mut self,
        mut stream: MetadataStream,
        mut status: watch::Receiver<BrokerStatus>,
        broker: Arc<Broker>,
    ) -> Result<(), FollowError> {
        let mut newest: Option<Arc<MetadataImage>> = None;
        loop {
            let (image, delta) = tokio::select! {
                next = stream.next() => match next {
                    Some((image, delta)) => (image, Some(delta)),
                    None => return Ok(()),
                },
                changed = status.changed() => match (changed, &newest) {
                    (Ok(()), Some(image)) => (image.clone(), None),
                    (Ok(()), None) => continue,
                    (Err(_), _) => return Ok(()), // the registration ended: the broker stops
                },
            };
            newest = Some(image.clone());
            let registration = status.borrow_and_update().epoch;
            let is_news = self.registered(registration);
            match delta {
                Some(delta) => {
                    broker.liveness.apply(&image, &delta);
                    self.apply(image, &delta, &broker).await?;
                }
                None if is_news => {
                    let nothing = MetadataDelta::default();
                    self.apply(image, &nothing, &broker).await?;
                }
                None => {}
            }
        }
    }

    /// Tells the replicas of a registration; whether it is a new one.
    pub(crate) fn registered(&mut self, epoch: Option<BrokerEpoch>) -> bool {
        match epoch {
            Some(epoch) if self.epoch != Some(epoch) => {
                self.replicas.set_broker_epoch(epoch);
                self.epoch = Some(epoch);
                self.whole = true;
                true
            }
            _ => false,
        }
    }

    /// Applies the state `image`, which differs from the last one by `delta`, if it contains the registration.
    ///
    /// # Errors
    /// [`FollowError`]; the broker has to stop.
    pub(crate) async fn apply(
        &mut self,
        image: Arc<MetadataImage>,
        delta: &MetadataDelta,
        broker: &Broker,
    ) -> Result<(), FollowError> {
        let mine = image.broker(self.node_id).map(|me| me.epoch);
        if mine.is_none() || mine != self.epoch {
            self.whole = true; // what is skipped now is in the next whole state
            return Ok(());
        }
        let replicas = self.replicas.clone();
        let step = (!self.whole).then(|| delta.clone());
        let target = image.clone();
        let applying =
            tokio::task::spawn_blocking(move || replicas.apply_metadata(&target, step.as_ref()));
        match applying.await {
            Ok(Ok(())) => self.whole = false,
            Ok(Err(error)) => return Err(FollowError(error.to_string())),
            Err(panic) => return Err(FollowError(panic.to_string())),
        }
        let partitions = |name: &str| {
            let topic = image.topic_by_name(name);
            let count = topic.map_or(0, |topic| topic.partitions.len());
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let groups = &broker.groups;
        groups.set_partition_count(partitions(OFFSETS_TOPIC));
        let transactions = &broker.transactions;
        transactions.set_partition_count(partitions(TRANSACTIONS_TOPIC));
        debug!(offset = image.offset(), "applied metadata");
        self.applied.send_replace(image);
        if !delta.topics_deleted.is_empty() {
            let deleted = delta.topics_deleted.values();
            let names: BTreeSet<String> = deleted.map(|topic| topic.name.to_string()).collect();
            groups.topics_deleted(&names);
        }
        Ok(())
    }
}

/// Starts and ends coordinators as leadership of their topics comes and goes; ends with the replica manager.
pub(crate) async fn follow_leaderships(
    replicas: ReplicaManager,
    mut changes: broadcast::Receiver<LeaderChange>,
    broker: Arc<Broker>,
) {
    let (groups, transactions) = (&broker.groups, &broker.transactions);
    loop {
        match changes.recv().await {
            Ok(change) => {
                let partition = change.partition.partition;
                let led = change.kind == LeaderChangeKind::BecameLeader;
                match &*change.partition.name {
                    OFFSETS_TOPIC if led => groups.became_leader(partition, change.leader_epoch),
                    OFFSETS_TOPIC => groups.lost_leadership(partition),
                    TRANSACTIONS_TOPIC if led => {
                        transactions.became_leader(partition, change.leader_epoch);
                    }
                    TRANSACTIONS_TOPIC => transactions.lost_leadership(partition),
                    _ => {}
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                warn!(missed, "missed leader changes: looking at all partitions");
                groups.reconcile(&replicas.led_partitions(OFFSETS_TOPIC));
                transactions.reconcile(&replicas.led_partitions(TRANSACTIONS_TOPIC));
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
