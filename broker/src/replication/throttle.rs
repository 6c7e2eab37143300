//! How fast may records go to replicas that are not in sync (KIP-73)?
//!
//! A topic's configuration says which of its replicas are throttled, each broker's how many bytes a second it sends to
//! such replicas as leader, and takes as follower. Replicas that the high watermark waits for are never held up, and
//! what they get is not counted. Both sides work in pieces of a tenth of a second. The leader reads for nobody who has
//! to wait; a follower tells the leader when the next piece of a partition may come, with the start of the partition
//! and after each piece. What was too much is made up for by waiting, so that the rate holds on average.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::metadata::MetadataImage;
use broker_core::partition::Leader;
use config::ConfigMap;
use parking_lot::Mutex;
use rpc::replication::v1 as proto;
use tokio::time::Instant;
use types::NodeId;

use super::convert;
use super::replica::{Replica, State};

/// What was not used for so long may be used at once: timers are late, and the rate would not be reached.
const SAVED_UP: Duration = Duration::from_millis(500);
/// One piece takes so long at most, unless a batch is larger.
const PIECES_PER_SECOND: u64 = 10;
/// Who waits is looked at again after this: rates, lists of replicas and ISRs change.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A follower that says nothing after a piece gets the next one after this: it may have taken itself for in sync.
const SILENCE: Duration = Duration::from_secs(1);
/// The rate that is none.
const UNLIMITED: u64 = i64::MAX as u64;
/// Until when a follower with the rate 0 wants nothing, in ms: any other rate has it start anew.
const NEVER_MS: u64 = 1 << 40;

/// Bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    /// `leader.replication.throttled.rate`
    pub(crate) leader: u64,
    /// `follower.replication.throttled.rate`
    pub(crate) follower: u64,
}

impl Rates {
    /// The rates of a broker; `None` if what is stored is not understood.
    pub(crate) fn of(image: &MetadataImage, node: NodeId, file: &ConfigMap) -> Option<Self> {
        let layers = image.broker_layers(node, file);
        let settings = config::BrokerSettings::resolve(&layers)
            .inspect_err(|error| {
                // Stored by another version: the rates in force stay.
                tracing::error!(%error, "the stored configuration is not understood");
            })
            .ok()?;
        let rate = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(Self {
            leader: rate(settings.leader_replication_throttled_rate),
            follower: rate(settings.follower_replication_throttled_rate),
        })
    }
}

/// Both throttles of a broker.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    pub(crate) leader: Throttle,
    pub(crate) follower: Throttle,
}

impl Throttles {
    /// Whether a rate changed.
    pub(crate) fn set(&self, rates: Rates) -> bool {
        let leader = self.leader.set(rates.leader);
        self.follower.set(rates.follower) || leader
    }
}

/// Lets so many bytes pass in a second.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    passing: Mutex<Passing>,
    passed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Passing {
    rate: u64,
    free_at: Option<Instant>,
}

impl Default for Passing {
    fn default() -> Self {
        Self {
            rate: UNLIMITED,
            free_at: None,
        }
    }
}

impl Throttle {
    fn set(&self, rate: u64) -> bool {
        let mut passing = self.passing.lock();
        let changed = passing.rate != rate;
        if changed {
            *passing = Passing {
                rate,
                free_at: None,
            };
        }
        changed
    }

    /// Whether there is a rate to keep to.
    fn is_on(&self) -> bool {
        self.passing.lock().rate != UNLIMITED
    }

    /// So many bytes passed.
    pub(crate) fn record(&self, now: Instant, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut passing = self.passing.lock();
        let takes = bytes as f64 / passing.rate as f64;
        let Ok(takes) = Duration::try_from_secs_f64(takes) else {
            return;
        };
        let saved = now.checked_sub(SAVED_UP).unwrap_or(now);
        let from = passing.free_at.map_or(now, |at| at.max(saved));
        passing.free_at = from.checked_add(takes);
    }

    /// Until when nothing passes; `None` if something does now.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let passing = self.passing.lock();
        if passing.rate == 0 {
            return Some(now + LOOK_AGAIN);
        }
        passing.free_at.filter(|at| *at > now)
    }

    /// The most bytes of one piece.
    fn piece(&self) -> u64 {
        (self.passing.lock().rate / PIECES_PER_SECOND).max(1)
    }

    /// What a follower tells its leader; `None` without a rate.
    fn allowance(&self, now: Instant) -> Option<proto::Allowance> {
        if !self.is_on() {
            return None;
        }
        let wait = self.held_until(now).map_or(Duration::ZERO, |at| at - now);
        let after_ms = if self.passing.lock().rate == 0 {
            NEVER_MS
        } else {
            // Rounded down: an early piece is made up for, a late one is not if the throttle was free meanwhile.
            u64::try_from(wait.as_millis()).unwrap_or(NEVER_MS)
        };
        let bytes = self.piece();
        Some(proto::Allowance { after_ms, bytes })
    }

    /// All bytes that were counted, for the metrics.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// What a follower lets its leader send of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    from: Instant,
    piece: u64,
    left: u64,
}

impl Pace {
    /// What the follower says when it starts the partition.
    pub(crate) fn at_start(position: &proto::FetchPosition) -> Option<Self> {
        let allowance = position.allowance.as_ref()?;
        Some(Self::new(Instant::now(), allowance))
    }

    /// From `now` on, as the follower says.
    pub(crate) fn new(now: Instant, allowance: &proto::Allowance) -> Self {
        let after = Duration::from_millis(allowance.after_ms);
        Self {
            from: now.checked_add(after).unwrap_or(now + SILENCE),
            piece: allowance.bytes,
            left: allowance.bytes,
        }
    }

    fn may_send(&self, now: Instant) -> Result<u64, Instant> {
        if now < self.from {
            Err(self.from)
        } else {
            Ok(self.left)
        }
    }

    /// So many bytes are on their way.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
        if self.left == 0 {
            self.from = now + SILENCE;
            self.left = self.piece;
        }
    }
}

/// What may be sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The most bytes; a batch may be larger.
    pub(crate) bytes: usize,
    /// Whether they count against the leader's rate.
    pub(crate) counts: bool,
}

impl Replica {
    /// What this leader may send to `follower`, or when it may send the next piece.
    pub(crate) fn may_send(
        &self,
        leader: &Leader,
        follower: NodeId,
        pace: &mut Option<Pace>,
    ) -> Result<Piece, Instant> {
        let throttle = &self.shared.throttles.leader;
        let throttled = self.is_listed(|topic| &topic.leader_replication_throttled_replicas)
            && throttle.is_on();
        let everything = Piece {
            bytes: usize::MAX,
            counts: false,
        };
        if !throttled && pace.is_none() {
            return Ok(everything);
        }
        if leader.waits_for(self.now_ms(), follower) {
            *pace = None;
            return Ok(everything);
        }
        let now = Instant::now();
        let mut most = pace.map_or(Ok(u64::MAX), |pace| pace.may_send(now))?;
        if throttled {
            if let Some(until) = throttle.held_until(now) {
                return Err(until);
            }
            most = most.min(throttle.piece());
        }
        Ok(Piece {
            bytes: usize::try_from(most).unwrap_or(usize::MAX),
            counts: throttled,
        })
    }

    /// What this follower takes of the partition for now; `None` if that is not throttled.
    pub(crate) fn allowance(&self, state: &State) -> Option<proto::Allowance> {
        if !self.is_throttled_follower() || self.is_in_sync(state) {
            return None;
        }
        self.shared.throttles.follower.allowance(Instant::now())
    }

    /// Counts what this follower got; what to tell the leader, if that is throttled.
    pub(crate) fn allowance_after(&self, bytes: usize) -> Option<proto::PartitionAllowance> {
        // Before the lock: where nothing is throttled, this costs nothing.
        if bytes == 0 || !self.is_throttled_follower() || self.is_in_sync(&self.lock()) {
            return None;
        }
        let (throttle, now) = (&self.shared.throttles.follower, Instant::now());
        throttle.record(now, bytes);
        Some(proto::PartitionAllowance {
            topic_id: convert::topic_bytes(self.partition.topic_id),
            partition: self.partition.partition,
            allowance: throttle.allowance(now),
        })
    }

    fn is_throttled_follower(&self) -> bool {
        self.is_listed(|topic| &topic.follower_replication_throttled_replicas)
            && self.shared.throttles.follower.is_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: u64) -> Throttle {
        let throttle = Throttle::default();
        assert!(throttle.set(rate) && !throttle.set(rate));
        throttle
    }

    #[test]
    fn the_rate_holds_on_average_whatever_the_size_of_pieces() {
        let start = Instant::now();
        for piece in [1, 700, 4_000] {
            let throttle = throttle(1_000);
            let (mut now, mut passed) = (start, 0);
            while now < start + Duration::from_secs(60) {
                match throttle.held_until(now) {
                    Some(until) => now = until + Duration::from_millis(5),
                    None => {
                        throttle.record(now, piece);
                        passed += piece;
                    }
                }
            }
            assert!((59_000..65_000).contains(&passed), "{piece}: {passed}");
            assert_eq!(throttle.passed(), passed as u64);
        }
    }

    #[test]
    fn nothing_passes_at_0_and_a_new_rate_counts_at_once() {
        let now = Instant::now();
        let throttle = throttle(0);
        assert!(throttle.held_until(now).is_some());
        assert_eq!(throttle.allowance(now).unwrap().after_ms, NEVER_MS);
        throttle.set(10);
        assert_eq!(throttle.held_until(now), None);
        throttle.record(now, 1_000);
        assert!(throttle.held_until(now + Duration::from_secs(90)).is_some());
        let (after_ms, bytes) = (100_000, 1);
        assert_eq!(
            throttle.allowance(now),
            Some(proto::Allowance { after_ms, bytes })
        );
        throttle.set(20);
        assert_eq!(throttle.held_until(now), None);
        throttle.set(5);
        assert_eq!(throttle.piece(), 1);
        throttle.set(UNLIMITED);
        assert_eq!(throttle.allowance(now), None);
    }

    #[test]
    fn a_leader_sends_a_piece_and_waits_for_the_follower_but_not_for_ever() {
        let (after_ms, bytes) = (50, 100);
        let now = Instant::now();
        let mut pace = Pace::new(now, &proto::Allowance { after_ms, bytes });
        let begins = now + Duration::from_millis(50);
        assert_eq!(pace.may_send(now), Err(begins));
        assert_eq!(pace.may_send(begins), Ok(100));
        pace.on_sent(begins, 60);
        assert_eq!(pace.may_send(begins), Ok(40));
        pace.on_sent(begins, 60);
        let silent = begins + SILENCE;
        assert_eq!(pace.may_send(begins), Err(silent));
        assert_eq!(pace.may_send(silent), Ok(100));
    }
}
