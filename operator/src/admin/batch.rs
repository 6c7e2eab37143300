//! How do thousands of topics share a few requests?
//!
//! Reconciles hand in single questions; a question waits at most [`LINGER`] for others of its kind to the same cluster, and at most
//! [`MAX_BATCH`] travel together. One task collects, one short task asks, and each cluster has its own bound of requests under way.
//!
//! A cluster that does not answer delays nobody else: while it is known to be silent, questions to it are answered at once, and one of
//! them now and then goes out to see whether it is back ([`Silent`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use operator_core::topic::ObservedTopic;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::{AdminError, Answers, ConfigChange, KafkaAdmin, KafkaEndpoint, NewTopic};

/// The longest a question waits for company: short beside a request, long beside the time in which a burst of reconciles arrives.
const LINGER: Duration = Duration::from_millis(20);
/// The most topics in one request, as Kafka's own tools.
const MAX_BATCH: usize = 100;
/// Questions that may wait; one for each topic reconcile that may run at once is enough.
const QUEUE: usize = 256;
/// Requests under way at once to one cluster.
const IN_FLIGHT: usize = 4;
/// Clusters whose bound is remembered; beyond this many, those that nobody waits for are forgotten.
const MAX_CLUSTERS: usize = 1_000;
/// How long a cluster counts as silent after the first failure; doubled by each further one.
const FIRST_SILENCE: Duration = Duration::from_millis(100);
/// It is asked again at least this often: the bound of the wait when it comes back.
const LAST_SILENCE: Duration = Duration::from_secs(5);
/// The longest that one question may be under way; meanwhile no second one goes to a silent cluster.
const PROBE: Duration = Duration::from_secs(15);

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
    silent: Arc<Silent>,
}

/// Clusters that did not answer when they were asked last. An entry goes with the next answer.
#[derive(Debug, Default)]
struct Silent {
    clusters: Mutex<HashMap<KafkaEndpoint, Silence>>,
}

#[derive(Debug)]
struct Silence {
    failures: u32,
    until: Instant,
    /// Whether one question is out to see if the cluster is back.
    asked: bool,
    why: String,
}

impl Silent {
    fn lock(&self) -> MutexGuard<'_, HashMap<KafkaEndpoint, Silence>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the cluster need not be asked now, if it need not. The one that may ask keeps the others waiting.
    fn check(&self, at: &KafkaEndpoint) -> Result<(), AdminError> {
        let now = Instant::now();
        let mut clusters = self.lock();
        let Some(silence) = clusters.get_mut(at) else {
            return Ok(());
        };
        if now < silence.until {
            return Err(AdminError::Unreachable(silence.why.clone()));
        }
        silence.until = now + PROBE;
        silence.asked = true;
        Ok(())
    }

    fn note(&self, at: &KafkaEndpoint, error: Option<&AdminError>) {
        let mut clusters = self.lock();
        let Some(AdminError::Unreachable(why)) = error else {
            clusters.remove(at);
            return;
        };
        let now = Instant::now();
        if clusters.len() >= MAX_CLUSTERS {
            clusters.retain(|_, silence| silence.until > now);
        }
        let known = clusters.get(at);
        if known.is_some_and(|silence| !silence.asked && now < silence.until) {
            // Another question of the same batch said so already.
            return;
        }
        let failures = known.map_or(0, |silence| silence.failures);
        let delay = FIRST_SILENCE
            .saturating_mul(1 << failures.min(10))
            .min(LAST_SILENCE);
        clusters.insert(
            at.clone(),
            Silence {
                failures: failures.saturating_add(1),
                until: now + delay,
                asked: false,
                why: why.clone(),
            },
        );
    }
}

impl Batcher {
    /// Starts the collecting task.
    pub(crate) fn start(admin: Arc<dyn KafkaAdmin>) -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        tokio::spawn(collect(admin, queue));
        Self {
            questions,
            silent: Arc::default(),
        }
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
        self.silent.check(at)?;
        let (reply, answer) = oneshot::channel();
        let gone = || AdminError::Unreachable("the operator is stopping".into());
        self.questions
            .send((at.clone(), question(reply)))
            .await
            .map_err(|_| gone())?;
        let answer = answer.await.map_err(|_| gone())?;
        self.silent.note(at, answer.as_ref().err());
        answer
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
    let mut permits: HashMap<KafkaEndpoint, Arc<Semaphore>> = HashMap::new();
    while let Some((at, question)) = queue.recv().await {
        let mut batches: BTreeMap<KafkaEndpoint, Batch> = BTreeMap::new();
        batches.entry(at).or_default().add(question);
        let deadline = Instant::now() + LINGER;
        for _ in 1..MAX_BATCH {
            match tokio::time::timeout_at(deadline, queue.recv()).await {
                Ok(Some((at, question))) => batches.entry(at).or_default().add(question),
                Ok(None) | Err(_) => break,
            }
        }
        if permits.len() >= MAX_CLUSTERS {
            permits.retain(|_, permit| Arc::strong_count(permit) > 1);
        }
        for (at, batch) in batches {
            let permit = permits
                .entry(at.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(IN_FLIGHT)));
            let (permit, admin) = (Arc::clone(permit), Arc::clone(&admin));
            // At most one task for each question that waits, and a reconcile has one question at a time.
            tokio::spawn(async move {
                let permit = permit.acquire().await;
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

#[cfg(test)]
mod tests;
