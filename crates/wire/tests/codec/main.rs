//! Does the codec write what Kafka writes, and read it back?

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::panic)]

mod differential;
mod round_trip;
mod values;
mod wire_rules;
