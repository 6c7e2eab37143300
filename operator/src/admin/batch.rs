//! How do thousands of topics share a few requests?
//!
//! Reconciles hand in single questions; a question waits at most [`LINGER`] for others of its kind to the same cluster, and at most
//! [`MAX_BATCH`] travel together. One task collects, one short task asks, so that a cluster that does not answer delays nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator_core::topic::ObservedTopic;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{AdminError, Answers, ConfigChange, KafkaAdmin, KafkaEndpoint, NewTopic};

/// The longest a question waits for company: short beside a request, long beside the time in which a burst of reconciles arrives.
const LINGER: Duration = Duration::from_millis(20);
/// The most topics in one request, as Kafka's own tools.
const MAX_BATCH: usize = 100;
/// Questions that may wait; one for each topic reconcile that may run at once is enough.
const QUEUE: usize = 256;
/// Requests under way at once over all clusters.
const IN_FLIGHT: usize = 16;

#[derive(Debug)]
enum Question {
    Describe(String, Reply<Option<ObservedTopic>>),
    Create(NewTopic, Reply<()>),
    Grow((String, i32), Reply<()>),
    Alter(ConfigChange, Reply<()>),
    Delete(String, Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, AdminError>>;

/// The handle that reconciles use. The collecting task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    questions: mpsc::Sender<(KafkaEndpoint, Question)>,
}

impl Batcher {
    /// Starts the collecting task.
    pub(crate) fn start(admin: Arc<dyn KafkaAdmin>) -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        tokio::spawn(collect(admin, queue));
        Self { questions }
    }

    pub(crate) async fn describe(
        &self,
        at: &KafkaEndpoint,
        topic: &str,
    ) -> Result<Option<ObservedTopic>, AdminError> {
        self.ask(at, |reply| Question::Describe(topic.to_owned(), reply))
            .await
    }

    pub(crate) async fn create(
        &self,
        at: &KafkaEndpoint,
        topic: NewTopic,
    ) -> Result<(), AdminError> {
        self.ask(at, |reply| Question::Create(topic, reply)).await
    }

    pub(crate) async fn grow(
        &self,
        at: &KafkaEndpoint,
        topic: &str,
        partitions: i32,
    ) -> Result<(), AdminError> {
        self.ask(at, |reply| {
            Question::Grow((topic.to_owned(), partitions), reply)
        })
        .await
    }

    pub(crate) async fn alter(
        &self,
        at: &KafkaEndpoint,
        change: ConfigChange,
    ) -> Result<(), AdminError> {
        self.ask(at, |reply| Question::Alter(change, reply)).await
    }

    pub(crate) async fn delete(&self, at: &KafkaEndpoint, topic: &str) -> Result<(), AdminError> {
        self.ask(at, |reply| Question::Delete(topic.to_owned(), reply))
            .await
    }

    async fn ask<T>(
        &self,
        at: &KafkaEndpoint,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        let gone = || AdminError::Unreachable("the operator is stopping".into());
        self.questions
            .send((at.clone(), question(reply)))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Questions of each kind to one cluster.
#[derive(Debug, Default)]
struct Batch {
    describe: Vec<(String, Reply<Option<ObservedTopic>>)>,
    create: Vec<(NewTopic, Reply<()>)>,
    grow: Vec<((String, i32), Reply<()>)>,
    alter: Vec<(ConfigChange, Reply<()>)>,
    delete: Vec<(String, Reply<()>)>,
}

impl Batch {
    fn add(&mut self, question: Question) {
        match question {
            Question::Describe(item, reply) => self.describe.push((item, reply)),
            Question::Create(item, reply) => self.create.push((item, reply)),
            Question::Grow(item, reply) => self.grow.push((item, reply)),
            Question::Alter(item, reply) => self.alter.push((item, reply)),
            Question::Delete(item, reply) => self.delete.push((item, reply)),
        }
    }
}

async fn collect(admin: Arc<dyn KafkaAdmin>, mut queue: mpsc::Receiver<(KafkaEndpoint, Question)>) {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Some((at, question)) = queue.recv().await {
        let mut batches: BTreeMap<KafkaEndpoint, Batch> = BTreeMap::new();
        batches.entry(at).or_default().add(question);
        let deadline = tokio::time::Instant::now() + LINGER;
        for _ in 1..MAX_BATCH {
            match tokio::time::timeout_at(deadline, queue.recv()).await {
                Ok(Some((at, question))) => batches.entry(at).or_default().add(question),
                Ok(None) | Err(_) => break,
            }
        }
        for (at, batch) in batches {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                send(admin.as_ref(), &at, batch).await;
                drop(permit);
            });
        }
    }
}

/// Asks one cluster; kinds go one after the other, in the order in which a single topic needs them.
async fn send(admin: &dyn KafkaAdmin, at: &KafkaEndpoint, batch: Batch) {
    let (items, replies) = batch.create.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    if !items.is_empty() {
        deliver(admin.create_topics(at, items).await, replies);
    }
    let (items, replies) = batch.grow.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    if !items.is_empty() {
        deliver(admin.grow_topics(at, items).await, replies);
    }
    let (items, replies) = batch.alter.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    if !items.is_empty() {
        deliver(admin.alter_configs(at, items).await, replies);
    }
    let (items, replies) = batch.delete.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    if !items.is_empty() {
        deliver(admin.delete_topics(at, items).await, replies);
    }
    let (items, replies) = batch.describe.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    if !items.is_empty() {
        deliver(admin.describe_topics(at, items).await, replies);
    }
}

/// Hands each its answer. A reconcile that was dropped meanwhile does not want it any more, which is no error.
fn deliver<T>(answers: Answers<T>, replies: Vec<Reply<T>>) {
    match answers {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for reply in replies {
                let missing = || {
                    Err(AdminError::Unreachable(
                        "the answer left the topic out".into(),
                    ))
                };
                // The receiver may be gone: see above.
                let _ = reply.send(answers.next().unwrap_or_else(missing));
            }
        }
        Err(error) => {
            for reply in replies {
                // The receiver may be gone: see above.
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
