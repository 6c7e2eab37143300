//! Where is each controller now? (The configuration knows best; the membership remembers where it was.)

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::transport::Channel;
use types::NodeId;

use super::types::Member;
use crate::peer::Peers;

/// A controller of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerNode {
    /// The Kafka node id.
    pub node_id: NodeId,
    /// The configured host name, reachable from every node.
    pub host: String,
    /// The gRPC port.
    pub rpc_port: u16,
}

/// Addresses of the controllers and the channels to them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    controllers: Arc<BTreeMap<NodeId, ControllerNode>>,
    peers: Peers,
}

impl Directory {
    /// The configured controllers, reached through `peers`.
    pub fn new(controllers: impl IntoIterator<Item = ControllerNode>, peers: Peers) -> Self {
        let controllers = controllers
            .into_iter()
            .map(|controller| (controller.node_id, controller))
            .collect();
        Self {
            controllers: Arc::new(controllers),
            peers,
        }
    }

    /// The configured controllers by node id.
    #[must_use]
    pub fn controllers(&self) -> &BTreeMap<NodeId, ControllerNode> {
        &self.controllers
    }

    /// Host and port of a member.
    #[must_use]
    pub fn address<'a>(&'a self, member: &'a Member) -> (&'a str, u16) {
        match self.controllers.get(&member.node_id) {
            Some(controller) => (&controller.host, controller.rpc_port),
            None => (&member.host, member.rpc_port),
        }
    }

    /// The channel to a member.
    #[must_use]
    pub fn channel(&self, member: &Member) -> Channel {
        let (host, port) = self.address(member);
        self.peers.channel(host, port)
    }

    /// The channel to a configured controller.
    #[must_use]
    pub fn controller_channel(&self, controller: &ControllerNode) -> Channel {
        self.peers.channel(&controller.host, controller.rpc_port)
    }

    /// The channels and probes below.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}
