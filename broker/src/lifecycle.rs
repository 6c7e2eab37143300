//! How does a broker register, prove that it lives, and leave in an orderly way?
//!
//! ```text
//! register ---> fenced: heartbeats as fast as the metadata is applied ---> active: a heartbeat each interval
//!    ^                                                                        |
//!    |  the controller does not know this registration (any more)             | told to stop
//!    +------------------------------------------------------------------------+---> heartbeats until leaders moved
//!                                                                             | cannot serve (its disk failed)
//!                                                                             +---> heartbeats that ask to be fenced
//! ```

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::request::{
    ApiError, BrokerHeartbeatRequest, BrokerState, ControllerRequest, ControllerResponse,
    RegisterBrokerRequest,
};
use broker_core::metadata::MetadataImage;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::controller_client::ControllerClient as GrpcClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{BrokerEpoch, ErrorCode};

use crate::controller::{ControllerClient, ControllerClientError};
use crate::quorum::{Directory, Member, PROTOCOL_VERSION};
use crate::registered::RegisteredFile;

/// Patience for one heartbeat: half a session, so that a second one still fits.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Patience for one registration; it is repeated for ever.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between heartbeats of a fenced or stopping broker, which wait for an event elsewhere.
const EAGER: Duration = Duration::from_millis(50);
/// Pause before a refused registration is repeated: the old process's session must end.
const REFUSED: Duration = Duration::from_millis(200);
/// Pause before the session stream is opened again.
const SESSION_PAUSE: Duration = Duration::from_millis(20);

/// What the controller thinks of this broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// The epoch of the registration, once there is one.
    pub epoch: Option<BrokerEpoch>,
    /// The broker may lead and be in ISRs.
    pub active: bool,
    /// It leads nothing any more, and the others know: it may exit.
    pub may_stop: bool,
}

/// Registration was refused for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// By the controller.
    #[error("failed to register this broker: {0}")]
    Refused(#[source] ApiError),
    /// The controller and this node do not understand each other.
    #[error("failed to register this broker")]
    Protocol(#[source] ControllerClientError),
}

/// What a broker is registered as.
#[derive(Debug, Clone)]
pub struct LifecycleConfig {
    /// Identity, addresses, rack, version.
    pub registration: RegisterBrokerRequest,
    /// Pause between heartbeats.
    pub heartbeat_interval: Duration,
    /// Where the controllers are.
    pub directory: Directory,
    /// What the data directory says of registrations.
    pub registered: RegisteredFile,
}

/// The broker's registration as a task.
#[derive(Debug)]
pub struct Lifecycle {
    config: LifecycleConfig,
    client: ControllerClient,
    /// The metadata that this broker has acted on: its offset goes into heartbeats.
    applied: watch::Receiver<Arc<MetadataImage>>,
    status: watch::Sender<BrokerStatus>,
    leave: CancellationToken,
    /// The broker cannot serve any more.
    fence: CancellationToken,
}

/// The way to the task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LifecycleHandle {
    status: watch::Receiver<BrokerStatus>,
    leave: CancellationToken,
    fence: CancellationToken,
    registered: RegisteredFile,
}

impl LifecycleHandle {
    /// What the controller thinks of this broker, and every change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.status.clone()
    }

    /// Asks the controller to move the leaders away and waits until it has, at most `timeout`. Whether it has.
    pub async fn controlled_shutdown(&self, timeout: Duration) -> bool {
        self.leave.cancel();
        let mut status = self.status.clone();
        let told = status.wait_for(|status| status.may_stop);
        matches!(tokio::time::timeout(timeout, told).await, Ok(Ok(_)))
    }

    /// Tells the controller that this broker cannot serve, from now on, and waits until it has taken every leadership
    /// away, at most `timeout`. Whether it has.
    pub async fn fence(&self, timeout: Duration) -> bool {
        self.fence.cancel();
        if let Err(error) = self.registered.forget() {
            tracing::warn!(%error, "a restart of this process may count as one that has lost nothing");
        }
        let mut status = self.status.clone();
        let told = status.wait_for(|status| !status.active);
        matches!(tokio::time::timeout(timeout, told).await, Ok(Ok(_)))
    }
}

enum Beat {
    Told(BrokerState),
    /// The registration is not known (any more).
    Unknown,
    /// No answer; the next heartbeat may have one.
    Silence,
}

impl Lifecycle {
    /// Not registered yet. `applied` is the metadata that the broker's replicas have acted on.
    #[must_use]
    pub fn new(
        config: LifecycleConfig,
        client: ControllerClient,
        applied: watch::Receiver<Arc<MetadataImage>>,
    ) -> (Self, LifecycleHandle) {
        let (status, watched) = watch::channel(BrokerStatus::default());
        let (leave, fence) = (CancellationToken::new(), CancellationToken::new());
        let handle = LifecycleHandle {
            status: watched,
            leave: leave.clone(),
            fence: fence.clone(),
            registered: config.registered.clone(),
        };
        let lifecycle = Self {
            config,
            client,
            applied,
            status,
            leave,
            fence,
        };
        (lifecycle, handle)
    }

    /// The epoch since which the disk has lost nothing, where that is known.
    pub fn set_previous_epoch(&mut self, epoch: Option<BrokerEpoch>) {
        self.config.registration.previous_epoch = epoch;
    }

    /// Registers and keeps the registration alive until `stop`.
    ///
    /// # Errors
    /// When the registration is refused for good; the process must end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LifecycleError> {
        let session = hold_sessions(
            self.config.clone(),
            self.client.clone(),
            self.status.subscribe(),
        );
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = self.live() => result,
            () = session => Ok(()),
        }
    }

    async fn live(&mut self) -> Result<(), LifecycleError> {
        loop {
            let Some(epoch) = self.register().await? else {
                // Told to stop before there was a registration: nothing leads here.
                self.status.send_modify(|status| status.may_stop = true);
                std::future::pending::<()>().await;
                return Ok(());
            };
            self.note(epoch);
            self.status.send_replace(BrokerStatus {
                epoch: Some(epoch),
                ..BrokerStatus::default()
            });
            self.beat_until_unknown(epoch).await;
            self.status.send_replace(BrokerStatus::default());
        }
    }

    /// Writes the registration down, before anything is done under it.
    fn note(&self, epoch: BrokerEpoch) {
        if let Err(error) = self.config.registered.note(epoch) {
            tracing::warn!(%error, "a kill of this process will count as a loss of records");
        }
    }

    /// The epoch of the new registration; `None` when told to stop meanwhile.
    async fn register(&self) -> Result<Option<BrokerEpoch>, LifecycleError> {
        loop {
            let request = ControllerRequest::RegisterBroker(self.config.registration.clone());
            let answer = tokio::select! {
                () = self.leave.cancelled() => return Ok(None),
                answer = self.client.submit(request, REGISTER_TIMEOUT) => answer,
            };
            match answer {
                Ok(ControllerResponse::RegisterBroker(Ok(epoch))) => {
                    tracing::info!(%epoch, "registered");
                    return Ok(Some(epoch));
                }
                Ok(ControllerResponse::RegisterBroker(Err(error)))
                    if error.code == ErrorCode::DuplicateBrokerRegistration =>
                {
                    tracing::warn!(%error, "not registered yet");
                    tokio::time::sleep(REFUSED).await;
                }
                Ok(ControllerResponse::RegisterBroker(Err(error))) => {
                    return Err(LifecycleError::Refused(error));
                }
                Ok(other) => {
                    let text = format!("a registration was answered by {other:?}");
                    let error = ControllerClientError::Protocol(text);
                    return Err(LifecycleError::Protocol(error));
                }
                Err(error @ ControllerClientError::Protocol(_)) => {
                    return Err(LifecycleError::Protocol(error));
                }
                Err(error @ ControllerClientError::Timeout { .. }) => {
                    tracing::warn!(%error, "not registered yet");
                }
            }
        }
    }

    async fn beat_until_unknown(&mut self, epoch: BrokerEpoch) {
        loop {
            match self.beat(epoch).await {
                Beat::Unknown => return,
                Beat::Silence => {}
                Beat::Told(state) => {
                    self.status.send_if_modified(|status| {
                        let before = *status;
                        status.active = !state.is_fenced;
                        status.may_stop = state.should_shut_down;
                        *status != before
                    });
                }
            }
            let status = *self.status.borrow();
            self.pause(status).await;
        }
    }

    /// Waits for the next heartbeat's time: an event for one who waits for something, the interval for others.
    async fn pause(&mut self, status: BrokerStatus) {
        let (leaving, fencing) = (self.leave.is_cancelled(), self.fence.is_cancelled());
        let eager = (!status.active || leaving) && !status.may_stop;
        let interval = if eager {
            EAGER
        } else {
            self.config.heartbeat_interval
        };
        self.applied.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = self.leave.cancelled(), if !leaving => {}
            () = self.fence.cancelled(), if !fencing => {}
            changed = self.applied.changed(), if eager => {
                if changed.is_err() {
                    // The node stops; the caller's token ends this in a moment.
                    tokio::time::sleep(interval).await;
                }
            }
        }
    }

    async fn beat(&self, epoch: BrokerEpoch) -> Beat {
        let request = BrokerHeartbeatRequest {
            node_id: self.config.registration.node_id,
            broker_epoch: epoch,
            metadata_offset: self.applied.borrow().offset(),
            want_fence: self.fence.is_cancelled(),
            want_shut_down: self.leave.is_cancelled(),
            reads_elr: self.config.registration.reads_elr,
        };
        let request = ControllerRequest::BrokerHeartbeat(request);
        match self.client.submit(request, HEARTBEAT_TIMEOUT).await {
            Ok(ControllerResponse::BrokerHeartbeat(Ok(state))) => Beat::Told(state),
            Ok(ControllerResponse::BrokerHeartbeat(Err(error)))
                if matches!(
                    error.code,
                    ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered
                ) =>
            {
                tracing::warn!(%error, "the controller does not know this registration: registering again");
                Beat::Unknown
            }
            Ok(other) => {
                tracing::warn!(?other, "a heartbeat was refused");
                Beat::Silence
            }
            Err(error) => {
                tracing::warn!(%error, "a heartbeat was not answered");
                Beat::Silence
            }
        }
    }
}

/// Keeps a session stream to the active controller open, by which it notices the death of this process at once.
async fn hold_sessions(
    config: LifecycleConfig,
    client: ControllerClient,
    mut status: watch::Receiver<BrokerStatus>,
) {
    let mut leader = client.leader();
    let own_id = config.registration.node_id;
    loop {
        if status
            .wait_for(|status| status.epoch.is_some())
            .await
            .is_err()
        {
            return;
        }
        let elsewhere = |leader: &Option<Member>| {
            leader
                .as_ref()
                .is_some_and(|leader| leader.node_id != own_id)
        };
        let Ok(target) = leader
            .wait_for(elsewhere)
            .await
            .map(|leader| leader.clone())
        else {
            return;
        };
        if let Some(target) = target
            && let Err(status) = hold_session(&config, &target).await
        {
            tracing::debug!(controller = %target, %status, "no session");
        }
        tokio::time::sleep(SESSION_PAUSE).await;
    }
}

async fn hold_session(config: &LifecycleConfig, target: &Member) -> Result<(), Status> {
    let frame = wire::SessionFrame {
        version: PROTOCOL_VERSION,
        cluster_id: config.registration.cluster_id.clone(),
        node_id: config.registration.node_id.0,
        incarnation: config.registration.incarnation.as_bytes().to_vec().into(),
    };
    let frames = futures::stream::iter([frame]);
    let open_ended = futures::StreamExt::chain(frames, futures::stream::pending());
    let mut client = GrpcClient::new(config.directory.channel(target));
    let mut replies = client.session(open_ended).await?.into_inner();
    while replies.message().await?.is_some() {}
    Ok(())
}
