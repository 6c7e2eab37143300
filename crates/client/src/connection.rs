//! How do requests share one connection to a broker?
//!
//! Requests are written in the order in which [`Connection::submit`] is called and may overtake nothing; answers are
//! matched by correlation id. At most `max_in_flight` requests are without an answer, further ones wait. A request that
//! times out takes the connection down with it, because later answers would wait behind it. The last clone dropped
//! closes the connection.

mod tasks;
mod versions;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::messages::ApiVersionsRequest;
use wire::{Message, Request, decode_response, encode_request};

use crate::connector::Stream;
use crate::error::ClientError;
use crate::options::ClientOptions;
use tasks::{Outgoing, Pending};
pub use versions::BrokerVersions;

/// A connection to one broker; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Arc<str>,
    client_id: String,
    request_timeout: Duration,
    outgoing: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
    max_in_flight: usize,
    pending: Arc<Pending>,
    next_correlation_id: AtomicI32,
    versions: OnceLock<BrokerVersions>,
    stop: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A request on its way: what its answer is waited for with.
#[derive(Debug)]
#[must_use = "the answer comes by `wait`"]
pub struct InFlight<R> {
    connection: Connection,
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    version: i16,
    timeout: Duration,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Starts the two tasks of a connection, asks the broker for its API versions and authenticates. `address` is for
    /// messages only.
    ///
    /// # Errors
    /// The broker closes the connection, answers nonsense, or refuses the credentials.
    pub async fn open<S: Stream>(
        stream: S,
        address: &str,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let address: Arc<str> = Arc::from(address);
        let stop = CancellationToken::new();
        let pending = Arc::new(Pending::new(Arc::clone(&address)));
        // The semaphore bounds what is queued: a queue of the same length never blocks a writer for long.
        let (outgoing, queue) = mpsc::channel(options.max_in_flight);
        tasks::spawn(
            stream,
            queue,
            Arc::clone(&pending),
            stop.clone(),
            options.max_response_bytes,
        );
        let connection = Self {
            shared: Arc::new(Shared {
                address,
                client_id: options.client_id.clone(),
                request_timeout: options.request_timeout,
                outgoing,
                in_flight: Arc::new(Semaphore::new(options.max_in_flight)),
                max_in_flight: options.max_in_flight,
                pending,
                next_correlation_id: AtomicI32::new(0),
                versions: OnceLock::new(),
                stop,
            }),
        };
        connection.negotiate().await?;
        if let Some(authenticator) = &options.authenticator {
            authenticator.authenticate(&connection).await?;
        }
        Ok(connection)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether it can carry no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// How many requests are without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.max_in_flight
            - self
                .shared
                .in_flight
                .available_permits()
                .min(self.shared.max_in_flight)
    }

    /// Gives the connection up; requests without an answer fail.
    pub fn close(&self, reason: &str) {
        self.shared.pending.close(reason);
        self.shared.stop.cancel();
    }

    /// The API versions that the broker serves.
    #[must_use]
    pub fn versions(&self) -> &BrokerVersions {
        self.shared.versions.get_or_init(BrokerVersions::default)
    }

    /// The newest version of an API that both sides know, not above `at_most`.
    ///
    /// # Errors
    /// There is none.
    pub fn version_of<R: Request>(&self, at_most: i16) -> Result<i16, ClientError> {
        let ours = *R::VERSIONS.start()..=at_most.min(*R::VERSIONS.end());
        let theirs = self.versions().of(R::KEY);
        let newest = theirs.as_ref().map(|theirs| *theirs.end().min(ours.end()));
        match (newest, &theirs) {
            (Some(newest), Some(range)) if newest >= *ours.start() && newest >= *range.start() => {
                Ok(newest)
            }
            _ => Err(ClientError::Version {
                address: Arc::clone(&self.shared.address),
                api: R::KEY,
                theirs,
                ours,
            }),
        }
    }

    /// Sends a request in the newest common version and waits for its answer.
    ///
    /// # Errors
    /// No common version, or anything that [`InFlight::wait`] says. Error codes inside the answer are the caller's.
    pub async fn send<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>(i16::MAX)?;
        self.send_at(request, version).await
    }

    /// Sends a request in a given version and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send_at<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        self.submit(request, version, self.shared.request_timeout)
            .await?
            .wait()
            .await
    }

    /// As [`Connection::send_at`] for requests that wait at the broker by design (join group, a long fetch).
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send_slow<R: Request>(
        &self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let timeout = self.shared.request_timeout.saturating_add(patience);
        self.submit(request, version, timeout).await?.wait().await
    }

    /// Queues a request; when this returns, its place in the order is fixed. The answer is waited for separately.
    ///
    /// # Errors
    /// The version cannot carry the request, or the connection is closed.
    pub async fn submit<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<InFlight<R>, ClientError> {
        let correlation_id = self.next_id();
        let frame = encode_request(
            correlation_id,
            Some(&self.shared.client_id),
            version,
            request,
        )?;
        let answer = self.enqueue(correlation_id, frame).await?;
        Ok(InFlight {
            connection: self.clone(),
            answer,
            version,
            timeout,
            request: PhantomData,
        })
    }

    /// Queues a request that has no answer (produce with acks=0).
    ///
    /// # Errors
    /// As [`Connection::submit`].
    pub async fn send_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        let frame = encode_request(
            self.next_id(),
            Some(&self.shared.client_id),
            version,
            request,
        )?;
        let queued = self
            .shared
            .outgoing
            .send(Outgoing {
                frame,
                answer: None,
            })
            .await;
        queued.map_err(|_| self.shared.pending.closed())
    }

    fn next_id(&self) -> i32 {
        // wraps; an id is reused after 2^31 requests, when its first use is long answered
        self.shared
            .next_correlation_id
            .fetch_add(1, Ordering::Relaxed)
            & i32::MAX
    }

    async fn enqueue(
        &self,
        correlation_id: i32,
        frame: Vec<Bytes>,
    ) -> Result<oneshot::Receiver<Result<Bytes, ClientError>>, ClientError> {
        let shared = &self.shared;
        let permit = tokio::select! {
            permit = Arc::clone(&shared.in_flight).acquire_owned() => permit.map_err(|_| shared.pending.closed())?,
            () = shared.stop.cancelled() => return Err(shared.pending.closed()),
        };
        let (sender, answer) = oneshot::channel();
        let outgoing = Outgoing {
            frame,
            answer: Some((
                correlation_id,
                tasks::Waiter {
                    sender,
                    _permit: permit,
                },
            )),
        };
        shared
            .outgoing
            .send(outgoing)
            .await
            .map_err(|_| shared.pending.closed())?;
        Ok(answer)
    }

    /// Asks for API versions, falling back to version 0 when the broker does not know ours (KIP-511).
    async fn negotiate(&self) -> Result<(), ClientError> {
        let newest = *ApiVersionsRequest::VERSIONS.end();
        let request = ApiVersionsRequest {
            client_software_name: "tidemark".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ApiVersionsRequest::default()
        };
        let mut version = newest;
        loop {
            let sent = self
                .submit(&request, version, self.shared.request_timeout)
                .await?;
            let frame = sent.wait_frame().await?;
            if version > 0 && versions::is_unsupported(&frame) {
                version = 0;
                continue;
            }
            let (_, answer) =
                decode_response::<wire::messages::ApiVersionsResponse>(frame, version)?;
            ClientError::check(answer.error_code, None, || {
                format!("ask {} for its API versions", self.address())
            })?;
            // set once: `open` is the only caller
            self.shared
                .versions
                .get_or_init(|| BrokerVersions::new(&answer));
            return Ok(());
        }
    }
}

impl<R: Request> InFlight<R> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// No answer in time, the connection ends, or the answer is malformed.
    pub async fn wait(self) -> Result<R::Response, ClientError> {
        let version = self.version;
        let frame = self.wait_frame().await?;
        Ok(decode_response::<R::Response>(frame, version)?.1)
    }

    async fn wait_frame(self) -> Result<Bytes, ClientError> {
        let shared = &self.connection.shared;
        match tokio::time::timeout(self.timeout, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(shared.pending.closed()),
            Err(_) => {
                let address = Arc::clone(&shared.address);
                self.connection.close(&format!(
                    "no answer to {} within {:?}",
                    R::KEY,
                    self.timeout
                ));
                Err(ClientError::Timeout {
                    address,
                    api: R::KEY,
                    after: self.timeout,
                })
            }
        }
    }
}
