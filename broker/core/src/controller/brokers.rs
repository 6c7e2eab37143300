//! How do brokers come, live, stop and go?
//!
//! ```text
//!              register            caught up, wants to serve
//! (unknown) ------------> fenced ------------------------------> active
//!                           ^  ^   silence, lost process, wants     |
//!                           |  +------------ fence -----------------+
//!                           |                                       | wants to stop: leaders move
//!                           +---- leads nothing, others know ---- stopping
//! ```

use std::collections::BTreeSet;

use types::{BrokerEpoch, ErrorCode, NodeId};

use super::election::Scope;
use super::eligibility::Loss;
use super::request::{
    ApiError, BrokerHeartbeatRequest, BrokerState, RegisterBrokerRequest, UnregisterBrokerRequest,
};
use super::{Controller, Decision, ELR_FEATURE, liveness};
use crate::metadata::record::{BrokerRegistrationChange, RegisterBroker, UnregisterBroker};
use crate::metadata::{BrokerEndpoint, BrokerImage, MetadataRecord};

/// Addresses to bind to, which are none to connect to.
const WILDCARDS: &[&str] = &["0.0.0.0", "::", "[::]"];

type Answer<T> = Decision<Result<T, ApiError>>;

fn refuse<T>(code: ErrorCode, message: String) -> Answer<T> {
    Decision::answer(Err(ApiError::new(code, message)))
}

impl Controller {
    pub(super) fn register_broker(
        &mut self,
        now_ms: i64,
        request: &RegisterBrokerRequest,
    ) -> Answer<BrokerEpoch> {
        let node = request.node_id;
        if request.cluster_id != self.config.cluster_id {
            return refuse(
                ErrorCode::InconsistentClusterId,
                format!(
                    "Expected cluster ID {}, but got cluster ID {}",
                    self.config.cluster_id, request.cluster_id
                ),
            );
        }
        if let Err(problem) = self.check_registration(request) {
            return refuse(ErrorCode::InvalidRegistration, problem);
        }
        let elr_level = self.image.feature(ELR_FEATURE);
        if elr_level > 0 && !request.reads_elr {
            return refuse(
                ErrorCode::UnsupportedVersion,
                format!(
                    "{ELR_FEATURE} is finalized at {elr_level}, which version {} of the software does not read",
                    request.software_version
                ),
            );
        }
        let known = self.image.broker(node).cloned();
        let is_same_process = known
            .as_ref()
            .is_some_and(|known| known.incarnation == request.incarnation);
        if known.is_some()
            && !is_same_process
            && self
                .liveness
                .has_valid_session(now_ms, node, request.broker_uuid)
        {
            return refuse(
                ErrorCode::DuplicateBrokerRegistration,
                "Another broker is registered with that broker id. If the broker was recently restarted this should \
                 self-resolve once the heartbeat manager expires the broker's session."
                    .to_owned(),
            );
        }
        let epoch = match &known {
            Some(known) if is_same_process => known.epoch,
            _ => BrokerEpoch(self.image.last_broker_epoch().0 + 1),
        };
        let record = registration(request, epoch, known.as_deref().filter(|_| is_same_process));
        let mut records = vec![MetadataRecord::RegisterBroker(record)];
        if !is_same_process {
            records.extend(self.replaced(known.as_deref(), request));
        }
        let proposal = self.next_proposal();
        self.liveness.registered(
            now_ms,
            node,
            request.incarnation,
            request.broker_uuid,
            proposal,
        );
        Decision {
            records,
            response: Ok(epoch),
        }
    }

    /// What follows from the end of the process before the one that registers.
    fn replaced(
        &self,
        known: Option<&BrokerImage>,
        request: &RegisterBrokerRequest,
    ) -> Vec<MetadataRecord> {
        let node = request.node_id;
        let mut electorate = self.electorate();
        electorate.leaving.insert(node);
        match Loss::of(known, request) {
            Loss::Nothing => {}
            Loss::Newest => {
                electorate.unclean.insert(node);
            }
            Loss::Everything => {
                electorate.lost.insert(node);
            }
        }
        electorate.changes(Scope::CountingOn(node))
    }

    /// Whether others can reach the broker as it says, and it is not a copy of another.
    fn check_registration(&self, request: &RegisterBrokerRequest) -> Result<(), String> {
        if request.endpoints.is_empty() {
            return Err("a broker needs at least one listener".to_owned());
        }
        for BrokerEndpoint { name, host, port } in request.endpoints.iter().chain([&request.rpc]) {
            if host.is_empty() || WILDCARDS.contains(&host.as_str()) || *port == 0 {
                return Err(format!(
                    "nobody can connect to {host}:{port}, which listener {name} advertises"
                ));
            }
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = request.endpoints.iter().find(|e| !names.insert(&e.name)) {
            return Err(format!("two listeners are named {}", twice.name));
        }
        let twin = self.image.brokers().find(|broker| {
            broker.node_id != request.node_id && broker.broker_uuid == request.broker_uuid
        });
        match twin {
            Some(twin) => Err(format!(
                "the data directory is a copy of broker {}'s (uuid {})",
                twin.node_id, twin.broker_uuid
            )),
            None => Ok(()),
        }
    }

    pub(super) fn broker_heartbeat(
        &mut self,
        now_ms: i64,
        request: &BrokerHeartbeatRequest,
    ) -> Answer<BrokerState> {
        let node = request.node_id;
        let Some(broker) = self.image.broker(node).cloned() else {
            return refuse(
                ErrorCode::BrokerIdNotRegistered,
                format!("No broker with id {node} is registered"),
            );
        };
        if broker.epoch != request.broker_epoch {
            return refuse(
                ErrorCode::StaleBrokerEpoch,
                format!(
                    "Expected broker epoch {}, but got broker epoch {}",
                    broker.epoch, request.broker_epoch
                ),
            );
        }
        if request.reads_elr && !broker.reads_elr {
            return refuse(
                ErrorCode::StaleBrokerEpoch,
                "registered by an older controller, which did not write down what this broker can read"
                    .to_owned(),
            );
        }
        self.liveness.heard(now_ms, node, request.metadata_offset);
        let is_caught_up = self.liveness.is_caught_up(node);
        let (records, is_fenced, should_shut_down) = if request.want_fence {
            let may_go = broker.fenced && request.want_shut_down;
            (self.fence_failed(&broker), true, may_go)
        } else if broker.fenced {
            if request.want_shut_down || !is_caught_up {
                (Vec::new(), true, request.want_shut_down)
            } else {
                (self.unfence(&broker), false, false)
            }
        } else if request.want_shut_down {
            self.shut_down(&broker)
        } else {
            (Vec::new(), false, false)
        };
        if should_shut_down {
            self.liveness.process_gone(node, broker.incarnation);
        }
        Decision {
            records,
            response: Ok(BrokerState {
                is_caught_up,
                is_fenced,
                should_shut_down,
            }),
        }
    }

    pub(super) fn unregister_broker(&mut self, request: &UnregisterBrokerRequest) -> Answer<()> {
        let node = request.node_id;
        let Some(broker) = self.image.broker(node).cloned() else {
            return refuse(
                ErrorCode::BrokerIdNotRegistered,
                format!("Broker ID {node} is not currently registered"),
            );
        };
        // Nobody waits for it, where there is somebody else to wait for.
        let mut electorate = self.electorate();
        electorate.leaving.insert(node);
        electorate.unclean.insert(node);
        let mut records = electorate.changes(Scope::CountingOn(node));
        records.push(MetadataRecord::UnregisterBroker(UnregisterBroker {
            node_id: node,
            broker_epoch: broker.epoch,
        }));
        self.liveness.unregistered(node);
        Decision {
            records,
            response: Ok(()),
        }
    }

    /// Fences brokers and takes them out of ISRs and leaderships.
    pub(super) fn fence(&self, nodes: &BTreeSet<NodeId>) -> Vec<MetadataRecord> {
        if nodes.is_empty() {
            return Vec::new();
        }
        let mut records: Vec<MetadataRecord> = nodes
            .iter()
            .filter_map(|node| self.image.broker(*node))
            .map(|broker| change(broker, Some(true), None))
            .collect();
        let mut electorate = self.electorate();
        electorate.leaving.extend(nodes);
        records.extend(electorate.changes(Scope::All));
        records
    }

    /// Fences a broker that cannot go on: nobody knows what its disk holds.
    fn fence_failed(&self, broker: &BrokerImage) -> Vec<MetadataRecord> {
        let mut electorate = self.electorate();
        electorate.leaving.insert(broker.node_id);
        electorate.unclean.insert(broker.node_id);
        let fences = (!broker.fenced).then(|| change(broker, Some(true), None));
        let changes = electorate.changes(Scope::CountingOn(broker.node_id));
        fences.into_iter().chain(changes).collect()
    }

    /// Lets a broker serve, and lead what nobody leads.
    fn unfence(&self, broker: &BrokerImage) -> Vec<MetadataRecord> {
        let stopping = broker.in_controlled_shutdown.then_some(false);
        let mut records = vec![change(broker, Some(false), stopping)];
        let mut electorate = self.electorate();
        electorate.joining = Some(broker.node_id);
        records.extend(electorate.changes(Scope::WithoutLeader));
        records
    }

    /// The next step of a controlled shutdown: (records, is fenced, may exit).
    fn shut_down(&mut self, broker: &BrokerImage) -> (Vec<MetadataRecord>, bool, bool) {
        let node = broker.node_id;
        if !broker.in_controlled_shutdown {
            let mut records = vec![change(broker, None, Some(true))];
            let mut electorate = self.electorate();
            electorate.leaving.insert(node);
            records.extend(electorate.changes(Scope::CountingOn(node)));
            let proposal = self.next_proposal();
            self.liveness.shutdown_begun(node, proposal);
            return (records, false, false);
        }
        let others = self
            .image
            .brokers()
            .filter(|other| other.node_id != node && other.is_active())
            .map(|other| other.node_id);
        if self.leads_anything(node) || !self.liveness.shutdown_is_known_to(node, others) {
            return (Vec::new(), false, false);
        }
        (self.fence(&BTreeSet::from([node])), true, true)
    }

    fn leads_anything(&self, node: NodeId) -> bool {
        self.image
            .topics()
            .any(|topic| topic.partitions.iter().any(|p| p.leader == Some(node)))
    }

    /// Refuses what comes from an earlier registration of a broker, or from none.
    pub(super) fn check_epoch(&self, node: NodeId, epoch: BrokerEpoch) -> Result<(), ApiError> {
        if liveness::is_current(&self.image, node, epoch) {
            Ok(())
        } else {
            Err(ApiError::new(
                ErrorCode::StaleBrokerEpoch,
                format!("Broker {node} is not registered with the broker epoch {epoch}"),
            ))
        }
    }
}

/// The record of a registration. A process that registers again keeps the state it has.
fn registration(
    request: &RegisterBrokerRequest,
    broker_epoch: BrokerEpoch,
    same_process: Option<&BrokerImage>,
) -> RegisterBroker {
    RegisterBroker {
        node_id: request.node_id,
        broker_epoch,
        incarnation: request.incarnation,
        broker_uuid: request.broker_uuid,
        endpoints: request.endpoints.clone(),
        rpc: request.rpc.clone(),
        rack: request.rack.clone(),
        software_version: request.software_version.clone(),
        fenced: same_process.is_none_or(|known| known.fenced),
        in_controlled_shutdown: same_process.is_some_and(|known| known.in_controlled_shutdown),
        reads_elr: request.reads_elr,
    }
}

fn change(
    broker: &BrokerImage,
    fenced: Option<bool>,
    in_controlled_shutdown: Option<bool>,
) -> MetadataRecord {
    MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChange {
        node_id: broker.node_id,
        broker_epoch: broker.epoch,
        fenced,
        in_controlled_shutdown,
    })
}
