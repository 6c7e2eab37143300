//! How are records fetched: one request per broker at a time, the next one while the application works?

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use types::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerId, TopicId, TopicPartition};
use wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use wire::messages::fetch_response::{FetchResponse, PartitionData};

use super::options::{ConsumerOptions, millis};
use super::positions::Positions;
use super::records::FetchedBatches;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, error_code};
use crate::metadata::{Broker, Metadata};

/// The last version with topic names instead of ids.
const LAST_WITH_NAMES: i16 = 12;
/// How long a near replica is read from before the leader is asked again.
const READ_REPLICA_LEASE: Duration = Duration::from_secs(300);

/// A partition in a fetch request.
#[derive(Debug, Clone)]
struct Wanted {
    partition: TopicPartition,
    topic_id: TopicId,
    from: Offset,
    leader_epoch: LeaderEpoch,
}

/// The end of one fetch.
#[derive(Debug)]
pub(super) struct Done {
    node: NodeId,
    epoch: u64,
    wanted: Vec<Wanted>,
    result: Result<FetchResponse, ClientError>,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) batches: Vec<FetchedBatches>,
    /// Partitions whose position is not in the log.
    pub(super) out_of_range: Vec<TopicPartition>,
    /// Whether leaders have moved.
    pub(super) must_refresh: bool,
    /// What will not pass by itself.
    pub(super) failed: Option<ClientError>,
}

/// Connections and requests for fetching; apart from the client's, since a fetch that waits holds up what is behind it.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    options: Arc<ConsumerOptions>,
    connections: HashMap<NodeId, Connection>,
    busy: HashSet<NodeId>,
    /// At most one task per broker.
    tasks: JoinSet<(Done, Option<Connection>)>,
}

impl Fetcher {
    pub(super) fn new(client: Client, options: Arc<ConsumerOptions>) -> Self {
        Self {
            client,
            options,
            connections: HashMap::new(),
            busy: HashSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts a fetch at every broker that has none and leads partitions that want one. Whether a leader is unknown.
    pub(super) fn start(&mut self, positions: &mut Positions) -> bool {
        let (now, metadata) = (Instant::now(), self.client.metadata());
        let mut by_node: HashMap<NodeId, Vec<Wanted>> = HashMap::new();
        let mut leaderless = false;
        for (partition, position) in positions.of.iter_mut().filter(|(_, p)| p.can_fetch(now)) {
            let Some((leader, leader_epoch)) =
                metadata.leader(&partition.topic, partition.partition)
            else {
                leaderless = true;
                continue;
            };
            let replica = position
                .read_replica
                .filter(|(id, until)| *until > now && metadata.brokers.contains_key(id));
            let node = replica.map_or(leader, |(id, _)| id);
            if self.busy.contains(&node) {
                continue;
            }
            position.is_busy = true;
            let topic_id = metadata
                .topics
                .get(&*partition.topic)
                .map_or(TopicId::ZERO, |t| t.id);
            by_node.entry(node).or_default().push(Wanted {
                partition: partition.clone(),
                topic_id,
                from: position.fetch,
                leader_epoch,
            });
        }
        for (node, wanted) in by_node {
            self.busy.insert(node);
            let (client, options) = (self.client.clone(), Arc::clone(&self.options));
            let connection = self.connections.remove(&node).filter(|c| !c.is_closed());
            let epoch = positions.epoch;
            self.tasks.spawn(async move {
                let mut connection = connection;
                let result = fetch(&client, &options, node, &mut connection, &wanted).await;
                (
                    Done {
                        node,
                        epoch,
                        wanted,
                        result,
                    },
                    connection,
                )
            });
        }
        leaderless
    }

    /// Waits for the end of a fetch; pending while there is none. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((done, connection))) => {
                    self.busy.remove(&done.node);
                    if let Some(connection) = connection.filter(|c| !c.is_closed()) {
                        self.connections.insert(done.node, connection);
                    }
                    return done;
                }
                // a task that panicked leaves its broker busy: cannot happen, the task has no code that panics
                Some(Err(error)) => tracing::error!(%error, "a fetch task failed"),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes the answer into the positions.
    pub(super) fn finish(&self, done: Done, positions: &mut Positions) -> Outcome {
        let mut outcome = Outcome::default();
        if done.epoch != positions.epoch {
            return outcome; // of an assignment or position that is no more
        }
        let pause = Instant::now() + self.client.options().retry_backoff;
        let response = match done.result {
            Ok(response) => response,
            Err(error) => {
                release(positions, &done.wanted, Some(pause));
                outcome.must_refresh = true;
                outcome.failed = Some(error).filter(|e| !e.is_retriable());
                return outcome;
            }
        };
        self.learn_leaders(&done.wanted, &response);
        let code = error_code(response.error_code);
        if code != ErrorCode::None {
            release(positions, &done.wanted, Some(pause));
            let error = ClientError::Broker {
                what: "fetch".to_owned(),
                code,
                message: None,
            };
            outcome.must_refresh = true;
            outcome.failed = Some(error).filter(|e| !e.is_retriable());
            return outcome;
        }
        let mut answers: HashMap<(Option<String>, TopicId, i32), PartitionData> = HashMap::new();
        for topic in response.responses {
            let name = Some(topic.topic).filter(|t| !t.is_empty());
            for data in topic.partitions {
                answers.insert((name.clone(), topic.topic_id, data.partition_index), data);
            }
        }
        for wanted in done.wanted {
            let index = wanted.partition.partition;
            let by_name = (
                Some(wanted.partition.topic.to_string()),
                TopicId::ZERO,
                index,
            );
            let data = answers
                .remove(&by_name)
                .or_else(|| answers.remove(&(None, wanted.topic_id, index)));
            self.take(wanted, data, positions, pause, &mut outcome);
        }
        outcome
    }

    fn take(
        &self,
        wanted: Wanted,
        data: Option<PartitionData>,
        positions: &mut Positions,
        pause: Instant,
        outcome: &mut Outcome,
    ) {
        let Some(position) = positions.of.get_mut(&wanted.partition) else {
            return;
        };
        position.is_busy = false;
        let Some(data) = data else { return }; // not mentioned: nothing new
        match error_code(data.error_code) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                // a replica may be behind: only the leader decides
                if position.read_replica.take().is_none() {
                    outcome.out_of_range.push(wanted.partition);
                }
                return;
            }
            code => {
                let error = ClientError::Broker {
                    what: format!("fetch {}", wanted.partition),
                    code,
                    message: None,
                };
                position.read_replica = None;
                position.pause_until = Some(pause);
                outcome.must_refresh |= error.is_retriable();
                outcome.failed = outcome
                    .failed
                    .take()
                    .or(Some(error).filter(|e| !e.is_retriable()));
                return;
            }
        }
        position.high_watermark = Some(Offset(data.high_watermark));
        if data.preferred_read_replica >= 0 {
            position.read_replica = Some((
                NodeId(data.preferred_read_replica),
                Instant::now() + READ_REPLICA_LEASE,
            ));
            return;
        }
        let records = data.records.unwrap_or_default().into_bytes();
        if records.is_empty() {
            return;
        }
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted
            .into_iter()
            .map(|a| (ProducerId(a.producer_id), Offset(a.first_offset)))
            .collect();
        let bounds = (Offset(data.high_watermark), Offset(data.log_start_offset));
        match FetchedBatches::new(wanted.partition, records, wanted.from, bounds, aborted) {
            Ok(Some(batches)) => {
                position.is_busy = true;
                position.fetch = batches.next;
                outcome.batches.push(batches);
            }
            Ok(None) => {}
            Err(error) => outcome.failed = outcome.failed.take().or(Some(error)),
        }
    }

    /// Leader hints in errors (KIP-951).
    fn learn_leaders(&self, wanted: &[Wanted], response: &FetchResponse) {
        for topic in &response.responses {
            for data in topic
                .partitions
                .iter()
                .filter(|d| d.current_leader.leader_id >= 0)
            {
                let same = |w: &&Wanted| {
                    w.partition.partition == data.partition_index
                        && (*w.partition.topic == *topic.topic
                            || (topic.topic.is_empty() && w.topic_id == topic.topic_id))
                };
                let Some(wanted) = wanted.iter().find(same) else {
                    continue;
                };
                let leader = NodeId(data.current_leader.leader_id);
                let endpoint = response
                    .node_endpoints
                    .iter()
                    .find(|e| e.node_id == leader.0)
                    .and_then(|e| {
                        let port = u16::try_from(e.port).ok()?;
                        Some(Broker {
                            id: leader,
                            host: e.host.clone(),
                            port,
                            rack: e.rack.clone(),
                        })
                    });
                let epoch = LeaderEpoch(data.current_leader.leader_epoch);
                self.client.learn_leader(
                    &wanted.partition.topic,
                    data.partition_index,
                    leader,
                    epoch,
                    endpoint,
                );
            }
        }
    }
}

fn release(positions: &mut Positions, wanted: &[Wanted], pause_until: Option<Instant>) {
    for wanted in wanted {
        if let Some(position) = positions.of.get_mut(&wanted.partition) {
            position.is_busy = false;
            position.read_replica = None;
            position.pause_until = pause_until;
        }
    }
}

async fn fetch(
    client: &Client,
    options: &ConsumerOptions,
    node: NodeId,
    slot: &mut Option<Connection>,
    wanted: &[Wanted],
) -> Result<FetchResponse, ClientError> {
    let connection = match slot {
        Some(connection) => connection.clone(),
        None => slot.insert(client.dedicated(node).await?).clone(),
    };
    let all_known = wanted.iter().all(|w| !w.topic_id.is_zero());
    let version = connection.version_of::<FetchRequest>(if all_known {
        i16::MAX
    } else {
        LAST_WITH_NAMES
    })?;
    let request = FetchRequest {
        max_wait_ms: millis(options.fetch_max_wait),
        min_bytes: options.fetch_min_bytes,
        max_bytes: options.fetch_max_bytes,
        isolation_level: i8::from(options.read_committed),
        topics: topics(options, wanted),
        rack_id: options.rack.clone().unwrap_or_default(),
        ..FetchRequest::default()
    };
    connection
        .send_slow(&request, version, options.fetch_max_wait)
        .await
}

fn topics(options: &ConsumerOptions, wanted: &[Wanted]) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wanted in wanted {
        let partition = FetchPartition {
            partition: wanted.partition.partition,
            current_leader_epoch: wanted.leader_epoch.0,
            fetch_offset: wanted.from.0,
            partition_max_bytes: options.partition_fetch_bytes,
            ..FetchPartition::default()
        };
        match topics
            .last_mut()
            .filter(|t| *t.topic == *wanted.partition.topic)
        {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: wanted.partition.topic.to_string(),
                topic_id: wanted.topic_id,
                partitions: vec![partition],
                ..FetchTopic::default()
            }),
        }
    }
    topics
}

/// How many partitions of each topic there are, to notice growth.
pub(super) fn partition_counts<'a>(
    metadata: &Metadata,
    topics: impl Iterator<Item = &'a String>,
) -> HashMap<String, usize> {
    let count = |t: &String| metadata.topics.get(t).map_or(0, |t| t.partitions.len());
    topics.map(|t| (t.clone(), count(t))).collect()
}
