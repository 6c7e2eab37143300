//! When is a log that could not be compacted tried again?
//!
//! Each log has its own [`CleaningRecord`], so that one that cannot be compacted now does not keep a cleaner from the
//! others. What may pass (no room, an I/O error) is tried again after a time that doubles; what would be the same the
//! next time (damage, a panic) is not tried again in this process.

/// Why a cleaning did not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setback {
    /// The log changed meanwhile, or the cleaners were to end.
    Interrupted,
    /// The disk has no room for the copy.
    NoRoom,
    /// The disk failed to do something.
    IoError,
    /// What is stored cannot be read, or not be written anew.
    Damaged,
    /// The cleaner panicked.
    Panicked,
}

impl Setback {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Interrupted,
        Self::NoRoom,
        Self::IoError,
        Self::Damaged,
        Self::Panicked,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::NoRoom => "no_room",
            Self::IoError => "io_error",
            Self::Damaged => "damaged",
            Self::Panicked => "panicked",
        }
    }

    /// Whether it would be the same the next time.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Damaged | Self::Panicked)
    }
}

/// A cleaner never looks again sooner than after this, ms: `log.cleaner.backoff.ms` may be 0, and a look costs a lock of
/// each compacted log.
const LEAST_PAUSE_MS: i64 = 100;
/// Nothing is waited for longer than this, ms, unless `log.cleaner.backoff.ms` is larger: room on a disk, say, may come at
/// any time.
const LONGEST_PAUSE_MS: i64 = 5 * 60 * 1000;

/// How long a cleaner that found nothing to do waits, ms.
#[must_use]
pub fn pause_ms(backoff_ms: i64) -> i64 {
    backoff_ms.max(LEAST_PAUSE_MS)
}

/// How the cleanings of a log went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleaningRecord {
    last: Option<Setback>,
    /// How often in a row it was this.
    times: u32,
    not_before_ms: i64,
}

impl CleaningRecord {
    /// A cleaning was done.
    pub fn on_done(&mut self) {
        *self = Self::default();
    }

    /// A cleaning was not; answers after how many ms it may be tried again, `None` for never.
    pub fn on_setback(&mut self, now_ms: i64, setback: Setback, backoff_ms: i64) -> Option<i64> {
        if self.is_final() {
            return None;
        }
        self.times = if self.last == Some(setback) {
            self.times.saturating_add(1)
        } else {
            0
        };
        self.last = Some(setback);
        if setback.is_final() {
            return None;
        }
        let pause = pause_ms(backoff_ms);
        // Nothing is wrong with a log that was only interrupted.
        let doublings = if setback == Setback::Interrupted {
            0
        } else {
            self.times.min(30)
        };
        let longest = LONGEST_PAUSE_MS.max(pause);
        let wait = pause.saturating_mul(1 << doublings).min(longest);
        self.not_before_ms = now_ms.saturating_add(wait);
        Some(wait)
    }

    /// Whether the log may be cleaned now.
    #[must_use]
    pub fn may_start(&self, now_ms: i64) -> bool {
        !self.is_final() && (self.last.is_none() || now_ms >= self.not_before_ms)
    }

    /// Whether the log is not cleaned any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.last.is_some_and(Setback::is_final)
    }

    /// What kept the log from being cleaned the last time.
    #[must_use]
    pub const fn setback(&self) -> Option<Setback> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: i64 = 15_000;

    #[test]
    fn what_may_pass_is_tried_again_after_a_time_that_doubles_up_to_a_bound() {
        for setback in [Setback::NoRoom, Setback::IoError] {
            let mut record = CleaningRecord::default();
            let (mut now_ms, mut waits) = (7, Vec::new());
            for _ in 0..40 {
                assert!(record.may_start(now_ms));
                let wait = record.on_setback(now_ms, setback, BACKOFF);
                let wait = wait.expect("it is tried again");
                assert!(!record.may_start(now_ms + wait - 1));
                now_ms += wait;
                waits.push(wait);
            }
            assert_eq!(waits[..4], [15_000, 30_000, 60_000, 120_000]);
            assert_eq!(waits[5..], [LONGEST_PAUSE_MS; 35]);
            record.on_done();
            assert!(record.may_start(0));
            let wait = record.on_setback(0, setback, BACKOFF);
            assert_eq!(wait, Some(15_000), "it begins anew");
        }
    }

    #[test]
    fn only_what_would_be_the_same_again_ends_the_cleaning_of_a_log() {
        for setback in Setback::ALL {
            let mut record = CleaningRecord::default();
            let wait = record.on_setback(0, setback, BACKOFF);
            let ends = matches!(setback, Setback::Damaged | Setback::Panicked);
            assert_eq!(wait.is_none(), ends, "{setback:?}");
            assert_eq!(record.may_start(i64::MAX), !ends, "{setback:?}");
            assert_eq!(record.setback(), Some(setback));
            // It stays so, whatever comes.
            let again = record.on_setback(0, Setback::Interrupted, BACKOFF);
            assert_eq!(again.is_none(), ends, "{setback:?}");
            assert_eq!(record.is_final(), ends, "{setback:?}");
        }
    }

    #[test]
    fn a_log_that_was_interrupted_does_not_wait_longer_each_time() {
        let mut record = CleaningRecord::default();
        for _ in 0..10 {
            let wait = record.on_setback(0, Setback::Interrupted, BACKOFF);
            assert_eq!(wait, Some(BACKOFF));
        }
        let wait = record.on_setback(0, Setback::IoError, BACKOFF);
        assert_eq!(wait, Some(BACKOFF), "another trouble begins anew");
    }

    #[test]
    fn without_a_backoff_no_cleaner_spins() {
        let mut record = CleaningRecord::default();
        for setback in [Setback::Interrupted, Setback::NoRoom, Setback::IoError] {
            let wait = record.on_setback(0, setback, 0).expect("again");
            assert!(wait >= LEAST_PAUSE_MS && !record.may_start(wait - 1));
        }
        assert_eq!(pause_ms(0), LEAST_PAUSE_MS);
        assert_eq!(pause_ms(BACKOFF), BACKOFF);
        let huge = record.on_setback(0, Setback::Interrupted, i64::MAX);
        assert_eq!(huge, Some(i64::MAX));
    }
}
