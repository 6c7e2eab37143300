//! Which settings does every part of the client share?

use std::sync::Arc;
use std::time::Duration;

use crate::connector::{Authenticator, Connector, TcpConnector};
use crate::error::ClientError;

/// Settings of a [`crate::Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `host:port` of brokers to begin with; all of them are tried.
    pub bootstrap_servers: Vec<String>,
    /// The name that brokers see (`client.id`).
    pub client_id: String,
    /// How long a connection may take to be usable.
    pub connect_timeout: Duration,
    /// How long a request waits for its answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long an operation of several requests, retries included, may take (`default.api.timeout.ms`).
    pub api_timeout: Duration,
    /// Metadata older than this is asked for again (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
    /// The first pause between two tries; it doubles up to `retry_backoff_max`.
    pub retry_backoff: Duration,
    /// The longest pause between two tries.
    pub retry_backoff_max: Duration,
    /// Requests without an answer on one connection; more wait. Beyond the producer's five there is little to gain,
    /// and each holds its frame in memory.
    pub max_in_flight: usize,
    /// An answer longer than this many bytes is an error.
    pub max_response_bytes: usize,
    /// How streams are made: plain TCP, or TLS, or a test's pipe.
    pub connector: Arc<dyn Connector>,
    /// What is done on a new connection before it is used, such as SASL.
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

impl ClientOptions {
    /// The defaults for these bootstrap servers (`host:port`, separated by commas).
    #[must_use]
    pub fn new(bootstrap_servers: &str) -> Self {
        let servers = bootstrap_servers
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty());
        Self {
            bootstrap_servers: servers.map(str::to_owned).collect(),
            client_id: "tidemark".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            metadata_max_age: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            max_in_flight: 32,
            max_response_bytes: 256 << 20,
            connector: Arc::new(TcpConnector),
            authenticator: None,
        }
    }

    /// Sets the client id.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.bootstrap_servers.is_empty() {
            return Err(ClientError::Config(
                "no bootstrap servers, want host:port[,host:port...]".to_owned(),
            ));
        }
        for server in &self.bootstrap_servers {
            split_address(server)?;
        }
        if self.max_in_flight == 0 {
            return Err(ClientError::Config(
                "max_in_flight is 0, want at least 1".to_owned(),
            ));
        }
        Ok(())
    }
}

/// `host:port`, or `[v6]:port`.
pub(crate) fn split_address(address: &str) -> Result<(&str, u16), ClientError> {
    let wrong = || ClientError::Config(format!("{address:?} is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        Err(wrong())
    } else {
        Ok((host, port))
    }
}
