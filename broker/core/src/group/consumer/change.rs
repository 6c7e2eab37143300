//! How is a change of a group put together before it is written?

use super::record::{ConsumerRecord, Fact};
use super::state::State;

/// A copy of the group with the records that lead to it.
#[derive(Debug)]
pub(super) struct Change {
    group_id: String,
    pub(super) state: State,
    pub(super) records: Vec<ConsumerRecord>,
}

impl Change {
    pub(super) fn of(group_id: &str, state: &State) -> Self {
        Self {
            group_id: group_id.to_owned(),
            state: state.clone(),
            records: Vec::new(),
        }
    }

    /// Adds a record; the state follows.
    pub(super) fn emit(&mut self, fact: Fact) {
        self.state.apply(&fact);
        self.records.push(ConsumerRecord {
            group_id: self.group_id.clone(),
            fact,
        });
    }
}
