//! When does a controller stand for election?
//!
//! Raft's own election timer is off. A controller that has not heard from a leader for `patience` first asks the
//! other voters whether they would vote for it (they would not while they hear a leader), so that a node that was
//! stalled or cut off does not depose a healthy leader with its higher term. When the leader's process is dead
//! (nobody listens on its port) the wait is only the voters' lease. What counts as hearing says `heartbeat.rs`, and what
//! becomes of elections that do not settle `restraint.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rpc::quorum::v1 as wire;
use tokio_util::sync::CancellationToken;

use super::restraint::Restraint;
use super::runtime::Shared;
use super::types::{LogId, Metrics};
use super::{PROTOCOL_VERSION, codec, heartbeat, status, transport};
use crate::peer::Probe;

/// How often the timer is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);
/// A voter that does not answer a pre-vote by then does not count. Long, since a busy machine is no reason to ask again:
/// as soon as a majority has answered nobody else is waited for.
const PRE_VOTE_TIMEOUT: Duration = Duration::from_millis(300);
/// A dead leader's port answers at once; a live host that answers later is not dead.
const PROBE_TIMEOUT: Duration = Duration::from_millis(30);

impl Shared {
    /// Whether this node would vote for the sender of a pre-vote now.
    pub(crate) fn would_vote(&self, from: u64, last_log_id: Option<LogId>) -> bool {
        let leads = self.raft.metrics().borrow().state.is_leader();
        let lease = self.config.timing.lease;
        let has_leader = leads || self.signals.heard_within(lease);
        // Two candidates at once would take the votes from each other.
        let has_candidate = self.signals.elects_another_within(from, lease);
        let granted = !has_leader && !has_candidate && last_log_id >= self.last_log_id();
        tracing::debug!(from, has_leader, has_candidate, granted, "pre-vote");
        granted
    }
}

/// Sends the heartbeats of a leader and starts elections, until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let heartbeats = heartbeat::run(&shared);
    let elections = election_loop(&shared);
    tokio::select! {
        () = stop.cancelled() => {}
        () = heartbeats => {}
        () = elections => {}
    }
}

async fn election_loop(shared: &Shared) {
    let mut random = SmallRng::from_os_rng();
    let timing = &shared.config.timing;
    // A restarted cluster has no leader to wait for; only the jitter keeps its nodes apart.
    let mut patience = random.random_range(timing.retry.clone());
    let mut since = Instant::now();
    let mut not_before = since;
    let mut restraint = Restraint::default();
    let mut timer = tokio::time::interval(LOOK_INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let late = lateness(&mut timer).await;
        let metrics = shared.raft.metrics().borrow().clone();
        if metrics.running_state.is_err() {
            return;
        }
        restraint.on_term(Instant::now(), metrics.current_term);
        if let Some(heard) = shared.signals.heard_at()
            && heard > since
        {
            since = heard;
            restraint.on_leader();
            patience = random.random_range(restraint.patience(heard, &timing.patience));
        }
        if !may_stand(shared, &metrics) {
            since = Instant::now();
            continue;
        }
        if restraint.grants_grace(late, timing.lease) {
            tracing::debug!(?late, "not run for longer than a lease: waiting anew");
            since = Instant::now();
        }
        if Instant::now() < not_before {
            continue;
        }
        let silence = since.elapsed();
        let waited = silence >= patience
            || (silence >= timing.lease && leader_is_dead(shared, &metrics).await);
        if !waited {
            continue;
        }
        if majority_would_vote(shared, &metrics).await {
            tracing::info!(term = metrics.current_term, "standing for election");
            shared.signals.elects(shared.me.raft_id());
            restraint.on_stood();
            if shared.raft.trigger().elect().await.is_err() {
                return;
            }
            since = Instant::now();
            patience = timing.lease + random.random_range(restraint.retry(&timing.retry));
        } else {
            // Mostly somebody heard the leader some ms later than this node: it will not take a lease to change that.
            not_before = Instant::now() + random.random_range(timing.retry.clone());
        }
    }
}

/// By how much later than it should the timer fires.
async fn lateness(timer: &mut tokio::time::Interval) -> Duration {
    let before = Instant::now();
    timer.tick().await;
    before.elapsed().saturating_sub(LOOK_INTERVAL)
}

/// A voter that does not lead and does not stop.
fn may_stand(shared: &Shared, metrics: &Metrics) -> bool {
    let me = shared.me.raft_id();
    let mut voters = metrics.membership_config.membership().voter_ids();
    let is_voter = voters.any(|id| id == me);
    is_voter && !metrics.state.is_leader() && !shared.signals.is_resigning()
}

async fn leader_is_dead(shared: &Shared, metrics: &Metrics) -> bool {
    let membership = metrics.membership_config.membership();
    let leader = metrics
        .current_leader
        .and_then(|id| membership.get_node(&id));
    let Some(leader) = leader else {
        return false;
    };
    let (host, port) = shared.directory.address(leader);
    let probe = shared
        .directory
        .peers()
        .probe(host, port, PROBE_TIMEOUT)
        .await;
    probe == Probe::Refused
}

async fn majority_would_vote(shared: &Shared, metrics: &Metrics) -> bool {
    let me = shared.me.raft_id();
    let mut granted = vec![me];
    if status::is_quorum(metrics, &granted) {
        return true;
    }
    let last_log_id = shared.last_log_id().map(codec::log_id_to_wire);
    let membership = metrics.membership_config.membership();
    let mut answers: FuturesUnordered<_> = membership
        .voter_ids()
        .filter(|id| *id != me)
        .filter_map(|id| membership.get_node(&id).map(|member| (id, member)))
        .map(|(id, member)| {
            let request = wire::PreVoteRequest {
                version: PROTOCOL_VERSION,
                cluster_id: shared.config.cluster_id.clone(),
                to_raft_id: id,
                from_raft_id: me,
                last_log_id,
            };
            let mut client = transport::client(shared.directory.channel(member));
            async move {
                let call = client.pre_vote(request);
                match tokio::time::timeout(PRE_VOTE_TIMEOUT, call).await {
                    Ok(Ok(response)) if response.get_ref().granted => Some(id),
                    // Refused, unreachable or slow: no vote to count on.
                    Ok(Ok(_) | Err(_)) | Err(_) => None,
                }
            }
        })
        .collect();
    while let Some(answer) = answers.next().await {
        granted.extend(answer);
        if status::is_quorum(metrics, &granted) {
            return true;
        }
    }
    false
}
