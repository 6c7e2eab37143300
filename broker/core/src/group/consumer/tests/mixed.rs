//! Whatever members of both protocols, the log and the network do: does a partition ever belong to two, and does all come
//! to rest, of whichever kind the group is?

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use types::ErrorCode;

use super::fixture::{Client, Fixture, GROUP, client};
use super::members::{Classic, cooperative, eager, of};
use super::simulation::{compacted, hear};
use crate::group::protocol::Subscription;
use crate::group::request::{JoinReply, JoinedMember, Reply, Token};
use crate::group::{GroupConfig, GroupState};

const PARTITIONS: i32 = 5;
/// The `group.instance.id` of the static member.
const STATIC: &str = "s";

/// Something that happens. Members 0 and 1 speak the consumer protocol, 2 and 3 are cooperative, 4 is eager. 1 and 2 are
/// the same static member, by one protocol or the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    Start(usize),
    Kill(usize),
    Leave(usize),
    /// What a member does next, and whether it hears of it.
    Beat(usize, bool),
    /// The same while the log refuses everything.
    Refused(usize),
    /// The log takes its time from now on.
    Hold,
    /// It is done with the oldest append.
    Release(bool),
    Wait(i64),
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0usize..5;
    prop_oneof![
        3 => who.clone().prop_map(Step::Start),
        1 => who.clone().prop_map(Step::Kill),
        2 => who.clone().prop_map(Step::Leave),
        16 => who.clone().prop_map(|who| Step::Beat(who, true)),
        3 => who.clone().prop_map(|who| Step::Beat(who, false)),
        2 => who.prop_map(Step::Refused),
        1 => Just(Step::Hold),
        4 => any::<bool>().prop_map(Step::Release),
        2 => (1i64..12_000).prop_map(Step::Wait),
        1 => Just(Step::Move),
    ]
}

/// What a classic member waits for.
#[derive(Debug, Clone, Default)]
enum Phase {
    #[default]
    Outside,
    Joining(Token),
    Syncing(Token),
    Member,
}

#[derive(Debug, Clone)]
struct Peer {
    me: Classic,
    phase: Phase,
}

impl Peer {
    fn lost(&mut self) {
        self.me.owned.clear();
        self.me.generation = -1;
        self.phase = Phase::Outside;
    }

    fn failed(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::RebalanceInProgress => self.phase = Phase::Outside,
            // The coordinator is looked for, and asked again.
            ErrorCode::CoordinatorNotAvailable => self.phase = Phase::Outside,
            ErrorCode::IllegalGeneration => self.lost(),
            // The former self's, if a coordinator ended before the static member's new id was written with an assignment;
            // it is started again then.
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                self.me.id.clear();
                self.lost();
            }
            other => panic!("{other}"),
        }
    }
}

struct Sim {
    f: Fixture,
    consumers: BTreeMap<usize, Client>,
    peers: BTreeMap<usize, Peer>,
    started: usize,
}

impl Sim {
    fn new() -> Self {
        let mut f = Fixture::with(GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        });
        f.topic("t", PARTITIONS);
        Self {
            f,
            consumers: BTreeMap::new(),
            peers: BTreeMap::new(),
            started: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(who) => self.start(who),
            Step::Kill(who) => {
                self.consumers.remove(&who);
                self.peers.remove(&who);
            }
            Step::Leave(who) => self.leave(who),
            Step::Beat(who, arrives) => self.beat(who, arrives),
            Step::Refused(who) => {
                self.f.hold = true;
                self.beat(who, true);
                self.release_all(Err(ErrorCode::CoordinatorNotAvailable));
                self.beat(who, true);
            }
            Step::Hold => self.f.hold = true,
            Step::Release(written) if self.f.holds_something() => {
                let refused = Err(ErrorCode::CoordinatorNotAvailable);
                self.f.release(if written { Ok(()) } else { refused });
            }
            Step::Release(_) => self.f.hold = false,
            Step::Wait(ms) => self.f.advance(ms),
            Step::Move => {
                self.f.hold = false;
                self.f.reload();
                for peer in self.peers.values_mut() {
                    if !matches!(peer.phase, Phase::Member) {
                        peer.phase = Phase::Outside; // the request is lost
                    }
                }
            }
        }
    }

    fn release_all(&mut self, result: Result<(), ErrorCode>) {
        while self.f.holds_something() {
            self.f.release(result);
        }
        self.f.hold = false;
    }

    fn start(&mut self, who: usize) {
        self.started += 1;
        let id = format!("{who}-{}", self.started);
        if who < 2 {
            let mut me = client(&id);
            if who == 1 {
                me = me.instance(STATIC);
                self.peers.remove(&2);
            }
            self.consumers.entry(who).or_insert(me);
            return;
        }
        let mut me = if who == 4 {
            eager(&id)
        } else {
            cooperative(&id)
        };
        me.protocol = Some("both");
        if who == 2 {
            me = me.instance(STATIC);
            self.consumers.remove(&1);
        }
        let phase = Phase::Outside;
        self.peers.entry(who).or_insert(Peer { me, phase });
    }

    fn leave(&mut self, who: usize) {
        if let Some(mut gone) = self.consumers.remove(&who) {
            // A static one means to come back.
            gone.epoch = if gone.instance.is_some() { -2 } else { -1 };
            self.f.send(gone.short());
        }
        if let Some(gone) = self.peers.remove(&who) {
            self.f.leave(&gone.me.id, None);
        }
    }

    fn beat(&mut self, who: usize, arrives: bool) {
        if let Some(client) = self.consumers.get_mut(&who) {
            let token = self.f.send(client.full());
            // Who is not answered yet comes again, and does not hear the answer.
            match (self.f.answer(token), arrives) {
                // Its former self did not say that it leaves, and is given up after its session.
                (Some(Err(refusal)), _) if refusal.error == ErrorCode::UnreleasedInstanceId => {}
                (Some(answer), true) => hear(client, answer),
                _ => {}
            }
        }
        if let Some(mut peer) = self.peers.remove(&who) {
            self.go_on(&mut peer, arrives);
            self.peers.insert(who, peer);
        }
    }

    /// A classic member does what it does next.
    fn go_on(&mut self, peer: &mut Peer, arrives: bool) {
        match peer.phase {
            Phase::Outside => {
                if peer.me.eager {
                    peer.me.owned.clear();
                }
                let token = self.f.send_join(&peer.me.request());
                peer.phase = Phase::Joining(token);
            }
            Phase::Joining(token) | Phase::Syncing(token) if !arrives => {
                if self.f.replies.remove(&token).is_some() {
                    peer.phase = Phase::Outside; // comes again
                }
            }
            Phase::Joining(token) => match self.f.replies.remove(&token) {
                Some(Reply::Join(reply)) => self.joined(peer, &reply),
                None => {}
                other => panic!("{other:?}"),
            },
            Phase::Syncing(token) => match self.f.replies.remove(&token) {
                Some(Reply::Sync(reply)) if reply.error.is_none() => {
                    let assigned = super::members::partitions(&reply.assignment);
                    let lost = !peer.me.owned.is_subset(&assigned);
                    peer.me.owned = assigned;
                    peer.phase = if lost { Phase::Outside } else { Phase::Member };
                }
                Some(Reply::Sync(reply)) => peer.failed(reply.error),
                None => {}
                other => panic!("{other:?}"),
            },
            Phase::Member => match self.f.heartbeat(&peer.me) {
                ErrorCode::None => {}
                error => peer.failed(error),
            },
        }
    }

    fn joined(&mut self, peer: &mut Peer, reply: &JoinReply) {
        if !reply.error.is_none() {
            return peer.failed(reply.error);
        }
        peer.me.id.clone_from(&reply.member_id);
        peer.me.generation = reply.generation.expect("is in a generation");
        let given = share(&reply.members);
        peer.phase = Phase::Syncing(self.f.send_sync(&peer.me, &given));
    }

    /// No two members that the coordinator counts on consume one partition.
    fn check(&self) {
        let group = self.f.coordinator.groups.get(GROUP);
        let counted = |id: &str| {
            group.is_some_and(|group| {
                let consumer = group.consumer.as_ref();
                group.members.contains_key(id)
                    || consumer.is_some_and(|consumer| consumer.state().member(id).is_some())
            })
        };
        let mut users: BTreeMap<i32, &str> = BTreeMap::new();
        let consumers = (self.consumers.values())
            .flat_map(|one| one.owned.iter().map(|(_, partition)| (&one.id, partition)));
        let peers = (self.peers.values())
            .flat_map(|peer| peer.me.owned.iter().map(|one| (&peer.me.id, *one)));
        for (id, partition) in consumers.chain(peers).filter(|(id, _)| counted(id)) {
            let other = users.insert(partition, id);
            assert_eq!(other, None, "{partition} is consumed by {id} too");
        }
    }

    /// The faults are over: everybody who lives ends up with a share, and all is shared.
    fn heal(&mut self) {
        self.release_all(Ok(()));
        for _ in 0..30 {
            self.f.advance(4_000);
            for who in 0..5 {
                for _ in 0..3 {
                    self.beat(who, true);
                    self.check();
                }
            }
        }
        let group = self.f.coordinator.list().next();
        if self.consumers.is_empty() && self.peers.is_empty() {
            assert!(group.is_none_or(|group| group.state == GroupState::Empty));
            return;
        }
        assert_eq!(group.map(|group| group.state), Some(GroupState::Stable));
        let consumers = self.consumers.values().map(|one| one.owned.len());
        let peers = self.peers.values().map(|peer| peer.me.owned.len());
        let owned: usize = consumers.chain(peers).sum();
        assert_eq!(owned, usize::try_from(PARTITIONS).unwrap());
        self.f.check_replay();
        self.f.check_owners();
    }
}

/// What the leader of a classic generation gives to each member: nobody gets what another one still has.
fn share(members: &[JoinedMember]) -> Vec<(String, Bytes)> {
    let quota = (PARTITIONS as usize).div_ceil(members.len().max(1));
    let mut given: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    let mut claimed = BTreeSet::new();
    for member in members {
        let subscription = Subscription::decode(&member.metadata).expect("can be read");
        let owned = subscription.owned.get("t").cloned().unwrap_or_default();
        let kept = owned.iter().copied().filter(|one| claimed.insert(*one));
        let mut kept: Vec<i32> = kept.collect();
        kept.truncate(quota);
        given.insert(&member.member_id, kept);
    }
    for partition in (0..PARTITIONS).filter(|one| !claimed.contains(one)) {
        if let Some(fewest) = given.values_mut().min_by_key(|all| all.len()) {
            fewest.push(partition);
        }
    }
    let given = given.into_iter();
    given.map(|(id, all)| (id.to_owned(), of(&all))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_partition_belongs_to_two_members_of_either_protocol(
        steps in proptest::collection::vec(step(), 0..100),
    ) {
        let mut sim = Sim::new();
        for step in steps {
            sim.step(step);
            sim.check();
        }
        sim.heal();
    }

    #[test]
    fn a_consumer_group_with_classic_members_is_replayed_as_it_was(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut sim = Sim::new();
        for step in steps {
            // Nobody watches whether an empty consumer group that became classic is taken back.
            sim.step(match step {
                Step::Refused(who) => Step::Beat(who, true),
                Step::Release(_) => Step::Release(true),
                other => other,
            });
        }
        sim.release_all(Ok(()));
        let state = sim.f.state_of_group();
        sim.f.reload();
        prop_assert_eq!(sim.f.state_of_group(), state.clone());
        let compacted = compacted(&sim.f.log);
        sim.f.reload_from(&compacted);
        prop_assert_eq!(sim.f.state_of_group(), state);
    }
}
