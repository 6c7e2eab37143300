//! Is the broker that the metadata names as leader alive, right when a client asks because it may not be?
//!
//! A client whose leader dies asks another broker within a millisecond, before the controller can have moved leadership.
//! An answer that names the dead leader costs it a whole back-off (a second, with librdkafka). So whoever is about to
//! name a leader looks whether its process still listens, and when nobody does waits a moment for the new leader.
//!
//! For the same reason a broker that was fenced just now stays in the list of brokers for a while: librdkafka takes a
//! partition away from a broker that vanishes from the list, and only asks for its leader again a second later; and one
//! that has just asked the dying broker for a topic's metadata never asks again (2.16 drops the request with the broker),
//! so that a consumer that is about to join waits for the next regular refresh, five minutes.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use broker_core::metadata::{BrokerImage, MetadataDelta, MetadataImage};
use futures::future::join_all;
use parking_lot::Mutex;
use types::NodeId;

use crate::broker::Broker;
use crate::peer::{Peers, Probe};

/// How long a probe may take; no answer means that nothing is known, and the leader is named.
const PROBE: Duration = Duration::from_millis(50);
/// How long an answer of a living process stands for others, so that a rush of clients costs few probes.
const FRESH: Duration = Duration::from_millis(5);
/// How long to wait for the new leader: an election takes milliseconds, or half a second when the dead broker was the
/// active controller too.
const WAIT: Duration = Duration::from_millis(700);
/// How long a fenced broker stays listed.
const LISTED: Duration = Duration::from_secs(10);

/// What is known of other brokers' processes.
#[derive(Debug)]
pub(crate) struct Liveness {
    peers: Peers,
    alive: Mutex<HashMap<NodeId, Instant>>,
    fencing: Mutex<HashMap<NodeId, Fencing>>,
}

/// What was noticed last of a broker.
#[derive(Debug, Clone, Copy)]
enum Fencing {
    Unfenced,
    Since(Instant),
}

impl Liveness {
    pub(crate) fn new(peers: Peers) -> Self {
        Self {
            peers,
            alive: Mutex::default(),
            fencing: Mutex::default(),
        }
    }

    /// Notices which brokers became fenced, or are not any more.
    pub(crate) fn apply(&self, image: &MetadataImage, delta: &MetadataDelta) {
        let mut fencing = self.fencing.lock();
        for node in &delta.brokers {
            let noticed = match (image.broker(*node), fencing.get(node)) {
                (Some(broker), _) if !broker.fenced => Fencing::Unfenced,
                (Some(_), Some(Fencing::Since(since))) => Fencing::Since(*since),
                (Some(_), _) => Fencing::Since(Instant::now()),
                (None, _) => {
                    fencing.remove(node);
                    continue;
                }
            };
            fencing.insert(*node, noticed);
        }
    }

    /// Whether clients are told of the broker: it is not fenced, or was not a moment ago. Requests see a new image before
    /// [`Liveness::apply`] does: who is fenced there and was not when last noticed became so just now.
    pub(crate) fn is_listed(&self, broker: &BrokerImage) -> bool {
        !broker.fenced
            || match self.fencing.lock().get(&broker.node_id) {
                Some(Fencing::Unfenced) => true,
                Some(Fencing::Since(since)) => since.elapsed() < LISTED,
                None => false,
            }
    }

    /// Those of `nodes` whose process does not listen.
    async fn dead(&self, image: &MetadataImage, nodes: BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let probes = nodes.into_iter().filter_map(|node| {
            let rpc = &image.broker(node)?.rpc;
            Some(async move { (node, self.is_dead(node, &rpc.host, rpc.port).await) })
        });
        let probed = join_all(probes).await;
        let dead = probed.into_iter().filter(|(_, dead)| *dead);
        dead.map(|(node, _)| node).collect()
    }

    async fn is_dead(&self, node: NodeId, host: &str, port: u16) -> bool {
        let fresh = |seen: &Instant| seen.elapsed() < FRESH;
        if self.alive.lock().get(&node).is_some_and(fresh) {
            return false;
        }
        match self.peers.probe(host, port, PROBE).await {
            Probe::Refused => true,
            Probe::Listening => {
                self.alive.lock().insert(node, Instant::now());
                false
            }
            Probe::Unknown => false,
        }
    }
}

impl Broker {
    /// Waits a moment for new leaders where `leaders` (of the metadata) names processes that are dead. Those that still
    /// are named then, although nobody is there.
    pub(crate) async fn settle_leaders(
        &self,
        leaders: impl Fn(&MetadataImage) -> BTreeSet<NodeId>,
    ) -> BTreeSet<NodeId> {
        let image = self.metadata.borrow().clone();
        let mut others = leaders(&image);
        others.remove(&self.node_id);
        let dead = self.liveness.dead(&image, others).await;
        if dead.is_empty() {
            return dead;
        }
        let moved = self.until(WAIT, |image| leaders(image).is_disjoint(&dead));
        if moved.await { BTreeSet::new() } else { dead }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::record::RegisterBroker;
    use broker_core::metadata::{BrokerEndpoint, BrokerUuid, Incarnation, MetadataRecord};
    use types::BrokerEpoch;

    use super::*;
    use crate::names::Resolver;

    fn image(fenced: bool, port: u16) -> (MetadataImage, MetadataDelta) {
        let mut image = MetadataImage::empty();
        let record = MetadataRecord::RegisterBroker(RegisterBroker {
            node_id: NodeId(1),
            broker_epoch: BrokerEpoch(1),
            incarnation: Incarnation::default(),
            broker_uuid: BrokerUuid::default(),
            endpoints: Vec::new(),
            rpc: BrokerEndpoint {
                name: "rpc".to_owned(),
                host: "127.0.0.1".to_owned(),
                port,
            },
            rack: None,
            software_version: String::new(),
            fenced,
            in_controlled_shutdown: false,
            reads_elr: true,
        });
        let delta = image.apply(1, &[record]).unwrap();
        (image, delta)
    }

    #[test]
    fn a_broker_that_was_fenced_just_now_stays_listed() {
        let liveness = Liveness::new(Peers::new(Resolver::default()));
        let (fenced, delta) = image(true, 1);
        let broker = fenced.broker(NodeId(1)).unwrap();
        assert!(!liveness.is_listed(broker), "fenced before anybody looked");
        liveness.apply(&fenced, &delta);
        assert!(liveness.is_listed(broker));
    }

    #[test]
    fn a_broker_stays_listed_when_a_request_sees_first_that_it_is_fenced() {
        let liveness = Liveness::new(Peers::new(Resolver::default()));
        let (unfenced, delta) = image(false, 1);
        liveness.apply(&unfenced, &delta);
        let (fenced, delta) = image(true, 1);
        let broker = fenced.broker(NodeId(1)).expect("it is registered");
        assert!(liveness.is_listed(broker), "not noticed yet");
        liveness.apply(&fenced, &delta);
        assert!(liveness.is_listed(broker), "noticed");
    }

    #[test]
    fn a_broker_that_was_fenced_long_ago_is_not_listed() {
        let liveness = Liveness::new(Peers::new(Resolver::default()));
        let (fenced, delta) = image(true, 1);
        let long_ago = Instant::now()
            .checked_sub(LISTED)
            .expect("the clock has run for that long");
        let before = Fencing::Since(long_ago);
        liveness.fencing.lock().insert(NodeId(1), before);
        liveness.apply(&fenced, &delta);
        let broker = fenced.broker(NodeId(1)).expect("it is registered");
        assert!(!liveness.is_listed(broker));
    }

    #[tokio::test]
    async fn a_process_that_does_not_listen_is_dead_and_one_that_does_is_not() {
        let liveness = Liveness::new(Peers::new(Resolver::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (image, _) = image(false, port);
        let nodes = BTreeSet::from([NodeId(1), NodeId(2)]);
        assert_eq!(liveness.dead(&image, nodes.clone()).await, BTreeSet::new());
        drop(listener);
        liveness.alive.lock().clear(); // its answer is not fresh any more
        let dead = liveness.dead(&image, nodes).await;
        assert_eq!(dead, BTreeSet::from([NodeId(1)]), "2 is not registered");
    }
}
