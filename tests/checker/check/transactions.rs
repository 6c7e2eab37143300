//! Does each transaction count as a whole, or not at all?

use std::collections::BTreeMap;

use super::{Anomaly, Facts, Kind};
use crate::history::Outcome;

/// All consumers read committed records only.
pub(super) fn aborted_reads(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (place, values) in &facts.read {
        for value in values {
            if facts.outcome(value) == Some(Outcome::Aborted) {
                let text = format!("{}, read at {place:?}", facts.described(value));
                found.push(Anomaly::new(Kind::AbortedRead, text));
            }
        }
    }
    found
}

/// Transactions of which some records can be read and others cannot. A producer commits when all was acknowledged, so
/// those without an acknowledgement belong to it too.
pub(super) fn torn(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut parts: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for (value, sent) in &facts.sent {
        let Some(txn) = sent.txn else { continue };
        // Of the others it is known which records are wrong.
        if facts.outcome(value) != Some(Outcome::Unknown) {
            continue;
        }
        let (there, missing) = parts.entry(txn).or_default();
        if facts.logged.contains_key(value) {
            there.push(value);
        } else {
            missing.push(value);
        }
    }
    let is_torn = |(there, missing): &(Vec<&str>, Vec<&str>)| {
        // A reader that is stuck in one partition has not seen that part yet.
        let readable = |value: &&str| {
            let partition = facts.sent[*value].partition;
            let end = facts.ends.get(&partition).map_or(0, |(_, end)| *end);
            facts.log_end(partition) >= end
        };
        !there.is_empty() && missing.iter().any(readable)
    };
    parts
        .iter()
        .filter(|(_, parts)| is_torn(parts))
        .map(|(txn, (there, missing))| {
            let text = format!("{txn}: {there:?} are in the log, {missing:?} are not");
            Anomaly::new(Kind::TornTransaction, text)
        })
        .collect()
}
