//! Who decides changes of the metadata, and when is an answer given?
//!
//! One task per controller, deciding only while its node leads:
//!
//! A. It takes over with the image that holds everything committed before its term.
//! B. Requests that wait are decided together, each seeing the effects of those before it; their records are proposed
//!    as one entry. There is never more than one entry in flight, so the next decisions see only what is committed.
//! C. Answers are given after the entry is committed and applied here, those without records too: they may stand on
//!    another's records.
//! D. When leadership is lost everything in flight is answered [`NotActive`] and the decisions are forgotten. A leader
//!    that no quorum answers keeps waiting for its entry (it may still be committed) but refuses everybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use broker_core::controller::{Controller, ControllerConfig};
use broker_core::metadata::{Incarnation, MetadataRecord, ReplayError, encode_records};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::NodeId;

use crate::metadata::MetadataPublisher;
use crate::quorum::{MetadataQuorum, QuorumStatus};

/// Requests that may wait; beyond, askers wait to be queued, until their own deadlines.
const QUEUE: usize = 1024;
/// Requests decided in one entry: enough to outrun any number of brokers, few enough for entries of some 100 KiB.
const BATCH: usize = 128;
/// Pause before leading again in a term in which a proposal failed.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// This node is not the active controller (any more). The change may or may not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node is not the active controller")]
pub struct NotActive;

type Answer = oneshot::Sender<Result<ControllerResponse, NotActive>>;

pub(crate) enum Command {
    Submit {
        request: Box<ControllerRequest>,
        answer: Answer,
    },
    SessionOpened(NodeId, Incarnation),
    SessionClosed(NodeId, Incarnation),
    ProcessGone(NodeId, Incarnation),
}

/// The way to the writer on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    commands: mpsc::Sender<Command>,
    active: watch::Receiver<Option<u64>>,
}

impl ControllerHandle {
    /// Asks for a change and waits until it is committed.
    ///
    /// # Errors
    /// [`NotActive`]; ask the active controller instead.
    pub async fn submit(
        &self,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, NotActive> {
        let (answer, answered) = oneshot::channel();
        let request = Box::new(request);
        self.send(Command::Submit { request, answer }).await?;
        answered.await.unwrap_or(Err(NotActive))
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), NotActive> {
        self.commands.send(command).await.map_err(|_| NotActive)
    }

    /// The term in which this node is the active controller, and every change of it.
    #[must_use]
    pub fn active(&self) -> watch::Receiver<Option<u64>> {
        self.active.clone()
    }

    /// Whether this node is the active controller.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.borrow().is_some()
    }
}

/// What a writer needs.
#[derive(Debug)]
pub struct WriterConfig {
    /// The controller's own settings.
    pub controller: ControllerConfig,
    /// Where committed metadata appears.
    pub publisher: MetadataPublisher,
}

/// The single writer of the metadata.
pub struct Writer<Q> {
    quorum: Arc<Q>,
    config: WriterConfig,
    commands: mpsc::Receiver<Command>,
    status: watch::Receiver<QuorumStatus>,
    active: watch::Sender<Option<u64>>,
    started: Instant,
    random: SmallRng,
}

impl<Q> std::fmt::Debug for Writer<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What was decided and waits for its commit.
#[derive(Default)]
struct Batch {
    records: Vec<MetadataRecord>,
    /// Decisions with records in `records`.
    decisions: usize,
    answers: Vec<(Answer, ControllerResponse)>,
}

impl Batch {
    fn add(&mut self, records: Vec<MetadataRecord>) {
        self.decisions += usize::from(!records.is_empty());
        self.records.extend(records);
    }

    fn answer(&mut self, result: Result<(), NotActive>) {
        for (answer, response) in self.answers.drain(..) {
            // The asker may have given up.
            let _ = answer.send(result.map(|()| response));
        }
    }
}

impl<Q: MetadataQuorum> Writer<Q> {
    /// A writer over `quorum`, and the way to it.
    #[must_use]
    pub fn new(quorum: Arc<Q>, config: WriterConfig) -> (Self, ControllerHandle) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let (active, watched) = watch::channel(None);
        let status = quorum.status();
        let writer = Self {
            quorum,
            config,
            commands,
            status,
            active,
            started: Instant::now(),
            random: SmallRng::from_os_rng(),
        };
        let handle = ControllerHandle {
            commands: sender,
            active: watched,
        };
        (writer, handle)
    }

    /// Decides until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let term = tokio::select! {
                () = stop.cancelled() => return,
                term = self.until_leading() => term,
            };
            let Some(term) = term else {
                return;
            };
            tracing::info!(term, "this node is the active controller");
            self.active.send_replace(Some(term));
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.lead(term) => {}
            }
            self.active.send_replace(None);
            if stop.is_cancelled() {
                return;
            }
            tracing::info!(term, "this node is the active controller no longer");
            // Either the status tells that leadership is lost, or it will in a moment. Both are fine.
            let _ = tokio::time::timeout(AFTER_FAILURE, self.status.changed()).await;
        }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Refuses everybody until this node leads; `None` when the quorum has stopped.
    async fn until_leading(&mut self) -> Option<u64> {
        loop {
            if let Some(term) = self.status.borrow_and_update().leading {
                return Some(term);
            }
            tokio::select! {
                changed = self.status.changed() => changed.ok()?,
                command = self.commands.recv() => refuse(command?),
            }
        }
    }

    async fn lead(&mut self, term: u64) {
        let image = (*self.config.publisher.image()).clone();
        let config = self.config.controller.clone();
        let mut controller = Controller::take_over(config, image, self.now_ms());
        let mut waiting = Vec::with_capacity(BATCH);
        while self.status.borrow_and_update().leading == Some(term) {
            let until_tick = controller.next_tick_ms() - self.now_ms();
            let until_tick = Duration::from_millis(u64::try_from(until_tick).unwrap_or(0));
            tokio::select! {
                changed = self.status.changed() => if changed.is_err() { return },
                count = self.commands.recv_many(&mut waiting, BATCH) => if count == 0 { return },
                () = tokio::time::sleep(until_tick) => {}
            }
            let mut batch = self.decide(&mut controller, &mut waiting);
            if batch.records.is_empty() {
                batch.answer(Ok(()));
                continue;
            }
            let Some(offset) = self.commit(term, &mut batch).await else {
                batch.answer(Err(NotActive));
                return;
            };
            for _ in 0..batch.decisions {
                controller.committed(offset);
            }
            batch.answer(Ok(()));
        }
    }

    fn decide(&mut self, controller: &mut Controller, waiting: &mut Vec<Command>) -> Batch {
        let mut batch = Batch::default();
        let now_ms = self.now_ms();
        for command in waiting.drain(..) {
            match command {
                Command::Submit { request, answer } => {
                    let seed = self.random.next_u64();
                    let at_risk = match &*request {
                        ControllerRequest::RegisterBroker(request) => controller.at_risk(request),
                        _ => 0,
                    };
                    match controller.decide(now_ms, seed, &request) {
                        Ok(decision) => {
                            report_risk(at_risk, &decision.response);
                            batch.add(decision.records);
                            batch.answers.push((answer, decision.response));
                        }
                        Err(error) => {
                            report(&error);
                            // The asker may have given up.
                            let _ = answer.send(Err(NotActive));
                        }
                    }
                }
                Command::SessionOpened(node, incarnation) => {
                    controller.session_opened(now_ms, node, incarnation);
                }
                Command::SessionClosed(node, incarnation) => {
                    controller.session_closed(node, incarnation);
                }
                Command::ProcessGone(node, incarnation) => {
                    match controller.connection_lost(node, incarnation) {
                        Ok(records) => batch.add(records),
                        Err(error) => report(&error),
                    }
                }
            }
        }
        if now_ms >= controller.next_tick_ms() {
            match controller.tick(now_ms) {
                Ok(records) => batch.add(records),
                Err(error) => report(&error),
            }
        }
        batch
    }

    /// Commits the records of `batch`; `None` when leadership was lost before it is known whether they are.
    async fn commit(&mut self, term: u64, batch: &mut Batch) -> Option<u64> {
        let quorum = self.quorum.clone();
        let records = encode_records(&batch.records);
        let mut proposal = Box::pin(async move { quorum.propose(term, records).await });
        let mut fenced = false;
        loop {
            tokio::select! {
                result = &mut proposal => match result {
                    Ok(offset) => return Some(offset),
                    Err(error) => {
                        tracing::warn!(%error, "a change of the metadata was not committed");
                        return None;
                    }
                },
                changed = self.status.changed() => {
                    changed.ok()?;
                    let status = self.status.borrow_and_update();
                    if status.term != term {
                        return None;
                    }
                    fenced = status.leading.is_none();
                }
                command = self.commands.recv(), if fenced => refuse(command?),
            }
            if fenced {
                batch.answer(Err(NotActive));
            }
        }
    }
}

fn refuse(command: Command) {
    if let Command::Submit { answer, .. } = command {
        // The asker may have given up.
        let _ = answer.send(Err(NotActive));
    }
}

/// Says that the last replica that was sure to have every record of partitions comes back from an unclean stop.
fn report_risk(partitions: usize, response: &ControllerResponse) {
    if let ControllerResponse::RegisterBroker(Ok(epoch)) = response
        && partitions > 0
    {
        tracing::warn!(%epoch, partitions, "the last replica of partitions that was sure to have every record comes back from an unclean stop: if the \
            power was lost, records may be missing that were acknowledged and not flushed");
    }
}

fn report(error: &ReplayError) {
    tracing::error!(%error, "the controller decided records that do not fit the metadata; nothing was changed");
}
