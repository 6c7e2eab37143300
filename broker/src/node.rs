//! Which node of which cluster is this process, and where does it listen?

use std::sync::Arc;

use broker_core::metadata::BrokerEndpoint;
use config::broker_file::NodeError;
use config::{BrokerConfig, BrokerSettings, Environment, KeyError, NodeConfig, Role};
use types::NodeId;

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The broker's file.
    pub config: BrokerConfig,
    /// The node of the file that this process is; without it the file's `nodeId` says so.
    pub node_name: Option<String>,
    /// What the environment says.
    pub environment: Environment,
}

/// The file does not describe a node that can run here.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Which node this is.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A value of `config`.
    #[error("failed to read the configuration: {0}")]
    Settings(#[from] KeyError),
    /// Clients cannot connect to it.
    #[error(
        "failed to advertise {host:?}: it means any address; give the node a host that clients can reach \
         (or set TIDEMARK_ADVERTISED_HOST)"
    )]
    Wildcard {
        /// The address.
        host: String,
    },
    /// `TIDEMARK_PORT_OFFSET` is too large.
    #[error("failed to add the port offset {offset} to port {port}")]
    Port {
        /// The port of the file.
        port: u16,
        /// The offset.
        offset: u16,
    },
}

/// This process as a node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) file: BrokerConfig,
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) me: NodeConfig,
    pub(crate) environment: Environment,
    pub(crate) bind_host: String,
    advertised_host: String,
}

impl Node {
    pub(crate) fn new(options: BrokerOptions) -> Result<Self, OptionsError> {
        let BrokerOptions {
            config: file,
            node_name,
            environment,
        } = options;
        let me = file.node(node_name.as_deref())?.clone();
        let advertised_host =
            (environment.advertised_host.clone()).unwrap_or_else(|| me.host.clone());
        for host in [&advertised_host, &me.host] {
            if matches!(host.as_str(), "" | "0.0.0.0" | "::" | "[::]") {
                return Err(OptionsError::Wildcard { host: host.clone() });
            }
        }
        let node = Self {
            settings: Arc::new(file.settings()?),
            bind_host: (environment.bind_host.clone()).unwrap_or_else(|| file.bind_host.clone()),
            me,
            environment,
            advertised_host,
            file,
        };
        for port in node.ports() {
            node.port(port)?;
        }
        Ok(node)
    }

    pub(crate) fn id(&self) -> NodeId {
        self.me.id
    }

    pub(crate) fn is_broker(&self) -> bool {
        self.me.roles.contains(&Role::Broker)
    }

    fn ports(&self) -> Vec<u16> {
        let listeners = self.file.listeners.iter().map(|listener| listener.port);
        listeners
            .chain([self.file.rpc_port, self.file.http_port])
            .collect()
    }

    fn port(&self, port: u16) -> Result<u16, OptionsError> {
        let offset = self.environment.port_offset;
        port.checked_add(offset)
            .ok_or(OptionsError::Port { port, offset })
    }

    /// A port of the file, moved by the environment's offset.
    pub(crate) fn moved(&self, port: u16) -> u16 {
        self.port(port)
            .expect("every port was checked when the node was made")
    }

    /// Where clients reach this broker, by listener.
    pub(crate) fn endpoints(&self) -> Vec<BrokerEndpoint> {
        let listeners = self.file.listeners.iter();
        listeners
            .map(|listener| BrokerEndpoint {
                name: listener.name.clone(),
                host: self.advertised_host.clone(),
                port: self.moved(listener.port),
            })
            .collect()
    }

    /// Where other nodes reach this one. The port is the file's: whoever moved this process's ports says so to the others
    /// in their hosts tables, as it does for the nodes of the file that have not registered yet.
    pub(crate) fn rpc_endpoint(&self) -> BrokerEndpoint {
        BrokerEndpoint {
            name: "rpc".to_owned(),
            host: self.me.host.clone(),
            port: self.file.rpc_port,
        }
    }
}
