//! What can go wrong between this client and a cluster, and is it worth another try?

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use types::{BuildError, ErrorCode};
use wire::{ApiKey, DecodeError, EncodeError};

/// Why a call failed. Cheap to clone, since one failed batch fails many records.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No TCP (or TLS) connection.
    #[error("failed to connect to {address}")]
    Connect {
        /// `host:port`.
        address: Arc<str>,
        /// What the operating system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// None of the bootstrap servers, nor any known broker, can be reached.
    #[error("failed to reach any broker of {tried}; the last one: {last}")]
    NoBroker {
        /// The addresses, separated by commas.
        tried: String,
        /// Why the last of them failed.
        last: Box<Self>,
    },
    /// The connection ended while a request was on it; the request may have been executed.
    #[error("connection to {address} is closed: {reason}")]
    Closed {
        /// `host:port`.
        address: Arc<str>,
        /// Who closed it and why.
        reason: Arc<str>,
    },
    /// No answer in time; the request may have been executed, and the connection is given up.
    #[error("no answer from {address} to {api} within {after:?}")]
    Timeout {
        /// `host:port`.
        address: Arc<str>,
        /// The API asked.
        api: ApiKey,
        /// How long was waited.
        after: Duration,
    },
    /// An operation of several requests did not succeed in time.
    #[error("failed to {what} within {after:?}{}", last.as_ref().map_or_else(String::new, |e| format!(": {e}")))]
    Deadline {
        /// What was tried.
        what: String,
        /// How long.
        after: Duration,
        /// Why the last try failed.
        last: Option<Box<Self>>,
    },
    /// A request that its version cannot carry.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer that is not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No version in common.
    #[error("{address} serves {api} {}, this client needs one of {}-{}", theirs.as_ref().map_or_else(|| "not at all".to_owned(), |r| format!("in versions {}-{}", r.start(), r.end())), ours.start(), ours.end())]
    Version {
        /// `host:port`.
        address: Arc<str>,
        /// The API.
        api: ApiKey,
        /// What the broker serves; `None`: not at all.
        theirs: Option<RangeInclusive<i16>>,
        /// What this client can use.
        ours: RangeInclusive<i16>,
    },
    /// The broker refused.
    #[error("failed to {what}: {code}{}", message.as_ref().map_or_else(String::new, |m| format!(" ({m})")))]
    Broker {
        /// What was asked, such as `create topic orders`.
        what: String,
        /// The error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// An answer that lacks what it must have.
    #[error("{address} answered {api} without {missing}")]
    Incomplete {
        /// `host:port`.
        address: Arc<str>,
        /// The API.
        api: ApiKey,
        /// What is not there.
        missing: String,
    },
    /// Records that cannot become a batch.
    #[error("failed to build a batch for {topic_partition}: {reason}")]
    Build {
        /// Where they should go.
        topic_partition: String,
        /// Why not.
        reason: String,
    },
    /// Records that cannot be read.
    #[error("failed to read records of {topic_partition}: {reason}")]
    Records {
        /// Where they came from.
        topic_partition: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A setting that makes no sense.
    #[error("bad client setting: {0}")]
    Config(String),
    /// The producer or consumer was closed.
    #[error("the {0} is closed")]
    Stopped(&'static str),
}

impl ClientError {
    /// An error code of an answer, if it is one.
    ///
    /// # Errors
    /// `code` is not 0.
    pub(crate) fn check(
        code: i16,
        message: Option<String>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        match error_code(code) {
            ErrorCode::None => Ok(()),
            code => Err(Self::Broker {
                what: what(),
                code,
                message: message.filter(|m| !m.is_empty()),
            }),
        }
    }

    /// The broker's error code, when it was the broker that refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            Self::Deadline {
                last: Some(last), ..
            }
            | Self::NoBroker { last, .. } => last.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, or at another broker.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::NoBroker { .. }
            | Self::Closed { .. }
            | Self::Timeout { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    pub(crate) fn build(topic_partition: impl ToString, error: &BuildError) -> Self {
        Self::Build {
            topic_partition: topic_partition.to_string(),
            reason: error.to_string(),
        }
    }
}

/// The error code of a number; one that this build does not know is an unknown server error.
pub(crate) fn error_code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}
