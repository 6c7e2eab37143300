//! Is there room on the disk for what clients produce?
//!
//! `log.dir.reserve.bytes` are kept free, for what has to be written lest the broker ends: checkpoints, the metadata log, offsets that are
//! committed, the end of transactions. Below it leaders refuse what clients produce; below half of it followers take no
//! more of it either, which gives them the time to take what their leaders had taken before. Reading goes on, and so do
//! retention, deletion and compaction, which make room again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::directory::{Volume, volume_of};

/// How much of the reserve may be produced before the disk is looked at again, between the regular looks.
const LOOK_AFTER_SHARE: u64 = 4;
/// So much more than the reserve has to be free until clients may produce again.
const RELIEF_SHARE: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Plenty,
    /// Below the reserve.
    Short,
    /// Below half of it.
    Scarce,
}

impl Level {
    const ALL: [Self; 3] = [Self::Plenty, Self::Short, Self::Scarce];

    /// What so many free bytes are, after they were something else.
    const fn of(free: u64, reserve: u64, before: Self) -> Self {
        let relief = match before {
            Self::Plenty => 0,
            Self::Short | Self::Scarce => reserve / RELIEF_SHARE,
        };
        if free < reserve / 2 {
            Self::Scarce
        } else if free < reserve.saturating_add(relief) {
            Self::Short
        } else {
            Self::Plenty
        }
    }
}

/// The room on the file system of the log directory, as it was seen last.
#[derive(Debug)]
pub(crate) struct Room {
    log_root: PathBuf,
    reserve: u64,
    /// A [`Level`].
    level: AtomicU8,
    /// Bytes that were produced since the disk was looked at.
    unseen: AtomicU64,
}

impl Room {
    /// A reserve of 0 is none.
    pub(crate) fn new(log_root: &Path, reserve: u64) -> Self {
        let room = Self {
            log_root: log_root.to_owned(),
            reserve,
            level: AtomicU8::new(Level::Plenty as u8),
            unseen: AtomicU64::new(0),
        };
        room.look();
        room
    }

    fn level(&self) -> Level {
        let level = usize::from(self.level.load(Ordering::Relaxed));
        Level::ALL.get(level).copied().unwrap_or(Level::Plenty)
    }

    /// Whether a client may produce so many bytes. Not exact: those of other requests are seen a little later.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        if self.reserve == 0 {
            return true;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let unseen = self.unseen.fetch_add(bytes, Ordering::Relaxed);
        if unseen.saturating_add(bytes) > self.reserve / LOOK_AFTER_SHARE {
            self.look();
        }
        self.level() == Level::Plenty
    }

    /// Whether a follower has to leave what clients produced where it is.
    pub(crate) fn is_scarce(&self) -> bool {
        self.level() == Level::Scarce
    }

    /// Looks how much is free.
    pub(crate) fn look(&self) {
        if self.reserve == 0 {
            return;
        }
        self.unseen.store(0, Ordering::Relaxed);
        match volume_of(&self.log_root) {
            Ok(volume) => self.is_seen(volume),
            Err(error) => tracing::warn!(%error, "failed to see how much room the disk has"),
        }
    }

    fn is_seen(&self, volume: Volume) {
        let (free, reserve) = (volume.free, self.reserve);
        let before = self.level();
        let now = Level::of(free, reserve, before);
        if self.level.swap(now as u8, Ordering::Relaxed) == now as u8 {
            return;
        }
        match now {
            Level::Plenty => {
                tracing::info!(
                    free,
                    reserve,
                    "there is room on the disk again: clients may produce"
                );
            }
            Level::Short => tracing::error!(
                free,
                reserve,
                "the disk is almost full: clients may not produce until there is room"
            ),
            Level::Scarce => tracing::error!(
                free,
                reserve,
                "the disk is almost full: followers take no more either until there is room"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produces_stop_at_the_reserve_followers_at_half_of_it_and_both_go_on_a_little_above() {
        let room = Room::new(Path::new("/"), 0);
        assert!(room.admits(1 << 40), "no reserve");
        let room = Room {
            log_root: PathBuf::new(),
            reserve: 800,
            level: AtomicU8::new(0),
            unseen: AtomicU64::new(0),
        };
        let steps = [
            (800, Level::Plenty),
            (799, Level::Short),
            (899, Level::Short),
            (400, Level::Short),
            (399, Level::Scarce),
            (400, Level::Short),
            (900, Level::Plenty),
            (0, Level::Scarce),
            (900, Level::Plenty),
        ];
        for (free, level) in steps {
            room.is_seen(Volume { total: 1000, free });
            assert_eq!(room.level(), level, "{free}");
            assert_eq!(room.admits(1), level == Level::Plenty, "{free}");
            assert_eq!(room.is_scarce(), level == Level::Scarce, "{free}");
        }
    }

    #[test]
    fn the_disk_is_looked_at_when_a_quarter_of_the_reserve_was_produced() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Room::new(folder.path(), u64::MAX);
        assert!(!room.admits(0), "nobody has so much");
        let room = Room::new(folder.path(), 400);
        room.is_seen(Volume {
            total: 1000,
            free: 0,
        });
        assert!(!room.admits(100));
        assert!(room.admits(1), "there is more than that");
    }
}
