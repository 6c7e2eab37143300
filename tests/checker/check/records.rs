//! Is each record in the log as its producer was told?

use std::collections::{BTreeMap, HashMap};

use super::{Anomaly, Facts, Kind};
use crate::history::{Outcome, Place};

pub(super) fn lost(facts: &Facts<'_>) -> Vec<Anomaly> {
    let promised = facts.acked.iter().filter(|(value, (partition, offset))| {
        let counts = matches!(facts.outcome(value), None | Some(Outcome::Committed));
        // What lies behind the last record that could be read is not lost: the reader is stuck.
        let end = facts.log_end(*partition);
        counts && offset.is_none_or(|offset| offset < end)
    });
    promised
        .filter(|(value, _)| !facts.logged.contains_key(*value))
        .map(|(value, _)| Anomaly::new(Kind::LostWrite, facts.described(value)))
        .collect()
}

/// The places where each value was read.
fn places<'a>(facts: &Facts<'a>) -> HashMap<&'a str, Vec<Place>> {
    let mut places: HashMap<&str, Vec<Place>> = HashMap::new();
    for (place, values) in &facts.read {
        for value in values {
            places.entry(value).or_default().push(*place);
        }
    }
    places
}

pub(super) fn duplicates(facts: &Facts<'_>) -> Vec<Anomaly> {
    places(facts)
        .iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(value, places)| {
            let text = format!("{}, read at {places:?}", facts.described(value));
            Anomaly::new(Kind::Duplicate, text)
        })
        .collect()
}

/// A value's producer and its number there.
fn numbered(value: &str) -> Option<(&str, u64)> {
    let (producer, number) = value.rsplit_once('-')?;
    Some((producer, number.parse().ok()?))
}

pub(super) fn reordered(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut last: HashMap<(i32, &str), (u64, i64)> = HashMap::new();
    for ((partition, offset), value) in &facts.log {
        let Some((producer, number)) = numbered(value) else {
            continue;
        };
        let before = last.insert((*partition, producer), (number, *offset));
        if let Some((earlier, at)) = before
            && number < earlier
        {
            let text =
                format!("{value} at {partition}/{offset} lies after {producer}-{earlier} at {at}");
            found.push(Anomaly::new(Kind::Reordered, text));
        }
    }
    found
}

pub(super) fn inconsistent(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (place, values) in facts.read.iter().filter(|(_, values)| values.len() > 1) {
        let text = format!("{values:?} were read at {place:?}");
        found.push(Anomaly::new(Kind::InconsistentOffsets, text));
    }
    let places = places(facts);
    let mut told: BTreeMap<Place, &str> = BTreeMap::new();
    for (value, (partition, offset)) in &facts.acked {
        let Some(offset) = offset else { continue };
        let place = (*partition, *offset);
        if let Some(other) = told.insert(place, value) {
            let text = format!("{value} and {other} were acked at {place:?}");
            found.push(Anomaly::new(Kind::InconsistentOffsets, text));
        }
        if places.get(value).is_some_and(|read| !read.contains(&place)) {
            let text = format!("{}, read at {:?}", facts.described(value), places[value]);
            found.push(Anomaly::new(Kind::InconsistentOffsets, text));
        }
    }
    found
}

pub(super) fn phantoms(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (place, values) in &facts.read {
        for value in values {
            let sent = facts.sent.get(value);
            let why = match sent {
                None => "was never sent",
                Some(_) if facts.failed.contains(value) => "had failed",
                Some(sent) if sent.partition != place.0 => "was sent to another partition",
                Some(_) => continue,
            };
            let text = format!("{value}, read at {place:?}, {why}");
            found.push(Anomaly::new(Kind::Phantom, text));
        }
    }
    found
}
