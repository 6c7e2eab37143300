//! Whatever members, the log and the network do: does a partition ever belong to two, and does all come to rest?

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::{ErrorCode, TopicId};

use super::fixture::{Client, Fixture, client};
use crate::group::consumer::record::MemberState;
use crate::group::consumer::request::{HeartbeatAnswer, Rejection};
use crate::group::{GroupRecord, GroupState};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A member comes to life: it joins with its next heartbeat.
    Start(usize),
    /// It dies without a word.
    Kill(usize),
    /// It leaves; the request arrives, the answer does not matter.
    Leave(usize),
    /// A heartbeat and its answer.
    Beat(usize),
    /// A heartbeat of which the answer gets lost.
    BeatLost(usize),
    /// A heartbeat whose records the log refuses.
    BeatRefused(usize),
    /// It wants other topics.
    Want(usize, bool),
    /// A topic grows.
    Grow(bool),
    /// Time passes.
    Wait(i64),
    /// The coordinator moves to another broker.
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0usize..4;
    prop_oneof![
        2 => who.clone().prop_map(Step::Start),
        1 => who.clone().prop_map(Step::Kill),
        1 => who.clone().prop_map(Step::Leave),
        12 => who.clone().prop_map(Step::Beat),
        4 => who.clone().prop_map(Step::BeatLost),
        2 => who.clone().prop_map(Step::BeatRefused),
        1 => (who, any::<bool>()).prop_map(|(who, both)| Step::Want(who, both)),
        1 => any::<bool>().prop_map(Step::Grow),
        2 => (1i64..20_000).prop_map(Step::Wait),
        1 => Just(Step::Move),
    ]
}

struct Sim {
    f: Fixture,
    clients: BTreeMap<usize, Client>,
    partitions: [i32; 2],
    started: usize,
}

impl Sim {
    fn new() -> Self {
        let mut f = Fixture::new(5);
        f.topic("u", 3);
        Self {
            f,
            clients: BTreeMap::new(),
            partitions: [5, 3],
            started: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(who) => {
                self.started += 1;
                let id = format!("{who}-{}", self.started);
                let fresh = match who {
                    0 => client(&id).regex("t|u"),
                    _ => client(&id),
                };
                self.clients.entry(who).or_insert(fresh);
            }
            Step::Kill(who) => drop(self.clients.remove(&who)),
            Step::Leave(who) => {
                if let Some(mut gone) = self.clients.remove(&who) {
                    gone.epoch = -1;
                    let token = self.f.send(gone.short());
                    self.f.answer(token).expect("is answered").ok();
                }
            }
            Step::Beat(who) => self.beat(who, true),
            Step::BeatLost(who) => self.beat(who, false),
            Step::BeatRefused(who) => self.refused(who),
            Step::Want(who, both) => {
                if let Some(client) = self.clients.get_mut(&who)
                    && client.regex.is_none()
                {
                    let names: &[&str] = if both { &["t", "u"] } else { &["t"] };
                    client.topics = names.iter().map(|name| (*name).to_owned()).collect();
                }
            }
            Step::Grow(first) => {
                let (name, count) = if first { ("t", 0) } else { ("u", 1) };
                self.partitions[count] = (self.partitions[count] + 1).min(8);
                self.f.topic(name, self.partitions[count]);
            }
            Step::Wait(ms) => self.f.advance(ms),
            Step::Move => self.f.reload(),
        }
    }

    fn beat(&mut self, who: usize, arrives: bool) {
        let Some(client) = self.clients.get_mut(&who) else {
            return;
        };
        let answer = self.f.ask(client.full());
        if arrives {
            hear(client, answer);
        }
    }

    fn refused(&mut self, who: usize) {
        let Some(client) = self.clients.get_mut(&who) else {
            return;
        };
        self.f.hold = true;
        let token = self.f.send(client.full());
        while self.f.holds_something() {
            self.f.release(Err(ErrorCode::CoordinatorNotAvailable));
        }
        self.f.hold = false;
        let answer = self.f.answer(token).expect("is answered");
        hear(client, answer);
    }

    /// What the group keeps count of is what its members amount to.
    fn check_counts(&self) {
        let (Some(group), Some(state)) = (self.f.describe(), self.f.state_of_group()) else {
            return;
        };
        let there = |id: &str| {
            let current = &state.member(id).expect("is described").current;
            current.state == MemberState::Stable && current.epoch == group.assignment_epoch
        };
        let all_there = group.members.iter().all(|member| there(&member.member_id));
        assert_eq!(state.is_reconciled(), all_there);
        let metadata = || group.members.iter().map(|member| &member.metadata);
        let regexes: BTreeSet<&str> = metadata()
            .filter_map(|m| m.topic_regex.as_deref())
            .collect();
        assert_eq!(state.expressions().collect::<BTreeSet<_>>(), regexes);
        let names: BTreeSet<String> = metadata().flat_map(|m| state.topics_of(m)).collect();
        assert_eq!(state.subscribed_topics(), names);
    }

    /// Neither the coordinator nor two members that it counts on take a partition for two members'.
    fn check(&self) {
        let Some(group) = self.f.describe() else {
            return;
        };
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for member in &group.members {
            for key in member.assignment.iter() {
                let other = owners.insert(key, &member.member_id);
                assert_eq!(
                    other, None,
                    "{key:?} is assigned to {} too",
                    member.member_id
                );
            }
        }
        let mut users: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for client in self.clients.values() {
            // Whom the coordinator gave up stops by itself when its session is over.
            if group
                .members
                .iter()
                .any(|member| member.member_id == client.id)
            {
                for key in client.owned.iter() {
                    let other = users.insert(key, &client.id);
                    assert_eq!(other, None, "{key:?} is consumed by {} too", client.id);
                }
            }
        }
    }

    /// The faults are over: everybody who lives ends up with a share, and all is shared.
    fn heal(&mut self) {
        for _ in 0..20 {
            self.f.advance(5_000);
            for who in 0..4 {
                self.beat(who, true);
                self.check();
            }
        }
        let Some(group) = self.f.describe() else {
            assert!(self.clients.is_empty());
            return;
        };
        assert_eq!(group.members.len(), self.clients.len());
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(group.state, GroupState::Stable);
        let owned: usize = self.clients.values().map(|client| client.owned.len()).sum();
        let of_u = self
            .clients
            .values()
            .any(|client| client.regex.is_some() || client.topics.contains("u"));
        let all = self.partitions[0] + if of_u { self.partitions[1] } else { 0 };
        assert_eq!(owned, usize::try_from(all).unwrap());
        for member in &group.members {
            assert_eq!(member.assignment, member.target);
        }
    }
}

pub(super) fn hear(client: &mut Client, answer: Result<HeartbeatAnswer, Rejection>) {
    match answer {
        Ok(answer) => client.hear(&answer),
        Err(rejection) => match rejection.error {
            ErrorCode::CoordinatorNotAvailable => {}
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound => client.fenced(),
            other => panic!("{other}"),
        },
    }
}

/// What compaction leaves: the last record of each key, in the log's order.
pub(super) fn compacted(log: &[GroupRecord]) -> Vec<GroupRecord> {
    let mut last = BTreeMap::new();
    for (at, record) in log.iter().enumerate() {
        last.insert(record.encode().0, at);
    }
    let mut places: Vec<usize> = last.into_values().collect();
    places.sort_unstable();
    places.into_iter().map(|at| log[at].clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_partition_belongs_to_two_members_and_all_comes_to_rest(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut sim = Sim::new();
        for step in steps {
            sim.step(step);
            sim.check();
            sim.check_counts();
        }
        sim.heal();
    }

    #[test]
    fn what_is_replayed_is_what_was(steps in proptest::collection::vec(step(), 0..60)) {
        let mut sim = Sim::new();
        for step in steps {
            sim.step(step);
        }
        let before = sim.f.describe();
        let state = sim.f.state_of_group();
        sim.f.reload();
        prop_assert_eq!(sim.f.describe(), before.clone());
        prop_assert_eq!(sim.f.state_of_group(), state.clone());
        let compacted = compacted(&sim.f.log);
        sim.f.reload_from(&compacted);
        prop_assert_eq!(sim.f.describe(), before);
        prop_assert_eq!(sim.f.state_of_group(), state);
    }
}
