//! How does this node reach another node's gRPC port?

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rpc::limits;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{Service, service_fn};

use crate::names::Resolver;

/// A connection that is not up after this long is given up; the next request tries again at once.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// HTTP/2 pings on a connection, idle or not: a peer that vanished without a FIN is noticed in about 4 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// More hosts than this were never dialled by one process; the oldest channels are dropped beyond it.
const CHANNELS_MAX: usize = 4096;

/// Whether a process listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A connection was accepted.
    Listening,
    /// The host answered that nobody listens there: the process is dead.
    Refused,
    /// No answer in time, or the name is unknown: nothing is known about the process.
    Unknown,
}

/// Channels to other nodes, one per address, shared by everything that speaks gRPC. Cheap to clone.
///
/// A channel connects when it is first used and again whenever it is used after the connection broke; a request
/// made while the peer is down fails at once.
#[derive(Debug, Clone)]
pub struct Peers {
    resolver: Resolver,
    channels: Arc<Mutex<HashMap<(String, u16), Channel>>>,
}

impl Peers {
    /// No channels yet; names are looked up with `resolver` at each connection attempt.
    #[must_use]
    pub fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            channels: Arc::default(),
        }
    }

    /// The shared channel to `host:port`.
    #[must_use]
    pub fn channel(&self, host: &str, port: u16) -> Channel {
        let mut channels = self.channels.lock();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels
            .entry((host.to_owned(), port))
            .or_insert_with(|| self.dedicated_channel(host, port))
            .clone()
    }

    /// A channel with a connection of its own, for streams that must not queue behind others.
    #[must_use]
    pub fn dedicated_channel(&self, host: &str, port: u16) -> Channel {
        endpoint().connect_with_connector_lazy(self.connector(host, port))
    }

    fn connector(
        &self,
        host: &str,
        port: u16,
    ) -> impl Service<
        Uri,
        Response = TokioIo<TcpStream>,
        Error = io::Error,
        Future = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>,
    > + Send
    + 'static {
        let resolver = self.resolver.clone();
        let host = host.to_owned();
        service_fn(move |_: Uri| {
            let resolver = resolver.clone();
            let host = host.clone();
            async move { dial(&resolver, &host, port).await.map(TokioIo::new) }.boxed()
        })
    }

    /// A channel with a connection of its own that is up.
    ///
    /// # Errors
    /// When the name is unknown or nobody accepts the connection.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Channel, tonic::transport::Error> {
        endpoint()
            .connect_with_connector(self.connector(host, port))
            .await
    }

    /// Looks whether a process listens on `host:port`.
    pub async fn probe(&self, host: &str, port: u16, timeout: Duration) -> Probe {
        match tokio::time::timeout(timeout, dial(&self.resolver, host, port)).await {
            Ok(Ok(_)) => Probe::Listening,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Probe::Refused,
            Ok(Err(_)) | Err(_) => Probe::Unknown,
        }
    }
}

/// The address is the connector's business; the URI only names the scheme and the authority header.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://tidemark")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES)
}

async fn dial(resolver: &Resolver, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = resolver.resolve(host, port).await?;
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
