//! Which settings has a producer?

use std::time::Duration;

use types::Compression;

use crate::error::ClientError;

/// Who must have a record before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nobody; there is no answer.
    None,
    /// The leader.
    Leader,
    /// Every in-sync replica.
    All,
}

impl Acks {
    pub(crate) fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Settings of a [`crate::Producer`], with the names and meanings of Kafka's.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Who must have a record (`acks`).
    pub acks: Acks,
    /// Whether retries may neither duplicate nor reorder (`enable.idempotence`); needs acks=all.
    pub idempotence: bool,
    /// How long a batch waits for more records (`linger.ms`).
    pub linger: Duration,
    /// A batch is full at this many bytes before compression (`batch.size`).
    pub batch_bytes: usize,
    /// The codec of batches (`compression.type`).
    pub compression: Compression,
    /// A request, and so a record, is not larger than this (`max.request.size`).
    pub max_request_bytes: usize,
    /// Records that are not acknowledged take at most this many bytes (`buffer.memory`); `send` waits.
    pub buffer_memory: usize,
    /// A record fails when it is not acknowledged after this time (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// Requests per broker without an answer, 1 to 5 (`max.in.flight.requests.per.connection`): five is how many
    /// batches a broker remembers of an idempotent producer.
    pub max_in_flight: usize,
    /// Whether the first record to a topic that does not exist may create it, if the broker allows.
    pub allow_auto_create: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            linger: Duration::from_millis(5),
            batch_bytes: 128 << 10,
            compression: Compression::None,
            max_request_bytes: 1 << 20,
            buffer_memory: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            max_in_flight: 5,
            allow_auto_create: true,
        }
    }
}

impl ProducerOptions {
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let wrong = |what: &str| Err(ClientError::Config(what.to_owned()));
        if self.idempotence && self.acks != Acks::All {
            return wrong("idempotence needs acks=all");
        }
        if !(1..=5).contains(&self.max_in_flight) {
            return wrong("max_in_flight must be 1 to 5");
        }
        if self.max_request_bytes == 0 || self.buffer_memory < self.max_request_bytes {
            return wrong("buffer_memory must hold at least one request of max_request_bytes");
        }
        if u32::try_from(self.max_request_bytes).is_err() {
            return wrong("max_request_bytes must be below 4 GiB");
        }
        Ok(())
    }
}
