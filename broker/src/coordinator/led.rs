//! Which partitions of a coordinator's topic does this broker lead, and what coordinates each?

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::LeaderEpoch;

use super::routing::partition_for;

/// Where a coordinator begins.
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) epoch: LeaderEpoch,
    /// Cancelled when leadership is lost.
    pub(crate) stop: CancellationToken,
    /// For tasks that the end of all coordinators waits for.
    pub(crate) tasks: TaskTracker,
}

/// A coordinator, and its life until the place's `stop`.
pub(crate) type Begun<P> = (Arc<P>, BoxFuture<'static, ()>);

/// The partitions led here.
pub(crate) struct LedPartitions<P> {
    state: Mutex<State<P>>,
    tasks: TaskTracker,
}

struct State<P> {
    /// Number of partitions of the topic; 0 while it does not exist.
    count: i32,
    /// No coordinator begins any more.
    stopped: bool,
    led: HashMap<i32, Led<P>>,
}

struct Led<P> {
    epoch: LeaderEpoch,
    stop: CancellationToken,
    coordinator: Arc<P>,
}

impl<P> LedPartitions<P> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                count: 0,
                stopped: false,
                led: HashMap::new(),
            }),
            tasks: TaskTracker::new(),
        }
    }

    /// The topic has so many partitions now.
    pub(crate) fn set_count(&self, count: i32) {
        self.state.lock().count = count;
    }

    /// Begins a coordinator, unless one of this epoch or a later one runs.
    pub(crate) fn became_leader(
        &self,
        partition: i32,
        epoch: LeaderEpoch,
        begin: impl FnOnce(Place) -> Begun<P>,
    ) {
        let mut state = self.state.lock();
        let running = state.led.get(&partition);
        if state.stopped || running.is_some_and(|running| running.epoch >= epoch) {
            return;
        }
        let stop = CancellationToken::new();
        let (coordinator, life) = begin(Place {
            partition,
            epoch,
            stop: stop.clone(),
            tasks: self.tasks.clone(),
        });
        self.tasks.spawn(life);
        let led = Led {
            epoch,
            stop,
            coordinator,
        };
        if let Some(old) = state.led.insert(partition, led) {
            old.stop.cancel();
        }
    }

    /// Another broker leads the partition now.
    pub(crate) fn lost_leadership(&self, partition: i32) {
        if let Some(old) = self.state.lock().led.remove(&partition) {
            old.stop.cancel();
        }
    }

    /// These, and only these, are led here.
    pub(crate) fn reconcile(&self, led: &[(i32, LeaderEpoch)], begin: impl Fn(Place) -> Begun<P>) {
        self.state.lock().led.retain(|partition, running| {
            let stays = led.iter().any(|(other, _)| other == partition);
            if !stays {
                running.stop.cancel();
            }
            stays
        });
        for (partition, epoch) in led {
            self.became_leader(*partition, *epoch, &begin);
        }
    }

    /// Ends all coordinators and waits for them; none begins afterwards.
    pub(crate) async fn stop(&self) {
        {
            let mut state = self.state.lock();
            state.stopped = true;
            for (_, led) in state.led.drain() {
                led.stop.cancel();
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The partition that an id belongs to, once there is a topic.
    pub(crate) fn partition_of(&self, id: &str) -> Option<i32> {
        let count = self.state.lock().count;
        (count > 0).then(|| partition_for(id, count))
    }

    /// What coordinates an id, if that is here.
    pub(crate) fn of(&self, id: &str) -> Option<Arc<P>> {
        self.get(self.partition_of(id)?)
    }

    /// What coordinates a partition, if that is here.
    pub(crate) fn get(&self, partition: i32) -> Option<Arc<P>> {
        let state = self.state.lock();
        state.led.get(&partition).map(|led| led.coordinator.clone())
    }

    /// All of them, by partition.
    pub(crate) fn all(&self) -> Vec<Arc<P>> {
        let state = self.state.lock();
        let mut all: Vec<_> = state.led.iter().collect();
        all.sort_unstable_by_key(|(partition, _)| **partition);
        let coordinators = all.into_iter().map(|(_, led)| led.coordinator.clone());
        coordinators.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(place: Place) -> Begun<i32> {
        let life = async move { place.stop.cancelled().await };
        (Arc::new(place.epoch.0), Box::pin(life))
    }

    #[tokio::test]
    async fn the_newest_epoch_coordinates_and_what_is_lost_ends() {
        let led = LedPartitions::new();
        led.became_leader(3, LeaderEpoch(5), begin);
        led.became_leader(3, LeaderEpoch(4), begin);
        led.became_leader(7, LeaderEpoch(1), begin);
        assert_eq!(led.get(3).as_deref(), Some(&5));
        led.reconcile(&[(3, LeaderEpoch(6))], begin);
        assert_eq!(led.all(), [Arc::new(6)]);
        led.lost_leadership(3);
        assert_eq!(led.all(), []);
    }

    #[tokio::test]
    async fn nothing_begins_after_the_stop_which_waits_for_all() {
        let led = LedPartitions::new();
        led.became_leader(0, LeaderEpoch(1), begin);
        led.stop().await;
        assert!(led.tasks.is_empty());
        led.became_leader(0, LeaderEpoch(2), begin);
        assert_eq!(led.get(0), None);
    }
}
