//! How do queued batches reach the leaders and what happens to each answer?
//!
//! One task drains the queues; one task per broker keeps the order of requests on its connection; answers come back as
//! completions. A batch that fails in a way that may pass goes back to the front of its queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{ErrorCode, NodeId, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest};

use super::accumulator::{Accumulator, Admission, Drained};
use super::batch::Batch;
use super::options::{Acks, ProducerOptions};
use super::request::{Answers, build, check};
use crate::client::Client;
use crate::connection::InFlight;
use crate::error::ClientError;

/// One partition's batch in a request.
#[derive(Debug)]
struct Part {
    queue: usize,
    partition: TopicPartition,
    topic_id: TopicId,
    batch: Batch,
    bytes: Bytes,
}

/// A request to one broker.
#[derive(Debug)]
struct Job {
    node: NodeId,
    parts: Vec<Part>,
}

/// A request that is answered, or never will be.
#[derive(Debug)]
struct Completion {
    job: Job,
    /// `None` with acks=0.
    result: Result<Option<Answers>, ClientError>,
}

/// The producer's background task.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    options: ProducerOptions,
    accumulator: Arc<Accumulator>,
    workers: HashMap<NodeId, mpsc::Sender<Job>>,
    /// Requests per broker that are not completed.
    busy: HashMap<NodeId, usize>,
    completions: mpsc::Receiver<Completion>,
    complete: mpsc::Sender<Completion>,
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// Nothing is sent until all in flight is answered and there is a new producer epoch.
    must_reset: bool,
    /// Ids of batches in flight by queue.
    in_flight: HashMap<usize, Vec<u64>>,
    /// When metadata may be asked for again, after a failure that asks for it.
    refresh_at: Option<Instant>,
    refreshing: Option<JoinHandle<()>>,
}

impl Sender {
    pub(super) fn new(
        client: Client,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
    ) -> Self {
        // Completions are consumed at every turn of the loop; the bound only smooths bursts of several brokers.
        let (complete, completions) = mpsc::channel(64);
        Self {
            client,
            options,
            accumulator,
            workers: HashMap::new(),
            busy: HashMap::new(),
            completions,
            complete,
            identity: None,
            must_reset: false,
            in_flight: HashMap::new(),
            refresh_at: None,
            refreshing: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.turn() => {}
                () = stop.cancelled() => break,
            }
        }
        self.accumulator.abandon();
    }

    /// One turn of the loop: everything that can be done now, then wait for something new. Cancelled only at the end
    /// of the producer's life.
    async fn turn(&mut self) {
        while let Ok(completion) = self.completions.try_recv() {
            self.on_completion(completion);
        }
        self.expire();
        let mut next = self.prepare_identity().await;
        if next.is_none() {
            next = self.send_due();
        }
        if let Some(at) = self.refresh_at.take() {
            if at <= Instant::now() {
                self.start_refresh();
            } else {
                self.refresh_at = Some(at);
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        }
        // without a deadline: look for expired batches now and then
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_millis(500));
        tokio::select! {
            Some(completion) = self.completions.recv() => self.on_completion(completion),
            () = self.accumulator.wake.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }

    /// Makes sure that there is a producer id if one is needed; gives the time to try again while there is none.
    async fn prepare_identity(&mut self) -> Option<Instant> {
        if !self.options.idempotence
            || (self.identity.is_some() && !self.must_reset)
            || self.accumulator.is_empty()
        {
            return None;
        }
        if self.accumulator.in_flight() > 0 {
            return Some(Instant::now() + Duration::from_secs(1)); // an answer wakes us earlier
        }
        match self.init_producer_id().await {
            Ok(identity) => {
                tracing::debug!(
                    producer_id = identity.0.0,
                    epoch = identity.1.0,
                    "producer id"
                );
                self.identity = Some(identity);
                self.must_reset = false;
                self.accumulator.reset_sequences();
                None
            }
            Err(error) => {
                tracing::warn!(%error, "no producer id yet");
                if error.is_retriable() {
                    return Some(Instant::now() + self.client.options().retry_backoff_max);
                }
                for (queue, _, batch) in self.accumulator.expired(Instant::now()) {
                    self.accumulator
                        .finish(queue, &batch, Err(error.clone()), false);
                }
                Some(Instant::now() + self.client.options().retry_backoff_max)
            }
        }
    }

    async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let connection = self.client.any_broker().await?;
        // version 6 is about two-phase commit, which a producer without transactional id has no use for
        let version = connection.version_of::<InitProducerIdRequest>(5)?;
        let mut request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        if let Some((id, epoch)) = self.identity.filter(|_| version >= 3) {
            (request.producer_id, request.producer_epoch) = (id.0, epoch.0);
        }
        let answer: InitProducerIdResponse = connection.send_at(&request, version).await?;
        ClientError::check(answer.error_code, None, || "get a producer id".to_owned())?;
        Ok((
            ProducerId(answer.producer_id),
            ProducerEpoch(answer.producer_epoch),
        ))
    }

    /// Sends what is due; gives the time at which more will be.
    fn send_due(&mut self) -> Option<Instant> {
        let metadata = self.client.metadata();
        let mut planned: HashMap<NodeId, usize> = HashMap::new();
        let mut leaderless = false;
        let (busy, options) = (&self.busy, &self.options);
        let admit = |partition: &TopicPartition, length: usize| {
            let Some((leader, _)) = metadata.leader(&partition.topic, partition.partition) else {
                leaderless = true;
                return Admission::No;
            };
            if busy.get(&leader).copied().unwrap_or(0) >= options.max_in_flight {
                return Admission::No;
            }
            let bytes = planned.entry(leader).or_insert(0);
            if *bytes > 0 && *bytes + length > options.max_request_bytes {
                return Admission::No;
            }
            *bytes += length;
            Admission::Yes
        };
        let (drained, mut next) =
            self.accumulator
                .drain(Instant::now(), options.max_in_flight, admit);
        if leaderless {
            self.want_refresh();
        }
        if drained.is_empty() {
            return next;
        }
        let mut jobs: HashMap<NodeId, Vec<Part>> = HashMap::new();
        for item in drained {
            let leader = metadata
                .leader(&item.partition.topic, item.partition.partition)
                .map(|(id, _)| id);
            let topic_id = metadata
                .topics
                .get(&*item.partition.topic)
                .map_or(TopicId::ZERO, |t| t.id);
            if let (Some(part), Some(leader)) = (self.stamp(item, topic_id), leader) {
                jobs.entry(leader).or_default().push(part);
            }
        }
        for (node, parts) in jobs {
            self.dispatch(Job { node, parts });
            next = Some(Instant::now()); // there may be another batch of the same partitions
        }
        next
    }

    /// Builds a batch's bytes with the producer's identity; a batch that cannot be built fails.
    fn stamp(&mut self, item: Drained, topic_id: TopicId) -> Option<Part> {
        let Drained {
            queue,
            partition,
            mut batch,
            sequence,
        } = item;
        let stamp = self.identity.filter(|_| self.options.idempotence);
        let stamp = stamp.map(|(id, epoch)| batch.stamp.unwrap_or((id, epoch, sequence)));
        match batch.bytes(&partition, stamp, self.options.compression) {
            Ok(bytes) => Some(Part {
                queue,
                partition,
                topic_id,
                batch,
                bytes,
            }),
            Err(error) => {
                self.must_reset = true; // its sequence numbers are missing now
                self.accumulator.finish(queue, &batch, Err(error), true);
                None
            }
        }
    }

    fn dispatch(&mut self, job: Job) {
        let node = job.node;
        for part in &job.parts {
            self.in_flight
                .entry(part.queue)
                .or_default()
                .push(part.batch.id);
        }
        *self.busy.entry(node).or_insert(0) += 1;
        let worker = self.workers.entry(node).or_insert_with(|| {
            let (jobs, queue) = mpsc::channel(self.options.max_in_flight);
            tokio::spawn(work(
                self.client.clone(),
                self.options.clone(),
                queue,
                self.complete.clone(),
            ));
            jobs
        });
        // `busy` never exceeds the queue's length, and a worker lives as long as its sender
        if let Err(error) = worker.try_send(job) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
                error;
            self.on_completion(Completion {
                job,
                result: Err(ClientError::Stopped("producer")),
            });
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        let Completion { job, result } = completion;
        if let Some(busy) = self.busy.get_mut(&job.node) {
            *busy = busy.saturating_sub(1);
        }
        let mut answers = match result {
            Ok(answers) => Ok(answers),
            Err(error) => {
                tracing::debug!(node = job.node.0, %error, "produce request failed");
                self.want_refresh();
                Err(error)
            }
        };
        for part in job.parts {
            if let Some(ids) = self.in_flight.get_mut(&part.queue) {
                ids.retain(|id| *id != part.batch.id);
            }
            let result = match &mut answers {
                Ok(None) => Ok(-1),
                Ok(Some(answers)) => match answers.take(&part.partition, part.topic_id) {
                    Some(answer) => check(&part.partition, &answer),
                    None => Err(ClientError::Config(format!(
                        "an answer without {}",
                        part.partition
                    ))),
                },
                Err(error) => Err(error.clone()),
            };
            self.on_result(part, result);
        }
    }

    fn on_result(&mut self, part: Part, result: Result<i64, ClientError>) {
        let Part {
            queue,
            partition,
            batch,
            ..
        } = part;
        let error = match result {
            Ok(base) => return self.accumulator.finish(queue, &batch, Ok(base), true),
            Err(error) => error,
        };
        let code = error.code();
        let overtaken = code == Some(ErrorCode::OutOfOrderSequenceNumber)
            && self.accumulator.has_earlier(
                queue,
                &batch,
                self.in_flight.get(&queue).map_or(&[], Vec::as_slice),
            );
        // the broker forgot this producer, so it cannot have the batch either (KIP-360)
        let forgotten = code == Some(ErrorCode::UnknownProducerId) && self.options.idempotence;
        let expired = batch.opened.elapsed() >= self.options.delivery_timeout;
        if (error.is_retriable() || overtaken || forgotten) && !expired {
            tracing::debug!(%partition, %error, "batch is sent again");
            if code.is_some() && !overtaken {
                self.want_refresh();
            }
            self.must_reset |= forgotten;
            let pause = Instant::now() + self.client.options().retry_backoff;
            return self.accumulator.put_back(queue, batch, pause);
        }
        tracing::debug!(%partition, %error, "batch failed");
        self.must_reset |= batch.stamp.is_some();
        self.accumulator.finish(queue, &batch, Err(error), true);
    }

    /// Fails what waited for too long without being sent.
    fn expire(&mut self) {
        let Some(before) = Instant::now().checked_sub(self.options.delivery_timeout) else {
            return;
        };
        for (queue, partition, batch) in self.accumulator.expired(before) {
            let what = format!("produce to {partition}");
            let error = ClientError::Deadline {
                what,
                after: self.options.delivery_timeout,
                last: None,
            };
            self.must_reset |= batch.stamp.is_some();
            self.accumulator.finish(queue, &batch, Err(error), false);
        }
    }

    fn want_refresh(&mut self) {
        let pause = self.client.options().retry_backoff;
        self.refresh_at
            .get_or_insert_with(|| Instant::now() + pause);
    }

    /// Asks for every topic that is known or missed, aside, so that other brokers' batches go on meanwhile.
    fn start_refresh(&mut self) {
        if self
            .refreshing
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let (client, accumulator) = (self.client.clone(), Arc::clone(&self.accumulator));
        self.refreshing = Some(tokio::spawn(async move {
            let metadata = client.metadata();
            let topics: Vec<String> = metadata
                .topics
                .keys()
                .chain(metadata.missing.keys())
                .cloned()
                .collect();
            if let Err(error) = client.refresh_topics(&topics).await {
                tracing::debug!(%error, "metadata not refreshed");
            }
            accumulator.wake.notify_one();
        }));
    }
}

/// Sends one broker's requests in order and passes each answer on.
async fn work(
    client: Client,
    options: ProducerOptions,
    mut jobs: mpsc::Receiver<Job>,
    complete: mpsc::Sender<Completion>,
) {
    while let Some(job) = jobs.recv().await {
        match submit(&client, &options, &job).await {
            Ok(Some(in_flight)) => {
                let (client, complete) = (client.clone(), complete.clone());
                // at most max_in_flight of these per broker: the sender counts them
                tokio::spawn(async move {
                    let result = in_flight
                        .wait()
                        .await
                        .map(|answer| Some(Answers::new(&client, answer)));
                    finish(&complete, Completion { job, result }).await;
                });
            }
            Ok(None) => {
                finish(
                    &complete,
                    Completion {
                        job,
                        result: Ok(None),
                    },
                )
                .await;
            }
            Err(error) => {
                finish(
                    &complete,
                    Completion {
                        job,
                        result: Err(error),
                    },
                )
                .await;
            }
        }
    }
}

async fn finish(complete: &mpsc::Sender<Completion>, completion: Completion) {
    // the producer is gone when nobody receives; its batches were failed by `abandon`
    let _ = complete.send(completion).await;
}

async fn submit(
    client: &Client,
    options: &ProducerOptions,
    job: &Job,
) -> Result<Option<InFlight<ProduceRequest>>, ClientError> {
    let connection = client.broker(job.node).await?;
    let timeout = client.options().request_timeout;
    let batches: Vec<_> = job
        .parts
        .iter()
        .map(|p| (&p.partition, p.bytes.clone()))
        .collect();
    let (request, version) = build(&connection, &client.metadata(), options, timeout, &batches)?;
    if options.acks == Acks::None {
        connection.send_unanswered(&request, version).await?;
        return Ok(None);
    }
    // the broker itself waits for the replicas up to `timeout`
    connection
        .submit(&request, version, timeout.saturating_mul(2))
        .await
        .map(Some)
}
