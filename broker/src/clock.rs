//! What time is it, on the clock that never jumps and on the wall?

use std::time::{SystemTime, UNIX_EPOCH};

use broker_core::group::Now;
use tokio::time::Instant;

/// The process's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Both times.
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic_ms: i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX),
            wall_ms: wall_ms(),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
