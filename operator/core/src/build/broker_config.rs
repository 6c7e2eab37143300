//! What does `broker.yaml` say?

use std::collections::BTreeMap;

use config::broker_file::API_VERSION;
use config::{BrokerConfig, Durability, ListenerConfig, NodeConfig, Role};
use sha2::{Digest as _, Sha256};
use types::NodeId;

use super::Settings;
use crate::api::v1alpha1;
use crate::identity::{Identity, Node};
use crate::names;
use crate::validate::ValidatedCluster;

/// Renders the configuration file of every node of a cluster.
#[must_use]
pub fn broker_config(
    cluster: &ValidatedCluster,
    identity: &Identity,
    settings: &Settings,
) -> BrokerConfig {
    let listener = |listener: &v1alpha1::Listener| ListenerConfig {
        name: listener.name.clone(),
        port: port(listener.port),
    };
    BrokerConfig {
        api_version: API_VERSION.into(),
        cluster_id: identity.cluster_id.clone(),
        nodes: identity
            .nodes
            .iter()
            .map(|node| node_config(cluster, node, settings))
            .collect(),
        node_id: None,
        data_dir: names::DATA_DIR.into(),
        listeners: cluster.listeners.iter().map(listener).collect(),
        bind_host: "0.0.0.0".into(),
        rpc_port: port(names::RPC_PORT),
        http_port: port(names::HTTP_PORT),
        config: effective_config(cluster, identity, settings),
        durability: match cluster.durability {
            v1alpha1::Durability::Replicated => Durability::Replicated,
            v1alpha1::Durability::Fsync => Durability::Fsync,
        },
    }
}

fn node_config(cluster: &ValidatedCluster, node: &Node, settings: &Settings) -> NodeConfig {
    let role = |role: &v1alpha1::Role| match role {
        v1alpha1::Role::Controller => Role::Controller,
        v1alpha1::Role::Broker => Role::Broker,
    };
    NodeConfig {
        name: node.pod.clone(),
        id: NodeId(node.id),
        roles: node.roles.iter().map(role).collect(),
        host: names::pod_host(
            &cluster.name,
            &node.pod,
            &cluster.namespace,
            &settings.cluster_domain,
        ),
        rack: None,
    }
}

/// A validated port; the schema keeps it in range.
fn port(number: i32) -> u16 {
    u16::try_from(number).unwrap_or_default()
}

/// The user's keys over the operator's defaults: as many replicas as Kafka's own default wants, but never more than there are brokers.
#[must_use]
pub fn effective_config(
    cluster: &ValidatedCluster,
    identity: &Identity,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let replicas = identity.broker_count().clamp(1, 3).to_string();
    let mut config = BTreeMap::from([
        (
            "auto.create.topics.enable".to_owned(),
            settings.auto_create_topics.to_string(),
        ),
        ("default.replication.factor".to_owned(), replicas.clone()),
        ("offsets.topic.replication.factor".to_owned(), replicas),
    ]);
    config.extend(cluster.config.clone());
    config
}

/// Hash of what a node reads only when it starts. The list of nodes is not in it: nodes learn of each other while they run.
#[must_use]
pub fn static_config_hash(config: &BrokerConfig) -> String {
    let mut own = config.clone();
    own.nodes.clear();
    let text = serde_json::to_string(&own).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
