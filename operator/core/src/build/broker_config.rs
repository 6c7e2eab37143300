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
    let replicas = identity.broker_count().clamp(1, 3);
    // Kafka's own default is 2 of 3; a smaller cluster would otherwise refuse every transaction.
    let in_sync = replicas.min(2);
    let replicated = [
        ("default.replication.factor", replicas),
        ("offsets.topic.replication.factor", replicas),
        ("transaction.state.log.replication.factor", replicas),
        ("transaction.state.log.min.isr", in_sync),
    ];
    let mut config = BTreeMap::from([(
        "auto.create.topics.enable".to_owned(),
        settings.auto_create_topics.to_string(),
    )]);
    // Only what this version's broker accepts: it refuses to start with a key that it does not serve.
    config.extend(
        replicated
            .map(|(key, value)| (key.to_owned(), value.to_string()))
            .into_iter()
            .filter(|(key, value)| config::broker_keys::check(key, value).is_ok()),
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Known, assign};

    fn effective(brokers: i32, config: &str) -> BTreeMap<String, String> {
        let yaml = format!(
            "metadata: {{name: shop, namespace: default}}\napiVersion: tidemark.dev/v1alpha1\nkind: KafkaCluster\nspec: {{pools: [{{name: a, roles: [broker, controller], replicas: {brokers}, storage: {{size: 1Gi}}}}], config: {{{config}}}}}"
        );
        let object: v1alpha1::KafkaCluster = serde_yaml::from_str(&yaml).expect("it parses");
        let cluster = crate::validate::cluster(&object).expect("it is valid");
        let identity = assign(&cluster, "uid", &Known::default());
        effective_config(&cluster, &identity, &Settings::default())
    }

    #[test]
    fn internal_topics_have_as_many_replicas_as_there_are_brokers_up_to_three() {
        for (brokers, replicas, in_sync) in
            [(1, "1", "1"), (2, "2", "2"), (3, "3", "2"), (5, "3", "2")]
        {
            let config = effective(brokers, "");
            for key in [
                "default.replication.factor",
                "offsets.topic.replication.factor",
                "transaction.state.log.replication.factor",
            ] {
                let served = config::broker_keys::check(key, replicas).is_ok();
                let expected = served.then_some(replicas);
                assert_eq!(
                    config.get(key).map(String::as_str),
                    expected,
                    "{key}, {brokers} brokers"
                );
            }
            let key = "transaction.state.log.min.isr";
            let served = config::broker_keys::check(key, in_sync).is_ok();
            assert_eq!(
                config.get(key).map(String::as_str),
                served.then_some(in_sync)
            );
        }
        assert!(effective(1, "").contains_key("offsets.topic.replication.factor"));
    }

    #[test]
    fn what_the_user_says_goes_before_the_defaults() {
        let config = effective(3, "default.replication.factor: '2'");
        assert_eq!(config["default.replication.factor"], "2");
    }
}
