//! Up to which offset is the log replicated, so that it may be read and acknowledged?

use types::Offset;

/// The HW moved; waiting reads and produces up to `to` can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighWatermarkMove {
    /// The HW before.
    pub from: Offset,
    /// The HW now, above `from`.
    pub to: Offset,
}

/// A high watermark that only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HighWatermark(Offset);

impl HighWatermark {
    pub(crate) const fn new(offset: Offset) -> Self {
        Self(offset)
    }

    pub(crate) const fn get(self) -> Offset {
        self.0
    }

    /// Moves to `candidate` if that is forward.
    pub(crate) fn advance(&mut self, candidate: Offset) -> Option<HighWatermarkMove> {
        (candidate > self.0).then(|| {
            let from = std::mem::replace(&mut self.0, candidate);
            HighWatermarkMove {
                from,
                to: candidate,
            }
        })
    }

    /// Truncation took records away: the HW cannot lie beyond the log.
    pub(crate) fn bound(&mut self, log_end: Offset) {
        self.0 = self.0.min(log_end);
    }
}

/// The smallest LEO among those that count; `None` while one of them is unknown.
pub(crate) fn smallest(
    own: Offset,
    others: impl Iterator<Item = Option<Offset>>,
) -> Option<Offset> {
    let mut smallest = own;
    for leo in others {
        smallest = smallest.min(leo?);
    }
    Some(smallest)
}
