//! How does a leader push what it appends to one follower, over one stream, within the follower's credit?
//!
//! A partition with something to send is in the stream's ready queue once. The stream's own task takes partitions
//! in turn, reads a piece of each and coalesces the pieces into one frame of about 1 MiB, so a busy partition does
//! not starve the others, and a slow follower costs no memory: what is not sent yet is read later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use broker_core::partition::FollowerSession;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rpc::replication::v1 as proto;
use tokio::sync::Notify;
use tokio::time::Instant;
use types::{BrokerEpoch, LeaderEpoch, NodeId, Offset};

use super::push_read::PushRead;
use super::replica::Replica;
use super::throttle::{LOOK_AGAIN, Pace};

/// A frame is sent when its blob has this size, or when nothing more is ready. Larger ones gain nothing
/// (`docs/internals/performance.md`).
const FRAME_BYTES: usize = 1 << 20;
/// What one partition may add to a frame while others wait.
const PARTITION_BYTES: usize = 512 * 1024;

/// Which of the two streams of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StreamKind {
    /// Batches as they are appended.
    Live,
    /// Older batches, for partitions that are far behind.
    CatchUp,
}

/// Bytes and frames exchanged with one peer, for the metrics.
#[derive(Debug, Default)]
pub struct PeerTraffic {
    /// Bytes of record batches that this broker, as leader, sent to the peer.
    pub batch_bytes_out: AtomicU64,
    /// Frames that this broker, as leader, sent to the peer.
    pub frames_out: AtomicU64,
    /// Bytes of record batches that this broker, as follower, received from the peer.
    pub batch_bytes_in: AtomicU64,
    /// Frames that this broker, as follower, received from the peer.
    pub frames_in: AtomicU64,
}

/// The leader's end of one stream of one follower.
#[derive(Debug)]
pub(crate) struct PushStream {
    pub(crate) peer: NodeId,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) kind: StreamKind,
    traffic: Arc<PeerTraffic>,
    queue: Mutex<Queue>,
    wake: Notify,
    /// Blob bytes that may still be sent; goes below zero by one frame at most.
    credit: AtomicI64,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Arc<PushPartition>>,
    /// Those that a throttle holds back, and when to look at them again.
    held: Vec<(Instant, Arc<PushPartition>)>,
    /// Answers to starts; the follower has one start per partition outstanding, so there are never more than
    /// partitions.
    answers: Vec<proto::PartitionAnswer>,
    closed: bool,
}

/// A partition that a follower has started on a stream.
#[derive(Debug)]
pub(crate) struct PushPartition {
    pub(crate) replica: Arc<Replica>,
    pub(crate) stream: Arc<PushStream>,
    pub(crate) session: u64,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) position: Mutex<PushPosition>,
    /// It is in the stream's queue, ready or held.
    queued: AtomicBool,
    held: AtomicBool,
    closed: AtomicBool,
}

/// What was sent of a partition so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PushPosition {
    /// The next offset to read.
    pub(crate) next: Offset,
    /// Where the follower's log ends when it has all that was sent; below `next` after a hole that compaction left.
    pub(crate) sent: Offset,
    /// The last HW that was sent.
    pub(crate) high_watermark: Offset,
    /// The last log start that was sent.
    pub(crate) log_start: Offset,
    /// What the follower lets come, if it throttles the partition.
    pub(crate) pace: Option<Pace>,
}

impl PushPosition {
    /// So many bytes up to `next` were read; none where compaction left a hole.
    pub(crate) fn advance(&mut self, next: Offset, bytes: usize) {
        self.next = next;
        if bytes > 0 {
            self.sent = next;
        }
        if let Some(pace) = &mut self.pace {
            pace.on_sent(Instant::now(), bytes);
        }
    }
}

impl PushPartition {
    pub(crate) const fn new(
        replica: Arc<Replica>,
        stream: Arc<PushStream>,
        session: u64,
        leader_epoch: LeaderEpoch,
        position: PushPosition,
    ) -> Self {
        Self {
            replica,
            stream,
            session,
            leader_epoch,
            position: Mutex::new(position),
            queued: AtomicBool::new(false),
            held: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The follower says how much it takes from now on.
    pub(crate) fn set_pace(&self, pace: Pace) {
        self.position.lock().pace = Some(pace);
        self.release();
    }

    /// Looks now whether it is still to be held back.
    pub(crate) fn release(&self) {
        if self.held.load(Ordering::Acquire) {
            self.stream
                .release(|_, push| std::ptr::eq(Arc::as_ptr(push), self));
            self.stream.wake.notify_one();
        }
    }

    /// Nothing is sent for it any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// There may be something to send.
    pub(crate) fn mark(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let mut queue = self.stream.queue.lock();
            if !queue.closed {
                queue.ready.push_back(Arc::clone(self));
                drop(queue);
                self.stream.wake.notify_one();
            }
        }
    }
}

impl PushStream {
    pub(crate) fn new(
        peer: NodeId,
        broker_epoch: BrokerEpoch,
        kind: StreamKind,
        credit: i64,
        traffic: Arc<PeerTraffic>,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            broker_epoch,
            kind,
            traffic,
            queue: Mutex::default(),
            wake: Notify::new(),
            credit: AtomicI64::new(credit),
        })
    }

    /// A session of the follower on this stream.
    pub(crate) const fn session(&self, session: u64) -> FollowerSession {
        FollowerSession {
            node: self.peer,
            broker_epoch: self.broker_epoch,
            session,
        }
    }

    /// The follower can take `bytes` more.
    pub(crate) fn grant(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 4);
        self.credit.fetch_add(bytes, Ordering::AcqRel);
        self.wake.notify_one();
    }

    pub(crate) fn answer(&self, answer: proto::PartitionAnswer) {
        self.queue.lock().answers.push(answer);
        self.wake.notify_one();
    }

    /// Ends the stream: nothing is queued any more, [`Self::next_frame`] gives `None`.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.ready.clear();
        queue.held.clear();
        queue.answers.clear();
        drop(queue);
        self.wake.notify_one();
    }

    /// Waits until there is something to send and gives it; `None` when the stream is closed.
    pub(crate) async fn next_frame(&self) -> Option<proto::LeaderFrame> {
        loop {
            let frame = self.fill_frame().await?;
            if let Some(frame) = frame {
                self.traffic.frames_out.fetch_add(1, Ordering::Relaxed);
                let bytes = frame.blob.len() as u64;
                self.traffic
                    .batch_bytes_out
                    .fetch_add(bytes, Ordering::Relaxed);
                return Some(frame);
            }
            let due = self.queue.lock().held.iter().map(|(at, _)| *at).min();
            match due {
                None => self.wake.notified().await,
                Some(at) => {
                    // Either way there may be something to send.
                    let _ = tokio::time::timeout_at(at, self.wake.notified()).await;
                }
            }
        }
    }

    /// One frame from what is ready now: `Some(None)` if nothing is, `None` if the stream is closed.
    async fn fill_frame(&self) -> Option<Option<proto::LeaderFrame>> {
        let mut filling = Filling::default();
        let mut starved = Vec::new();
        if self.queue.lock().closed {
            return None;
        }
        self.release(|due, _| due <= Instant::now());
        while filling.bytes < FRAME_BYTES {
            let Some(push) = self.queue.lock().ready.pop_front() else {
                break;
            };
            push.queued.store(false, Ordering::Release);
            let credit = self.credit.load(Ordering::Acquire) - filling.bytes as i64;
            let room = FRAME_BYTES - filling.bytes;
            let max = if credit > 0 {
                room.min(PARTITION_BYTES)
            } else {
                0
            };
            match Replica::read_for_push(&push, max).await {
                PushRead::Nothing => {}
                PushRead::Starved { position } => {
                    filling.positions.extend(position);
                    starved.push(push);
                }
                PushRead::Held { position, until } => {
                    filling.positions.extend(position);
                    self.hold(push, until);
                }
                PushRead::Position(position) => filling.positions.push(position),
                PushRead::Batches {
                    header,
                    chunks,
                    more,
                } => {
                    filling.add(header, chunks);
                    if more {
                        push.mark();
                    }
                }
            }
        }
        self.put_back(starved);
        self.credit
            .fetch_sub(filling.bytes as i64, Ordering::AcqRel);
        // Last: a partition is answered before it is ready, so the answer to each start whose batches are in this frame
        // is in it, too, or was in an earlier one. Batches that came first would be dropped by the follower.
        filling.answers = std::mem::take(&mut self.queue.lock().answers);
        Some(filling.into_frame())
    }

    /// A throttle lets nothing pass before `until`. It is looked at before that, too: rates and lists change.
    fn hold(&self, push: Arc<PushPartition>, until: Instant) {
        let mut queue = self.queue.lock();
        if !queue.closed && !push.queued.swap(true, Ordering::AcqRel) {
            push.held.store(true, Ordering::Release);
            let due = until.min(Instant::now() + LOOK_AGAIN);
            queue.held.push((due, push));
        }
    }

    /// Makes those that are held ready of which `now` says so, in the order in which they came.
    fn release(&self, now: impl Fn(Instant, &Arc<PushPartition>) -> bool) {
        let mut queue = self.queue.lock();
        let Queue { ready, held, .. } = &mut *queue;
        for (_, push) in held.extract_if(.., |(due, push)| now(*due, push)) {
            push.held.store(false, Ordering::Release);
            ready.push_back(push);
        }
    }

    /// Those without credit stay ready; the next grant wakes the stream.
    fn put_back(&self, starved: Vec<Arc<PushPartition>>) {
        if starved.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        for push in starved {
            if !queue.closed && !push.queued.swap(true, Ordering::AcqRel) {
                queue.ready.push_back(push);
            }
        }
    }
}

/// A frame while it is put together.
#[derive(Debug, Default)]
struct Filling {
    headers: Vec<proto::PartitionBatches>,
    positions: Vec<proto::LeaderPosition>,
    answers: Vec<proto::PartitionAnswer>,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Filling {
    fn add(&mut self, header: proto::PartitionBatches, chunks: Vec<Bytes>) {
        self.bytes += header.bytes as usize;
        self.headers.push(header);
        self.chunks.extend(chunks);
    }

    fn into_frame(mut self) -> Option<proto::LeaderFrame> {
        if self.headers.is_empty() && self.positions.is_empty() && self.answers.is_empty() {
            return None;
        }
        let blob = if self.chunks.len() == 1 {
            self.chunks.remove(0)
        } else {
            let mut blob = BytesMut::with_capacity(self.bytes);
            for chunk in &self.chunks {
                blob.extend_from_slice(chunk);
            }
            blob.freeze()
        };
        Some(proto::LeaderFrame {
            version: super::convert::PROTOCOL_VERSION,
            batches: self.headers,
            blob,
            positions: self.positions,
            answers: self.answers,
        })
    }
}
