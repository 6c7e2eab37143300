//! Everybody gets as many partitions as everybody else, as far as the subscriptions allow it, and little moves.
//!
//! Members keep what they had and still want. What nobody has goes to who has least. Then, while somebody has two more
//! than another, one partition moves from the first to the second, directly or along a chain of members that each hand one
//! on; a chain is needed where subscriptions differ. Each move makes the shares more even, so that it ends; when no chain
//! is left, no other assignment is more even.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use types::TopicId;

use super::Subscriptions;
use crate::group::consumer::partitions::Partitions;

pub(super) fn assign(group: &Subscriptions<'_>) -> BTreeMap<String, Partitions> {
    let mut shares = Shares::new(group);
    shares.keep();
    shares.hand_out();
    shares.level();
    let held = shares.held.into_iter();
    let named = shares.names.iter().zip(held).map(|(name, topics)| {
        let partitions = topics.into_iter().flat_map(|(topic, partitions)| {
            partitions
                .into_iter()
                .map(move |partition| (topic, partition))
        });
        ((*name).to_owned(), partitions.collect())
    });
    named.collect()
}

/// Members by their place in the order of ids.
struct Shares<'a> {
    group: &'a Subscriptions<'a>,
    names: Vec<&'a str>,
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    held: Vec<BTreeMap<TopicId, BTreeSet<i32>>>,
    load: Vec<usize>,
    /// Everybody by load, then by place.
    by_load: BTreeSet<(usize, usize)>,
}

impl<'a> Shares<'a> {
    fn new(group: &'a Subscriptions<'a>) -> Self {
        let names: Vec<&str> = group.members.keys().copied().collect();
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (place, member) in group.members.values().enumerate() {
            for topic in member
                .topics
                .iter()
                .filter(|id| group.topics.contains_key(id))
            {
                subscribers.entry(*topic).or_default().push(place);
            }
        }
        Self {
            group,
            subscribers,
            held: vec![BTreeMap::new(); names.len()],
            load: vec![0; names.len()],
            by_load: (0..names.len()).map(|place| (0, place)).collect(),
            names,
        }
    }

    fn give(&mut self, place: usize, topic: TopicId, partition: i32) {
        self.held[place].entry(topic).or_default().insert(partition);
        self.set_load(place, self.load[place] + 1);
    }

    /// Takes the last partition of a topic away from somebody.
    fn take(&mut self, place: usize, topic: TopicId) -> Option<i32> {
        let partitions = self.held[place].get_mut(&topic)?;
        let partition = partitions.pop_last()?;
        if partitions.is_empty() {
            self.held[place].remove(&topic);
        }
        self.set_load(place, self.load[place] - 1);
        Some(partition)
    }

    fn set_load(&mut self, place: usize, load: usize) {
        self.by_load.remove(&(self.load[place], place));
        self.load[place] = load;
        self.by_load.insert((load, place));
    }

    /// What everybody had and may keep.
    fn keep(&mut self) {
        let mut given = BTreeSet::new();
        let group = self.group;
        for (place, member) in group.members.values().enumerate() {
            for (topic, partition) in member.previous.iter() {
                let exists = (group.topics.get(&topic)).is_some_and(|count| partition < *count);
                let wanted = member.topics.contains(&topic);
                if exists && wanted && given.insert((topic, partition)) {
                    self.give(place, topic, partition);
                }
            }
        }
    }

    /// What nobody has, to who has least; the topics first that fewest want.
    fn hand_out(&mut self) {
        let mut topics: Vec<(usize, TopicId)> = (self.subscribers.iter())
            .map(|(topic, members)| (members.len(), *topic))
            .collect();
        topics.sort_unstable();
        for (_, topic) in topics {
            let members = &self.subscribers[&topic];
            let taken: BTreeSet<i32> = (members.iter())
                .filter_map(|place| self.held[*place].get(&topic))
                .flatten()
                .copied()
                .collect();
            let count = self.group.topics.get(&topic).copied().unwrap_or(0);
            for partition in (0..count).filter(|one| !taken.contains(one)) {
                if let Some(place) = self.least_loaded(topic) {
                    self.give(place, topic, partition);
                }
            }
        }
    }

    fn least_loaded(&self, topic: TopicId) -> Option<usize> {
        let wants = |place: usize| {
            let member = self.group.members.get(self.names[place]);
            member.is_some_and(|member| member.topics.contains(&topic))
        };
        let mut order = self.by_load.iter().map(|(_, place)| *place);
        order.find(|place| wants(*place))
    }

    fn level(&mut self) {
        // Who cannot hand anything on to somebody with less: nor can those it could hand to.
        let mut settled = vec![false; self.names.len()];
        while let Some(from) = self.most_loaded(&settled) {
            match self.chain(from) {
                Ok(steps) => {
                    for (giver, topic, taker) in steps {
                        if let Some(partition) = self.take(giver, topic) {
                            self.give(taker, topic, partition);
                        }
                    }
                }
                Err(reached) => reached.into_iter().for_each(|place| settled[place] = true),
            }
        }
    }

    /// Who has most of those that are not settled, unless nobody has two less.
    fn most_loaded(&self, settled: &[bool]) -> Option<usize> {
        let least = self.by_load.first()?.0;
        let mut order = self.by_load.iter().rev();
        let (load, place) = order.find(|(_, place)| !settled[*place])?;
        (*load >= least + 2).then_some(*place)
    }

    /// The shortest chain from somebody to one who has at least two less, last step first; or all who can be reached.
    fn chain(&self, from: usize) -> Result<Vec<(usize, TopicId, usize)>, Vec<usize>> {
        let mut came: Vec<Option<(usize, TopicId)>> = vec![None; self.names.len()];
        let mut seen_topics = BTreeSet::new();
        let mut reached = vec![from];
        let mut queue = VecDeque::from([from]);
        while let Some(giver) = queue.pop_front() {
            for topic in self.held[giver]
                .keys()
                .filter(|topic| seen_topics.insert(**topic))
            {
                for taker in self.subscribers.get(topic).into_iter().flatten().copied() {
                    if taker == from || came[taker].is_some() {
                        continue;
                    }
                    came[taker] = Some((giver, *topic));
                    reached.push(taker);
                    if self.load[taker] + 2 <= self.load[from] {
                        return Ok(steps(&came, from, taker));
                    }
                    queue.push_back(taker);
                }
            }
        }
        Err(reached)
    }
}

fn steps(
    came: &[Option<(usize, TopicId)>],
    from: usize,
    to: usize,
) -> Vec<(usize, TopicId, usize)> {
    let mut steps = Vec::new();
    let mut taker = to;
    while let (true, Some((giver, topic))) = (taker != from, came[taker]) {
        steps.push((giver, topic, taker));
        taker = giver;
    }
    steps
}
