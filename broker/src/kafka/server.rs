//! Which listeners does a broker open to Kafka clients, and with which limits?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::ConnectionLimits;
use super::dispatch::Dispatcher;
use super::listener::{ConnectionCounts, Connections, ListenError, Listener};
use crate::broker::Broker;
use crate::node::Node;

/// Requests of one connection that are read but not answered: Java producers keep 5, librdkafka up to a thousand
/// small ones, which the bytes bound.
const MAX_IN_FLIGHT: usize = 256;
/// Bytes of them: several of the 1 MiB batches that producers send at most by default.
const MAX_IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of the requests of all connections, unless one request may be larger.
const REQUEST_MEMORY: usize = 256 * 1024 * 1024;
/// How long a begun frame or an unread response may make no progress.
const MAX_STALL: Duration = Duration::from_secs(30);
/// How long answers may take after the end of a connection.
const DRAIN: Duration = Duration::from_millis(400);

/// Bound listeners that do not accept yet.
pub(crate) struct KafkaServer {
    listeners: Vec<Listener>,
    limits: ConnectionLimits,
    connections: Arc<Connections>,
}

impl KafkaServer {
    /// Binds every listener of the node.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub(crate) async fn bind(node: &Node) -> Result<Self, ListenError> {
        let settings = &node.settings;
        let mut listeners = Vec::with_capacity(node.file.listeners.len());
        for listener in &node.file.listeners {
            let port = node.moved(listener.port);
            listeners.push(Listener::bind(&listener.name, &node.bind_host, port).await?);
        }
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let max_frame = count(settings.socket_request_max_bytes);
        let memory_kib = u32::try_from(REQUEST_MEMORY.max(max_frame) / 1024).unwrap_or(u32::MAX);
        Ok(Self {
            listeners,
            limits: ConnectionLimits {
                max_frame,
                max_in_flight: MAX_IN_FLIGHT,
                max_in_flight_bytes: MAX_IN_FLIGHT_BYTES,
                request_memory: Arc::new(Semaphore::new(memory_kib as usize)),
                request_memory_kib: memory_kib,
                max_idle: u64::try_from(settings.connections_max_idle_ms)
                    .ok()
                    .map(Duration::from_millis),
                max_stall: MAX_STALL,
                drain: DRAIN,
            },
            connections: Connections::new(ConnectionCounts {
                total: count(settings.max_connections),
                per_ip: count(settings.max_connections_per_ip),
            }),
        })
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> Arc<Connections> {
        self.connections.clone()
    }

    /// Serves all listeners until `stop`, and until their connections have ended.
    pub(crate) async fn run(self, broker: Arc<Broker>, stop: CancellationToken) {
        let service = Arc::new(Dispatcher::new(broker));
        let tasks = TaskTracker::new();
        for listener in self.listeners {
            let (limits, connections) = (self.limits.clone(), self.connections.clone());
            tasks.spawn(listener.run(service.clone(), limits, connections, stop.clone()));
        }
        tasks.close();
        tasks.wait().await;
    }
}
