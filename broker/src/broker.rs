//! What do all requests of one broker share?

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use broker_core::metadata::MetadataImage;
use config::{BrokerLayers, BrokerSettings, ConfigMap};
use futures::future::BoxFuture;
use tokio::sync::watch;
use types::NodeId;

use crate::coordinator::GroupService;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::liveness::Liveness;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::producer_ids::ProducerIds;
use crate::replication::ReplicaManager;
use crate::topic_creation::TopicCreation;
use crate::transactions::{MarkerWriter, TransactionService};

/// How long a request without a timeout of its own waits for the controller: less than the 30 s after which clients
/// give up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The way to the active controller, wherever it is.
pub(crate) trait ControllerAccess: Send + Sync + 'static {
    /// Asks, and asks again while there is no active controller, until `timeout`.
    fn submit(
        &self,
        request: ControllerRequest,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<ControllerResponse, String>>;

    /// Asks the active controller how its quorum stands, and asks again as above.
    fn quorum(&self, timeout: Duration) -> BoxFuture<'_, Result<QuorumView, String>>;
}

/// The quorum as the active controller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuorumView {
    pub(crate) leader: NodeId,
    pub(crate) term: u64,
    /// The last index of the leader's log.
    pub(crate) last_log_index: u64,
    /// The last index that is committed.
    pub(crate) committed_index: u64,
    pub(crate) members: Vec<QuorumMember>,
}

/// One of the quorum's voters or learners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuorumMember {
    pub(crate) node_id: NodeId,
    pub(crate) disk: [u8; 16],
    pub(crate) is_voter: bool,
    pub(crate) host: String,
    pub(crate) rpc_port: u16,
    /// The last index of its log that the leader knows of.
    pub(crate) last_log_index: Option<u64>,
}

/// The parts of a running broker that handlers use.
pub(crate) struct Broker {
    pub(crate) node_id: NodeId,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) settings: Arc<BrokerSettings>,
    /// `config` of the broker's file.
    pub(crate) file: ConfigMap,
    /// Number of brokers in the broker's file.
    pub(crate) broker_count: usize,
    /// The newest metadata that replicas were told of.
    pub(crate) metadata: watch::Receiver<Arc<MetadataImage>>,
    pub(crate) replicas: ReplicaManager,
    pub(crate) controller: Arc<dyn ControllerAccess>,
    pub(crate) groups: Arc<GroupService>,
    pub(crate) transactions: TransactionService,
    /// Ends transactions on the partitions led here.
    pub(crate) marker_writer: MarkerWriter,
    pub(crate) peers: Peers,
    pub(crate) liveness: Liveness,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) topic_creation: TopicCreation,
    pub(crate) metrics: Arc<Metrics>,
}

impl Broker {
    /// The layers of this broker's configuration.
    pub(crate) fn layers<'a>(&'a self, image: &'a MetadataImage) -> BrokerLayers<'a> {
        image.broker_layers(self.node_id, &self.file)
    }

    /// How long a request without a timeout of its own waits for the controller.
    #[allow(clippy::unused_self)] // a setting of the broker, should it become one
    pub(crate) const fn request_timeout(&self) -> Duration {
        REQUEST_TIMEOUT
    }

    /// Waits until this broker has applied metadata of which `reached` is true, at most for `timeout`; whether it has.
    pub(crate) async fn until(
        &self,
        timeout: Duration,
        reached: impl Fn(&MetadataImage) -> bool,
    ) -> bool {
        let mut metadata = self.metadata.clone();
        let wait = metadata.wait_for(|image| reached(image));
        matches!(tokio::time::timeout(timeout, wait).await, Ok(Ok(_)))
    }
}
