//! What do the two tasks of a connection do? One writes frames, one reads them and finds who waits.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::response_correlation_id;

use crate::connector::Stream;
use crate::error::ClientError;

/// A frame to write, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Vec<Bytes>,
    pub(super) answer: Option<(i32, Waiter)>,
}

/// Who waits for an answer; its place among the in-flight requests is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) sender: oneshot::Sender<Result<Bytes, ClientError>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Requests without an answer; bounded by the connection's semaphore.
#[derive(Debug)]
pub(super) struct Pending {
    address: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiters: HashMap<i32, Waiter>,
    closed: Option<Arc<str>>,
}

impl Pending {
    pub(super) fn new(address: Arc<str>) -> Self {
        Self {
            address,
            state: Mutex::default(),
        }
    }

    /// Registers a waiter; `false` when the connection is closed already (the waiter has its error then).
    fn add(&self, correlation_id: i32, waiter: Waiter) -> bool {
        let mut state = self.state.lock();
        if let Some(reason) = state.closed.clone() {
            drop(state);
            // the caller may have stopped waiting, which is its right
            let _ = waiter.sender.send(Err(self.closed_because(reason)));
            return false;
        }
        state.waiters.insert(correlation_id, waiter);
        true
    }

    fn take(&self, correlation_id: i32) -> Option<Waiter> {
        self.state.lock().waiters.remove(&correlation_id)
    }

    /// Fails every waiter; the first reason stays.
    pub(super) fn close(&self, reason: &str) {
        let (waiters, reason) = {
            let mut state = self.state.lock();
            let reason = state
                .closed
                .get_or_insert_with(|| Arc::from(reason))
                .clone();
            (std::mem::take(&mut state.waiters), reason)
        };
        for waiter in waiters.into_values() {
            // the caller may have stopped waiting, which is its right
            let _ = waiter
                .sender
                .send(Err(self.closed_because(Arc::clone(&reason))));
        }
    }

    pub(super) fn closed(&self) -> ClientError {
        let reason = self.state.lock().closed.clone();
        self.closed_because(reason.unwrap_or_else(|| Arc::from("closed by this client")))
    }

    fn closed_because(&self, reason: Arc<str>) -> ClientError {
        ClientError::Closed {
            address: Arc::clone(&self.address),
            reason,
        }
    }
}

/// Starts both tasks; either one's end ends the other.
pub(super) fn spawn<S: Stream>(
    stream: S,
    queue: mpsc::Receiver<Outgoing>,
    pending: Arc<Pending>,
    stop: CancellationToken,
    max_response_bytes: usize,
) {
    let (reader, writer) = tokio::io::split(stream);
    let (writer_stop, writer_pending) = (stop.clone(), Arc::clone(&pending));
    tokio::spawn(async move {
        let result = tokio::select! {
            result = write_loop(writer, queue, &writer_pending) => result,
            () = writer_stop.cancelled() => Ok(()),
        };
        finish(result, &writer_pending, &writer_stop);
    });
    tokio::spawn(async move {
        let result = tokio::select! {
            result = read_loop(reader, &pending, max_response_bytes) => result,
            () = stop.cancelled() => Ok(()),
        };
        finish(result, &pending, &stop);
    });
}

fn finish(result: io::Result<()>, pending: &Pending, stop: &CancellationToken) {
    let reason = result.map_or_else(|e| e.to_string(), |()| "closed by this client".to_owned());
    pending.close(&reason);
    stop.cancel();
}

async fn write_loop<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Outgoing>,
    pending: &Pending,
) -> io::Result<()> {
    while let Some(Outgoing { frame, answer }) = queue.recv().await {
        if let Some((correlation_id, waiter)) = answer
            && !pending.add(correlation_id, waiter)
        {
            return Ok(());
        }
        writer.write_all_buf(&mut Chunks(frame.into())).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}

async fn read_loop<R: AsyncRead + Unpin>(
    reader: R,
    pending: &Pending,
    max_bytes: usize,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    loop {
        let length = match reader.read_u32().await {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(by_broker("the broker closed it"));
            }
            Err(e) => return Err(e),
        };
        if length > max_bytes {
            return Err(by_broker(&format!(
                "an answer of {length} bytes is over the limit of {max_bytes}"
            )));
        }
        let mut frame = BytesMut::with_capacity(length);
        while frame.len() < length {
            let rest = u64::try_from(length - frame.len()).unwrap_or(u64::MAX);
            if (&mut reader).take(rest).read_buf(&mut frame).await? == 0 {
                return Err(by_broker("the broker closed it in the middle of an answer"));
            }
        }
        let frame = frame.freeze();
        let id = response_correlation_id(&frame).map_err(|e| by_broker(&e.to_string()))?;
        let Some(waiter) = pending.take(id) else {
            return Err(by_broker(&format!(
                "an answer to correlation id {id}, which nobody asked"
            )));
        };
        // the caller may have stopped waiting, which is its right
        let _ = waiter.sender.send(Ok(frame));
    }
}

fn by_broker(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The pieces of a frame, written with as few system calls as the stream allows.
struct Chunks(VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let filled = into
            .iter_mut()
            .zip(&self.0)
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(front) = self.0.front_mut() else {
                return;
            };
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
    }
}
