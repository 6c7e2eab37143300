//! How does a controller hold back when elections do not settle?
//!
//! Where the CPU or the disk is starved, leaders are heard late and votes arrive too late to count. Each election is
//! more work for the same machine, so without restraint one leads to the next: terms by the dozen and no leader.
//!
//! A. The first election after a leader died is never delayed.
//! B. Each further one without a leader in between doubles the random pause before the next: sooner or later one
//!    candidate has the time that its votes take.
//! C. The more terms began lately, the longer a leader that is only silent is waited for. A leader whose process is
//!    dead is not waited for in any case.
//! D. A node that was not run itself for longer than a lease cannot say who was silent: what it was told meanwhile is
//!    still to be read. It waits anew, a bounded number of times.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The pause between failed elections grows up to this many times: about a second.
const RETRY_FACTOR_MAX: u32 = 8;
/// The patience grows up to this many times: 2.4 s at most, less than a broker's session.
const PATIENCE_FACTOR_MAX: u32 = 4;
/// Terms that began within this time count as lately.
const LATELY: Duration = Duration::from_secs(30);
/// So often in a row a node waits anew because it was not run. A machine that is always that slow has to elect, too.
const GRACES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Restraint {
    /// Elections that this node stood for since a leader was heard.
    in_a_row: u32,
    graces: u32,
    term: Option<u64>,
    /// When terms began; only as many as make a difference.
    began: VecDeque<Instant>,
}

impl Restraint {
    /// The term of this node at `now`.
    pub(crate) fn on_term(&mut self, now: Instant, term: u64) {
        let before = self.term.replace(term).unwrap_or(term);
        for _ in 0..term.saturating_sub(before).min(16) {
            self.began.push_back(now);
        }
        while self.began.len() > PATIENCE_FACTOR_MAX as usize {
            self.began.pop_front();
        }
    }

    /// A leader was heard.
    pub(crate) const fn on_leader(&mut self) {
        self.in_a_row = 0;
        self.graces = 0;
    }

    /// This node stands for election.
    pub(crate) const fn on_stood(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    /// The timer fired this `late`: whether to wait anew.
    pub(crate) fn grants_grace(&mut self, late: Duration, lease: Duration) -> bool {
        let granted = late > lease && self.graces < GRACES_MAX;
        if granted {
            self.graces += 1;
        }
        granted
    }

    /// How long to wait for a leader that is silent.
    pub(crate) fn patience(&self, now: Instant, base: &Range<Duration>) -> Range<Duration> {
        let lately = |at: &&Instant| now.saturating_duration_since(**at) < LATELY;
        let terms = self.began.iter().filter(lately).count();
        // One term is a leader that was replaced.
        scaled(base, doubled(terms.saturating_sub(1), PATIENCE_FACTOR_MAX))
    }

    /// How long to wait after an election before the next.
    pub(crate) fn retry(&self, base: &Range<Duration>) -> Range<Duration> {
        let failed = self.in_a_row.saturating_sub(1);
        scaled(base, doubled(failed as usize, RETRY_FACTOR_MAX))
    }
}

fn doubled(times: usize, max: u32) -> u32 {
    u32::try_from(times)
        .ok()
        .and_then(|times| 1_u32.checked_shl(times))
        .map_or(max, |factor| factor.min(max))
}

/// The range becomes longer and begins where it did: what is random about it keeps candidates apart.
fn scaled(range: &Range<Duration>, factor: u32) -> Range<Duration> {
    range.start..range.end * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Range<Duration> = Duration::from_millis(10)..Duration::from_millis(120);
    const PATIENCE: Range<Duration> = Duration::from_millis(300)..Duration::from_millis(600);
    const LEASE: Duration = Duration::from_millis(150);

    #[test]
    fn elections_in_a_row_come_later_and_later_until_a_leader_is_heard() {
        let mut restraint = Restraint::default();
        let mut ends = Vec::new();
        for _ in 0..40 {
            restraint.on_stood();
            ends.push(restraint.retry(&RETRY).end.as_millis());
        }
        assert_eq!(ends[..5], [120, 240, 480, 960, 960]);
        assert_eq!(ends[39], 960);
        restraint.on_leader();
        restraint.on_stood();
        assert_eq!(restraint.retry(&RETRY), RETRY, "the first is never delayed");
    }

    #[test]
    fn a_silent_leader_is_waited_for_longer_while_terms_begin_one_after_the_other() {
        let mut restraint = Restraint::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        restraint.on_term(at(0), 700);
        assert_eq!(restraint.patience(at(0), &PATIENCE), PATIENCE);
        restraint.on_term(at(1), 701);
        restraint.on_term(at(1), 701);
        let replaced = restraint.patience(at(2), &PATIENCE);
        assert_eq!(replaced, PATIENCE, "a leader that was replaced");
        let end = |restraint: &Restraint, seconds| {
            let patience = restraint.patience(at(seconds), &PATIENCE);
            patience.end.as_millis()
        };
        restraint.on_term(at(3), 702);
        assert_eq!(end(&restraint, 4), 1200);
        restraint.on_term(at(5), 760);
        assert_eq!(end(&restraint, 6), 2400, "no more than that");
        assert_eq!(end(&restraint, 36), 600, "it is calm again");
    }

    #[test]
    fn a_node_that_was_not_run_waits_anew_but_not_for_ever() {
        let mut restraint = Restraint::default();
        assert!(!restraint.grants_grace(LEASE, LEASE));
        let long = Duration::from_millis(400);
        let granted = (0..10).filter(|_| restraint.grants_grace(long, LEASE));
        assert_eq!(granted.count(), 3);
        restraint.on_leader();
        assert!(restraint.grants_grace(long, LEASE));
    }
}
