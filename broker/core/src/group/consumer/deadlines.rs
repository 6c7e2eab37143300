//! When is each member's time over, and whose is first?

use std::collections::{BTreeMap, BTreeSet};

/// Monotonic ms by member.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    of: BTreeMap<String, i64>,
    order: BTreeSet<(i64, String)>,
}

impl Deadlines {
    pub(super) fn get(&self, id: &str) -> Option<i64> {
        self.of.get(id).copied()
    }

    pub(super) fn set(&mut self, id: &str, at: i64) {
        self.remove(id);
        self.of.insert(id.to_owned(), at);
        self.order.insert((at, id.to_owned()));
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some((id, at)) = self.of.remove_entry(id) {
            self.order.remove(&(at, id));
        }
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<i64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those whose time is over.
    pub(super) fn due(&self, now_ms: i64) -> impl Iterator<Item = &str> {
        let due = (self.order.iter()).take_while(move |(at, _)| *at <= now_ms);
        due.map(|(_, id)| id.as_str())
    }
}
