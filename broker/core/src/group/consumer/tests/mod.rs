//! Does a group of the consumer protocol do what KIP-848 and Kafka promise?

mod fixture;

mod joining;
mod revocation;

mod fencing;
mod static_members;

mod subscriptions;

mod sizes;

mod kinds;
mod offsets;
mod persistence;
mod records;

mod members;

mod downgrade;
mod migration;

mod mixed;
mod simulation;
