//! How does a broker reach the active controller, wherever it is?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker_core::controller::request::{ControllerRequest, ControllerResponse};
use futures::future::BoxFuture;
use rpc::limits::MESSAGE_BYTES_MAX;
use rpc::quorum::v1 as wire;
use rpc::quorum::v1::controller_client::ControllerClient as GrpcClient;
use rpc::quorum::v1::raft_client::RaftClient;
use rpc::quorum::v1::submit_response::Outcome;
use tokio::sync::watch;
use types::NodeId;

use super::quorum_view;
use super::writer::ControllerHandle;
use crate::broker::QuorumView;
use crate::quorum::{Directory, Member, PROTOCOL_VERSION, QuorumStatus, member_from_wire};

/// Pause before another attempt: elections take some 200 ms, and a failover must not wait for a long pause.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer is awaited before somebody else is asked whether the active controller has moved.
const DOUBT: Duration = Duration::from_millis(400);

/// A request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerClientError {
    /// No active controller answered in time. The change may or may not happen.
    #[error("failed to reach the active controller within {timeout:?}: {last}")]
    Timeout {
        /// The asker's patience.
        timeout: Duration,
        /// The last attempt's failure.
        last: String,
    },
    /// The request makes no sense to the controller, or its answer none to this node.
    #[error("failed to talk to the active controller: {0}")]
    Protocol(String),
}

/// The controller on this node, when it has the role.
#[derive(Debug, Clone)]
pub(crate) struct LocalController {
    pub(crate) handle: ControllerHandle,
    pub(crate) status: watch::Receiver<QuorumStatus>,
}

/// The way to the active controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControllerClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster_id: String,
    node_id: NodeId,
    directory: Directory,
    local: Option<LocalController>,
    /// The active controller as it is known here.
    leader: watch::Sender<Option<Member>>,
    turn: AtomicUsize,
}

/// Why an attempt failed.
enum Failure {
    /// Worth another attempt.
    Retry(String),
    Final(ControllerClientError),
}

/// Attempts until one succeeds, one fails for good, or the time is over.
async fn again<'a, T>(
    timeout: Duration,
    attempt: impl Fn(Duration) -> BoxFuture<'a, Result<T, Failure>>,
) -> Result<T, ControllerClientError> {
    let deadline = Instant::now() + timeout;
    let mut last = "no controller is known".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ControllerClientError::Timeout { timeout, last });
        }
        match tokio::time::timeout(left, attempt(left)).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(Failure::Final(error))) => return Err(error),
            Ok(Err(Failure::Retry(why))) => last = why,
            Err(_elapsed) => "no answer".clone_into(&mut last),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

impl ControllerClient {
    pub(crate) fn new(
        cluster_id: String,
        node_id: NodeId,
        directory: Directory,
        local: Option<LocalController>,
    ) -> Self {
        Self(Arc::new(Inner {
            cluster_id,
            node_id,
            directory,
            local,
            leader: watch::Sender::new(None),
            turn: AtomicUsize::new(0),
        }))
    }

    /// Asks the active controller for a change and waits until it is committed. Asks again while there is no active
    /// controller, or another one, until `timeout`.
    ///
    /// # Errors
    /// When nobody answered in time, or the two nodes do not understand each other.
    pub async fn submit(
        &self,
        request: ControllerRequest,
        timeout: Duration,
    ) -> Result<ControllerResponse, ControllerClientError> {
        again(timeout, |left| Box::pin(self.attempt(&request, left))).await
    }

    /// Asks the active controller how the quorum stands, as patiently.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(crate) async fn quorum(
        &self,
        timeout: Duration,
    ) -> Result<QuorumView, ControllerClientError> {
        again(timeout, |_left| Box::pin(self.look())).await
    }

    /// The active controller as it is known here, and every change of that.
    #[must_use]
    pub fn leader(&self) -> watch::Receiver<Option<Member>> {
        self.0.leader.subscribe()
    }

    async fn attempt(
        &self,
        request: &ControllerRequest,
        left: Duration,
    ) -> Result<ControllerResponse, Failure> {
        if let Some(local) = &self.0.local
            && local.handle.is_active()
        {
            let me = local.status.borrow().leader.clone();
            self.know(me);
            let answer = local.handle.submit(request.clone()).await;
            return answer.map_err(|error| Failure::Retry(error.to_string()));
        }
        let Some(target) = self.target() else {
            return Err(Failure::Retry("no controller is configured".to_owned()));
        };
        tokio::select! {
            answer = self.ask(&target, request, left) => {
                if answer.is_err() {
                    self.forget(&target);
                }
                answer
            }
            () = self.moved_from(&target) => {
                self.forget(&target);
                Err(Failure::Retry(format!("the active controller moved away from {target}")))
            }
        }
    }

    /// Asks for the quorum once.
    async fn look(&self) -> Result<QuorumView, Failure> {
        let Some(target) = self.target() else {
            return Err(Failure::Retry("no controller is configured".to_owned()));
        };
        let view = quorum_view::ask(&self.0.directory, &self.0.cluster_id, &target).await;
        match view {
            Ok(Some(view)) => Ok(view),
            Ok(None) => {
                self.forget(&target);
                let why = format!("{target} is not the active controller");
                Err(Failure::Retry(why))
            }
            Err(status) => {
                self.forget(&target);
                Err(Failure::Retry(format!("{target}: {status}")))
            }
        }
    }

    fn know(&self, leader: Option<Member>) {
        self.0.leader.send_if_modified(|known| {
            let changed = *known != leader && leader.is_some();
            if changed {
                *known = leader;
            }
            changed
        });
    }

    fn forget(&self, target: &Member) {
        self.0.leader.send_if_modified(|known| {
            let is_it = known.as_ref() == Some(target);
            if is_it {
                *known = None;
            }
            is_it
        });
    }

    /// The node to ask next: the active controller when it is known, or one after the other.
    fn target(&self) -> Option<Member> {
        if let Some(local) = &self.0.local {
            let status = local.status.borrow();
            let elsewhere = status.leader.clone();
            if let Some(leader) = elsewhere.filter(|leader| leader.node_id != self.0.node_id) {
                return Some(leader);
            }
        }
        if let Some(leader) = self.0.leader.borrow().clone() {
            return Some(leader);
        }
        let controllers = self.0.directory.controllers();
        let others: Vec<_> = controllers
            .values()
            .filter(|controller| self.0.local.is_none() || controller.node_id != self.0.node_id)
            .collect();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let controller = others.get(turn % others.len().max(1))?;
        Some(Member {
            node_id: controller.node_id,
            host: controller.host.clone(),
            rpc_port: controller.rpc_port,
            ..Member::default()
        })
    }

    async fn ask(
        &self,
        target: &Member,
        request: &ControllerRequest,
        left: Duration,
    ) -> Result<ControllerResponse, Failure> {
        let inner = &self.0;
        let mut client = GrpcClient::new(inner.directory.channel(target))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let submit = wire::SubmitRequest {
            version: PROTOCOL_VERSION,
            cluster_id: inner.cluster_id.clone(),
            from_node_id: inner.node_id.0,
            request: request.encode(),
            timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        let response = client.submit(submit).await.map_err(|status| {
            use tonic::Code::{FailedPrecondition, InvalidArgument};
            let text = format!("{target}: {status}");
            match status.code() {
                FailedPrecondition | InvalidArgument => {
                    Failure::Final(ControllerClientError::Protocol(text))
                }
                _ => Failure::Retry(text),
            }
        })?;
        match response.into_inner().outcome {
            Some(Outcome::Response(bytes)) => {
                self.know(Some(target.clone()));
                ControllerResponse::decode(&bytes).map_err(|error| {
                    Failure::Final(ControllerClientError::Protocol(error.to_string()))
                })
            }
            Some(Outcome::NotController(answer)) => {
                let leader = answer
                    .leader
                    .and_then(|leader| member_from_wire(leader).ok());
                self.forget(target);
                self.know(leader);
                Err(Failure::Retry(format!(
                    "{target} is not the active controller"
                )))
            }
            None => Err(Failure::Final(ControllerClientError::Protocol(format!(
                "{target} gave an empty answer"
            )))),
        }
    }

    /// Resolves when the active controller is known to be another node than `target`, which has not answered yet.
    async fn moved_from(&self, target: &Member) {
        if let Some(local) = &self.0.local {
            let mut status = local.status.clone();
            let elsewhere = status.wait_for(|status| {
                let leader = status.leader.as_ref();
                leader.is_some_and(|leader| leader.node_id != target.node_id)
            });
            if elsewhere.await.is_err() {
                // The quorum has stopped on this node; the process is about to end.
                std::future::pending::<()>().await;
            }
            return;
        }
        loop {
            tokio::time::sleep(DOUBT).await;
            for controller in self.0.directory.controllers().values() {
                if controller.node_id == target.node_id {
                    continue;
                }
                let channel = self.0.directory.controller_channel(controller);
                let hello = wire::HelloRequest {
                    version: PROTOCOL_VERSION,
                    cluster_id: self.0.cluster_id.clone(),
                    ..wire::HelloRequest::default()
                };
                let mut client = RaftClient::new(channel);
                let answer = tokio::time::timeout(DOUBT, client.hello(hello)).await;
                let leader = match answer {
                    Ok(Ok(response)) => response.into_inner().leader,
                    // Not reachable either: somebody else may know.
                    Ok(Err(_)) | Err(_) => None,
                };
                if leader.is_some_and(|leader| leader.node_id != target.node_id.0) {
                    return;
                }
            }
        }
    }
}
