//! Is every partition with one member that wants it, are the shares even, and does little move?

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::TopicId;

use super::{Assignor, Subscription, Subscriptions};
use crate::group::consumer::partitions::Partitions;

type Assigned = BTreeMap<String, Partitions>;

/// Members with the topics each wants, and the number of partitions of each topic.
#[derive(Debug, Clone)]
struct Group {
    members: BTreeMap<String, BTreeSet<u8>>,
    topics: BTreeMap<u8, i32>,
}

fn id(topic: u8) -> TopicId {
    TopicId([topic; 16])
}

impl Group {
    fn new(members: &[(&str, &[u8])], topics: &[(u8, i32)]) -> Self {
        let members = members.iter();
        Self {
            members: members
                .map(|(name, topics)| ((*name).to_owned(), topics.iter().copied().collect()))
                .collect(),
            topics: topics.iter().copied().collect(),
        }
    }

    fn assign(&self, assignor: Assignor, previous: &Assigned) -> Assigned {
        let wanted: BTreeSet<u8> = self.members.values().flatten().copied().collect();
        let mut group = Subscriptions::default();
        for (topic, count) in self
            .topics
            .iter()
            .filter(|(topic, _)| wanted.contains(topic))
        {
            group.topics.insert(id(*topic), *count);
        }
        for (name, topics) in &self.members {
            let known = topics
                .iter()
                .filter(|topic| self.topics.contains_key(topic));
            group.members.insert(
                name,
                Subscription {
                    instance_id: None,
                    topics: known.map(|topic| id(*topic)).collect(),
                    previous: previous.get(name).cloned().unwrap_or_default(),
                },
            );
        }
        assignor.assign(&group)
    }

    fn check_complete(&self, assigned: &Assigned) {
        let names: BTreeSet<&String> = assigned.keys().collect();
        assert_eq!(
            names,
            self.members.keys().collect(),
            "everybody has an entry"
        );
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for (name, partitions) in assigned {
            for (topic, partition) in partitions.iter() {
                let before = owners.insert((topic, partition), name);
                assert_eq!(before, None, "{topic} {partition} is with two");
                assert!(
                    self.members[name].contains(&topic.0[0]),
                    "{name} did not ask for it"
                );
            }
        }
        for (topic, count) in &self.topics {
            let wanted = self.members.values().any(|topics| topics.contains(topic));
            for partition in 0..*count {
                let has = owners.contains_key(&(id(*topic), partition));
                assert_eq!(has, wanted, "topic {topic} partition {partition}");
            }
        }
    }

    fn same_wishes(&self) -> bool {
        let mut wishes = self.members.values();
        let first = wishes.next();
        wishes.all(|other| Some(other) == first)
    }
}

/// No partition can go to somebody with two less, neither directly nor along a chain.
fn check_level(group: &Group, assigned: &Assigned) {
    let load = |name: &str| assigned[name].len();
    for from in group.members.keys() {
        let mut reached = BTreeSet::from([from.as_str()]);
        let mut queue = vec![from.as_str()];
        while let Some(giver) = queue.pop() {
            for (topic, _) in assigned[giver].topics() {
                for (taker, topics) in &group.members {
                    if topics.contains(&topic.0[0]) && reached.insert(taker) {
                        assert!(load(taker) + 2 > load(from), "{from} could give to {taker}");
                        queue.push(taker);
                    }
                }
            }
        }
    }
}

fn moved(before: &Assigned, after: &Assigned) -> usize {
    let kept = |(name, old): (&String, &Partitions)| {
        let new = after.get(name).cloned().unwrap_or_default();
        old.iter()
            .filter(|(topic, one)| !new.contains(*topic, *one))
            .count()
    };
    before.iter().map(kept).sum()
}

fn sizes(assigned: &Assigned) -> Vec<usize> {
    assigned.values().map(Partitions::len).collect()
}

#[test]
fn uniform_gives_a_new_member_its_share_and_moves_nothing_else() {
    let two = Group::new(&[("a", &[1]), ("b", &[1])], &[(1, 6)]);
    let before = two.assign(Assignor::Uniform, &Assigned::new());
    assert_eq!(sizes(&before), [3, 3]);
    let three = Group::new(&[("a", &[1]), ("b", &[1]), ("c", &[1])], &[(1, 6)]);
    let after = three.assign(Assignor::Uniform, &before);
    assert_eq!(sizes(&after), [2, 2, 2]);
    assert_eq!(moved(&before, &after), 2);
}

#[test]
fn uniform_levels_along_a_chain_when_subscriptions_differ() {
    // a has all of 1 and 2; c only wants 2, b hands on what it has of 2 and takes of 1.
    let group = Group::new(
        &[("a", &[1]), ("b", &[1, 2]), ("c", &[2])],
        &[(1, 4), (2, 2)],
    );
    let mut previous = Assigned::new();
    previous.insert("a".to_owned(), (0..4).map(|one| (id(1), one)).collect());
    previous.insert("b".to_owned(), (0..2).map(|one| (id(2), one)).collect());
    let after = group.assign(Assignor::Uniform, &previous);
    group.check_complete(&after);
    assert_eq!(sizes(&after), [2, 2, 2]);
}

#[test]
fn range_gives_contiguous_ranges_that_meet_across_topics() {
    let group = Group::new(
        &[("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1, 2])],
        &[(1, 7), (2, 7)],
    );
    let assigned = group.assign(Assignor::Range, &Assigned::new());
    let want: [(&str, std::ops::Range<i32>); 3] = [("a", 0..3), ("b", 3..5), ("c", 5..7)];
    for (name, range) in want {
        for topic in [1, 2] {
            let expected: BTreeSet<i32> = range.clone().collect();
            let mut topics = assigned[name].topics();
            let (_, got) = topics
                .find(|(found, _)| *found == id(topic))
                .expect("has the topic");
            assert_eq!(*got, expected, "{name}");
        }
    }
}

#[test]
fn range_puts_static_members_first_and_in_the_order_of_their_instances() {
    let mut group = Subscriptions::default();
    group.topics.insert(id(1), 3);
    for (name, instance_id) in [("x", Some("2")), ("y", Some("1")), ("a", None)] {
        let topics = BTreeSet::from([id(1)]);
        let previous = Partitions::default();
        group.members.insert(
            name,
            Subscription {
                instance_id,
                topics,
                previous,
            },
        );
    }
    let assigned = Assignor::Range.assign(&group);
    for (name, partition) in [("y", 0), ("x", 1), ("a", 2)] {
        assert!(assigned[name].contains(id(1), partition), "{name}");
    }
}

fn group() -> impl Strategy<Value = Group> {
    let wishes = prop_oneof![
        Just(BTreeSet::from([0, 1, 2, 3])),
        proptest::collection::btree_set(0u8..4, 0..4),
    ];
    let members = proptest::collection::btree_map("[a-h]", wishes, 0..8);
    let topics = proptest::collection::btree_map(0u8..4, 0i32..9, 0..4);
    (members, topics).prop_map(|(members, topics)| Group { members, topics })
}

proptest! {
    #[test]
    fn every_partition_is_with_exactly_one_member_that_wants_it(
        groups in proptest::collection::vec(group(), 1..4),
    ) {
        for assignor in Assignor::ALL {
            let mut previous = Assigned::new();
            for group in &groups {
                previous = group.assign(assignor, &previous);
                group.check_complete(&previous);
            }
        }
    }

    #[test]
    fn uniform_is_as_even_as_the_subscriptions_allow(
        groups in proptest::collection::vec(group(), 1..4),
    ) {
        let mut previous = Assigned::new();
        for group in &groups {
            previous = group.assign(Assignor::Uniform, &previous);
            check_level(group, &previous);
            if group.same_wishes() {
                let most = sizes(&previous).into_iter().max().unwrap_or(0);
                let least = sizes(&previous).into_iter().min().unwrap_or(0);
                prop_assert!(most - least <= 1);
            }
        }
    }

    #[test]
    fn uniform_moves_nothing_when_nothing_changed(group in group()) {
        let once = group.assign(Assignor::Uniform, &Assigned::new());
        prop_assert_eq!(group.assign(Assignor::Uniform, &once), once);
    }

    #[test]
    fn uniform_leaves_everybody_as_much_as_its_share_allows(
        count in 0i32..40, before in 1usize..8, after in 1usize..8,
    ) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let of = |size: usize| {
            let wishes: &[u8] = &[1];
            let members: Vec<_> = names[..size].iter().map(|name| (*name, wishes)).collect();
            Group::new(&members, &[(1, count)])
        };
        let old = of(before).assign(Assignor::Uniform, &Assigned::new());
        let new = of(after).assign(Assignor::Uniform, &old);
        for (name, had) in old.iter().filter(|(name, _)| new.contains_key(*name)) {
            let has = &new[name];
            let kept = had.iter().filter(|(topic, one)| has.contains(*topic, *one)).count();
            prop_assert_eq!(kept, had.len().min(has.len()), "{}", name);
        }
    }
}
