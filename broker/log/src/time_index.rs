//! Which record of a segment is the first of a time or later? The sparse `.timeindex` file.
//!
//! An entry (timestamp, offset) says: no record up to and including `offset` is newer than `timestamp`, and the batch
//! that ends at `offset` has that timestamp. Entries ascend in both fields; the last entry of a sealed segment is its
//! newest record, which is what retention by time looks at.

use crate::index::{Entry, EntryFile};

/// An entry of the time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Largest timestamp so far, ms since the epoch.
    pub(crate) timestamp: i64,
    /// Last offset of the batch that has it, minus the segment's base offset.
    pub(crate) relative: u32,
}

impl Entry for TimeEntry {
    const LEN: usize = 12;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (timestamp, rest) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            timestamp: i64::from_be_bytes(*timestamp),
            relative: u32::from_be_bytes(*rest.first_chunk::<4>()?),
        })
    }
}

impl EntryFile<TimeEntry> {
    /// Adds an entry if it is newer than the last one; negative timestamps mean "none".
    pub(crate) fn push_if_newer(&mut self, entry: TimeEntry) {
        let last = self.newest().map_or(-1, |last| last.timestamp);
        if entry.timestamp > last {
            self.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_newer_timestamps_become_entries() {
        let mut index = EntryFile::new(PathBuf::from("/t"));
        let mut kept = Vec::new();
        for (timestamp, relative) in [(-1, 0), (5, 1), (5, 2), (4, 3), (6, 4)] {
            let before = index.count();
            index.push_if_newer(TimeEntry {
                timestamp,
                relative,
            });
            if index.count() > before {
                kept.push((timestamp, relative));
            }
        }
        assert_eq!(kept, [(5, 1), (6, 4)]);
    }

    #[test]
    fn an_entry_has_kafkas_twelve_bytes() {
        let entry = TimeEntry {
            timestamp: 0x0102,
            relative: 0x0304,
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4]);
        assert_eq!(TimeEntry::decode(&bytes), Some(entry));
    }
}
