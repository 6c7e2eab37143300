//! Which settings do brokers and topics have, how are they read, checked, layered and documented?
//!
//! The operator renders what the broker parses: the same struct. A key that is accepted has an effect; every other
//! is refused by name.

pub mod broker_file;
pub mod broker_keys;
pub mod topic_keys;
pub mod topic_name;

pub mod key;
pub mod layers;
pub mod value;

pub mod environment;
pub mod reference;
pub mod yaml;

#[cfg(test)]
mod tests;

pub use broker_file::{BrokerConfig, Durability, ListenerConfig, NodeConfig, Role};
pub use broker_keys::BrokerSettings;
pub use environment::Environment;
pub use key::{ConfigKey, KeyError, KeyType, Scope, Support};
pub use layers::{BrokerLayers, ConfigMap, ConfigSource, Described, Synonym};
pub use reference::reference_markdown;
pub use topic_keys::TopicSettings;
pub use value::{
    CleanupPolicy, CompressionType, MigrationPolicy, ReplicaSelector, ThrottledReplicas,
    TimestampType,
};
