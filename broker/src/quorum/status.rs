//! Who leads, and may this node act as the active controller?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::QuorumStatus;
use super::types::{Member, Metrics, Vote};

/// When this node last heard from a leader (or, leading, from the others), and whether it is about to give leadership
/// away.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    heard: Mutex<Option<(Instant, Vote)>>,
    /// When each member last answered this leader. As many as there ever were members.
    answers: Mutex<BTreeMap<u64, (Instant, Vote)>>,
    /// The candidate that this node voted for last, itself included.
    candidate: Mutex<Option<(Instant, u64)>>,
    resigning: AtomicBool,
    cluster_exists: AtomicBool,
}

impl Signals {
    /// A message of the leader elected by `vote` was accepted.
    pub(crate) fn hear(&self, vote: Vote) {
        *self.heard.lock() = Some((Instant::now(), vote));
    }

    /// When the last message of a leader was accepted.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.heard.lock().map(|(at, _)| at)
    }

    /// Whether a leader was heard within `window`.
    pub(crate) fn heard_within(&self, window: Duration) -> bool {
        self.heard_at().is_some_and(|at| at.elapsed() < window)
    }

    /// This node has voted for `candidate`, or is it itself.
    pub(crate) fn elects(&self, candidate: u64) {
        *self.candidate.lock() = Some((Instant::now(), candidate));
    }

    /// Whether this node voted for somebody else than `asking` within `window`, so that an election may be under way.
    pub(crate) fn elects_another_within(&self, asking: u64, window: Duration) -> bool {
        let candidate = *self.candidate.lock();
        candidate.is_some_and(|(at, id)| id != asking && at.elapsed() < window)
    }

    /// The member `id` takes the leader elected by `vote`, this node, for the leader.
    pub(crate) fn answered(&self, id: u64, vote: Vote) {
        self.answers.lock().insert(id, (Instant::now(), vote));
    }

    /// The members that answered the leader elected by `vote` within `window`.
    fn answered_within(&self, window: Duration, vote: Vote) -> Vec<u64> {
        let answers = self.answers.lock();
        let lately = answers
            .iter()
            .filter(|(_, (at, of))| *of == vote && at.elapsed() < window);
        lately.map(|(id, _)| *id).collect()
    }

    /// This node is about to stop: it acts as the active controller no longer.
    pub(crate) fn resign(&self) {
        self.resigning.store(true, Ordering::Release);
    }

    /// Whether [`Signals::resign`] was called.
    pub(crate) fn is_resigning(&self) -> bool {
        self.resigning.load(Ordering::Acquire)
    }

    /// Some disk belongs to a quorum already: a disk without entries must join it, never found another.
    pub(crate) fn note_cluster_exists(&self) {
        self.cluster_exists.store(true, Ordering::Release);
    }

    /// Whether [`Signals::note_cluster_exists`] was called.
    pub(crate) fn cluster_exists(&self) -> bool {
        self.cluster_exists.load(Ordering::Acquire)
    }
}

/// What a leader must have applied before it acts.
///
/// The term alone does not say it: a leader that restarts quickly leads on in its old term, with applied entries of
/// that term from its snapshot and others still to apply.
#[derive(Debug, Default)]
pub(crate) struct Takeover(Option<Barrier>);

#[derive(Debug, Clone, Copy)]
struct Barrier {
    term: u64,
    /// The end of the log when this process was first seen to lead in `term`.
    last_log_index: Option<u64>,
}

impl Takeover {
    /// Takes note of whether this node leads.
    pub(crate) fn observe(&mut self, metrics: &Metrics) {
        let term = metrics.current_term;
        if !leads(metrics) {
            self.0 = None;
        } else if self.0.is_none_or(|barrier| barrier.term != term) {
            self.0 = Some(Barrier {
                term,
                last_log_index: metrics.last_log_index,
            });
        }
    }

    /// Whether everything that was in the log at the takeover is applied, and something of the leader's own term.
    fn is_complete(&self, metrics: &Metrics) -> bool {
        let (Some(barrier), Some(applied)) = (self.0, metrics.last_applied) else {
            return false;
        };
        Some(applied.index) >= barrier.last_log_index
            && applied.leader_id.term == metrics.current_term
            && applied.leader_id.node_id == metrics.id
    }
}

fn leads(metrics: &Metrics) -> bool {
    metrics.current_leader == Some(metrics.id) && metrics.state.is_leader()
}

/// Raft's metrics as the rest of the broker sees them. `fence_after` is the age of the last quorum answer at
/// which a leader stops acting.
pub(crate) fn of(
    metrics: &Metrics,
    takeover: &Takeover,
    signals: &Signals,
    fence_after: Duration,
) -> QuorumStatus {
    let membership = metrics.membership_config.membership();
    let member = |id: &u64| membership.get_node(id).cloned();
    let voters: Vec<Member> = membership
        .voter_ids()
        .filter_map(|id| member(&id))
        .collect();
    let learners = membership
        .learner_ids()
        .filter_map(|id| member(&id))
        .collect();
    let acknowledged = metrics
        .millis_since_quorum_ack
        .is_some_and(|age| Duration::from_millis(age) < fence_after);
    let answered = voters.len() == 1 || acknowledged || {
        let mut answers = signals.answered_within(fence_after, metrics.vote);
        answers.push(metrics.id);
        is_quorum(metrics, &answers)
    };
    let failed = metrics
        .running_state
        .as_ref()
        .err()
        .map(ToString::to_string);
    let acts = leads(metrics)
        && takeover.is_complete(metrics)
        && answered
        && failed.is_none()
        && !signals.is_resigning();
    QuorumStatus {
        term: metrics.current_term,
        leader: metrics.current_leader.as_ref().and_then(member),
        leading: acts.then_some(metrics.current_term),
        voters,
        learners,
        applied: metrics.last_applied.map_or(0, |id| id.index),
        last_log_index: metrics.last_log_index.unwrap_or(0),
        matched: matched(metrics),
        failed,
    }
}

fn matched(metrics: &Metrics) -> BTreeMap<u64, u64> {
    metrics
        .replication
        .iter()
        .flatten()
        .filter_map(|(id, log_id)| log_id.map(|log_id| (*id, log_id.index)))
        .collect()
}

/// Whether `granted` is a majority of every voter set of the membership.
pub(crate) fn is_quorum(metrics: &Metrics, granted: &[u64]) -> bool {
    let sets = metrics.membership_config.membership().get_joint_config();
    !sets.is_empty()
        && sets.iter().all(|set| {
            let votes = set.iter().filter(|id| granted.contains(id)).count();
            votes > set.len() / 2
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_one_candidate_is_voted_for_no_other_is_encouraged() {
        const WINDOW: Duration = Duration::from_secs(60);
        let signals = Signals::default();
        assert!(!signals.elects_another_within(3, WINDOW));
        signals.elects(2);
        assert!(signals.elects_another_within(3, WINDOW));
        assert!(
            !signals.elects_another_within(2, WINDOW),
            "it may ask again"
        );
        assert!(
            !signals.elects_another_within(3, Duration::ZERO),
            "it is over"
        );
    }
}
