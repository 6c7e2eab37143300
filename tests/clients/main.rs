//! Do stock Kafka clients work unchanged against real broker processes?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compacted_topic;
mod consumer_groups;
mod follower_reads;
mod kafka_tools;
mod matrix;
mod members;
mod produced_batches;
mod round_trip;
mod throttled_moves;
mod topic_configs;
