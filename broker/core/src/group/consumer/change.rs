//! How is a change of a group put together before it is written?
//!
//! What is too large for one batch is written in parts, one after the other, and the group is what the parts that are
//! written amount to. So every beginning of the records has to be a group that finds its way from there: its new epoch
//! comes first, and what a member is told last. Where none does, parts stay together: a static member that comes back under
//! another id, and a group that changes its protocol.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::downgrade::Downgrade;
use super::record::{ConsumerRecord, Fact};
use super::state::State;
use crate::group::GroupRecord;
use crate::group::record::MAX_BATCH;

/// The largest part, in bytes of records; only one that cannot be parted may be larger. Well below the least that a log
/// takes by default, 1 MiB.
pub(super) const MAX_PART: usize = 256 << 10;
/// What a record takes in a batch beside its key and value, at most.
const RECORD_OVERHEAD: usize = 32;

/// A copy of the group with the records that lead to it.
#[derive(Debug)]
pub(super) struct Change {
    group_id: String,
    pub(super) state: State,
    pub(super) records: Vec<ConsumerRecord>,
    /// How many of the records make the group out of a classic one; nothing comes before them.
    converted: usize,
    /// How many of the records are written in one part, from the first on.
    whole: usize,
}

/// Records of one batch, and what the group is with them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) state: State,
    pub(super) records: Vec<ConsumerRecord>,
    /// The members that the records are of.
    pub(super) touched: BTreeSet<String>,
    /// The classic group that takes this one's place.
    pub(super) downgrade: Option<Box<Downgrade>>,
}

impl Change {
    pub(super) fn of(group_id: &str, state: &State) -> Self {
        Self {
            group_id: group_id.to_owned(),
            state: state.clone(),
            records: Vec::new(),
            converted: 0,
            whole: 0,
        }
    }

    /// The same for a group that a classic one becomes: it is written as a whole, or not at all.
    pub(super) fn converting(group_id: &str, facts: Vec<Fact>) -> Self {
        let mut change = Self::of(group_id, &State::default());
        facts.into_iter().for_each(|fact| change.emit(fact));
        change.converted = change.records.len();
        change
    }

    /// Whether the group was a classic one before.
    pub(super) fn converts(&self) -> bool {
        self.converted > 0
    }

    /// Adds a record; the state follows.
    pub(super) fn emit(&mut self, fact: Fact) {
        let at = self.records.len();
        self.emit_at(at, fact);
    }

    /// What there is so far is written in one part: without its end its beginning would not find its way.
    pub(super) fn keep_whole(&mut self) {
        self.whole = self.records.len();
    }

    /// Adds a record before all others, of something that none of them is of.
    pub(super) fn emit_first(&mut self, fact: Fact) {
        self.emit_at(self.converted, fact);
    }

    fn emit_at(&mut self, at: usize, fact: Fact) {
        self.state.apply(&fact);
        let record = ConsumerRecord {
            group_id: self.group_id.clone(),
            fact,
        };
        self.records.insert(at, record);
        if at < self.whole {
            self.whole += 1;
        }
    }

    /// The parts to write, in this order; none if nothing changes.
    pub(super) fn into_parts(self, before: &State) -> VecDeque<Part> {
        let sizes: Vec<usize> = self.records.iter().map(size).collect();
        let mut parts = VecDeque::new();
        if self.converts() || sizes.iter().sum::<usize>() <= MAX_PART {
            if !self.records.is_empty() {
                parts.push_back(Part::new(self.state, self.records));
            }
            return parts;
        }
        let (mut state, mut records, mut bytes) = (before.clone(), Vec::new(), 0);
        for (at, (record, size)) in self.records.into_iter().zip(sizes).enumerate() {
            if bytes + size > MAX_PART && at >= self.whole && !records.is_empty() {
                parts.push_back(Part::new(state.clone(), std::mem::take(&mut records)));
                bytes = 0;
            }
            state.apply(&record.fact);
            records.push(record);
            bytes += size;
        }
        debug_assert_eq!(state, self.state, "the records lead to the state");
        parts.push_back(Part::new(state, records));
        parts
    }
}

impl Part {
    /// The end of the group; a classic one takes its place in the same batch.
    pub(super) fn last(records: Vec<ConsumerRecord>, downgrade: Downgrade) -> Self {
        Self {
            downgrade: Some(Box::new(downgrade)),
            ..Self::new(State::default(), records)
        }
    }

    /// Whether a batch of the log holds it with another record.
    pub(super) fn fits_with(&self, record: &GroupRecord) -> bool {
        let records: usize = self.records.iter().map(size).sum();
        records + bytes(record.encode()) <= MAX_BATCH
    }

    fn new(state: State, records: Vec<ConsumerRecord>) -> Self {
        let touched = records.iter().filter_map(|record| match &record.fact {
            Fact::Member(id, _) | Fact::Current(id, _) => Some(id.clone()),
            Fact::Epoch(_)
            | Fact::PartitionMetadata(_)
            | Fact::TargetEpoch(_)
            | Fact::Target(..)
            | Fact::Regex(..) => None,
        });
        Self {
            touched: touched.collect(),
            state,
            records,
            downgrade: None,
        }
    }
}

fn size(record: &ConsumerRecord) -> usize {
    bytes(record.encode())
}

fn bytes((key, value): (Bytes, Option<Bytes>)) -> usize {
    key.len() + value.map_or(0, |value| value.len()) + RECORD_OVERHEAD
}
