//! Which faults come, in which order, and what does each do?

use std::time::{Duration, Instant};

use tests::cluster::await_true;

use crate::brokers::{Brokers, Conditions};
use crate::network::{BROKERS, CLIENTS};
use crate::random::Random;

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
    /// One broker and the two others do not reach each other; clients reach all.
    Isolate,
    /// The same, and clients do not reach it either.
    IsolateFromAll,
    /// Two brokers do not reach each other, the third reaches both.
    CutLink,
    /// What one broker sends to another is lost; the other direction works.
    CutOneWay,
    /// A link is cut, and one of its brokers killed.
    CutAndKill,
    /// The wall clock of one broker jumps, and jumps back.
    Skew,
    /// Writes and syncs of one broker take long.
    SlowDisk,
    /// Two brokers are slow with the topic's logs, and with nothing else; the third is killed, which has records and markers that are
    /// on their way to them.
    LagAndKill,
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
    Nemesis::LagAndKill,
];

impl Nemesis {
    /// Whether this machine can do it.
    pub(crate) const fn is_possible(self, brokers: &Brokers) -> bool {
        match self {
            Self::Kill | Self::KillAll | Self::Pause | Self::PauseAndKill => true,
            Self::Skew | Self::SlowDisk | Self::LagAndKill => brokers.has_library(),
            Self::Isolate
            | Self::IsolateFromAll
            | Self::CutLink
            | Self::CutOneWay
            | Self::CutAndKill => brokers.network.can_be_cut(),
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
        let mut victims = [0, 1, 2];
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
            Nemesis::KillAll => self.kill(&[0, 1, 2]),
            Nemesis::Pause => {
                self.brokers.signal(one, "STOP");
                pass(time);
                self.brokers.signal(one, "CONT");
                format!("broker {one} for {time:?}")
            }
            Nemesis::PauseAndKill => self.pause_and_kill(random),
            Nemesis::LagAndKill => self.lag_and_kill(random),
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

    /// What is decided between brokers goes on at its usual pace, while each batch of the topic waits for those before it.
    fn lag_and_kill(&mut self, random: &mut Random) -> String {
        let topic_us = i64::try_from(random.between(20_000, 80_000)).expect("small");
        let slow = Conditions {
            topic_us,
            ..Conditions::default()
        };
        let others: Vec<usize> = (0..BROKERS).filter(|other| *other != self.one).collect();
        for other in &others {
            self.brokers.set(*other, slow);
        }
        pass(self.time.max(Duration::from_secs(1)));
        self.brokers.kill(self.one);
        // Until another leads, what is still on its way is not taken any more.
        pass(self.time / 2);
        for other in &others {
            self.brokers.set(*other, Conditions::default());
        }
        self.brokers.run(self.one);
        format!(
            "brokers {others:?}, {topic_us} us before each write, for {:?}, then broker {}",
            self.time, self.one
        )
    }

    /// Cuts links, in the middle of that kills a broker that is only run again when they are joined.
    fn without(&mut self, links: &[(usize, usize)], victim: Option<usize>) -> String {
        for (from, to) in links {
            self.brokers.network.cut(*from, *to);
        }
        if let Some(victim) = victim {
            pass(self.time / 2);
            self.brokers.kill(victim);
        }
        pass(self.time);
        for (from, to) in links {
            self.brokers.network.join(*from, *to);
        }
        if let Some(victim) = victim {
            self.brokers.run(victim);
        }
        let killed = victim.map_or_else(String::new, |victim| format!(", broker {victim} killed"));
        format!("{links:?} for {:?}{killed}", self.time)
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
