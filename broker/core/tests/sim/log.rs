//! A log in memory: one record per batch, and the leader epochs.

use broker_core::partition::{EpochHistory, LogPosition};
use types::{LeaderEpoch, Offset};

/// A record: the epoch it was written in and what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) value: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FakeLog {
    entries: Vec<Entry>,
    epochs: Vec<(LeaderEpoch, i64)>,
    /// Survives a crash of the machine.
    synced: usize,
}

impl FakeLog {
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition {
            start: Offset(0),
            end: self.end(),
        }
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(i64::try_from(self.entries.len()).unwrap())
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn range(&self, from: Offset, to: Offset) -> Vec<Entry> {
        self.entries[index(from)..index(to)].to_vec()
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.assign(entry.epoch);
        self.entries.push(entry);
    }

    /// Enters an epoch at the end, replacing one that was entered there and never written in.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch) {
        let end = self.end().0;
        if self.epochs.last().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        self.epochs.retain(|(_, start)| *start < end);
        self.epochs.push((epoch, end));
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        self.entries.truncate(index(to));
        self.epochs.retain(|(_, start)| *start < to.0);
        self.synced = self.synced.min(self.entries.len());
    }

    pub(crate) fn sync(&mut self) {
        self.synced = self.entries.len();
    }

    /// The machine died: what was not synced is gone.
    pub(crate) fn lose_unsynced(&mut self) {
        self.truncate(Offset(i64::try_from(self.synced).unwrap()));
    }
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap()
}

impl EpochHistory for FakeLog {
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let (latest, _) = *self.epochs.last()?;
        if epoch == latest {
            return Some((epoch, self.end()));
        }
        let above = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let (_, next_start) = *self.epochs.get(above)?;
        let floor = above.checked_sub(1).map_or(epoch, |i| self.epochs[i].0);
        Some((floor, Offset(next_start)))
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|(epoch, _)| *epoch)
    }
}
