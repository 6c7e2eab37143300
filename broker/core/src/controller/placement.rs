//! On which brokers do the replicas of new partitions go?
//!
//! A pure function of the brokers, what the topic has already, and a seed:
//! A. No broker holds two replicas of a partition.
//! B. The preferred leader is an unfenced broker; a fenced one holds a replica only where unfenced ones run out, so
//!    that a topic can be created while a broker restarts.
//! C. No two replicas of a partition are in one rack while there are racks without one.
//! D. Within a topic, leaders are spread as evenly as numbers allow, then replicas.

use std::collections::BTreeMap;

use types::{ErrorCode, NodeId};

use super::request::ApiError;
use crate::metadata::BrokerImage;

/// The generator SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to spread.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
struct Candidate {
    node: NodeId,
    rack: Option<String>,
    fenced: bool,
    leaders: usize,
    replicas: usize,
}

/// Places the replicas of new partitions of one topic.
#[derive(Debug)]
pub(super) struct Placer {
    /// In an order where neighbours are in different racks, begun at a random one.
    candidates: Vec<Candidate>,
    placed: usize,
}

impl Placer {
    pub(super) fn new<'a>(
        brokers: impl Iterator<Item = &'a BrokerImage>,
        random: &mut Random,
    ) -> Self {
        let mut racks: BTreeMap<Option<&str>, Vec<&BrokerImage>> = BTreeMap::new();
        for broker in brokers {
            racks
                .entry(broker.rack.as_deref())
                .or_default()
                .push(broker);
        }
        let mut racks: Vec<Vec<&BrokerImage>> = racks.into_values().collect();
        for rack in &mut racks {
            let start = random.below(rack.len());
            rack.rotate_left(start);
        }
        let start = random.below(racks.len());
        if !racks.is_empty() {
            racks.rotate_left(start);
        }
        let rounds = racks.iter().map(Vec::len).max().unwrap_or(0);
        let candidates = (0..rounds)
            .flat_map(|round| racks.iter().filter_map(move |rack| rack.get(round)))
            .map(|broker| Candidate {
                node: broker.node_id,
                rack: broker.rack.clone(),
                fenced: !broker.is_active(),
                leaders: 0,
                replicas: 0,
            })
            .collect();
        Self {
            candidates,
            placed: 0,
        }
    }

    /// Counts a partition that the topic has already.
    pub(super) fn count(&mut self, replicas: &[NodeId]) {
        for (index, node) in replicas.iter().enumerate() {
            if let Some(candidate) = self.candidates.iter_mut().find(|c| c.node == *node) {
                candidate.replicas += 1;
                candidate.leaders += usize::from(index == 0);
            }
        }
        self.placed += 1;
    }

    /// The replicas of the next partition, the preferred leader first.
    pub(super) fn place(&mut self, replication_factor: usize) -> Result<Vec<NodeId>, ApiError> {
        let refuse = |why: String| {
            Err(ApiError::new(
                ErrorCode::InvalidReplicationFactor,
                format!("Unable to replicate the partition {replication_factor} time(s): {why}"),
            ))
        };
        if replication_factor > self.candidates.len() {
            return refuse(format!(
                "The target replication factor of {replication_factor} cannot be reached because only {} broker(s) \
                 are registered.",
                self.candidates.len()
            ));
        }
        if self.candidates.iter().all(|c| c.fenced) {
            return refuse("All brokers are currently fenced.".to_owned());
        }
        let mut chosen: Vec<usize> = Vec::with_capacity(replication_factor);
        while chosen.len() < replication_factor {
            let Some(next) = self.best(&chosen) else {
                break;
            };
            chosen.push(next);
        }
        for (index, &at) in chosen.iter().enumerate() {
            self.candidates[at].replicas += 1;
            self.candidates[at].leaders += usize::from(index == 0);
        }
        self.placed += 1;
        Ok(chosen.iter().map(|&at| self.candidates[at].node).collect())
    }

    /// Index of the candidate that should hold the next replica beside those on `chosen`.
    fn best(&self, chosen: &[usize]) -> Option<usize> {
        let n = self.candidates.len();
        // Equals are taken in turn: from the leader on, a step further after each round of partitions, so that the
        // followers of one leader are not always the same.
        let start = match chosen.first() {
            Some(leader) => leader + 1 + self.placed / n.max(1),
            None => 0,
        };
        (0..n).filter(|at| !chosen.contains(at)).min_by_key(|&at| {
            let candidate = &self.candidates[at];
            let same_rack = candidate.rack.is_some()
                && chosen
                    .iter()
                    .any(|&c| self.candidates[c].rack == candidate.rack);
            let leaders = if chosen.is_empty() {
                candidate.leaders
            } else {
                0
            };
            (
                candidate.fenced,
                same_rack,
                leaders,
                candidate.replicas,
                (at + n - start % n) % n,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use types::BrokerEpoch;

    use super::*;
    use crate::metadata::{BrokerEndpoint, BrokerUuid, Incarnation};

    fn broker(id: i32, rack: Option<&str>, fenced: bool) -> BrokerImage {
        BrokerImage {
            node_id: NodeId(id),
            epoch: BrokerEpoch(1),
            incarnation: Incarnation::default(),
            broker_uuid: BrokerUuid::default(),
            endpoints: Vec::new(),
            rpc: BrokerEndpoint {
                name: "rpc".to_owned(),
                host: "h".to_owned(),
                port: 1,
            },
            rack: rack.map(str::to_owned),
            software_version: String::new(),
            fenced,
            in_controlled_shutdown: false,
            reads_elr: true,
        }
    }

    fn place(brokers: &[BrokerImage], seed: u64, partitions: usize, rf: usize) -> Vec<Vec<NodeId>> {
        let mut placer = Placer::new(brokers.iter(), &mut Random::new(seed));
        (0..partitions)
            .map(|_| placer.place(rf).expect("enough brokers"))
            .collect()
    }

    #[test]
    fn three_replicas_are_placed_while_one_of_three_brokers_is_fenced() {
        let brokers = [
            broker(0, None, false),
            broker(1, None, true),
            broker(2, None, false),
        ];
        for replicas in place(&brokers, 7, 12, 3) {
            assert_ne!(
                replicas[0],
                NodeId(1),
                "a fenced broker is preferred leader"
            );
            assert_eq!(replicas.len(), 3);
        }
        for replicas in place(&brokers, 7, 12, 2) {
            assert!(
                !replicas.contains(&NodeId(1)),
                "a fenced broker is used without need"
            );
        }
    }

    #[test]
    fn too_few_brokers_are_refused_in_kafkas_words() {
        let mut placer = Placer::new([broker(0, None, false)].iter(), &mut Random::new(1));
        let error = placer.place(3).expect_err("one broker");
        assert_eq!(error.code, ErrorCode::InvalidReplicationFactor);
        assert!(
            error.message.contains("only 1 broker(s) are registered"),
            "{error}"
        );
        let mut placer = Placer::new([broker(0, None, true)].iter(), &mut Random::new(1));
        assert!(
            placer
                .place(1)
                .expect_err("fenced")
                .message
                .contains("fenced")
        );
    }

    #[test]
    fn followers_of_one_leader_differ() {
        let brokers: Vec<BrokerImage> = (0..3).map(|id| broker(id, None, false)).collect();
        let pairs: BTreeSet<Vec<NodeId>> = place(&brokers, 3, 6, 2).into_iter().collect();
        assert_eq!(
            pairs.len(),
            6,
            "every ordered pair of three brokers occurs once"
        );
    }

    proptest! {
        #[test]
        fn placement_keeps_its_promises(
            racks in proptest::collection::vec((0u8..4, any::<bool>()), 1..9),
            with_racks in any::<bool>(),
            seed in any::<u64>(),
            partitions in 1usize..40,
            rf in 1usize..5,
        ) {
            let names = ["a", "b", "c", "d"];
            let brokers: Vec<BrokerImage> = (0..)
                .zip(&racks)
                .map(|(id, (rack, fenced))| {
                    broker(id, with_racks.then(|| names[usize::from(*rack)]), *fenced && id > 0)
                })
                .collect();
            let live = brokers.iter().filter(|b| !b.fenced).count();
            prop_assume!(rf <= brokers.len());
            let placed = place(&brokers, seed, partitions, rf);
            prop_assert_eq!(&placed, &place(&brokers, seed, partitions, rf), "not deterministic");
            let by_id = |id: &NodeId| brokers.iter().find(|b| b.node_id == *id).expect("a broker");
            let mut leaders: BTreeMap<NodeId, usize> = BTreeMap::new();
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), rf);
                prop_assert!(!by_id(&replicas[0]).fenced);
                let fenced = replicas.iter().filter(|id| by_id(id).fenced).count();
                prop_assert_eq!(fenced, rf.saturating_sub(live), "fenced only as needed");
                if with_racks && live == brokers.len() {
                    let all: BTreeSet<_> = brokers.iter().map(|b| &b.rack).collect();
                    let used: BTreeSet<_> = replicas.iter().map(|id| &by_id(id).rack).collect();
                    prop_assert_eq!(used.len(), rf.min(all.len()));
                }
                *leaders.entry(replicas[0]).or_default() += 1;
            }
            let most = leaders.values().max().copied().unwrap_or(0);
            prop_assert!(most <= partitions.div_ceil(live), "leaders are uneven: {leaders:?}");
        }
    }
}
