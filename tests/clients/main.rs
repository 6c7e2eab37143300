//! Do stock Kafka clients work unchanged against real broker processes?

mod kafka_tools;
mod round_trip;
