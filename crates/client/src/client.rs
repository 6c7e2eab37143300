//! Which broker does a request go to, and over which connection?
//!
//! [`Client`] keeps one connection per broker (made when first needed, replaced when broken) and the metadata.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;
use types::{ErrorCode, LeaderEpoch, NodeId};
use wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::{ApiKey, Request};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::metadata::{Broker, Metadata};
use crate::options::{ClientOptions, split_address};
use crate::retry::{self, Retry};

/// How long metadata is waited for: a broker that hangs must not keep the client from asking another one.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// What a coordinator coordinates (`key_type` of FindCoordinator).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorKind {
    /// A consumer group.
    Group,
    /// A transactional id.
    Transaction,
}

/// A cluster as a client sees it; clones share connections and metadata.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// A connection that somebody makes while others wait for it.
type Slot = Arc<OnceCell<Connection>>;

#[derive(Debug)]
struct Inner {
    options: ClientOptions,
    /// By `host:port`; at most one per bootstrap server and broker.
    connections: Mutex<HashMap<String, Slot>>,
    metadata: RwLock<(Arc<Metadata>, Option<Instant>)>,
    /// One refresh at a time: who waits for it uses its result if it asked for the same topics.
    refreshing: AsyncMutex<()>,
}

impl Client {
    /// Connects to one of the bootstrap servers and learns who the brokers are.
    ///
    /// # Errors
    /// Bad options, or no bootstrap server answers within `api_timeout`.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        options.check()?;
        let client = Self {
            inner: Arc::new(Inner {
                options,
                connections: Mutex::default(),
                metadata: RwLock::default(),
                refreshing: AsyncMutex::default(),
            }),
        };
        retry::until_done(
            client.options(),
            || "connect to the cluster".to_owned(),
            || client.refresh_topics(&[]),
        )
        .await?;
        Ok(client)
    }

    /// The client's settings.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// What is known now, without asking.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.inner.metadata.read().0)
    }

    /// Whether the metadata is older than `metadata_max_age`.
    #[must_use]
    pub fn metadata_is_old(&self) -> bool {
        let at = self.inner.metadata.read().1;
        at.is_none_or(|at| at.elapsed() >= self.options().metadata_max_age)
    }

    /// Asks for all topics.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn refresh_all(&self) -> Result<Arc<Metadata>, ClientError> {
        self.refresh(None, false).await
    }

    /// Asks for some topics (none: only the brokers) and adds them to what is known. A topic that does not exist is in
    /// [`Metadata::missing`] afterwards.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn refresh_topics(&self, topics: &[String]) -> Result<Arc<Metadata>, ClientError> {
        self.refresh(Some(topics), false).await
    }

    pub(crate) async fn refresh(
        &self,
        topics: Option<&[String]>,
        create: bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        let _one = self.inner.refreshing.lock().await;
        let connection = self.any_broker().await?;
        let named = |name: &String| MetadataRequestTopic {
            name: Some(name.clone()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let version = connection.version_of::<MetadataRequest>(i16::MAX)?;
        // Version 0 has an empty list for "all" and cannot forbid creation; nobody serves only that any more.
        let answer = connection
            .submit(&request, version.max(4), METADATA_TIMEOUT)
            .await?
            .wait()
            .await?;
        ClientError::check(answer.error_code, None, || "read metadata".to_owned())?;
        let mut slot = self.inner.metadata.write();
        slot.0 = Arc::new(slot.0.merged(answer, topics.is_none()));
        if topics.is_none_or(|t| !t.is_empty()) || slot.1.is_none() {
            slot.1 = Some(Instant::now());
        }
        Ok(Arc::clone(&slot.0))
    }

    /// Takes a leader hint of an error answer (KIP-951) into the metadata.
    pub(crate) fn learn_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: NodeId,
        epoch: LeaderEpoch,
        endpoint: Option<Broker>,
    ) {
        let mut slot = self.inner.metadata.write();
        if let Some(next) = slot
            .0
            .with_leader(topic, partition, leader, epoch, endpoint)
        {
            slot.0 = Arc::new(next);
        }
    }

    /// Metadata that has the topic, asking when it is not known.
    ///
    /// # Errors
    /// The topic does not exist, or no broker answers in time.
    pub async fn topic_metadata(&self, topic: &str) -> Result<Arc<Metadata>, ClientError> {
        let what = || format!("find topic {topic}");
        let mut retry = Retry::new(self.options(), self.options().api_timeout);
        let mut metadata = self.metadata();
        loop {
            if metadata.topics.contains_key(topic) {
                return Ok(metadata);
            }
            let error = match self.refresh_topics(&[topic.to_owned()]).await {
                Ok(fresh) => {
                    metadata = fresh;
                    let Some(code) = metadata.missing.get(topic) else {
                        continue;
                    };
                    let error = ClientError::Broker {
                        what: what(),
                        code: *code,
                        message: None,
                    };
                    if *code == ErrorCode::UnknownTopicOrPartition || !code.is_retriable() {
                        return Err(error);
                    }
                    error
                }
                Err(error) if error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            retry.pause(what, error).await?;
        }
    }

    /// A connection to a broker by its node id.
    ///
    /// # Errors
    /// The broker is not known, or cannot be reached.
    pub async fn broker(&self, id: NodeId) -> Result<Connection, ClientError> {
        let metadata = self.metadata();
        let broker = metadata
            .brokers
            .get(&id)
            .ok_or_else(|| unknown_broker(id))?;
        self.connection_to(&broker.host, broker.port).await
    }

    /// A connection to any broker: an open one, else a known broker, else a bootstrap server.
    ///
    /// # Errors
    /// None can be reached.
    pub async fn any_broker(&self) -> Result<Connection, ClientError> {
        // The least loaded one: a broker that hangs has requests without an answer.
        let open = {
            let connections = self.inner.connections.lock();
            let usable = connections
                .values()
                .filter_map(|slot| slot.get().filter(|c| !c.is_closed()));
            usable.min_by_key(|c| c.in_flight()).cloned()
        };
        if let Some(connection) = open {
            return Ok(connection);
        }
        let metadata = self.metadata();
        let known = metadata.brokers.values().map(|b| (b.host.as_str(), b.port));
        let bootstrap = self
            .options()
            .bootstrap_servers
            .iter()
            .filter_map(|s| split_address(s).ok());
        let mut tried = Vec::new();
        let mut last = None;
        for (host, port) in known.chain(bootstrap) {
            let address = format!("{host}:{port}");
            if tried.contains(&address) {
                continue;
            }
            match self.connection_to(host, port).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
            tried.push(address);
        }
        let last = last.unwrap_or_else(|| ClientError::Config("no bootstrap servers".to_owned()));
        Err(ClientError::NoBroker {
            tried: tried.join(", "),
            last: Box::new(last),
        })
    }

    /// A connection to a broker that takes requests for the controller.
    ///
    /// # Errors
    /// None can be reached.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        if let Some(id) = self.metadata().controller
            && let Ok(connection) = self.broker(id).await
        {
            return Ok(connection);
        }
        self.any_broker().await
    }

    /// A connection to a broker that nobody else uses, for requests that wait there: a broker answers one connection's
    /// requests in order, so a long fetch or a join holds up everything behind it.
    ///
    /// # Errors
    /// The broker is not known, or cannot be reached.
    pub async fn dedicated(&self, id: NodeId) -> Result<Connection, ClientError> {
        let metadata = self.metadata();
        let broker = metadata
            .brokers
            .get(&id)
            .ok_or_else(|| unknown_broker(id))?;
        self.open(
            &broker.host,
            broker.port,
            &format!("{}:{}", broker.host, broker.port),
        )
        .await
    }

    async fn connection_to(&self, host: &str, port: u16) -> Result<Connection, ClientError> {
        let address = format!("{host}:{port}");
        let slot = {
            let mut connections = self.inner.connections.lock();
            let slot = connections.entry(address.clone()).or_default();
            if slot.get().is_some_and(Connection::is_closed) {
                *slot = Slot::default();
            }
            Arc::clone(slot)
        };
        slot.get_or_try_init(|| self.open(host, port, &address))
            .await
            .cloned()
    }

    async fn open(&self, host: &str, port: u16, address: &str) -> Result<Connection, ClientError> {
        let options = self.options();
        let failed = |source| ClientError::Connect {
            address: Arc::from(address),
            source: Arc::new(source),
        };
        let connecting = async {
            let stream = options
                .connector
                .connect(host, port)
                .await
                .map_err(failed)?;
            Connection::open(stream, address, options).await
        };
        match tokio::time::timeout(options.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// The broker that coordinates a group or a transactional id, waiting while there is none yet.
    ///
    /// # Errors
    /// The broker refuses, or none answers in time.
    pub async fn coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
    ) -> Result<NodeId, ClientError> {
        let what = || format!("find the coordinator of {key}");
        retry::until_done(self.options(), what, || self.find_coordinator(kind, key)).await
    }

    async fn find_coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
    ) -> Result<NodeId, ClientError> {
        let connection = self.any_broker().await?;
        let version = connection.version_of::<FindCoordinatorRequest>(i16::MAX)?;
        let key_type = match kind {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
        };
        let mut request = FindCoordinatorRequest {
            key_type,
            ..FindCoordinatorRequest::default()
        };
        if version >= 4 {
            request.coordinator_keys = vec![key.to_owned()];
        } else {
            request.key = key.to_owned();
        }
        let answer = connection.send_at(&request, version).await?;
        let (node, host, port) = self.coordinator_of(&connection, version, key, answer)?;
        if !self.metadata().brokers.contains_key(&node) {
            let mut slot = self.inner.metadata.write();
            let mut next = Metadata::clone(&slot.0);
            next.brokers.insert(
                node,
                Broker {
                    id: node,
                    host,
                    port,
                    rack: None,
                },
            );
            slot.0 = Arc::new(next);
        }
        Ok(node)
    }

    fn coordinator_of(
        &self,
        connection: &Connection,
        version: i16,
        key: &str,
        answer: FindCoordinatorResponse,
    ) -> Result<(NodeId, String, u16), ClientError> {
        let what = || format!("find the coordinator of {key}");
        let (code, message, node, host, port) = if version >= 4 {
            let found = answer.coordinators.into_iter().find(|c| c.key == key);
            let found = found.ok_or_else(|| missing(connection, ApiKey::FindCoordinator, key))?;
            (
                found.error_code,
                found.error_message,
                found.node_id,
                found.host,
                found.port,
            )
        } else {
            (
                answer.error_code,
                answer.error_message,
                answer.node_id,
                answer.host,
                answer.port,
            )
        };
        ClientError::check(code, message, what)?;
        Ok((NodeId(node), host, u16::try_from(port).unwrap_or(0)))
    }

    /// Sends a request to any broker, again while it fails in a way that may pass. Error codes inside the answer are
    /// `check`'s: its retriable errors are tried again too.
    ///
    /// # Errors
    /// A failure for good, or the time is up.
    pub(crate) async fn ask_any<R: Request, T>(
        &self,
        what: impl Fn() -> String,
        request: &R,
        at_most: i16,
        check: impl Fn(R::Response) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        retry::until_done(self.options(), what, || async {
            let connection = self.any_broker().await?;
            check(
                connection
                    .send_at(request, connection.version_of::<R>(at_most)?)
                    .await?,
            )
        })
        .await
    }

    /// As [`Client::ask_any`], to the controller; metadata is asked for again when the controller has moved.
    pub(crate) async fn ask_controller<R: Request, T>(
        &self,
        what: impl Fn() -> String,
        request: &R,
        check: impl Fn(R::Response) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        retry::until_done(self.options(), what, || async {
            let connection = self.controller().await?;
            let result = match connection.send(request).await {
                Ok(answer) => check(answer),
                Err(error) => Err(error),
            };
            if result.as_ref().is_err_and(ClientError::is_retriable) {
                self.refresh_topics(&[]).await?;
            }
            result
        })
        .await
    }

    /// As [`Client::ask_any`], to the coordinator of `key`, which is looked up for every try.
    pub(crate) async fn ask_coordinator<R: Request, T>(
        &self,
        kind: CoordinatorKind,
        key: &str,
        request: &R,
        at_most: i16,
        check: impl Fn(R::Response, i16) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        retry::until_done(
            self.options(),
            || format!("ask the coordinator of {key} ({})", R::KEY),
            || async {
                let connection = self.broker(self.find_coordinator(kind, key).await?).await?;
                let version = connection.version_of::<R>(at_most)?;
                check(connection.send_at(request, version).await?, version)
            },
        )
        .await
    }
}

/// An answer that lacks what was asked for.
pub(crate) fn missing(connection: &Connection, api: ApiKey, what: &str) -> ClientError {
    ClientError::Incomplete {
        address: Arc::from(connection.address()),
        api,
        missing: what.to_owned(),
    }
}

/// The code is a retriable one: the broker may only be restarting, and the coordinator or leader may move.
fn unknown_broker(id: NodeId) -> ClientError {
    ClientError::Broker {
        what: format!("find broker {id}"),
        code: ErrorCode::LeaderNotAvailable,
        message: Some("it is not in the cluster's metadata".to_owned()),
    }
}
