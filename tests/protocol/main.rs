//! Does a running broker answer raw bytes as Kafka would, and survive those that Kafka never sends?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_versions;
mod configuration_keys;
mod frames;
mod hostile;
mod idle;
