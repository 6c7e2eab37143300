//! Does the transaction coordinator do what Kafka's does?

mod ending;
mod fencing;
mod fixture;
mod random;
mod records;
