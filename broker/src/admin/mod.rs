//! What does the operator learn from a broker before and while it changes the cluster?
//!
//! Fail-closed: what is not known is an error or a risk, never "safe".

use std::time::Duration;

use config::{ConfigMap, KeyError};
use rpc::admin::v1 as wire;
use rpc::admin::v1::admin_server::{Admin, AdminServer};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use types::NodeId;

use crate::metadata::MetadataPublisher;
use crate::peer::Probe;
use crate::quorum::{Directory, Member, PROTOCOL_VERSION, QuorumStatus};

/// A controller that does not accept a connection by then does not count as alive.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Risks that are listed; the rest is counted.
const RISKS_MAX: usize = 100;

/// What the service answers from.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Requests for other clusters are refused.
    pub cluster_id: String,
    /// This node.
    pub node_id: NodeId,
    /// `config` of the broker's file.
    pub file: ConfigMap,
    /// Committed metadata.
    pub publisher: MetadataPublisher,
    /// Where the controllers are.
    pub directory: Directory,
    /// The quorum, on a controller.
    pub quorum: Option<watch::Receiver<QuorumStatus>>,
}

/// The gRPC service of one node.
#[derive(Debug, Clone)]
pub struct AdminService {
    config: AdminConfig,
}

impl AdminService {
    /// The service over `config`.
    #[must_use]
    pub fn new(config: AdminConfig) -> Self {
        Self { config }
    }

    /// The service, ready to be added to a server.
    #[must_use]
    pub fn into_server(self) -> AdminServer<Self> {
        AdminServer::new(self)
    }

    fn admit(&self, version: u32, cluster_id: &str) -> Result<(), Status> {
        if version != PROTOCOL_VERSION || cluster_id != self.config.cluster_id {
            return Err(Status::failed_precondition(format!(
                "want version {PROTOCOL_VERSION} and cluster {}, not {version} and {cluster_id}",
                self.config.cluster_id
            )));
        }
        Ok(())
    }

    async fn quorum_risk(&self, status: &QuorumStatus, node: NodeId) -> Option<String> {
        if !status.voters.iter().any(|voter| voter.node_id == node) {
            return None;
        }
        let needed = status.voters.len() / 2 + 1;
        let mut alive = 0;
        for voter in status.voters.iter().filter(|voter| voter.node_id != node) {
            alive += usize::from(voter.node_id == self.config.node_id || self.answers(voter).await);
        }
        (alive < needed).then(|| {
            format!(
                "the controller quorum would have {alive} live voters of the {needed} that it needs"
            )
        })
    }

    async fn answers(&self, voter: &Member) -> bool {
        let (host, port) = self.config.directory.address(voter);
        let peers = self.config.directory.peers();
        peers.probe(host, port, PROBE_TIMEOUT).await == Probe::Listening
    }
}

fn unreadable(error: KeyError) -> Status {
    Status::internal(format!(
        "failed to read the metadata's configuration: {error}"
    ))
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn describe_cluster(
        &self,
        request: Request<wire::DescribeClusterRequest>,
    ) -> Result<Response<wire::DescribeClusterResponse>, Status> {
        let request = request.into_inner();
        self.admit(request.version, &request.cluster_id)?;
        let image = self.config.publisher.image();
        let health = image
            .health(self.config.node_id, &self.config.file)
            .map_err(unreadable)?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let status = self
            .config
            .quorum
            .as_ref()
            .map(|status| status.borrow().clone());
        let status = status.unwrap_or_default();
        let member = |member: &Member, voter| wire::QuorumMember {
            node_id: member.node_id.0,
            raft_id: member.raft_id(),
            voter,
            matched_offset: status.matched.get(&member.raft_id()).copied(),
            disk: bytes::Bytes::copy_from_slice(member.disk.as_bytes()),
            host: member.host.clone(),
            rpc_port: u32::from(member.rpc_port),
        };
        let voters = status.voters.iter().map(|voter| member(voter, true));
        let learners = status.learners.iter().map(|learner| member(learner, false));
        Ok(Response::new(wire::DescribeClusterResponse {
            cluster_id: self.config.cluster_id.clone(),
            brokers: image
                .brokers()
                .map(|broker| wire::BrokerState {
                    node_id: broker.node_id.0,
                    broker_epoch: broker.epoch.0,
                    fenced: broker.fenced,
                    in_controlled_shutdown: broker.in_controlled_shutdown,
                    rack: broker.rack.clone().unwrap_or_default(),
                    rpc_endpoint: format!("{}:{}", broker.rpc.host, broker.rpc.port),
                    version: broker.software_version.clone(),
                })
                .collect(),
            quorum: voters.chain(learners).collect(),
            active_controller: status.leader.as_ref().map_or(-1, |leader| leader.node_id.0),
            metadata_offset: image.offset(),
            topics: count(health.topics),
            partitions: count(health.partitions),
            under_replicated_partitions: count(health.under_replicated),
            under_min_isr_partitions: count(health.under_min_isr),
            offline_partitions: count(health.offline),
            active: status.leading.is_some(),
            term: status.term,
            last_log_index: status.last_log_index,
            applied_index: status.applied,
        }))
    }

    /// Answered by the active controller only: others may not have the newest metadata.
    async fn can_restart(
        &self,
        request: Request<wire::CanRestartRequest>,
    ) -> Result<Response<wire::CanRestartResponse>, Status> {
        let request = request.into_inner();
        self.admit(request.version, &request.cluster_id)?;
        let status = self
            .config
            .quorum
            .as_ref()
            .map(|status| status.borrow().clone());
        let status = status.unwrap_or_default();
        if status.leading.is_none() {
            let leader = status.leader.map(|leader| leader.to_string());
            return Err(Status::unavailable(format!(
                "only the active controller answers this: {}",
                leader.unwrap_or_else(|| "it is not known here".to_owned())
            )));
        }
        let node = NodeId(request.node_id);
        let image = self.config.publisher.image();
        let mut risks: Vec<String> = image
            .restart_risks(node, self.config.node_id, &self.config.file)
            .map_err(unreadable)?
            .iter()
            .map(ToString::to_string)
            .collect();
        if risks.len() > RISKS_MAX {
            let more = risks.len() - RISKS_MAX;
            risks.truncate(RISKS_MAX);
            risks.push(format!("and {more} more partitions"));
        }
        risks.extend(self.quorum_risk(&status, node).await);
        Ok(Response::new(wire::CanRestartResponse {
            safe: risks.is_empty(),
            risks,
        }))
    }
}
