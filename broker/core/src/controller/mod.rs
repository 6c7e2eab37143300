//! Which records follow from a request, a silence or a lost connection?
//!
//! [`Controller`] is what the task of the active controller owns from takeover until it loses leadership. It decides
//! on an image that already holds everything decided before, whether committed or still in flight.
//!
//! Contract with the shell, which makes one total order of decisions:
//! A. Each non-empty list of records is proposed to the quorum whole and in the order of the calls (several may share
//!    an entry), and an answer is given only after everything decided before it is committed.
//! B. Once a list is committed the shell calls [`Controller::committed`] with its entry's offset, once for each
//!    non-empty list, in order.
//! C. When a proposal fails or leadership is lost, the whole value is dropped: nothing of it was true.
//! D. [`Controller::tick`] is called at [`Controller::next_tick_ms`] or earlier. `now_ms` is a monotonic clock.

pub mod request;

pub mod brokers;
pub mod liveness;

pub mod election;
pub mod eligibility;
pub mod partitions;
pub mod reassignment;

pub mod names;
pub mod placement;
pub mod topics;

pub mod configs;
pub mod features;
pub mod producer_ids;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use config::{BrokerConfig, BrokerSettings, ConfigMap, KeyError};
use types::NodeId;

use crate::metadata::{Incarnation, MetadataImage, MetadataRecord, ReplayError};
use election::{Electorate, Scope};
pub use features::{
    ELR_FEATURE, ELR_LEVEL, FEATURES, GROUP_FEATURE, GROUP_LEVEL, METADATA_FEATURE, METADATA_LEVEL,
    SupportedFeature, TRANSACTION_FEATURE, TRANSACTION_LEVEL,
};
use liveness::BrokerLiveness;
use request::{ControllerRequest, ControllerResponse};

/// Ticks at least this often: a fraction of any session timeout, so that expiry is noticed soon.
const TICK_MS: i64 = 100;

/// What follows from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<R> {
    /// The records to commit; none if nothing changes.
    pub records: Vec<MetadataRecord>,
    /// The answer once they are committed.
    pub response: R,
}

impl<R> Decision<R> {
    /// An answer that changes nothing.
    pub const fn answer(response: R) -> Self {
        Self {
            records: Vec::new(),
            response,
        }
    }

    fn map<S>(self, f: impl FnOnce(R) -> S) -> Decision<S> {
        Decision {
            records: self.records,
            response: f(self.response),
        }
    }
}

/// What the controller knows from its own file.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The cluster.
    pub cluster_id: String,
    /// The controller's node.
    pub node_id: NodeId,
    /// `config` of its file: the static layer of topics' defaults.
    pub file: ConfigMap,
    /// The same, typed.
    pub settings: BrokerSettings,
}

impl ControllerConfig {
    /// What the controller on `node_id` takes from a broker's file.
    ///
    /// # Errors
    /// The first value that its key does not accept; none for a file that was checked.
    pub fn new(node_id: NodeId, file: &BrokerConfig) -> Result<Self, KeyError> {
        Ok(Self {
            cluster_id: file.cluster_id.clone(),
            node_id,
            file: file.config.clone(),
            settings: file.settings()?,
        })
    }
}

/// The decisions of one term of the active controller.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    image: MetadataImage,
    liveness: BrokerLiveness,
    /// Lists of records decided and committed since takeover.
    proposed: u64,
    committed: u64,
    last_tick_ms: i64,
    next_rebalance_ms: i64,
    /// Whether partitions are still as another controller, which may have known another minimum, has left them.
    is_new: bool,
}

impl Controller {
    /// Takes over with `image`, which holds everything that was ever committed. Every registered broker gets a whole
    /// session timeout to be heard of.
    #[must_use]
    pub fn take_over(config: ControllerConfig, image: MetadataImage, now_ms: i64) -> Self {
        let liveness = BrokerLiveness::take_over(
            i64::from(config.settings.broker_session_timeout_ms),
            &image,
            now_ms,
        );
        let next_rebalance_ms = now_ms + rebalance_interval_ms(&config.settings);
        Self {
            config,
            image,
            liveness,
            proposed: 0,
            committed: 0,
            last_tick_ms: now_ms,
            next_rebalance_ms,
            is_new: true,
        }
    }

    /// The image that decisions are made on: committed and in flight.
    #[must_use]
    pub const fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// What is known of the brokers' processes.
    #[must_use]
    pub const fn liveness(&self) -> &BrokerLiveness {
        &self.liveness
    }

    /// Decides a request. `seed` is 64 fresh random bits.
    ///
    /// # Errors
    /// [`ReplayError`] if the decision does not fit the image, which is a defect of this module: nothing has changed,
    /// and the shell should resign.
    pub fn decide(
        &mut self,
        now_ms: i64,
        seed: u64,
        request: &ControllerRequest,
    ) -> Result<Decision<ControllerResponse>, ReplayError> {
        use ControllerRequest as Q;
        use ControllerResponse as A;
        let decision = match request {
            Q::CreateTopics(r) => self.create_topics(seed, r).map(A::CreateTopics),
            Q::DeleteTopics(r) => self.delete_topics(r).map(A::DeleteTopics),
            Q::CreatePartitions(r) => self.create_partitions(seed, r).map(A::CreatePartitions),
            Q::IncrementalAlterConfigs(r) => self
                .incremental_alter_configs(r)
                .map(A::IncrementalAlterConfigs),
            Q::AlterConfigs(r) => self.alter_configs(r).map(A::AlterConfigs),
            Q::AlterPartition(r) => self.alter_partition(r).map(A::AlterPartition),
            Q::ElectLeaders(r) => self.elect_leaders(r).map(A::ElectLeaders),
            Q::AlterPartitionReassignments(r) => self
                .alter_partition_reassignments(r)
                .map(A::AlterPartitionReassignments),
            Q::ListPartitionReassignments(r) => self
                .list_partition_reassignments(r)
                .map(A::ListPartitionReassignments),
            Q::AllocateProducerIds(r) => self.allocate_producer_ids(r).map(A::AllocateProducerIds),
            Q::RegisterBroker(r) => self.register_broker(now_ms, r).map(A::RegisterBroker),
            Q::BrokerHeartbeat(r) => self.broker_heartbeat(now_ms, r).map(A::BrokerHeartbeat),
            Q::UnregisterBroker(r) => self.unregister_broker(r).map(A::UnregisterBroker),
            Q::UpdateFeatures(r) => self.update_features(r).map(A::UpdateFeatures),
        };
        self.speculate(&decision.records)?;
        Ok(decision)
    }

    /// Does what the time asks for: fences brokers whose session has expired, moves leadership back to preferred
    /// replicas, finalizes the first features.
    ///
    /// # Errors
    /// As [`Controller::decide`].
    pub fn tick(&mut self, now_ms: i64) -> Result<Vec<MetadataRecord>, ReplayError> {
        // A controller that was itself stopped heard nobody: their silence is its own.
        let gap = now_ms - self.last_tick_ms;
        if gap > self.liveness.session_timeout_ms() / 2 {
            self.liveness.extend(gap);
        }
        self.last_tick_ms = now_ms;
        let mut records = self.first_features();
        records.extend(self.begin_elr());
        let expired = self.liveness.expired(now_ms, &self.image);
        records.extend(self.fence(&expired));
        // These look at the same image, so that each of them waits until nothing else is decided.
        if expired.is_empty() {
            records.extend(self.settle(now_ms));
        }
        self.speculate(&records)?;
        Ok(records)
    }

    /// What is not urgent: takes partitions over from the controller before, moves leadership back.
    fn settle(&mut self, now_ms: i64) -> Vec<MetadataRecord> {
        if std::mem::take(&mut self.is_new) {
            return self.electorate().changes(Scope::Unsettled);
        }
        if now_ms < self.next_rebalance_ms {
            return Vec::new();
        }
        self.next_rebalance_ms = now_ms + rebalance_interval_ms(&self.config.settings);
        if self.config.settings.auto_leader_rebalance_enable {
            self.preferred_elections()
        } else {
            Vec::new()
        }
    }

    /// When [`Controller::tick`] is due.
    #[must_use]
    pub const fn next_tick_ms(&self) -> i64 {
        self.last_tick_ms + TICK_MS
    }

    /// A broker's process has opened its session stream.
    pub fn session_opened(&mut self, now_ms: i64, node: NodeId, incarnation: Incarnation) {
        self.liveness.session_opened(now_ms, node, incarnation);
    }

    /// A broker's session stream has ended; whether its process has, is not known yet.
    pub fn session_closed(&mut self, node: NodeId, incarnation: Incarnation) {
        self.liveness.session_closed(node, incarnation);
    }

    /// A broker's process is certainly gone: its connection was lost and a new one refused. Fences it at once.
    ///
    /// After takeover no broker has a connection yet: the shell should try those that do not open one soon, or the
    /// death of a node that was also the active controller is noticed only after a session timeout.
    ///
    /// # Errors
    /// As [`Controller::decide`].
    pub fn connection_lost(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<Vec<MetadataRecord>, ReplayError> {
        self.liveness.process_gone(node, incarnation);
        let is_current = self
            .image
            .broker(node)
            .is_some_and(|broker| broker.incarnation == incarnation && !broker.fenced);
        if !is_current {
            return Ok(Vec::new());
        }
        let records = self.fence(&BTreeSet::from([node]));
        self.speculate(&records)?;
        Ok(records)
    }

    /// The oldest list of records that was not yet committed is, in the entry at this offset.
    pub fn committed(&mut self, offset: u64) {
        self.committed += 1;
        self.image.commit(offset);
        self.liveness.committed(self.committed, offset);
    }

    /// The number that the records of the decision under way will have.
    const fn next_proposal(&self) -> u64 {
        self.proposed + 1
    }

    fn speculate(&mut self, records: &[MetadataRecord]) -> Result<(), ReplayError> {
        if !records.is_empty() {
            self.image.speculate(records)?;
            self.proposed += 1;
        }
        Ok(())
    }

    fn electorate(&self) -> Electorate<'_> {
        Electorate::new(&self.image, &self.config.file, self.config.node_id)
    }
}

fn rebalance_interval_ms(settings: &BrokerSettings) -> i64 {
    settings
        .leader_imbalance_check_interval_seconds
        .saturating_mul(1_000)
        .min(i64::MAX / 2)
}
