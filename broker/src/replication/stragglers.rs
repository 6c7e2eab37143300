//! Which replica do the high watermarks of led partitions wait for, and since when?

use std::collections::BTreeMap;

use broker_core::partition::Straggler;
use types::NodeId;

use super::manager::ReplicaManager;
use super::model::TopicIdPartition;

/// A follower acknowledges within milliseconds; one that takes this long is worth a line in the log, long before
/// `replica.lag.time.max.ms` takes it out of the ISR.
const TOLD_AFTER_MS: i64 = 3_000;
/// It is told again after this time.
const TOLD_AGAIN_MS: i64 = 10_000;

/// What one replica holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Led partitions whose HW waits for it.
    pub partitions: usize,
    /// The one that has waited longest.
    pub longest: TopicIdPartition,
    /// How that one looks.
    pub straggler: Straggler,
}

impl ReplicaManager {
    /// The brokers that high watermarks of led partitions wait for.
    #[must_use]
    pub fn awaited_replicas(&self) -> BTreeMap<NodeId, Held> {
        let now_ms = self.inner().shared.clock.now_ms();
        let mut all: BTreeMap<NodeId, Held> = BTreeMap::new();
        for replica in self.all_replicas() {
            let state = replica.lock();
            let Some(leader) = state.core.leader() else {
                continue;
            };
            for straggler in leader.stragglers(now_ms) {
                let held = all.entry(straggler.node).or_insert_with(|| Held {
                    partitions: 0,
                    longest: replica.partition.clone(),
                    straggler,
                });
                held.partitions += 1;
                if straggler.behind_ms > held.straggler.behind_ms {
                    held.straggler = straggler;
                    held.longest = replica.partition.clone();
                }
            }
        }
        all
    }
}

/// Writes into the log whom high watermarks wait for; as many entries as there are brokers.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    told_ms: BTreeMap<NodeId, i64>,
}

impl Reporter {
    pub(crate) fn look(&mut self, manager: &ReplicaManager) {
        let now_ms = manager.inner().shared.clock.now_ms();
        let held = manager.awaited_replicas();
        for (node, held) in self.worth_telling(now_ms, &held) {
            tracing::warn!(
                replica = %node,
                partitions = held.partitions,
                longest = %held.longest,
                behind_ms = held.straggler.behind_ms,
                log_end = ?held.straggler.log_end,
                following = held.straggler.subscribed,
                "high watermarks wait for a replica in the ISR that does not acknowledge"
            );
        }
    }

    fn worth_telling<'a>(
        &mut self,
        now_ms: i64,
        held: &'a BTreeMap<NodeId, Held>,
    ) -> Vec<(NodeId, &'a Held)> {
        let long = |held: &Held| held.straggler.behind_ms >= TOLD_AFTER_MS;
        self.told_ms
            .retain(|node, _| held.get(node).is_some_and(long));
        let mut told = Vec::new();
        for (node, held) in held.iter().filter(|(_, held)| long(held)) {
            let before = self.told_ms.get(node);
            if before.is_none_or(|before| now_ms - before >= TOLD_AGAIN_MS) {
                self.told_ms.insert(*node, now_ms);
                told.push((*node, held));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use types::TopicId;

    use super::*;

    fn held(behind_ms: i64) -> BTreeMap<NodeId, Held> {
        let straggler = Straggler {
            node: NodeId(2),
            behind_ms,
            log_end: None,
            subscribed: false,
        };
        let held = Held {
            partitions: 1,
            longest: TopicIdPartition::new(TopicId([1; 16]), "orders", 0),
            straggler,
        };
        BTreeMap::from([(NodeId(2), held)])
    }

    #[test]
    fn a_replica_that_is_waited_for_is_told_once_and_again_after_a_while() {
        let mut reporter = Reporter::default();
        let mut told =
            |now_ms, behind_ms| !reporter.worth_telling(now_ms, &held(behind_ms)).is_empty();
        assert!(!told(0, 20), "an acknowledgement under way");
        assert!(told(5_000, 3_100));
        assert!(!told(5_500, 3_600));
        assert!(told(15_000, 13_100));
        assert!(!told(15_500, 20), "it follows again");
        assert!(told(19_000, 3_000), "the next time is news");
    }
}
