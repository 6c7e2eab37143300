//! How does a coordinator know that a member lives, and the member that the group changes?

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::ErrorCode;
use wire::messages::HeartbeatRequest;

use super::group::Membership;
use super::options::ConsumerOptions;
use crate::connection::Connection;
use crate::error::{ClientError, error_code};

/// What the last heartbeat said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// All is well.
    Stable,
    /// The group rebalances: join again, with the same member id.
    Rebalance,
    /// The coordinator is elsewhere, or cannot be reached: find it and join again.
    CoordinatorLost,
    /// The coordinator does not know the member any more: join as a new one.
    Evicted,
    /// Another process has the same `group.instance.id`.
    Fenced,
}

/// The heartbeats of one membership; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    signal: watch::Receiver<Signal>,
    last_poll: Arc<Mutex<Instant>>,
    stop: CancellationToken,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Heartbeat {
    pub(super) fn start(
        connection: Connection,
        group_id: &str,
        membership: &Membership,
        options: &ConsumerOptions,
    ) -> Self {
        let (sender, signal) = watch::channel(Signal::Stable);
        let last_poll = Arc::new(Mutex::new(Instant::now()));
        let stop = CancellationToken::new();
        let request = HeartbeatRequest {
            group_id: group_id.to_owned(),
            generation_id: membership.generation,
            member_id: membership.member_id.clone(),
            group_instance_id: options.group_instance_id.clone(),
            ..HeartbeatRequest::default()
        };
        let beating = beat(
            connection,
            request,
            sender,
            Arc::clone(&last_poll),
            options.clone(),
        );
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = beating => {}
                () = stopped.cancelled() => {}
            }
        });
        Self {
            signal,
            last_poll,
            stop,
        }
    }

    pub(super) fn signal(&self) -> Signal {
        *self.signal.borrow()
    }

    pub(super) async fn changed(&mut self) {
        if self.signal.changed().await.is_err() {
            std::future::pending::<()>().await; // the heartbeats ended with a last word that was read already
        }
    }

    /// The application polls, so it lives.
    pub(super) fn polled(&self) {
        *self.last_poll.lock() = Instant::now();
    }
}

async fn beat(
    connection: Connection,
    request: HeartbeatRequest,
    signal: watch::Sender<Signal>,
    last_poll: Arc<Mutex<Instant>>,
    options: ConsumerOptions,
) {
    loop {
        tokio::time::sleep(options.heartbeat_interval).await;
        if last_poll.lock().elapsed() > options.max_poll_interval {
            tracing::warn!(
                group = request.group_id,
                "no poll for max_poll_interval: heartbeats stop"
            );
            return;
        }
        let next = match send(&connection, &request, options.session_timeout).await {
            Ok(ErrorCode::None) => Signal::Stable,
            Ok(ErrorCode::RebalanceInProgress) => Signal::Rebalance,
            Ok(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => Signal::Evicted,
            Ok(ErrorCode::FencedInstanceId) => Signal::Fenced,
            Ok(code) => {
                tracing::debug!(group = request.group_id, %code, "heartbeat refused");
                Signal::CoordinatorLost
            }
            Err(error) => {
                tracing::debug!(group = request.group_id, %error, "heartbeat failed");
                Signal::CoordinatorLost
            }
        };
        signal.send_if_modified(|old| std::mem::replace(old, next) != next);
        // while a rebalance waits for this member, heartbeats keep it in the group; after the rest there is no point
        if !matches!(next, Signal::Stable | Signal::Rebalance) {
            return;
        }
    }
}

async fn send(
    connection: &Connection,
    request: &HeartbeatRequest,
    timeout: Duration,
) -> Result<ErrorCode, ClientError> {
    let version = connection.version_of::<HeartbeatRequest>(i16::MAX)?;
    let answer = connection
        .submit(request, version, timeout)
        .await?
        .wait()
        .await?;
    Ok(error_code(answer.error_code))
}
