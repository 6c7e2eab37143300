//! Is a history one that a correct cluster can produce?
//!
//! Pure: a history in, the anomalies out. What the reader of everything at the end got (it reads committed records from
//! the first offset to the high watermark, when all faults are healed) is called the log. An acknowledgement promises that the record is in
//! the log; no answer promises nothing, except that a transaction counts as a whole or not at all.

mod consumers;
mod records;
mod transactions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::history::{Event, FINAL, Outcome, Place};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Acknowledged (and its transaction committed) but not in the log.
    LostWrite,
    /// One value at two places.
    Duplicate,
    /// A producer's later record lies before an earlier one in the same partition.
    Reordered,
    /// A record of an aborted transaction was read.
    AbortedRead,
    /// Some records of a transaction are in the log, others are not.
    TornTransaction,
    /// Two values at one place, or a record at another place than acknowledged.
    InconsistentOffsets,
    /// Read, but never sent, or known to have failed.
    Phantom,
    /// A consumer went backwards within a session.
    NonMonotonicPoll,
    /// A consumer went past a record of the log.
    SkippedPoll,
    /// A consumer, or the last stable offset, does not reach the end.
    Stuck,
    /// A group's committed offset went backwards.
    LostCommit,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Anomaly {
    pub(crate) kind: Kind,
    /// The operations that it is made of.
    pub(crate) operations: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.operations)
    }
}

impl Anomaly {
    const fn new(kind: Kind, operations: String) -> Self {
        Self { kind, operations }
    }
}

#[derive(Debug)]
struct Sent<'a> {
    partition: i32,
    txn: Option<&'a str>,
}

/// A history by what is asked of it.
#[derive(Debug, Default)]
struct Facts<'a> {
    sent: HashMap<&'a str, Sent<'a>>,
    acked: HashMap<&'a str, (i32, Option<i64>)>,
    failed: BTreeSet<&'a str>,
    outcomes: BTreeMap<&'a str, Outcome>,
    /// Each place and the values that anybody read there.
    read: BTreeMap<Place, BTreeSet<&'a str>>,
    log: BTreeMap<Place, &'a str>,
    logged: HashMap<&'a str, Place>,
    ends: BTreeMap<i32, (i64, i64)>,
    /// How far each group came.
    reached: BTreeMap<&'a str, BTreeMap<i32, i64>>,
}

impl<'a> Facts<'a> {
    fn of(history: &'a [Event]) -> Self {
        let mut facts = Self::default();
        for event in history {
            facts.note(event);
        }
        facts
    }

    fn note(&mut self, event: &'a Event) {
        match event {
            Event::Send {
                value,
                partition,
                txn,
            } => {
                let (partition, txn) = (*partition, txn.as_deref());
                self.sent.insert(value, Sent { partition, txn });
            }
            Event::Ack {
                value,
                partition,
                offset,
                ..
            } => {
                self.acked.insert(value, (*partition, *offset));
            }
            Event::Fail { value, definite } if *definite => {
                self.failed.insert(value);
            }
            Event::End { txn, outcome } => {
                self.outcomes.insert(txn, *outcome);
            }
            Event::Poll { consumer, records } => {
                for (partition, offset, value) in records {
                    let place = (*partition, *offset);
                    self.read.entry(place).or_default().insert(value);
                    if consumer == FINAL {
                        self.log.insert(place, value);
                        self.logged.entry(value).or_insert(place);
                    }
                }
            }
            Event::Ends { ends } => self.ends.clone_from(ends),
            Event::Reached { group, positions } => {
                let reached = self.reached.entry(group).or_default();
                for (partition, at) in positions {
                    let furthest = reached.entry(*partition).or_insert(*at);
                    *furthest = (*furthest).max(*at);
                }
            }
            Event::Fail { .. }
            | Event::Session { .. }
            | Event::Commit { .. }
            | Event::Committed { .. } => {}
        }
    }

    fn outcome(&self, value: &str) -> Option<Outcome> {
        let txn = self.sent.get(value)?.txn?;
        Some(self.outcomes.get(txn).copied().unwrap_or(Outcome::Unknown))
    }

    /// How far the log is known.
    fn log_end(&self, partition: i32) -> i64 {
        let reached = self.reached.get(FINAL);
        reached
            .and_then(|reached| reached.get(&partition))
            .copied()
            .unwrap_or(0)
    }

    fn described(&self, value: &str) -> String {
        let sent = self.sent.get(value);
        let txn = sent.and_then(|sent| sent.txn);
        let outcome = self.outcome(value).unwrap_or(Outcome::Unknown);
        let txn = txn.map_or_else(String::new, |txn| format!(" in {txn} ({outcome:?})"));
        let acked = match self.acked.get(value) {
            Some((partition, Some(offset))) => format!("acked at {partition}/{offset}"),
            Some((partition, None)) => format!("acked in partition {partition}"),
            None => "not acked".to_owned(),
        };
        let log = self.logged.get(value).map_or_else(
            || "not in the log".to_owned(),
            |(partition, offset)| format!("in the log at {partition}/{offset}"),
        );
        format!("{value}{txn}, {acked}, {log}")
    }
}

/// Everything that is wrong with a history.
pub(crate) fn check(history: &[Event]) -> Vec<Anomaly> {
    let facts = Facts::of(history);
    let mut found = Vec::new();
    found.extend(records::lost(&facts));
    found.extend(records::duplicates(&facts));
    found.extend(records::reordered(&facts));
    found.extend(records::inconsistent(&facts));
    found.extend(records::phantoms(&facts));
    found.extend(transactions::aborted_reads(&facts));
    found.extend(transactions::torn(&facts));
    found.extend(consumers::polls(&facts, history));
    found.extend(consumers::stuck(&facts));
    found.extend(consumers::lost_commits(history));
    found.sort();
    found
}
