//! How are the requests of one client connection answered: in order, with bounded memory, whatever the client sends?
//!
//! One task per connection reads frames, starts requests and writes responses. Requests that may overlap (produce)
//! are started in the order they came, each run up to its first wait before the next is started, so what they append is
//! in that order; every other request waits for all before it, as in Kafka. Responses go out in request order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker_core::partition::RefusedBatches;
use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wire::{FrameError, RequestFrame};

use super::frames::{FrameReadError, FrameReader};

/// What one answer is.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A whole response frame in pieces.
    Frame(Vec<Bytes>),
    /// Nothing is sent (produce with acks=0).
    Silent,
    /// The connection is closed: what Kafka does with what it cannot read or must not answer.
    Close,
}

/// Who is at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The listener it came through.
    pub(crate) listener: Arc<str>,
    /// Idempotent batches that it has to send again before those behind them.
    pub(crate) refused: Mutex<RefusedBatches>,
}

/// What turns requests into answers.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether the request may run beside earlier ones of its connection.
    fn may_overlap(&self, frame: &RequestFrame) -> bool;
    /// Starts a request. It has taken its place in the order of effects when it waits for the first time.
    fn call(&self, peer: &Arc<Peer>, frame: RequestFrame) -> BoxFuture<'static, Answer>;
    /// The answer to a request whose API is not even known.
    fn unknown(&self, error: &FrameError) -> Answer;
}

/// Limits of connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// `socket.request.max.bytes`
    pub(crate) max_frame: usize,
    /// Requests of one connection that are read but not answered. Clients keep 5 (Java) to a few hundred
    /// (librdkafka's small batches) in flight; the bytes are bounded too.
    pub(crate) max_in_flight: usize,
    /// Bytes of those requests beyond which no more is read (one request may be larger).
    pub(crate) max_in_flight_bytes: usize,
    /// Bytes of requests of all connections, in KiB permits.
    pub(crate) request_memory: Arc<Semaphore>,
    /// Permits `request_memory` was made with.
    pub(crate) request_memory_kib: u32,
    /// `connections.max.idle.ms`; `None` for never.
    pub(crate) max_idle: Option<Duration>,
    /// How long a frame may stall once it has begun, and a client may leave a response unread.
    pub(crate) max_stall: Duration,
    /// How long the last answers may take after the client or the broker ended the connection.
    pub(crate) drain: Duration,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Read(#[from] FrameReadError),
    #[error("failed to write to the connection: {0}")]
    Write(#[source] std::io::Error),
    #[error("client did not read its response for {0:?}")]
    Unread(Duration),
    #[error("request was answered by closing the connection")]
    Refused,
}

enum Slot {
    Running(BoxFuture<'static, Answer>, Held),
    Done(Answer),
}

/// Memory that a request holds until it is answered.
struct Held {
    size: usize,
    _permit: OwnedSemaphorePermit,
}

struct Waiting {
    frame: Result<RequestFrame, FrameError>,
    held: Held,
}

/// Serves `stream` until the client leaves, misbehaves or `stop` is cancelled.
pub(crate) async fn serve<S, T>(
    stream: S,
    peer: Peer,
    service: Arc<T>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: Service,
{
    let mut connection = Connection {
        reader: FrameReader::new(limits.max_frame),
        stream,
        peer: Arc::new(peer),
        service,
        limits,
        waiting: VecDeque::new(),
        slots: VecDeque::new(),
        overlapping: true,
        bytes: 0,
    };
    let ended = connection.run(&stop).await;
    match &ended {
        Ok(()) => connection.finish().await,
        Err(error) => {
            debug!(peer = %connection.peer.address, %error, "closing a connection");
            Err(ended.err().unwrap_or(ConnectionError::Refused))
        }
    }
}

struct Connection<S, T> {
    reader: FrameReader,
    stream: S,
    peer: Arc<Peer>,
    service: Arc<T>,
    limits: ConnectionLimits,
    /// Read but not started.
    waiting: VecDeque<Waiting>,
    /// Started but not answered.
    slots: VecDeque<Slot>,
    /// Whether all of `slots` may overlap.
    overlapping: bool,
    /// Bytes of all requests in `waiting` and running in `slots`.
    bytes: usize,
}

enum Step {
    Answered(Answer),
    Frame(Bytes, OwnedSemaphorePermit),
    Ended,
    Stopped,
    Idle,
}

impl<S, T> Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: Service,
{
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), ConnectionError> {
        loop {
            match self.step(stop).await? {
                Step::Answered(answer) => self.write(answer).await?,
                Step::Frame(frame, permit) => {
                    let held = Held {
                        size: frame.len(),
                        _permit: permit,
                    };
                    self.bytes += held.size;
                    let frame = RequestFrame::parse(frame);
                    self.waiting.push_back(Waiting { frame, held });
                }
                Step::Ended | Step::Stopped | Step::Idle => return Ok(()),
            }
            self.start_ready().await;
        }
    }

    /// Answers what was read before the end, for a bounded time.
    async fn finish(&mut self) -> Result<(), ConnectionError> {
        let deadline = tokio::time::Instant::now() + self.limits.drain;
        while !self.slots.is_empty() {
            let answer = poll_fn(|cx| poll_front(&mut self.slots, &mut self.bytes, cx));
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(answer) => self.write(answer).await?,
                Err(_) => break,
            }
            self.start_ready().await;
        }
        // The other side may be gone already; there is nobody left to tell.
        let _ = self.stream.shutdown().await;
        Ok(())
    }

    async fn step(&mut self, stop: &CancellationToken) -> Result<Step, ConnectionError> {
        let room = self.slots.len() + self.waiting.len() < self.limits.max_in_flight
            && (self.bytes < self.limits.max_in_flight_bytes || self.is_quiet());
        let quiet = self.is_quiet() && !self.reader.is_within_frame();
        let max_idle = self.limits.max_idle.filter(|_| quiet);
        let Self {
            reader,
            stream,
            limits,
            slots,
            bytes,
            ..
        } = self;
        tokio::select! {
            biased;
            answer = poll_fn(|cx| poll_front(slots, bytes, cx)), if !slots.is_empty() => {
                Ok(Step::Answered(answer))
            }
            () = stop.cancelled() => Ok(Step::Stopped),
            frame = read_frame(reader, stream, limits), if room => {
                Ok(frame?.map_or(Step::Ended, |(frame, permit)| Step::Frame(frame, permit)))
            }
            () = sleep_for(max_idle), if quiet => Ok(Step::Idle),
        }
    }

    fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.waiting.is_empty()
    }

    /// Starts whatever may start, in order; each runs to its first wait.
    async fn start_ready(&mut self) {
        while let Some(next) = self.waiting.front() {
            let overlaps = match &next.frame {
                Ok(frame) => self.service.may_overlap(frame),
                Err(_) => false,
            };
            let may_start = self.slots.is_empty() || (overlaps && self.overlapping);
            if !may_start {
                return;
            }
            let Some(Waiting { frame, held }) = self.waiting.pop_front() else {
                return;
            };
            self.overlapping = overlaps;
            let mut running = match frame {
                Ok(frame) => self.service.call(&self.peer, frame),
                Err(error) => {
                    debug!(peer = %self.peer.address, %error, "unreadable request");
                    let answer = self.service.unknown(&error);
                    self.bytes -= held.size;
                    self.slots.push_back(Slot::Done(answer));
                    continue;
                }
            };
            let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
            let slot = match first {
                Poll::Ready(answer) => {
                    self.bytes -= held.size;
                    Slot::Done(answer)
                }
                Poll::Pending => Slot::Running(running, held),
            };
            self.slots.push_back(slot);
        }
    }

    async fn write(&mut self, answer: Answer) -> Result<(), ConnectionError> {
        let chunks = match answer {
            Answer::Frame(chunks) => chunks,
            Answer::Silent => return Ok(()),
            Answer::Close => return Err(ConnectionError::Refused),
        };
        let stall = self.limits.max_stall;
        let mut queue = VecDeque::from(chunks);
        while !queue.is_empty() {
            let written = tokio::time::timeout(stall, write_some(&mut self.stream, &queue))
                .await
                .map_err(|_| ConnectionError::Unread(stall))?
                .map_err(ConnectionError::Write)?;
            advance(&mut queue, written);
        }
        Ok(())
    }
}

/// Lets every running request make progress and gives the oldest one's answer when it is there.
fn poll_front(slots: &mut VecDeque<Slot>, bytes: &mut usize, cx: &mut Context<'_>) -> Poll<Answer> {
    for slot in slots.iter_mut() {
        if let Slot::Running(running, held) = slot
            && let Poll::Ready(answer) = Pin::new(running).poll(cx)
        {
            *bytes -= held.size;
            *slot = Slot::Done(answer);
        }
    }
    if matches!(slots.front(), Some(Slot::Done(_)))
        && let Some(Slot::Done(answer)) = slots.pop_front()
    {
        return Poll::Ready(answer);
    }
    Poll::Pending
}

/// Reads one frame, after its memory was granted; `None` at the end of the stream.
async fn read_frame<S: AsyncRead + Unpin>(
    reader: &mut FrameReader,
    stream: &mut S,
    limits: &ConnectionLimits,
) -> Result<Option<(Bytes, OwnedSemaphorePermit)>, FrameReadError> {
    let size = loop {
        if let Some(size) = reader.frame_length()? {
            break size;
        }
        if !reader.fill_within(stream, limits.max_stall).await? {
            return Ok(None);
        }
    };
    let kib = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
    let permit = limits
        .request_memory
        .clone()
        .acquire_many_owned(kib.clamp(1, limits.request_memory_kib))
        .await
        .map_err(|_| std::io::Error::other("the broker stops"))?;
    loop {
        if let Some(frame) = reader.take()? {
            return Ok(Some((frame, permit)));
        }
        if !reader.fill_within(stream, limits.max_stall).await? {
            return Ok(None);
        }
    }
}

async fn sleep_for(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Pieces handed to one system call.
const MAX_SLICES: usize = 64;

async fn write_some<S: AsyncWrite + Unpin>(
    stream: &mut S,
    queue: &VecDeque<Bytes>,
) -> std::io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = queue
        .iter()
        .take(MAX_SLICES)
        .map(|chunk| IoSlice::new(chunk))
        .collect();
    match stream.write_vectored(&slices).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

fn advance(queue: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = queue.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        queue.pop_front();
    }
}
