//! A service whose requests end when the test says so, behind a real socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use wire::{ApiKey, FrameError, RequestFrame};

use crate::kafka::connection::{Answer, ConnectionLimits, Peer, Service};
use crate::kafka::listener::{ConnectionCounts, Connections, Listener};

/// Answers with the correlation id alone. Fetch (key 1) waits to be released, produce (key 0) too and may overlap;
/// heartbeats (key 12) are answered at once.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) started: Mutex<Vec<i32>>,
    waiting: Mutex<HashMap<i32, oneshot::Sender<()>>>,
    arrived: tokio::sync::Notify,
}

impl Fake {
    /// Waits until the request was started, then lets it end.
    pub(super) async fn release(&self, correlation_id: i32) {
        self.until_started(correlation_id).await;
        let waiting = self.waiting.lock().remove(&correlation_id);
        waiting.expect("it waits").send(()).expect("it is polled");
    }

    pub(super) async fn until_started(&self, correlation_id: i32) {
        loop {
            let arrived = self.arrived.notified();
            if self.started.lock().contains(&correlation_id) {
                return;
            }
            tokio::time::timeout(Duration::from_secs(10), arrived)
                .await
                .expect("the request is started");
        }
    }
}

impl Service for Fake {
    fn may_overlap(&self, frame: &RequestFrame) -> bool {
        frame.api_key == ApiKey::Produce
    }

    fn call(&self, _peer: &Arc<Peer>, frame: RequestFrame) -> BoxFuture<'static, Answer> {
        let id = frame.correlation_id;
        self.started.lock().push(id);
        let mut wait = None;
        if matches!(frame.api_key, ApiKey::Produce | ApiKey::Fetch) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.lock().insert(id, sender);
            wait = Some(receiver);
        }
        self.arrived.notify_waiters();
        self.arrived.notify_one();
        let silent = frame.api_key == ApiKey::Metadata;
        Box::pin(async move {
            if let Some(wait) = wait {
                let _ = wait.await; // the test ended
            }
            if silent {
                return Answer::Silent;
            }
            let mut head = BytesMut::new();
            head.put_i32(6);
            head.put_i32(id);
            Answer::Frame(vec![head.freeze(), Bytes::from_static(b"ok")])
        })
    }

    fn unknown(&self, _error: &FrameError) -> Answer {
        Answer::Close
    }
}

/// A listener with the fake behind it.
pub(super) struct Server {
    pub(super) fake: Arc<Fake>,
    pub(super) connections: Arc<Connections>,
    pub(super) stop: CancellationToken,
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

pub(super) const MAX_FRAME: usize = 1000;

impl Server {
    pub(super) async fn start(per_ip: usize, max_idle: Option<Duration>) -> Self {
        let listener = Listener::bind("test", "127.0.0.1", 0).await.unwrap();
        let limits = ConnectionLimits {
            max_frame: MAX_FRAME,
            max_in_flight: 4,
            max_in_flight_bytes: 10_000,
            request_memory: Arc::new(Semaphore::new(64)),
            request_memory_kib: 64,
            max_idle,
            max_stall: Duration::from_millis(300),
            drain: Duration::from_secs(1),
        };
        let connections = Connections::new(ConnectionCounts { total: 100, per_ip });
        let (fake, stop) = (Arc::new(Fake::default()), CancellationToken::new());
        let address = listener.address();
        let run = listener.run(fake.clone(), limits, connections.clone(), stop.clone());
        Self {
            fake,
            connections,
            stop,
            address,
            task: tokio::spawn(run),
        }
    }

    pub(super) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    pub(super) async fn stopped(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .expect("stops in time")
            .unwrap();
    }
}

/// One connection.
pub(super) struct Client(pub(super) TcpStream);

/// A request frame without a body: key, version 0, correlation id, no client id.
pub(super) fn request(key: i16, correlation_id: i32) -> Vec<u8> {
    let mut frame = vec![];
    frame.put_i32(10);
    frame.put_i16(key);
    frame.put_i16(if key < 2 { 4 } else { 0 });
    frame.put_i32(correlation_id);
    frame.put_i16(-1);
    frame
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The correlation id of the next answer.
    pub(super) async fn answer(&mut self) -> i32 {
        let mut answer = [0; 10];
        let read = self.0.read_exact(&mut answer);
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .expect("an answer comes")
            .expect("the connection is open");
        assert_eq!(&answer[8..], b"ok");
        i32::from_be_bytes(answer[4..8].try_into().unwrap())
    }

    /// Asserts that the server closes the connection without another answer.
    pub(super) async fn closed(mut self) {
        let mut rest = Vec::new();
        let end = self.0.read_to_end(&mut rest);
        let end = tokio::time::timeout(Duration::from_secs(10), end).await;
        // A reset is as good: the server did not read all that was sent.
        let _ = end.expect("the connection is closed");
        assert!(rest.is_empty(), "{rest:?}");
    }
}
