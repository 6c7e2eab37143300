//! How does a leader stay in office while a disk stalls?
//!
//! openraft's core waits for each of its writes to be synced, and an entry is answered only then. So on a stalled disk
//! a leader's core sends nothing and a follower's core acknowledges nothing, for as long as the stall takes: here up to
//! some hundred ms of page writeback. Elections would follow, which write, too, and stall again.
//!
//! A. A leader also says directly, past its core, that it is in office: an append request without anything in it. A
//!    follower takes note of it (as of any append request) when it arrives, and answers it past its own core.
//! B. When the leader's core has not answered for [`Timing::stall`](super::Timing), it is not in office any more in any
//!    useful sense: it falls silent, and the others elect.
//! C. The answers count as the quorum's: a leader whose followers' disks stall goes on to act.
//!
//! Nothing of Raft's safety rests on any of it: votes and commits are the cores' business alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rpc::quorum::v1 as wire;
use rpc::quorum::v1::append_entries_response::Result as Outcome;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::runtime::Shared;
use super::types::{Member, Metrics, Vote};
use super::{PROTOCOL_VERSION, codec, transport};

/// Sends the heartbeats of a leader, until Raft stops.
pub(crate) async fn run(shared: &Arc<Shared>) {
    let mut timer = tokio::time::interval(shared.config.timing.heartbeat);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut core = Core::default();
    loop {
        timer.tick().await;
        let metrics = shared.raft.metrics().borrow().clone();
        if !metrics.state.is_leader() || shared.signals.is_resigning() {
            core = Core::default();
            continue;
        }
        let silence = core.silence(shared).await;
        // What the core is asked meanwhile would only queue up.
        if silence.is_zero() && shared.raft.trigger().heartbeat().await.is_err() {
            return;
        }
        if silence < shared.config.timing.stall {
            say_in_office(shared, &metrics);
        }
    }
}

/// Whether Raft's core on this node does anything, or waits for the disk.
#[derive(Debug, Default)]
struct Core {
    asked: Option<(Instant, JoinHandle<()>)>,
}

impl Core {
    /// For how long the core has not answered; zero if it has answered the last question.
    async fn silence(&mut self, shared: &Arc<Shared>) -> Duration {
        if let Some((at, answer)) = &mut self.asked {
            if !answer.is_finished() {
                return at.elapsed();
            }
            // It has ended: with an answer, or because Raft has stopped, which the caller notices.
            let _ = answer.await;
        }
        let raft = shared.raft.clone();
        let question = tokio::spawn(async move {
            // An error means that Raft has stopped.
            let _ = raft.with_raft_state(|_| ()).await;
        });
        self.asked = Some((Instant::now(), question));
        Duration::ZERO
    }
}

fn say_in_office(shared: &Arc<Shared>, metrics: &Metrics) {
    let own_id = shared.me.raft_id();
    let membership = metrics.membership_config.membership();
    for (id, member) in membership.nodes().filter(|(id, _)| **id != own_id) {
        // Ends within a lease, so there are never more than a few.
        tokio::spawn(say_to(shared.clone(), *id, member.clone(), metrics.vote));
    }
}

async fn say_to(shared: Arc<Shared>, id: u64, member: Member, vote: Vote) {
    let request = wire::AppendEntriesRequest {
        version: PROTOCOL_VERSION,
        cluster_id: shared.config.cluster_id.clone(),
        to_raft_id: id,
        vote: Some(codec::vote_to_wire(vote)),
        ..wire::AppendEntriesRequest::default()
    };
    let mut client = transport::client(shared.directory.channel(&member));
    let call = client.append_entries(request);
    let answer = tokio::time::timeout(shared.config.timing.lease, call).await;
    if let Ok(Ok(response)) = answer
        && let Some(Outcome::Success(_)) = response.get_ref().result
    {
        shared.signals.answered(id, vote);
    }
}

impl Shared {
    /// Takes note of a leader's message when it arrives, before any disk is waited for. The answer to a message that
    /// says nothing more than that (see A).
    pub(crate) fn hear_leader(
        &self,
        vote: Vote,
        request: &wire::AppendEntriesRequest,
    ) -> Option<Outcome> {
        let known = self.raft.metrics().borrow().vote;
        let in_office = vote.committed && vote >= known;
        if in_office {
            self.signals.hear(vote);
        }
        let says_more = request.prev_log_id.is_some()
            || !request.entries.is_empty()
            || request.leader_commit.is_some();
        (!says_more).then(|| {
            if in_office {
                Outcome::Success(true)
            } else {
                Outcome::HigherVote(codec::vote_to_wire(known))
            }
        })
    }
}
