//! How fast may records go to replicas that are not in sync (KIP-73)?
//!
//! A topic's configuration says which of its replicas are throttled, each broker's how many bytes a second it sends to
//! such replicas as leader, and takes as follower. Replicas in the ISR are never held up, and what they get is not
//! counted. The leader reads for nobody who has to wait; a follower that got too much tells the leader for how long to
//! send nothing of the partition. What was too much is made up for by waiting, so that the rate holds on average.

use std::time::Duration;

use broker_core::metadata::MetadataImage;
use config::ConfigMap;
use parking_lot::Mutex;
use rpc::replication::v1 as proto;
use tokio::time::Instant;
use types::NodeId;

use super::convert;
use super::push::PushPartition;
use super::replica::{Replica, State};
use super::shared::Shared;

/// What was not used for so long may be used at once: timers are late, and the rate would not be reached.
const SAVED_UP: Duration = Duration::from_millis(100);
/// One piece takes so long at most, unless a batch is larger.
const PIECES_PER_SECOND: u64 = 10;
/// Who waits looks again after this: rates and lists of replicas change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
pub(crate) struct Throttle(Mutex<Passing>);

#[derive(Debug, Clone, Copy)]
struct Passing {
    rate: u64,
    free_at: Option<Instant>,
}

impl Default for Passing {
    fn default() -> Self {
        Self {
            rate: i64::MAX as u64,
            free_at: None,
        }
    }
}

impl Throttle {
    fn set(&self, rate: u64) -> bool {
        let mut passing = self.0.lock();
        let changed = passing.rate != rate;
        if changed {
            *passing = Passing {
                rate,
                free_at: None,
            };
        }
        changed
    }

    /// So many bytes passed.
    pub(crate) fn record(&self, now: Instant, bytes: usize) {
        let mut passing = self.0.lock();
        let takes = bytes as f64 / passing.rate as f64;
        let Ok(takes) = Duration::try_from_secs_f64(takes) else {
            return;
        };
        let saved = now.checked_sub(SAVED_UP).unwrap_or(now);
        let from = passing.free_at.map_or(saved, |at| at.max(saved));
        passing.free_at = from.checked_add(takes);
    }

    /// Until when nothing passes; `None` if something does now.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        let passing = self.0.lock();
        if passing.rate == 0 {
            return Some(now + LOOK_AGAIN);
        }
        passing.free_at.filter(|at| *at > now)
    }

    /// The most bytes of one piece.
    pub(crate) fn piece(&self) -> usize {
        let rate = self.0.lock().rate;
        usize::try_from(rate / PIECES_PER_SECOND).map_or(usize::MAX, |bytes| bytes.max(1))
    }
}

/// When to look again at what is held until then.
pub(crate) fn look_again(now: Instant, held_until: Instant) -> Instant {
    held_until.min(now + LOOK_AGAIN)
}

impl Replica {
    /// Whether what this leader sends to the follower of `push` is throttled here.
    pub(crate) fn throttles(&self, state: &State, push: &PushPartition) -> bool {
        let in_sync = |node| state.core.leader().is_some_and(|l| l.isr().contains(&node));
        let settings = self.settings();
        settings
            .leader_replication_throttled_replicas
            .contains(self.partition.partition, self.shared.identity.node.0)
            && !in_sync(push.stream.peer)
    }

    /// Whether what this follower gets is throttled here.
    pub(crate) fn is_throttled(&self, state: &State) -> bool {
        let me = self.shared.identity.node;
        let in_sync = state
            .core
            .registration()
            .is_some_and(|registration| registration.isr.contains(&me));
        let settings = self.settings();
        settings
            .follower_replication_throttled_replicas
            .contains(self.partition.partition, me.0)
            && !in_sync
    }

    /// Counts what this follower got; what to tell the leader, if that was too much.
    pub(crate) fn hold_after(&self, bytes: usize) -> Option<proto::PartitionHold> {
        if bytes == 0 || !self.is_throttled(&self.lock()) {
            return None;
        }
        let (throttle, now) = (&self.shared.throttles.follower, Instant::now());
        throttle.record(now, bytes);
        let wait = throttle.held_until(now)?.duration_since(now);
        Some(proto::PartitionHold {
            topic_id: convert::topic_bytes(self.partition.topic_id),
            partition: self.partition.partition,
            // Rounded up, or a rest would be waited for again and again.
            for_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) + 1,
        })
    }
}

impl Shared {
    /// How many bytes a leader may send to a follower at once, or when it may send the next ones.
    pub(crate) fn may_send(&self, push: &PushPartition, throttled: bool) -> Result<usize, Instant> {
        let now = Instant::now();
        if let Some(until) = push.held_until(now) {
            return Err(until);
        }
        if !throttled {
            return Ok(usize::MAX);
        }
        let held = self.throttles.leader.held_until(now);
        held.map_or_else(|| Ok(self.throttles.leader.piece()), Err)
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
        }
    }

    #[test]
    fn nothing_passes_at_0_and_a_new_rate_counts_at_once() {
        let now = Instant::now();
        let throttle = throttle(0);
        assert!(throttle.held_until(now).is_some());
        throttle.set(10);
        assert_eq!(throttle.held_until(now), None);
        throttle.record(now, 1_000);
        assert!(throttle.held_until(now + Duration::from_secs(90)).is_some());
        throttle.set(20);
        assert_eq!(throttle.held_until(now), None);
        assert_eq!(
            Throttle::default().piece(),
            usize::try_from(i64::MAX / 10).unwrap()
        );
        throttle.set(5);
        assert_eq!(throttle.piece(), 1);
    }
}
