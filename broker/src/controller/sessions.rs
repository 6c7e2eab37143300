//! How does the active controller learn within a moment that a broker's process has died?
//!
//! Every broker keeps one stream open to the active controller. A broker without one is looked at: when nobody
//! listens on its gRPC port, its process is dead and it is fenced at once. When somebody listens, or nothing is
//! heard at all (a stall, a broken network), nothing follows: the session timeout decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::{BrokerImage, Incarnation};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::NodeId;

use super::writer::{Command, ControllerHandle};
use crate::metadata::MetadataPublisher;
use crate::peer::{Peers, Probe};

/// Pause between looks at brokers without a stream; the end of a stream is looked at immediately.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A dead process's port answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_millis(80);

/// The brokers' streams that are open to this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own_id: NodeId,
    handle: ControllerHandle,
    publisher: MetadataPublisher,
    peers: Peers,
    open: Mutex<HashMap<(NodeId, Incarnation), usize>>,
    closed: Notify,
}

impl Sessions {
    /// No streams yet.
    #[must_use]
    pub fn new(
        own_id: NodeId,
        handle: ControllerHandle,
        publisher: MetadataPublisher,
        peers: Peers,
    ) -> Self {
        Self(Arc::new(Inner {
            own_id,
            handle,
            publisher,
            peers,
            open: Mutex::default(),
            closed: Notify::new(),
        }))
    }

    pub(crate) async fn opened(&self, node: NodeId, incarnation: Incarnation) {
        *self.0.open.lock().entry((node, incarnation)).or_default() += 1;
        // A writer that is gone has nothing to tell liveness to.
        let _ = self
            .0
            .handle
            .send(Command::SessionOpened(node, incarnation))
            .await;
    }

    pub(crate) async fn closed(&self, node: NodeId, incarnation: Incarnation) {
        let last = {
            let mut open = self.0.open.lock();
            let count = open.entry((node, incarnation)).or_insert(1);
            *count -= 1;
            let last = *count == 0;
            if last {
                open.remove(&(node, incarnation));
            }
            last
        };
        if last {
            self.0.closed.notify_one();
            // As above.
            let _ = self
                .0
                .handle
                .send(Command::SessionClosed(node, incarnation))
                .await;
        }
    }

    /// Looks for dead brokers while this node is the active controller, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut timer = tokio::time::interval(LOOK_INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
                () = self.0.closed.notified() => {}
            }
            if self.0.handle.is_active() {
                self.look().await;
            }
        }
    }

    async fn look(&self) {
        let image = self.0.publisher.image();
        let suspects = {
            let open = self.0.open.lock();
            image
                .brokers()
                .filter(|broker| !broker.fenced && broker.node_id != self.0.own_id)
                .filter(|broker| !open.contains_key(&(broker.node_id, broker.incarnation)))
                .cloned()
                .collect::<Vec<_>>()
        };
        join_all(suspects.iter().map(|broker| self.probe(broker))).await;
    }

    async fn probe(&self, broker: &BrokerImage) {
        let rpc = &broker.rpc;
        let probe = self.0.peers.probe(&rpc.host, rpc.port, PROBE_TIMEOUT).await;
        if probe == Probe::Refused {
            tracing::info!(node = %broker.node_id, "the broker's process is dead: nobody listens on its port");
            let gone = Command::ProcessGone(broker.node_id, broker.incarnation);
            // As above.
            let _ = self.0.handle.send(gone).await;
        }
    }
}
