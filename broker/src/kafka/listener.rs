//! Which client connections are accepted, and what becomes of them when the broker stops?

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection::{ConnectionLimits, Peer, Service, serve};

/// Connections that the kernel may hold until they are accepted: one listener restart of every client at once.
const BACKLOG: u32 = 1024;
/// Pause after the process ran out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} (listener {listener})")]
pub struct ListenError {
    listener: String,
    address: String,
    source: std::io::Error,
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionCounts {
    /// `max.connections`
    pub(crate) total: usize,
    /// `max.connections.per.ip`
    pub(crate) per_ip: usize,
}

/// An open listener that does not accept yet.
#[derive(Debug)]
pub(crate) struct Listener {
    name: Arc<str>,
    socket: TcpListener,
}

impl Listener {
    /// Binds `host:port`; clients queue until [`Listener::run`].
    pub(crate) async fn bind(name: &str, host: &str, port: u16) -> Result<Self, ListenError> {
        let failed = |source| ListenError {
            listener: name.to_owned(),
            address: format!("{host}:{port}"),
            source,
        };
        let address = tokio::net::lookup_host((host, port))
            .await
            .map_err(failed)?
            .next()
            .ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }
        .map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(address).map_err(failed)?;
        Ok(Self {
            name: name.into(),
            socket: socket.listen(BACKLOG).map_err(failed)?,
        })
    }

    /// The bound address.
    #[cfg(test)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has one")
    }

    /// Accepts until `stop`, then waits for the connections to end.
    pub(crate) async fn run<T: Service>(
        self,
        service: Arc<T>,
        limits: ConnectionLimits,
        counts: Arc<Connections>,
        stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(listener = %self.name, %error, "failed to accept a connection");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(ACCEPT_RETRY) => continue,
                    }
                }
            };
            let Some(seat) = counts.admit(address.ip()) else {
                debug!(listener = %self.name, peer = %address, "too many connections");
                continue;
            };
            let peer = Peer {
                address,
                listener: self.name.clone(),
                refused: Mutex::default(),
            };
            let (service, limits, stop) = (service.clone(), limits.clone(), stop.clone());
            tasks.spawn(async move {
                let _seat = seat;
                client(stream, peer, service, limits, stop).await;
            });
        }
        drop(self.socket);
        tasks.close();
        tasks.wait().await;
    }
}

async fn client<T: Service>(
    stream: TcpStream,
    peer: Peer,
    service: Arc<T>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %peer.address, %error, "failed to set TCP_NODELAY");
        return;
    }
    // `serve` has logged why a connection ended badly.
    let _ = serve(stream, peer, service, limits, stop).await;
}

/// The open connections by address.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionCounts,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A connection's place among the admitted; given back when dropped.
#[derive(Debug)]
struct Seat {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionCounts) -> Arc<Self> {
        Arc::new(Self {
            limits,
            open: Mutex::default(),
        })
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().total
    }

    fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let mut open = self.open.lock();
        let of_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if open.total >= self.limits.total || of_ip >= self.limits.per_ip {
            return None;
        }
        open.total += 1;
        open.by_ip.insert(ip, of_ip + 1);
        Some(Seat {
            connections: self.clone(),
            ip,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        if let Some(of_ip) = open.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}
