//! Which faults come, in which order, and what does each do?

use std::time::{Duration, Instant};

use tests::cluster::await_true;

use crate::brokers::{Brokers, Conditions, Partition, REPLICAS};
use crate::network::{BROKERS, CLIENTS};
use tests::random::Random;

/// Longer than a session.
const ELECTION: Duration = Duration::from_secs(10);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nemesis {
    /// kill -9 of one broker.
    Kill,
    /// kill -9 of all.
    KillAll,
    /// SIGSTOP for a while.
    Pause,
    /// One is stopped, another is killed while its last records are on two disks only, the first goes on.
    PauseAndKill,
    /// One broker and the others do not reach each other; clients reach all.
    Isolate,
    /// The same, and clients do not reach it either.
    IsolateFromAll,
    /// Two brokers do not reach each other, the others reach both.
    CutLink,
    /// What one broker sends to another is lost; the other direction works.
    CutOneWay,
    /// A link is cut, and one of its brokers killed.
    CutAndKill,
    /// The wall clock of one broker jumps, and jumps back.
    Skew,
    /// Writes and syncs of one broker take long.
    SlowDisk,
    /// A partition's leader and its followers do not reach each other, but all others; then it is killed, with what only it has.
    CutFollowersAndKill,
}

const ALL: &[Nemesis] = &[
    Nemesis::Kill,
    Nemesis::PauseAndKill,
    Nemesis::CutAndKill,
    Nemesis::Isolate,
    Nemesis::Pause,
    Nemesis::CutLink,
    Nemesis::Skew,
    Nemesis::SlowDisk,
    Nemesis::KillAll,
    Nemesis::IsolateFromAll,
    Nemesis::CutOneWay,
    Nemesis::CutFollowersAndKill,
];

impl Nemesis {
    /// Whether this machine can do it.
    pub(crate) const fn is_possible(self, brokers: &Brokers) -> bool {
        match self {
            Self::Kill | Self::KillAll | Self::Pause | Self::PauseAndKill => true,
            Self::Skew | Self::SlowDisk => brokers.has_library(),
            Self::Isolate
            | Self::IsolateFromAll
            | Self::CutLink
            | Self::CutOneWay
            | Self::CutAndKill
            | Self::CutFollowersAndKill => brokers.network.can_be_cut(),
        }
    }
}

/// All that are possible, one after another, again and again: each round in another order.
#[derive(Debug)]
pub(crate) struct Plan {
    round: Vec<Nemesis>,
    random: Random,
    /// Names of the only ones that are wanted; none for all.
    only: Vec<String>,
}

impl Plan {
    /// `only` has names, with commas between.
    pub(crate) fn new(seed: u64, only: &str) -> Self {
        let only: Vec<String> = only.split(',').map(str::to_owned).collect();
        Self {
            round: Vec::new(),
            random: Random::new(seed),
            only: only.into_iter().filter(|name| !name.is_empty()).collect(),
        }
    }

    /// Injects the next fault, for at most `longest`, and heals it; says what it was.
    pub(crate) fn next(&mut self, brokers: &mut Brokers, longest: Duration) -> (Nemesis, String) {
        if self.round.is_empty() {
            self.round = ALL.to_vec();
            let is_wanted = |nemesis: &Nemesis| {
                self.only.is_empty() || self.only.contains(&format!("{nemesis:?}"))
            };
            self.round
                .retain(|nemesis| nemesis.is_possible(brokers) && is_wanted(nemesis));
            self.random.shuffle(&mut self.round);
        }
        let nemesis = self
            .round
            .pop()
            .expect("a fault that is wanted, and possible here");
        let most = u64::try_from(longest.as_millis()).expect("seconds");
        let mut victims: Vec<usize> = (0..BROKERS).collect();
        self.random.shuffle(&mut victims);
        let how = Injection {
            brokers,
            one: victims[0],
            other: victims[1],
            time: Duration::from_millis(self.random.between(most / 4, most)),
        };
        let text = how.inject(nemesis, &mut self.random);
        (nemesis, text)
    }
}

/// Lets a fault last.
fn pass(time: Duration) {
    let start = Instant::now();
    await_true("the fault's time is over", || start.elapsed() >= time);
}

struct Injection<'a> {
    brokers: &'a mut Brokers,
    one: usize,
    other: usize,
    time: Duration,
}

impl Injection<'_> {
    fn inject(mut self, nemesis: Nemesis, random: &mut Random) -> String {
        let Self {
            one, other, time, ..
        } = self;
        match nemesis {
            Nemesis::Kill => self.kill(&[one]),
            Nemesis::KillAll => self.kill(&(0..BROKERS).collect::<Vec<_>>()),
            Nemesis::Pause => {
                self.brokers.signal(one, "STOP");
                pass(time);
                self.brokers.signal(one, "CONT");
                format!("broker {one} for {time:?}")
            }
            Nemesis::PauseAndKill => self.pause_and_kill(random),
            Nemesis::CutFollowersAndKill => self.cut_followers_and_kill(random),
            Nemesis::Isolate => self.without(&links(one, BROKERS), None),
            Nemesis::IsolateFromAll => self.without(&links(one, CLIENTS + 1), None),
            Nemesis::CutLink => self.without(&[(one, other), (other, one)], None),
            Nemesis::CutOneWay => self.without(&[(one, other)], None),
            Nemesis::CutAndKill => self.without(&[(one, other), (other, one)], Some(one)),
            Nemesis::Skew => {
                let seconds = i64::try_from(random.between(1, 120)).expect("small");
                let seconds = if random.below(2) == 0 {
                    seconds
                } else {
                    -seconds
                };
                let clock_ns = seconds * 1_000_000_000;
                self.under(Conditions {
                    clock_ns,
                    ..Conditions::default()
                })
            }
            Nemesis::SlowDisk => {
                let write_us = i64::try_from(random.between(1_000, 50_000)).expect("small");
                self.under(Conditions {
                    write_us,
                    sync_us: 10 * write_us,
                    ..Conditions::default()
                })
            }
        }
    }

    fn kill(&mut self, victims: &[usize]) -> String {
        for broker in victims {
            self.brokers.kill(*broker);
        }
        // A short outage at times, a long one at others.
        pass(self.time / 4);
        for broker in victims {
            self.brokers.run(*broker);
        }
        format!("brokers {victims:?}, down for {:?}", self.time / 4)
    }

    /// The pause is shorter than the broker's session: it is not fenced, and may be elected.
    fn pause_and_kill(&mut self, random: &mut Random) -> String {
        let (one, other) = (self.one, self.other);
        let pause = Duration::from_millis(random.between(200, 1_500));
        self.brokers.signal(other, "STOP");
        pass(pause);
        self.brokers.kill(one);
        self.brokers.signal(other, "CONT");
        pass(self.time);
        self.brokers.run(one);
        format!(
            "broker {other} for {pause:?}, then broker {one} for {:?}",
            self.time
        )
    }

    /// The cut is too short for a follower to leave the ISR, so one of them leads next. Others go on: what they decide with the leader
    /// alone, the transaction coordinator above all, is decided before the leader dies.
    fn cut_followers_and_kill(&mut self, random: &mut Random) -> String {
        let mut whole = self.brokers.partitions();
        whole.retain(|partition| partition.in_sync.len() == REPLICAS);
        if whole.is_empty() {
            return "no partition has all its replicas in sync".to_owned();
        }
        let Partition {
            id,
            leader,
            in_sync,
        } = whole.swap_remove(random.index(whole.len()));
        let time = Duration::from_millis(random.between(300, 1_500));
        let followers: Vec<usize> = in_sync.into_iter().filter(|one| *one != leader).collect();
        let links: Vec<(usize, usize)> = followers
            .iter()
            .flat_map(|follower| [(leader, *follower), (*follower, leader)])
            .collect();
        self.cut(&links);
        pass(time);
        self.brokers.kill(leader);
        // The system still delivers what the dead process has sent, once it can: a new leader's followers do not take it any more.
        let killed = Instant::now();
        await_true("another leads, or it takes too long", || {
            let partitions = self.brokers.partitions();
            let moved = |partition: &Partition| partition.id == id && partition.leader != leader;
            partitions.iter().any(moved) || killed.elapsed() > ELECTION
        });
        self.join(&links);
        self.brokers.run(leader);
        format!("partition {id}: broker {leader} from {followers:?} for {time:?}, then killed")
    }

    /// Cuts links, in the middle of that kills a broker that is only run again when they are joined.
    fn without(&mut self, links: &[(usize, usize)], victim: Option<usize>) -> String {
        self.cut(links);
        if let Some(victim) = victim {
            pass(self.time / 2);
            self.brokers.kill(victim);
        }
        pass(self.time);
        self.join(links);
        if let Some(victim) = victim {
            self.brokers.run(victim);
        }
        let killed = victim.map_or_else(String::new, |victim| format!(", broker {victim} killed"));
        format!("{links:?} for {:?}{killed}", self.time)
    }

    fn cut(&self, links: &[(usize, usize)]) {
        for (from, to) in links {
            self.brokers.network.cut(*from, *to);
        }
    }

    fn join(&self, links: &[(usize, usize)]) {
        for (from, to) in links {
            self.brokers.network.join(*from, *to);
        }
    }

    fn under(&self, conditions: Conditions) -> String {
        self.brokers.set(self.one, conditions);
        pass(self.time);
        self.brokers.set(self.one, Conditions::default());
        format!("broker {}, {conditions:?} for {:?}", self.one, self.time)
    }
}

/// Both directions between one place and those below `places`.
fn links(one: usize, places: usize) -> Vec<(usize, usize)> {
    let others = (0..places).filter(|other| *other != one);
    others
        .flat_map(|other| [(one, other), (other, one)])
        .collect()
}
