//! How does a follower get the batches of all the partitions that one leader has for it?
//!
//! Per (leader, stream kind) there is one link: a task with one long-lived gRPC stream over a connection of its own,
//! so that catching up never holds back what is live. Partitions come and go on an open stream. When it breaks, the
//! link connects again at once, then every [`BACKOFF_MAX`] at most.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rpc::replication::v1 as proto;
use rpc::replication::v1::replication_client::ReplicationClient;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use types::NodeId;

use super::convert::{self, PartitionKey};
use super::follow::FollowStep;
use super::push::{PeerTraffic, StreamKind};
use super::replica::Replica;
use super::shared::{Shared, stopped};

/// Bytes a leader may send ahead of our appends: some frames of 1 MiB, twice the HTTP/2 window.
const CREDIT_BYTES: u64 = 4 << 20;
/// Pauses between attempts to reach a leader.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(80);
/// Pause before a partition is started again that the leader does not lead (yet).
const START_LATER: Duration = Duration::from_millis(20);
/// How often partitions are looked for whose start the leader does not answer.
const START_CHECK: Duration = Duration::from_secs(1);
/// Frames to the leader that wait for the connection: the leader's reading task never stops for long.
const FRAMES_QUEUED: usize = 16;

/// A peer could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to connect to node {node}: {reason}")]
pub struct PeerError {
    /// The peer.
    pub node: NodeId,
    /// Why.
    pub reason: String,
}

/// How peers are reached: the address comes from the metadata, the name is resolved for each attempt.
#[tonic::async_trait]
pub trait PeerConnector: std::fmt::Debug + Send + Sync + 'static {
    /// A new connection to the peer's gRPC port.
    ///
    /// # Errors
    /// [`PeerError`]; the caller tries again.
    async fn connect(&self, node: NodeId) -> Result<Channel, PeerError>;
}

/// All links of a broker.
#[derive(Debug)]
pub(crate) struct Links {
    this: Weak<Self>,
    shared: Arc<Shared>,
    connector: Arc<dyn PeerConnector>,
    links: Mutex<HashMap<(NodeId, StreamKind), Arc<Link>>>,
    traffic: Mutex<HashMap<NodeId, Arc<PeerTraffic>>>,
    shutdown: watch::Sender<bool>,
    runtime: tokio::runtime::Handle,
}

impl Links {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connector: Arc<dyn PeerConnector>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            shared,
            connector,
            links: Mutex::default(),
            traffic: Mutex::default(),
            shutdown: watch::Sender::new(false),
            runtime,
        })
    }

    /// What was exchanged with a peer.
    pub(crate) fn traffic(&self, node: NodeId) -> Arc<PeerTraffic> {
        Arc::clone(self.traffic.lock().entry(node).or_default())
    }

    pub(crate) fn all_traffic(&self) -> Vec<(NodeId, Arc<PeerTraffic>)> {
        let mut all: Vec<_> = self
            .traffic
            .lock()
            .iter()
            .map(|(node, traffic)| (*node, Arc::clone(traffic)))
            .collect();
        all.sort_by_key(|(node, _)| *node);
        all
    }

    /// The replica follows `leader` from now on.
    pub(crate) fn follow(&self, leader: NodeId, replica: Arc<Replica>) {
        // It may have been catching up in the epoch before.
        let catching_up = self
            .links
            .lock()
            .get(&(leader, StreamKind::CatchUp))
            .map(Arc::clone);
        if let Some(link) = catching_up {
            link.forget(key_of(&replica));
        }
        self.link(leader, StreamKind::Live).want(replica);
    }

    /// The replica follows that leader no more.
    pub(crate) fn unfollow(&self, leader: NodeId, replica: &Replica) {
        for kind in [StreamKind::Live, StreamKind::CatchUp] {
            let link = self.links.lock().get(&(leader, kind)).map(Arc::clone);
            if let Some(link) = link {
                link.forget(key_of(replica));
            }
        }
    }

    /// What throttles the replica changed: its leader holds nothing back that was to wait before.
    pub(crate) fn start_again(&self, leader: NodeId, replica: &Replica) {
        for kind in [StreamKind::Live, StreamKind::CatchUp] {
            let link = self.links.lock().get(&(leader, kind)).map(Arc::clone);
            if let Some(link) = link {
                link.start_again(key_of(replica));
            }
        }
    }

    /// The log of a following replica is durable up to what `progress` says.
    pub(crate) fn progress(&self, leader: NodeId, progress: &proto::FollowerProgress) {
        for kind in [StreamKind::Live, StreamKind::CatchUp] {
            let link = self.links.lock().get(&(leader, kind)).map(Arc::clone);
            if let Some(link) = link {
                link.add_progress(progress.clone());
            }
        }
    }

    /// Addresses may have changed or a peer may be back: those that wait to connect try at once.
    pub(crate) fn retry_now(&self) {
        for link in self.links.lock().values() {
            link.retry.notify_one();
        }
    }

    /// Ends all links.
    pub(crate) fn stop(&self) {
        self.shutdown.send_replace(true);
    }

    fn link(&self, leader: NodeId, kind: StreamKind) -> Arc<Link> {
        let mut links = self.links.lock();
        let link = links.entry((leader, kind)).or_insert_with(|| {
            let link = Arc::new(Link {
                leader,
                kind,
                shared: Arc::clone(&self.shared),
                traffic: self.traffic(leader),
                state: Mutex::default(),
                wake: Notify::new(),
                retry: Notify::new(),
            });
            let running = Arc::clone(&link);
            let (links, connector) = (Weak::clone(&self.this), Arc::clone(&self.connector));
            // Ends with `stop`.
            self.runtime
                .spawn(running.run(links, connector, self.shutdown.subscribe()));
            link
        });
        Arc::clone(link)
    }
}

fn key_of(replica: &Replica) -> PartitionKey {
    (replica.partition.topic_id, replica.partition.partition)
}

/// One stream to one leader.
#[derive(Debug)]
struct Link {
    leader: NodeId,
    kind: StreamKind,
    shared: Arc<Shared>,
    traffic: Arc<PeerTraffic>,
    state: Mutex<LinkState>,
    wake: Notify,
    retry: Notify,
}

/// What a session has to do at which time.
#[derive(Debug)]
struct Timers {
    /// Partitions to start again; each is in it once for each answer that asked for patience.
    later: Vec<(Instant, PartitionKey)>,
    next_check: Instant,
}

impl Timers {
    fn new(now: Instant) -> Self {
        Self {
            later: Vec::new(),
            next_check: now + START_CHECK,
        }
    }

    fn next(&self) -> Instant {
        let later = self.later.iter().map(|(at, _)| *at).min();
        later.map_or(self.next_check, |at| at.min(self.next_check))
    }

    fn due(&mut self, now: Instant) -> Vec<PartitionKey> {
        let due = self.later.extract_if(.., |(at, _)| *at <= now);
        due.map(|(_, key)| key).collect()
    }

    fn check_is_due(&mut self, now: Instant) -> bool {
        let due = self.next_check <= now;
        if due {
            self.next_check = now + START_CHECK;
        }
        due
    }
}

#[derive(Debug, Default)]
struct LinkState {
    wanted: HashMap<PartitionKey, Arc<Replica>>,
    /// To be told to the leader; bounded by the partitions, since each is at most once in each.
    start: Vec<PartitionKey>,
    stop: Vec<PartitionKey>,
    progress: Vec<proto::FollowerProgress>,
}

impl Link {
    fn want(&self, replica: Arc<Replica>) {
        let key = key_of(&replica);
        let mut state = self.state.lock();
        state.wanted.insert(key, replica);
        state.stop.retain(|stopped| *stopped != key);
        if !state.start.contains(&key) {
            state.start.push(key);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn start_again(&self, key: PartitionKey) {
        let mut state = self.state.lock();
        if state.wanted.contains_key(&key) && !state.start.contains(&key) {
            state.start.push(key);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn forget(&self, key: PartitionKey) {
        let mut state = self.state.lock();
        if state.wanted.remove(&key).is_some() {
            state.start.retain(|started| *started != key);
            state.stop.push(key);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn add_progress(&self, progress: proto::FollowerProgress) {
        let mut state = self.state.lock();
        let key = convert::topic_id(&progress.topic_id).map(|id| (id, progress.partition));
        if key.is_some_and(|key| state.wanted.contains_key(&key)) {
            state.progress.push(progress);
            drop(state);
            self.wake.notify_one();
        }
    }

    async fn run(
        self: Arc<Self>,
        links: Weak<Links>,
        connector: Arc<dyn PeerConnector>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut backoff = BACKOFF_MIN;
        loop {
            while self.state.lock().wanted.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = stopped(&mut shutdown) => return,
                }
            }
            let began = Instant::now();
            let attempt = async {
                let channel = connector
                    .connect(self.leader)
                    .await
                    .map_err(|error| Box::new(Status::unavailable(error.to_string())))?;
                self.session(&links, channel).await
            };
            let ended = tokio::select! {
                ended = attempt => ended,
                () = stopped(&mut shutdown) => return,
            };
            self.disconnected();
            match ended {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(status) => {
                    tracing::debug!(leader = %self.leader, kind = ?self.kind, %status, "replication stream to the leader ended");
                    if began.elapsed() > Duration::from_secs(1) {
                        backoff = BACKOFF_MIN;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff) => {}
                        () = self.retry.notified() => {}
                        () = stopped(&mut shutdown) => return,
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Everything has to be started again on the next stream.
    fn disconnected(&self) {
        let mut state = self.state.lock();
        state.start = state.wanted.keys().copied().collect();
        state.stop.clear();
        state.progress.clear();
        let replicas: Vec<_> = state.wanted.values().map(Arc::clone).collect();
        drop(state);
        for replica in replicas {
            replica.on_leader_disconnected();
        }
    }

    async fn session(&self, links: &Weak<Links>, channel: Channel) -> Result<(), Box<Status>> {
        let mut client = ReplicationClient::new(channel)
            .max_decoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(rpc::limits::MESSAGE_BYTES_MAX);
        let (frames, outgoing) = mpsc::channel(FRAMES_QUEUED);
        let closed = || Box::new(Status::unavailable("the stream to the leader is closed"));
        frames.send(self.hello()).await.map_err(|_| closed())?;
        let outgoing = ReceiverStream::new(outgoing);
        let response = match self.kind {
            StreamKind::Live => client.live(outgoing).await,
            StreamKind::CatchUp => client.catch_up(outgoing).await,
        };
        let mut incoming = response.map_err(Box::new)?.into_inner();
        // Not before: a leader that is dead, and replaced meanwhile, is not the one to start anything at.
        let mut frame = self.queued_frame(&[]);
        let mut timers = Timers::new(Instant::now());
        loop {
            if frame != proto::FollowerFrame::default() {
                frames.send(frame).await.map_err(|_| closed())?;
            }
            let reply = self
                .next_reply(links, &mut incoming, &mut timers)
                .await
                .map_err(Box::new)?;
            let Some(reply) = reply else { return Ok(()) };
            frame = reply;
        }
    }

    fn hello(&self) -> proto::FollowerFrame {
        proto::FollowerFrame {
            version: convert::PROTOCOL_VERSION,
            hello: Some(proto::FollowerHello {
                cluster_id: self.shared.identity.cluster_id.to_string(),
                node_id: self.shared.identity.node.0,
                broker_epoch: self.shared.broker_epoch().0,
                leader_node_id: self.leader.0,
                initial_credit_bytes: CREDIT_BYTES,
            }),
            ..proto::FollowerFrame::default()
        }
    }

    /// Waits for something to happen; gives what to tell the leader then, `None` to close the stream.
    async fn next_reply(
        &self,
        links: &Weak<Links>,
        incoming: &mut Streaming<proto::LeaderFrame>,
        timers: &mut Timers,
    ) -> Result<Option<proto::FollowerFrame>, Status> {
        tokio::select! {
            // In this order: a leader that always has more to send must not keep new partitions waiting.
            biased;
            () = self.wake.notified() => {
                let frame = self.queued_frame(&[]);
                let idle = frame.stop.is_empty() && self.state.lock().wanted.is_empty();
                Ok((!idle).then_some(frame))
            }
            () = tokio::time::sleep_until(timers.next()) => {
                let now = Instant::now();
                let mut keys = timers.due(now);
                if timers.check_is_due(now) {
                    keys.extend(self.overdue());
                }
                Ok(Some(self.queued_frame(&keys)))
            }
            message = incoming.message() => {
                let frame = message?
                    .ok_or_else(|| Status::unavailable("the leader ended the stream"))?;
                Ok(Some(self.handle(links, &frame, &mut timers.later)))
            }
        }
    }

    /// The partitions whose start led to nothing for too long.
    fn overdue(&self) -> Vec<PartitionKey> {
        let state = self.state.lock();
        let wanted: Vec<_> = state.wanted.values().map(Arc::clone).collect();
        drop(state);
        let overdue: Vec<_> = wanted
            .iter()
            .filter(|replica| replica.start_is_overdue(self.leader))
            .map(|replica| key_of(replica))
            .collect();
        if !overdue.is_empty() {
            tracing::warn!(
                leader = %self.leader,
                kind = ?self.kind,
                partitions = overdue.len(),
                "the leader did not answer where to follow it from: asking again"
            );
        }
        overdue
    }

    /// What is queued for the leader, and starts of `again`.
    fn queued_frame(&self, again: &[PartitionKey]) -> proto::FollowerFrame {
        let mut state = self.state.lock();
        let mut keys = std::mem::take(&mut state.start);
        keys.extend(
            again
                .iter()
                .filter(|key| !keys.contains(key))
                .copied()
                .collect::<Vec<_>>(),
        );
        let stop = std::mem::take(&mut state.stop);
        let progress = std::mem::take(&mut state.progress);
        let replicas: Vec<_> = keys
            .iter()
            .filter_map(|key| state.wanted.get(key).map(Arc::clone))
            .collect();
        drop(state);
        proto::FollowerFrame {
            start: replicas
                .iter()
                .filter_map(|replica| replica.start_position(self.leader))
                .collect(),
            stop: stop
                .into_iter()
                .map(|(topic_id, partition)| proto::PartitionRef {
                    topic_id: convert::topic_bytes(topic_id),
                    partition,
                })
                .collect(),
            progress,
            ..proto::FollowerFrame::default()
        }
    }

    fn replica(&self, topic_id: &bytes::Bytes, partition: i32) -> Option<Arc<Replica>> {
        let key = (convert::topic_id(topic_id)?, partition);
        self.state.lock().wanted.get(&key).map(Arc::clone)
    }

    /// Does what a frame says; gives the answer to it.
    fn handle(
        &self,
        links: &Weak<Links>,
        frame: &proto::LeaderFrame,
        later: &mut Vec<(Instant, PartitionKey)>,
    ) -> proto::FollowerFrame {
        use std::sync::atomic::Ordering::Relaxed;
        let bytes = frame.blob.len() as u64;
        self.traffic.frames_in.fetch_add(1, Relaxed);
        self.traffic.batch_bytes_in.fetch_add(bytes, Relaxed);
        let (mut steps, mut allowances) = (Vec::new(), Vec::new());
        for answer in &frame.answers {
            if let Some(replica) = self.replica(&answer.topic_id, answer.partition) {
                let step = replica.on_start_answer(answer);
                steps.push((replica, step));
            }
        }
        let mut at = 0;
        for header in &frame.batches {
            // A frame whose lengths do not fit its blob is damaged: the rest of it is not looked at.
            let Some(batches) = frame.blob.get(at..at + header.bytes as usize) else {
                tracing::warn!(leader = %self.leader, "received a frame shorter than its headers say");
                break;
            };
            at += batches.len();
            if let Some(replica) = self.replica(&header.topic_id, header.partition) {
                let step = replica.append_as_follower(header, batches);
                allowances.extend(replica.allowance_after(batches.len()));
                steps.push((replica, step));
            }
        }
        for position in &frame.positions {
            if let Some(replica) = self.replica(&position.topic_id, position.partition) {
                replica.on_leader_position(position);
            }
        }
        let mut reply = self.take_steps(links, steps, later);
        reply.credit_bytes = bytes;
        reply.allowances = allowances;
        reply
    }

    fn take_steps(
        &self,
        links: &Weak<Links>,
        steps: Vec<(Arc<Replica>, FollowStep)>,
        later: &mut Vec<(Instant, PartitionKey)>,
    ) -> proto::FollowerFrame {
        let mut reply = proto::FollowerFrame::default();
        for (replica, step) in steps {
            match step {
                FollowStep::Nothing => {}
                FollowStep::Progress(progress) => reply.progress.push(progress),
                FollowStep::Start => reply.start.extend(replica.start_position(self.leader)),
                FollowStep::StartLater => {
                    later.push((Instant::now() + START_LATER, key_of(&replica)));
                }
                FollowStep::ChangeStream(change) => self.change_stream(links, &replica, change),
            }
        }
        reply
    }

    fn change_stream(
        &self,
        links: &Weak<Links>,
        replica: &Arc<Replica>,
        change: proto::StreamChange,
    ) {
        let kind = match change {
            proto::StreamChange::ToCatchUp => StreamKind::CatchUp,
            proto::StreamChange::ToLive => StreamKind::Live,
            proto::StreamChange::Unspecified => return,
        };
        let current = self.state.lock().wanted.get(&key_of(replica)).cloned();
        if kind == self.kind || !current.is_some_and(|current| Arc::ptr_eq(&current, replica)) {
            return;
        }
        if let Some(links) = links.upgrade() {
            tracing::debug!(partition = %replica.partition, ?kind, "changing the replication stream");
            self.forget(key_of(replica));
            links.link(self.leader, kind).want(Arc::clone(replica));
        }
    }
}
