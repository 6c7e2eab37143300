//! How does the operator speak to a real cluster?
//!
//! One [`client::Client`] a cluster, kept while it answers and made anew after a failure, so that nothing outlives a cluster that went away
//! or came back elsewhere. Requests about many topics are pipelined on one connection where Kafka has no batch of its own.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::admin::{
    ConfigOp, ConfigResource, ConfigSource, NewTopic as ClientTopic, Reassignments,
};
use client::{
    Admin, BoxFuture as ClientFuture, Client, ClientError, ClientOptions, Connector, Stream,
    TcpConnector, TopicMetadata,
};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use operator_core::topic::{ObservedPartition, ObservedTopic};
use tokio::net::TcpStream;
use types::ErrorCode;

use super::{
    AdminError, Answers, ClusterHealth, ConfigChange, KafkaAdmin, KafkaEndpoint, NewTopic,
};

/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer, and with it a reconcile, may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to learn which partitions move: it is asked beside other questions, and there is an answer without it.
const MOVES_TIMEOUT: Duration = Duration::from_secs(2);

/// Turns names of the Kubernetes cluster into addresses where its DNS is not at hand.
pub trait Resolver: std::fmt::Debug + Send + Sync + 'static {
    /// The address of `host:port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<SocketAddr>>;
}

/// The operator's own client of Kafka clusters.
#[derive(Debug)]
pub struct ClientAdmin {
    connector: Arc<dyn Connector>,
    clients: Mutex<HashMap<KafkaEndpoint, Client>>,
}

impl Default for ClientAdmin {
    fn default() -> Self {
        Self::new(Arc::new(TcpConnector))
    }
}

impl ClientAdmin {
    /// Connects through `connector`.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self {
            connector,
            clients: Mutex::default(),
        }
    }

    /// Connects by TCP to the addresses that `resolver` gives.
    #[must_use]
    pub fn with_resolver(resolver: Arc<dyn Resolver>) -> Self {
        Self::new(Arc::new(ResolvingConnector { resolver }))
    }

    /// The client of a cluster, connected now if there is none yet.
    async fn admin(&self, at: &KafkaEndpoint) -> Result<Admin, AdminError> {
        let existing = self
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(at)
            .cloned();
        if let Some(client) = existing {
            return Ok(Admin::new(client));
        }
        let options = ClientOptions {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            api_timeout: REQUEST_TIMEOUT,
            connector: Arc::clone(&self.connector),
            ..ClientOptions::new(&format!("{}:{}", at.host, at.port)).client_id("tidemark-operator")
        };
        let client = Client::connect(options)
            .await
            .map_err(|error| admin_error(&error))?;
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(at.clone(), client.clone());
        Ok(Admin::new(client))
    }

    /// Forgets the client of a cluster that did not answer; the next call connects anew.
    fn outcome<T>(
        &self,
        at: &KafkaEndpoint,
        result: Result<T, ClientError>,
    ) -> Result<T, AdminError> {
        result.map_err(|error| {
            let error = admin_error(&error);
            if matches!(error, AdminError::Unreachable(_)) {
                self.clients
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(at);
            }
            error
        })
    }
}

#[derive(Debug)]
struct ResolvingConnector {
    resolver: Arc<dyn Resolver>,
}

impl Connector for ResolvingConnector {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> ClientFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            let address = self.resolver.resolve(host, port).await?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }
}

impl KafkaAdmin for ClientAdmin {
    fn health<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
    ) -> BoxFuture<'a, Result<ClusterHealth, AdminError>> {
        async move {
            let admin = self.admin(at).await?;
            let metadata = self.outcome(at, admin.client().refresh_all().await)?;
            let topics: Vec<&TopicMetadata> = metadata.topics.values().collect();
            let moves = moves(&admin, &topics).await;
            let mut under_replicated = Vec::new();
            for topic in metadata.topics.values() {
                let behind = topic
                    .partitions
                    .iter()
                    .filter(|p| p.leader.is_none() || !moves.copies(&topic.name, p).are_complete());
                under_replicated.extend(behind.map(|p| format!("{}-{}", topic.name, p.index)));
            }
            // The controller that metadata names is whoever forwards to it.
            let active = match admin.active_controller().await {
                // Brokers from before this question name one of them: better than never to roll them.
                Err(ClientError::Version { .. }) => metadata.controller,
                answer => self.outcome(at, answer)?,
            };
            Ok(ClusterHealth {
                under_replicated,
                active_controller: active.map(|id| id.0),
            })
        }
        .boxed()
    }

    fn describe_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<Option<ObservedTopic>>> {
        async move {
            let admin = self.admin(at).await?;
            let described = self.outcome(at, admin.describe_topics(&topics).await)?;
            let there: Vec<&TopicMetadata> = described
                .iter()
                .filter_map(|(_, topic)| topic.as_ref().ok())
                .collect();
            let moves = moves(&admin, &there).await;
            let mut found: HashMap<String, Result<TopicMetadata, ClientError>> =
                described.into_iter().collect();
            let answers = topics.iter().map(|topic| {
                let metadata = found.remove(topic);
                let (admin, moves) = (&admin, &moves);
                async move { observed(admin, topic, metadata, moves).await }
            });
            Ok(join_all(answers).await)
        }
        .boxed()
    }

    fn create_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<NewTopic>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            let admin = self.admin(at).await?;
            let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
            let topics: Vec<ClientTopic> = topics.into_iter().map(client_topic).collect();
            let created = self.outcome(at, admin.create_topics(&topics, false).await)?;
            Ok(in_order(
                &names,
                created
                    .into_iter()
                    .map(|(name, result)| (name, result.map(drop)))
                    .collect(),
            ))
        }
        .boxed()
    }

    fn grow_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<(String, i32)>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            let admin = self.admin(at).await?;
            let calls = topics
                .iter()
                .map(|(topic, partitions)| admin.create_partitions(topic, *partitions, false));
            Ok(join_all(calls)
                .await
                .into_iter()
                .map(|result| self.outcome(at, result))
                .collect())
        }
        .boxed()
    }

    fn alter_configs<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        changes: Vec<ConfigChange>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            let admin = self.admin(at).await?;
            let changes: Vec<(ConfigResource, BTreeMap<String, ConfigOp>)> =
                changes.into_iter().map(client_change).collect();
            let calls = changes
                .iter()
                .map(|(resource, ops)| admin.incremental_alter_configs(resource, ops, false));
            Ok(join_all(calls)
                .await
                .into_iter()
                .map(|result| self.outcome(at, result))
                .collect())
        }
        .boxed()
    }

    fn delete_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move {
            let admin = self.admin(at).await?;
            let deleted = self.outcome(at, admin.delete_topics(&topics).await)?;
            Ok(in_order(&topics, deleted))
        }
        .boxed()
    }
}

/// The moves that matter for these topics. Without an answer all replicas that metadata names count, which only holds things back.
async fn moves(admin: &Admin, topics: &[&TopicMetadata]) -> Reassignments {
    let asked = tokio::time::timeout(MOVES_TIMEOUT, admin.reassignments_of(topics));
    match asked.await {
        Ok(Ok(moves)) => moves,
        Ok(Err(_)) | Err(_) => Reassignments::default(),
    }
}

/// A topic's registration together with the keys that are set on it.
async fn observed(
    admin: &Admin,
    topic: &str,
    metadata: Option<Result<TopicMetadata, ClientError>>,
    moves: &Reassignments,
) -> Result<Option<ObservedTopic>, AdminError> {
    let metadata = match metadata {
        Some(Ok(metadata)) => metadata,
        Some(Err(error)) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
            return Ok(None);
        }
        Some(Err(error)) => return Err(admin_error(&error)),
        None => {
            return Err(AdminError::Unreachable(format!(
                "the answer says nothing about topic {topic}"
            )));
        }
    };
    let entries = match admin.describe_configs(&ConfigResource::topic(topic)).await {
        Ok(entries) => entries,
        // Deleted between the two questions.
        Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => return Ok(None),
        Err(error) => return Err(admin_error(&error)),
    };
    let set = entries
        .into_iter()
        .filter(|entry| entry.source == ConfigSource::Topic);
    Ok(Some(ObservedTopic {
        topic_id: metadata.id.to_string(),
        partitions: metadata
            .partitions
            .iter()
            .map(|p| {
                let copies = moves.copies(topic, p);
                ObservedPartition {
                    replicas: copies.wanted,
                    in_sync: copies.in_sync,
                    has_leader: p.leader.is_some(),
                }
            })
            .collect(),
        config: set
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect(),
    }))
}

fn client_topic(topic: NewTopic) -> ClientTopic {
    ClientTopic {
        name: topic.name,
        partitions: topic.partitions,
        // The schema keeps it far below the limit.
        replication_factor: topic
            .replication_factor
            .and_then(|factor| i16::try_from(factor).ok()),
        assignments: Vec::new(),
        configs: topic.config,
    }
}

fn client_change(change: ConfigChange) -> (ConfigResource, BTreeMap<String, ConfigOp>) {
    let set = change
        .set
        .into_iter()
        .map(|(key, value)| (key, ConfigOp::Set(value)));
    let unset = change.unset.into_iter().map(|key| (key, ConfigOp::Delete));
    (
        ConfigResource::topic(change.topic),
        set.chain(unset).collect(),
    )
}

/// Answers by name in the order of the questions.
fn in_order(
    names: &[String],
    answers: Vec<(String, Result<(), ClientError>)>,
) -> Vec<Result<(), AdminError>> {
    let mut answers: HashMap<String, Result<(), ClientError>> = answers.into_iter().collect();
    let missing = |name: &String| {
        AdminError::Unreachable(format!("the answer says nothing about topic {name}"))
    };
    names
        .iter()
        .map(|name| match answers.remove(name) {
            Some(result) => result.map_err(|error| admin_error(&error)),
            None => Err(missing(name)),
        })
        .collect()
}

fn admin_error(error: &ClientError) -> AdminError {
    match error.code() {
        Some(code) => AdminError::Refused {
            code,
            message: error.to_string(),
        },
        None => AdminError::Unreachable(crate::controllers::chain(error)),
    }
}
