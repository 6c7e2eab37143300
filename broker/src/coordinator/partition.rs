//! Who coordinates the groups of one partition of `__consumer_offsets`, from becoming its leader to losing it?

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::request::{Reply, Token};
use broker_core::group::{Append, Coordinator, GroupConfig, Now, Outcome};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use types::{ErrorCode, LeaderEpoch};

use super::appender::{Appended, Appender};
use super::load::load;
use super::log::OffsetsLog;
use crate::clock::Clock;

/// Appends handed to the partition's task and not started: as many as requests can be in flight at once; beyond that
/// clients are told to come again.
const APPEND_QUEUE: usize = 4096;
/// Pause before loading again what failed to load while this broker is still the leader.
const LOAD_RETRY: Duration = Duration::from_millis(200);

/// One coordinated partition, shared by the requests and the partition's task.
#[derive(Debug)]
pub(super) struct PartitionHandle {
    pub(super) epoch: LeaderEpoch,
    phase: Mutex<Phase>,
    appends: mpsc::Sender<Append>,
    /// The next deadline moved to an earlier time.
    earlier: Notify,
    clock: Clock,
}

#[derive(Debug)]
enum Phase {
    Loading,
    Active(Box<Active>),
    Ended,
}

#[derive(Debug)]
struct Active {
    coordinator: Coordinator,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: u64,
    /// The deadline the task sleeps until.
    armed: Option<i64>,
}

/// What a partition's task needs.
#[derive(Clone)]
pub(super) struct PartitionContext {
    pub(super) partition: i32,
    pub(super) log: Arc<dyn OffsetsLog>,
    pub(super) config: GroupConfig,
    pub(super) expiry_interval: Duration,
}

impl PartitionHandle {
    /// A partition that is loading, and the queue for [`PartitionHandle::run`].
    pub(super) fn new(epoch: LeaderEpoch, clock: Clock) -> (Arc<Self>, mpsc::Receiver<Append>) {
        let (appends, queue) = mpsc::channel(APPEND_QUEUE);
        let handle = Self {
            epoch,
            phase: Mutex::new(Phase::Loading),
            appends,
            earlier: Notify::new(),
            clock,
        };
        (Arc::new(handle), queue)
    }

    /// Looks at the groups.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while loading, `NOT_COORDINATOR` after leadership was lost.
    pub(super) fn read<R>(&self, act: impl FnOnce(&Coordinator) -> R) -> Result<R, ErrorCode> {
        match &*self.phase.lock() {
            Phase::Active(active) => Ok(act(&active.coordinator)),
            Phase::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Ended => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Changes the groups and carries out what follows.
    ///
    /// # Errors
    /// As [`PartitionHandle::read`].
    pub(super) fn change<R>(
        &self,
        act: impl FnOnce(&mut Coordinator, Now) -> (R, Outcome),
    ) -> Result<R, ErrorCode> {
        let mut phase = self.phase.lock();
        let active = phase.active()?;
        let (result, outcome) = act(&mut active.coordinator, self.clock.now());
        self.carry_out(active, outcome);
        Ok(result)
    }

    /// Makes a request whose reply may come later.
    ///
    /// # Errors
    /// As [`PartitionHandle::read`]; also when leadership is lost while the reply is awaited.
    pub(super) async fn request(
        &self,
        act: impl FnOnce(&mut Coordinator, Now, Token) -> Outcome,
    ) -> Result<Reply, ErrorCode> {
        let reply = self.start_request(act)?;
        reply.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    fn start_request(
        &self,
        act: impl FnOnce(&mut Coordinator, Now, Token) -> Outcome,
    ) -> Result<oneshot::Receiver<Reply>, ErrorCode> {
        let mut phase = self.phase.lock();
        let active = phase.active()?;
        active.next_token += 1;
        let token = Token(active.next_token);
        let (sender, reply) = oneshot::channel();
        active.waiting.insert(token, sender);
        let outcome = act(&mut active.coordinator, self.clock.now(), token);
        self.carry_out(active, outcome);
        Ok(reply)
    }

    fn carry_out(&self, active: &mut Active, mut outcome: Outcome) {
        while !outcome.is_empty() {
            let mut more = Outcome::default();
            for (token, reply) in outcome.replies {
                if let Some(sender) = active.waiting.remove(&token) {
                    // The client may have gone away meanwhile.
                    let _ = sender.send(reply);
                }
            }
            for append in outcome.appends {
                let id = append.id;
                if self.appends.try_send(append).is_err() {
                    let error = Err(ErrorCode::CoordinatorNotAvailable);
                    let mut failed = active.coordinator.appended(self.clock.now(), id, error);
                    more.replies.append(&mut failed.replies);
                    more.appends.append(&mut failed.appends);
                }
            }
            outcome = more;
        }
        let next = active.coordinator.next_deadline();
        if next.is_some_and(|next| active.armed.is_none_or(|armed| next < armed)) {
            active.armed = next;
            self.earlier.notify_one();
        }
    }

    /// Loads the partition and drives it until `stop`; then every waiting client is told `NOT_COORDINATOR`.
    pub(super) async fn run(
        self: Arc<Self>,
        context: PartitionContext,
        mut queue: mpsc::Receiver<Append>,
        stop: CancellationToken,
    ) {
        let lead = async {
            loop {
                if self.load(&context).await {
                    self.drive(&context, &mut queue).await;
                    self.unload(Phase::Loading);
                    while queue.try_recv().is_ok() {} // their requests were answered when unloaded
                } else {
                    tokio::time::sleep(LOAD_RETRY).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = lead => {}
        }
        self.unload(Phase::Ended);
    }

    async fn load(&self, context: &PartitionContext) -> bool {
        let partition = context.partition;
        let mut coordinator = Coordinator::new(context.config);
        let clock = self.clock;
        let result = load(
            &*context.log,
            partition,
            move || clock.now(),
            &mut coordinator,
        );
        match result.await {
            Ok(records) => {
                info!(partition, records, epoch = %self.epoch, "loaded groups and offsets");
                for (group, regex) in coordinator.foreign_expressions() {
                    warn!(
                        partition,
                        group,
                        regex,
                        "a regular expression in the log means nothing here: its topics stay as they are"
                    );
                }
                *self.phase.lock() = Phase::Active(Box::new(Active {
                    coordinator,
                    waiting: HashMap::new(),
                    next_token: 0,
                    armed: None,
                }));
                true
            }
            Err(error) => {
                debug!(partition, %error, epoch = %self.epoch, "failed to load groups");
                false
            }
        }
    }

    /// Ends when the partition has to be loaded again.
    async fn drive(&self, context: &PartitionContext, queue: &mut mpsc::Receiver<Append>) {
        let mut appender = Appender::default();
        let mut expiry = tokio::time::interval(context.expiry_interval);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let sleep = self.sleep();
            tokio::select! {
                biased;
                appended = poll_fn(|cx| appender.poll_next(cx)) => {
                    if self.appended(context.partition, &appended) {
                        return;
                    }
                }
                Some(append) = queue.recv() => {
                    let wall_ms = self.clock.now().wall_ms;
                    let place = (context.partition, self.epoch);
                    appender.start(&*context.log, place, append, wall_ms).await;
                }
                () = sleep => self.timer(Coordinator::tick),
                () = self.earlier.notified() => {}
                _ = expiry.tick() => self.timer(Coordinator::expire),
            }
        }
    }

    /// Tells the coordinator; `true` when it has to be loaded again.
    fn appended(&self, partition: i32, appended: &Appended) -> bool {
        let Appended { id, result, reload } = *appended;
        if let Err(error) = result {
            warn!(partition, %error, reload, "failed to write group records");
        }
        // An error here means that the partition is not active any more: whoever waited was answered.
        let _ = self.change(|coordinator, now| ((), coordinator.appended(now, id, result)));
        reload
    }

    fn timer(&self, act: impl FnOnce(&mut Coordinator, Now) -> Outcome) {
        let mut phase = self.phase.lock();
        if let Phase::Active(active) = &mut *phase {
            active.armed = None;
            let outcome = act(&mut active.coordinator, self.clock.now());
            self.carry_out(active, outcome);
        }
    }

    /// Sleeps until the next deadline, or for ever.
    fn sleep(&self) -> impl Future<Output = ()> + use<> {
        let deadline = match &mut *self.phase.lock() {
            Phase::Active(active) => {
                active.armed = active.coordinator.next_deadline();
                active.armed
            }
            Phase::Loading | Phase::Ended => None,
        };
        let wait = deadline.map(|at| at - self.clock.now().monotonic_ms);
        async move {
            match wait {
                Some(wait) => {
                    // One more, since the clock's milliseconds are rounded down.
                    let ms = u64::try_from(wait).map_or(0, |ms| ms + 1);
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn unload(&self, next: Phase) {
        let mut phase = self.phase.lock();
        if let Phase::Active(active) = &mut *phase {
            let outcome = active.coordinator.unload(self.clock.now());
            self.carry_out(active, outcome);
        }
        *phase = next;
    }
}

impl Phase {
    fn active(&mut self) -> Result<&mut Active, ErrorCode> {
        match self {
            Self::Active(active) => Ok(active),
            Self::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Self::Ended => Err(ErrorCode::NotCoordinator),
        }
    }
}
