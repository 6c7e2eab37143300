//! Does each consumer go forward, over every record, up to the end?

use std::collections::{BTreeMap, HashMap};

use super::{Anomaly, Facts, Kind};
use crate::history::Event;

/// Where a consumer's next record of each partition is, as far as that is known.
type Positions = BTreeMap<i32, i64>;

pub(super) fn polls(facts: &Facts<'_>, history: &[Event]) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut next: HashMap<&str, Positions> = HashMap::new();
    for event in history {
        match event {
            Event::Session {
                consumer,
                positions,
            } => {
                next.insert(consumer, positions.clone());
            }
            Event::Poll { consumer, records } => {
                let next = next.entry(consumer).or_default();
                for (partition, offset, value) in records {
                    let place = (*partition, *offset);
                    found.extend(step(facts, next, place).map(|(kind, why)| {
                        let text = format!("{consumer} read {value} at {place:?}: {why}");
                        Anomaly::new(kind, text)
                    }));
                }
            }
            _ => {}
        }
    }
    found
}

/// One record that a consumer got.
fn step(
    facts: &Facts<'_>,
    next: &mut Positions,
    (partition, offset): (i32, i64),
) -> Option<(Kind, String)> {
    let expected = next.insert(partition, offset + 1)?;
    if offset < expected {
        let why = format!("it had come to {expected}");
        return Some((Kind::NonMonotonicPoll, why));
    }
    let mut between = facts.log.range((partition, expected)..(partition, offset));
    let (place, value) = between.next()?;
    let why = format!("{value} at {place:?} was left out");
    Some((Kind::SkippedPoll, why))
}

pub(super) fn stuck(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (partition, (stable, end)) in &facts.ends {
        if stable < end {
            let text = format!("partition {partition}: last stable offset {stable}, end {end}");
            found.push(Anomaly::new(Kind::Stuck, text));
        }
        for (group, reached) in &facts.reached {
            let at = reached.get(partition).copied().unwrap_or(0);
            if at < *end {
                let text = format!("{group} in partition {partition}: at {at} of {end}");
                found.push(Anomaly::new(Kind::Stuck, text));
            }
        }
    }
    if facts.ends.is_empty() {
        let text = "the ends of the partitions could not be asked for".to_owned();
        found.push(Anomaly::new(Kind::Stuck, text));
    }
    found
}

/// One group is observed. What was committed before somebody asked is what he gets, or something later.
pub(super) fn lost_commits(history: &[Event]) -> Vec<Anomaly> {
    let mut commits: BTreeMap<i32, Vec<(f64, i64)>> = BTreeMap::new();
    for event in history {
        if let Event::Commit { offsets, seconds } = event {
            for (partition, offset) in offsets {
                let of = commits.entry(*partition).or_default();
                let highest = of.last().map_or(*offset, |(_, before)| *offset.max(before));
                of.push((*seconds, highest));
            }
        }
    }
    let mut found = Vec::new();
    for event in history {
        let Event::Committed { offsets, seconds } = event else {
            continue;
        };
        for (partition, offset) in offsets {
            let of = commits.get(partition).map_or(&[][..], Vec::as_slice);
            let before = of.partition_point(|(at, _)| at < seconds);
            let Some((at, highest)) = before.checked_sub(1).map(|last| of[last]) else {
                continue;
            };
            if *offset < highest {
                let text = format!(
                    "partition {partition}: {highest} was committed at {at:.3} s, {offset} found at {seconds:.3} s"
                );
                found.push(Anomaly::new(Kind::LostCommit, text));
            }
        }
    }
    found
}
