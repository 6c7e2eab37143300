//! At which offset did each leader epoch begin, and where does a replica's log diverge from the leader's (KIP-101,
//! KIP-279)?
//!
//! (a) Epochs and start offsets both ascend strictly. (b) The last entry may begin at the log end offset: a leader
//! enters its epoch when it is elected, before it writes. (c) The file is written lazily: after a crash the entries from
//! the recovery point on are made again from the batches, and a damaged file from all batches.

use types::{LeaderEpoch, Offset};

/// The leader epochs of one log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochCache {
    /// All (epoch, start offset), oldest first.
    #[must_use]
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The newest epoch, if any batch or election was seen.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// Where the newest epoch began.
    #[must_use]
    pub fn latest_start(&self) -> Option<Offset> {
        self.entries.last().map(|&(_, start)| start)
    }

    /// The epoch of the record at `offset`.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let end = self.entries.partition_point(|&(_, start)| start <= offset);
        self.entries[..end].last().map(|&(epoch, _)| epoch)
    }

    /// The answer to `OffsetForLeaderEpoch`: the largest known epoch that is not above `epoch`, and where it ended.
    ///
    /// The newest epoch ends at `log_end_offset`. An epoch older than all known ones is answered with itself and the
    /// start of the oldest. `None` for an epoch above the newest, and if none is known.
    #[must_use]
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest_epoch()?;
        if epoch == latest {
            return Some((epoch, log_end_offset));
        }
        let above = self.entries.partition_point(|&(known, _)| known <= epoch);
        let &(_, next_start) = self.entries.get(above)?;
        match above.checked_sub(1) {
            Some(floor) => Some((self.entries[floor].0, next_start)),
            None => Some((epoch, next_start)),
        }
    }

    /// Enters `epoch` as beginning at `start`; answers whether anything changed.
    ///
    /// Entries that contradict it (as new or newer, or beginning as late or later) go, since the log says so. An epoch
    /// not above the newest whose records lie within it changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0 {
            return false;
        }
        if let Some(&(latest, latest_start)) = self.entries.last()
            && latest >= epoch
            && latest_start <= start
        {
            return false;
        }
        let keep = self
            .entries
            .partition_point(|&(known, begin)| known < epoch && begin < start);
        if self.entries.get(keep) == Some(&(epoch, start)) && keep + 1 == self.entries.len() {
            return false;
        }
        self.entries.truncate(keep);
        self.entries.push((epoch, start));
        true
    }

    /// Forgets the epochs that begin at `end` or later; answers whether anything changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|&(_, start)| start < end);
        before != self.entries.len()
    }

    /// Forgets the epochs that ended before `start`; the one of `start` then begins there. Answers whether anything
    /// changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let covered = self.entries.partition_point(|&(_, begin)| begin <= start);
        let Some(last) = covered.checked_sub(1) else {
            return false;
        };
        if last == 0 && self.entries[0].1 == start {
            return false;
        }
        self.entries.drain(..last);
        self.entries[0].1 = start;
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The lines of `leader-epoch-checkpoint`.
    pub(crate) fn lines(&self) -> impl ExactSizeIterator<Item = String> {
        self.entries
            .iter()
            .map(|(epoch, start)| format!("{epoch} {start}"))
    }

    /// An entry from its line.
    pub(crate) fn parse_line(line: &str) -> Option<(LeaderEpoch, Offset)> {
        let (epoch, start) = line.split_once(' ')?;
        Some((
            LeaderEpoch(epoch.parse().ok()?),
            Offset(start.parse().ok()?),
        ))
    }

    /// The cache of a checkpoint's entries; what contradicts (a) is resolved as [`Self::assign`] does.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut cache = Self::default();
        for (epoch, start) in entries {
            cache.assign(epoch, start);
        }
        cache
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> LeaderEpochCache {
        LeaderEpochCache {
            entries: entries
                .iter()
                .map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start)))
                .collect(),
        }
    }

    fn check_assign(before: &[(i32, i64)], epoch: i32, start: i64, after: &[(i32, i64)]) {
        let mut it = cache(before);
        let changed = it.assign(LeaderEpoch(epoch), Offset(start));
        assert_eq!(it, cache(after), "{before:?} and {epoch} at {start}");
        assert_eq!(changed, before != after);
    }

    #[test]
    fn assign_appends_and_the_log_overrides_what_contradicts_it() {
        check_assign(&[], 0, 0, &[(0, 0)]);
        check_assign(&[], -1, 0, &[]);
        check_assign(&[(1, 0)], 2, 10, &[(1, 0), (2, 10)]);
        // More records of the newest epoch, and an election won again with the same epoch.
        check_assign(&[(1, 0), (2, 10)], 2, 15, &[(1, 0), (2, 10)]);
        // An epoch without records is replaced by the next one at the same offset.
        check_assign(&[(1, 0), (2, 10)], 3, 10, &[(1, 0), (3, 10)]);
        // Stale entries of a file that outlived a truncation.
        check_assign(&[(1, 0), (3, 50)], 5, 40, &[(1, 0), (5, 40)]);
        check_assign(&[(1, 0), (7, 50)], 5, 40, &[(1, 0), (5, 40)]);
        // An old epoch within the newest one is no news.
        check_assign(&[(1, 0), (3, 50)], 2, 60, &[(1, 0), (3, 50)]);
    }

    #[test]
    fn end_offsets_are_those_of_kip_101_and_279() {
        let it = cache(&[(2, 5), (4, 20), (7, 30)]);
        let end = |epoch| {
            it.end_offset_for(LeaderEpoch(epoch), Offset(44))
                .map(|(epoch, offset)| (epoch.0, offset.0))
        };
        assert_eq!(end(7), Some((7, 44)));
        assert_eq!(end(8), None);
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(
            end(6),
            Some((4, 30)),
            "an unknown epoch: the largest below it"
        );
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(
            end(1),
            Some((1, 5)),
            "older than all: where the oldest begins"
        );
        assert_eq!(
            LeaderEpochCache::default().end_offset_for(LeaderEpoch(0), Offset(9)),
            None
        );
    }

    #[test]
    fn epochs_are_cut_with_the_log_at_both_ends() {
        let mut it = cache(&[(2, 5), (4, 20), (7, 30)]);
        assert!(it.truncate_from_end(Offset(30)));
        assert_eq!(it, cache(&[(2, 5), (4, 20)]));
        assert!(!it.truncate_from_end(Offset(30)));
        assert!(it.truncate_from_start(Offset(10)));
        assert_eq!(it, cache(&[(2, 10), (4, 20)]));
        assert!(!it.truncate_from_start(Offset(10)));
        assert!(it.truncate_from_start(Offset(25)));
        assert_eq!(it, cache(&[(4, 25)]));
        assert!(!it.truncate_from_start(Offset(3)));
    }

    #[test]
    fn the_epoch_of_an_offset_is_the_last_that_began_there_or_before() {
        let it = cache(&[(2, 5), (4, 20)]);
        let at = |offset| it.epoch_at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [at(4), at(5), at(19), at(20), at(99)],
            [None, Some(2), Some(2), Some(4), Some(4)]
        );
    }
}
