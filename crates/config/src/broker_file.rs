//! What stands in a broker's file, and is it right?
//!
//! The operator writes this struct and the broker reads it: one definition, so the two cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use types::{NodeId, TopicId};

use crate::key::KeyError;
use crate::layers::BrokerLayers;
use crate::yaml::{Document, YamlError};
use crate::{BrokerSettings, broker_keys};

/// The only version of the file's format so far.
pub const API_VERSION: &str = "tidemark.dev/broker/v1";

/// A broker's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerConfig {
    /// Version of the format: [`API_VERSION`].
    pub api_version: String,
    /// Identity of the cluster: 22 characters of unpadded URL-safe base64 (a UUID). A data directory of another
    /// cluster is refused.
    pub cluster_id: String,
    /// Every node of the cluster. Those with the controller role are the first voters of the metadata quorum.
    pub nodes: Vec<NodeConfig>,
    /// Which of `nodes` this process is. Left out where one file serves all nodes and `--node-name` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Where logs, metadata and the broker's identity are kept.
    pub data_dir: PathBuf,
    /// Where Kafka clients connect.
    pub listeners: Vec<ListenerConfig>,
    /// The address that listeners bind to.
    #[serde(default = "default_bind_host")]
    pub bind_host: String,
    /// Port of the gRPC services between brokers.
    #[serde(default = "default_rpc_port")]
    pub rpc_port: u16,
    /// Port of `/metrics`, `/healthz` and `/readyz`.
    #[serde(default = "default_http_port")]
    pub http_port: u16,
    /// Kafka's broker keys (see [`broker_keys`]).
    #[serde(default, deserialize_with = "scalars")]
    pub config: BTreeMap<String, String>,
    /// What an acknowledged record has survived.
    #[serde(default)]
    pub durability: Durability,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name: the pod's.
    pub name: String,
    /// Its id, unique for ever in this cluster.
    pub id: NodeId,
    /// What it does.
    pub roles: Vec<Role>,
    /// The name or address by which other nodes and clients reach it.
    pub host: String,
    /// Its failure domain, for placement.
    #[serde(default)]
    pub rack: Option<String>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Votes in the metadata quorum.
    Controller,
    /// Holds partitions and serves clients.
    Broker,
}

/// A listener for Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerConfig {
    /// Its name, unique in the file.
    pub name: String,
    /// The port, the same on every node.
    pub port: u16,
}

/// What an acknowledged record has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// The death of all but one in-sync replica's process (Kafka's default): it is in their page caches.
    #[default]
    Replicated,
    /// Also the loss of power on all of them: it was fsynced on min.insync.replicas of them.
    Fsync,
}

fn default_bind_host() -> String {
    "0.0.0.0".to_owned()
}

const fn default_rpc_port() -> u16 {
    9090
}

const fn default_http_port() -> u16 {
    9404
}

impl BrokerConfig {
    /// Reads and checks the text of a broker's file.
    ///
    /// # Errors
    /// The first mistake with the file, its line, and what would be right.
    pub fn parse(file: &str, text: &str) -> Result<Self, YamlError> {
        let document = Document::whole(file, text);
        let config: Self = document.parse()?;
        config.check().map_err(|Mistake { path, message }| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            YamlError::at(
                file,
                document.line_of(&path),
                format!("{}: {message}", path.join(".")),
            )
        })?;
        Ok(config)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`YamlError`] if the struct cannot be written, which no value of it causes today.
    pub fn to_yaml(&self) -> Result<String, YamlError> {
        crate::yaml::to_string(self)
    }

    /// Sets one key of `config`, as `--set key=value` does.
    ///
    /// # Errors
    /// What is wrong with the key or its value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), KeyError> {
        broker_keys::check(name, value)?;
        self.config.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The node that this process is: the one of that name, or else the one `node_id` names.
    ///
    /// # Errors
    /// [`NodeError`] with the names there are.
    pub fn node(&self, name: Option<&str>) -> Result<&NodeConfig, NodeError> {
        let found = match (name, self.node_id) {
            (Some(name), _) => self.nodes.iter().find(|node| node.name == name),
            (None, Some(id)) => self.nodes.iter().find(|node| node.id == id),
            (None, None) => None,
        };
        found.ok_or_else(|| NodeError {
            asked: match (name, self.node_id) {
                (Some(name), _) => format!("no node is named {name:?}"),
                (None, Some(id)) => format!("no node has the nodeId {id}"),
                (None, None) => "neither --node-name nor nodeId is given".to_owned(),
            },
            known: self
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The nodes with the controller role.
    pub fn controllers(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes
            .iter()
            .filter(|node| node.roles.contains(&Role::Controller))
    }

    /// The nodes with the broker role.
    pub fn brokers(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes
            .iter()
            .filter(|node| node.roles.contains(&Role::Broker))
    }

    /// The typed values of `config`, without anything set at run time.
    ///
    /// # Errors
    /// The first value that its key does not accept; none after [`BrokerConfig::parse`].
    pub fn settings(&self) -> Result<BrokerSettings, KeyError> {
        BrokerSettings::resolve(&self.layers())
    }

    /// The layers of configuration with only the file's filled.
    #[must_use]
    pub fn layers(&self) -> BrokerLayers<'_> {
        BrokerLayers {
            file: Some(&self.config),
            ..BrokerLayers::default()
        }
    }

    /// Whether the file makes sense.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn check(&self) -> Result<(), Mistake> {
        if self.api_version != API_VERSION {
            return mistake(
                &["apiVersion"],
                format!(
                    "{:?} is not a version this broker reads, want {API_VERSION:?}",
                    self.api_version
                ),
            );
        }
        if let Err(error) = self.cluster_id.parse::<TopicId>() {
            return mistake(&["clusterId"], error.to_string());
        }
        self.check_nodes()?;
        self.check_ports()?;
        for (name, value) in &self.config {
            if let Err(error) = broker_keys::check(name, value) {
                return mistake(&["config", name], error.to_string());
            }
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), Mistake> {
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let at = |field: &str| ["nodes".to_owned(), index.to_string(), field.to_owned()];
            let wrong = |field: &str, message: String| {
                Err(Mistake {
                    path: at(field).to_vec(),
                    message,
                })
            };
            if node.name.is_empty() || !names.insert(&node.name) {
                return wrong("name", format!("{:?} is empty or given twice", node.name));
            }
            if node.id.0 < 0 || !ids.insert(node.id) {
                return wrong("id", format!("{} is negative or given twice", node.id));
            }
            if node.host.is_empty() {
                return wrong("host", "must not be empty".to_owned());
            }
            if node.roles.is_empty() {
                return wrong("roles", "want [controller], [broker] or both".to_owned());
            }
        }
        if self.controllers().next().is_none() {
            return mistake(&["nodes"], "no node has the role controller".to_owned());
        }
        if let Some(id) = self.node_id
            && !ids.contains(&id)
        {
            return mistake(&["nodeId"], format!("no node of `nodes` has the id {id}"));
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), Mistake> {
        if self.listeners.is_empty() {
            return mistake(&["listeners"], "want at least one listener".to_owned());
        }
        let mut names = BTreeSet::new();
        let mut ports = BTreeSet::from([self.rpc_port]);
        if !ports.insert(self.http_port) {
            return mistake(
                &["httpPort"],
                format!("{} is also the rpcPort", self.http_port),
            );
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            let index = index.to_string();
            if listener.name.is_empty() || !names.insert(&listener.name) {
                return mistake(
                    &["listeners", &index, "name"],
                    format!("{:?} is empty or given twice", listener.name),
                );
            }
            if !ports.insert(listener.port) {
                return mistake(
                    &["listeners", &index, "port"],
                    format!("{} is used twice", listener.port),
                );
            }
        }
        Ok(())
    }
}

/// A field of the file that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .path.join("."))]
pub struct Mistake {
    /// The way to the field: keys, and indexes in digits.
    pub path: Vec<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

fn mistake(path: &[&str], message: String) -> Result<(), Mistake> {
    Err(Mistake {
        path: path.iter().map(|&segment| segment.to_owned()).collect(),
        message,
    })
}

/// The file does not say which of its nodes this process is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to find this process in `nodes`: {asked}; the nodes are {known}")]
pub struct NodeError {
    asked: String,
    known: String,
}

/// A map of scalars as texts, so that `min.insync.replicas: 2` needs no quotes.
fn scalars<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let map = Option::<BTreeMap<String, Scalar>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_iter().map(|(key, value)| (key, value.0)).collect())
}

struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

macro_rules! scalar {
    ($($visit:ident($ty:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, value: $ty) -> Result<Scalar, E> {
            Ok(Scalar(value.to_string()))
        })*
    };
}

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false")
    }

    scalar!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64),
        visit_str(&str)
    );
}
