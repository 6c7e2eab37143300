//! Is a configuration key one of Kafka's, one that users may set here, and is its value one the broker accepts?
//!
//! The tables are the broker's own (`config`); what is added here is which field of the custom resource stands for a key that the
//! operator sets itself.

use std::collections::BTreeMap;

use config::{KeyError, broker_keys, topic_keys};

use super::FieldError;

/// Broker keys that follow from other fields of the KafkaCluster, and which.
const OPERATOR_OWNED: &[(&str, &str)] = &[
    ("advertised.listeners", "spec.listeners"),
    ("controller.quorum.bootstrap.servers", "spec.pools[].roles"),
    ("controller.quorum.voters", "spec.pools[].roles"),
    ("flush.messages", "spec.durability"),
    ("listener.security.protocol.map", "spec.listeners"),
    ("listeners", "spec.listeners"),
    ("log.dir", "spec.pools[].storage"),
    ("log.dirs", "spec.pools[].storage"),
    ("log.flush.interval.messages", "spec.durability"),
    ("log.flush.interval.ms", "spec.durability"),
    ("metadata.log.dir", "spec.pools[].storage"),
    ("process.roles", "spec.pools[].roles"),
];

/// Broker keys that the operator decides alone.
const DECIDED: &[&str] = &["broker.id", "broker.rack", "node.id"];

/// Checks `spec.config` of a KafkaCluster.
pub(super) fn check_broker(
    path: &str,
    config: &BTreeMap<String, String>,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in config {
        let field = format!("{path}[{key}]");
        if let Some((_, instead)) = OPERATOR_OWNED.iter().find(|(owned, _)| owned == key) {
            errors.push(FieldError::new(
                field,
                "the operator sets this key itself",
                format!("use {instead}"),
            ));
        } else if DECIDED.contains(&key.as_str()) {
            errors.push(FieldError::new(
                field,
                "the operator sets this key itself",
                "remove it",
            ));
        } else if let Err(error) = broker_keys::check(key, value) {
            errors.push(refused(field, error));
        }
    }
}

/// Checks `spec.config` of a KafkaTopic.
pub(super) fn check_topic(
    path: &str,
    config: &BTreeMap<String, String>,
    errors: &mut Vec<FieldError>,
) {
    let before = errors.len();
    for (key, value) in config {
        if let Err(error) = topic_keys::check(key, value) {
            errors.push(refused(format!("{path}[{key}]"), error));
        }
    }
    if errors.len() == before
        && let Err(error) = topic_keys::check_all(config)
    {
        errors.push(refused(path.to_owned(), error));
    }
}

fn refused(path: String, error: KeyError) -> FieldError {
    let (problem, fix) = match error {
        KeyError::Unknown {
            nearest: Some(nearest),
            ..
        } => ("unknown key".to_owned(), format!("did you mean {nearest}?")),
        KeyError::Unknown { what, .. } => (
            "unknown key".to_owned(),
            format!("use one of Kafka's {what} keys"),
        ),
        KeyError::Invalid { value, problem, .. } => {
            (format!("{value:?} is not a value of this key"), problem)
        }
        KeyError::Refused { reason, .. } => ("this key cannot be set".to_owned(), reason),
        KeyError::OnlyDefault {
            default, reason, ..
        } => (format!("this key can only be {default:?}"), reason),
        KeyError::ReadOnly { .. } => (
            "this key takes effect only at start".to_owned(),
            "it cannot be changed while brokers run".to_owned(),
        ),
        KeyError::Conflict { problem } => ("two keys contradict each other".to_owned(), problem),
    };
    FieldError::new(path, problem, fix)
}
