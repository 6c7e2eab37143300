//! How are configurations of topics and brokers read and changed?

use std::collections::BTreeMap;

use types::NodeId;
use wire::messages::IncrementalAlterConfigsResponse;
use wire::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse,
};
use wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::{Admin, refuse_not_controller};
use crate::error::ClientError;
use crate::retry;

/// What a configuration belongs to, by the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// A topic.
    Topic = 2,
    /// A broker by its node id; an empty name stands for all brokers.
    Broker = 4,
    /// A broker's log levels.
    BrokerLogger = 8,
    /// A client metrics subscription.
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

/// A thing that has a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
}

impl ConfigResource {
    /// A topic.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        Self {
            kind: ResourceType::Topic,
            name: name.into(),
        }
    }

    /// One broker.
    #[must_use]
    pub fn broker(id: NodeId) -> Self {
        Self {
            kind: ResourceType::Broker,
            name: id.to_string(),
        }
    }

    /// The defaults of all brokers.
    #[must_use]
    pub fn all_brokers() -> Self {
        Self {
            kind: ResourceType::Broker,
            name: String::new(),
        }
    }

    /// The broker that has to be asked, when it is not any.
    fn node(&self) -> Option<NodeId> {
        let by_node = matches!(self.kind, ResourceType::Broker | ResourceType::BrokerLogger);
        self.name.parse().ok().filter(|_| by_node).map(NodeId)
    }

    fn kind_number(&self) -> i8 {
        self.kind as i8
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker at run time.
    DynamicBroker,
    /// Set for all brokers at run time.
    DynamicDefaultBroker,
    /// From the broker's file.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Set on the group.
    Group,
    /// A number that this build does not know.
    Other(i8),
}

impl ConfigSource {
    fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }
}

/// A value elsewhere that counts when the nearer ones are not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// Its key.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Where it is set.
    pub source: ConfigSource,
}

/// One key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's key.
    pub name: String,
    /// The value in effect; `None` when it is sensitive or has none.
    pub value: Option<String>,
    /// Where it is set.
    pub source: ConfigSource,
    /// Whether it cannot be changed at run time.
    pub read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// All places that set it, the one in effect first.
    pub synonyms: Vec<ConfigSynonym>,
    /// The key's documentation, when asked for.
    pub documentation: Option<String>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    /// Sets the value.
    Set(String),
    /// Removes it, so that the next synonym counts.
    Delete,
    /// Adds elements to a list.
    Append(String),
    /// Removes elements from a list.
    Subtract(String),
}

impl ConfigOp {
    fn to_wire(&self) -> (i8, Option<String>) {
        match self {
            Self::Set(value) => (0, Some(value.clone())),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value.clone())),
            Self::Subtract(value) => (3, Some(value.clone())),
        }
    }
}

impl Admin {
    /// The configuration of a topic or broker: every key with its value, default or not.
    ///
    /// # Errors
    /// The broker refuses, or nobody answers.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.kind_number(),
                resource_name: resource.name.clone(),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let what = || format!("describe the configuration of {resource}");
        let check = |answer: DescribeConfigsResponse| {
            let result = answer.results.into_iter().next();
            let result =
                result.ok_or_else(|| ClientError::Config(format!("no answer about {resource}")))?;
            ClientError::check(result.error_code, result.error_message, what)?;
            Ok(result.configs.into_iter().map(entry).collect())
        };
        match resource.node() {
            None => self.client.ask_any(what, &request, i16::MAX, check).await,
            Some(node) => {
                retry::until_done(self.client.options(), what, || async {
                    check(self.client.broker(node).await?.send(&request).await?)
                })
                .await
            }
        }
    }

    /// Changes keys of a topic or broker and leaves the others.
    ///
    /// # Errors
    /// The broker refuses, or nobody answers.
    pub async fn incremental_alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &BTreeMap<String, ConfigOp>,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let change = |(name, op): (&String, &ConfigOp)| {
            let (config_operation, value) = op.to_wire();
            AlterableConfig {
                name: name.clone(),
                config_operation,
                value,
                ..AlterableConfig::default()
            }
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind_number(),
                resource_name: resource.name.clone(),
                configs: changes.iter().map(change).collect(),
                ..AlterConfigsResource::default()
            }],
            validate_only,
            ..IncrementalAlterConfigsRequest::default()
        };
        let what = || format!("change the configuration of {resource}");
        let check = |answer: IncrementalAlterConfigsResponse| {
            refuse_not_controller(answer.responses.iter().map(|r| r.error_code))?;
            let result = answer.responses.into_iter().next();
            let result =
                result.ok_or_else(|| ClientError::Config(format!("no answer about {resource}")))?;
            ClientError::check(result.error_code, result.error_message, what)
        };
        match resource.node() {
            None => self.client.ask_controller(what, &request, check).await,
            Some(node) => {
                retry::until_done(self.client.options(), what, || async {
                    check(self.client.broker(node).await?.send(&request).await?)
                })
                .await
            }
        }
    }
}

fn entry(result: DescribeConfigsResourceResult) -> ConfigEntry {
    let synonym =
        |s: wire::messages::describe_configs_response::DescribeConfigsSynonym| ConfigSynonym {
            name: s.name,
            value: s.value,
            source: ConfigSource::from_wire(s.source),
        };
    ConfigEntry {
        name: result.name,
        value: result.value,
        source: ConfigSource::from_wire(result.config_source),
        read_only: result.read_only,
        is_sensitive: result.is_sensitive,
        synonyms: result.synonyms.into_iter().map(synonym).collect(),
        documentation: result.documentation.filter(|d| !d.is_empty()),
    }
}
