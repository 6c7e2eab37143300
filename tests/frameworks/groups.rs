//! Do groups of Java and librdkafka members lose no record, own no partition twice and take no commit back while their
//! coordinator is killed at chosen points of the protocol?
//!
//! `TIDEMARK_KILLS` says how often for each kind of group (1), `TIDEMARK_SEED` which event of its kind is the fatal one.

mod check;
mod history;
mod members;
mod moments;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Pod, await_true};
use tests::coordination::{Role, address, committed};
use tests::random::Random;
use tests::raw::Raw;
use tests::skipped;

use crate::load::{Feed, await_some, dump, number, report};
use crate::programs::{MISSING, installed};

use check::{Anomaly, Topic, check};
use history::What;
use members::{Members, Trigger};
use moments::{GroupState, Killer, MOMENTS, Moment, group_state};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
const GROUP: &str = "workers";
const RATE: u64 = 200;
const KILLS: u64 = 1;
const MEMBERS: usize = 3;
/// The node agent waits ever longer before it starts a process again that has died often: after so many kills the whole
/// cluster stops and starts, which it forgets that with.
const KILLS_IN_A_ROW: u64 = 6;
/// How long a moment is waited for that may pass too quickly to be seen; then the kill is a little late.
const MOMENT_PATIENCE: Duration = Duration::from_secs(30);
/// A look at the group's state takes a fraction of a millisecond; nothing is gained by more.
const LOOKS_APART: Duration = Duration::from_micros(200);

/// One kind of group, and what happened to it.
struct Scenario {
    protocol: &'static str,
    members: Members,
    random: Random,
    moments: Vec<Moment>,
    kills: u64,
    /// Of these, how often the moment had passed before it was seen.
    missed: u64,
    longest: Duration,
    /// Stops after the programs that need it.
    cluster: Cluster,
}

fn cluster() -> Cluster {
    let cluster = Cluster::prepare("examples/quickstart");
    cluster.configure(&[
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.consumer.heartbeat.interval.ms", "500"),
        ("group.consumer.session.timeout.ms", "10000"),
    ]);
    cluster.start();
    cluster
}

impl Scenario {
    fn start(protocol: &'static str, first: Moment, seed: u64) -> Self {
        let cluster = cluster();
        let mut moments = MOMENTS.to_vec();
        let at = moments.iter().position(|moment| *moment == first);
        moments.rotate_left(at.expect("all are listed"));
        moments.reverse();
        let mut members = Members::new(TOPIC, GROUP, protocol);
        for _ in 0..MEMBERS {
            members.join(&cluster);
        }
        Self {
            protocol,
            members,
            random: Random::new(seed),
            moments,
            kills: 0,
            missed: 0,
            longest: Duration::ZERO,
            cluster,
        }
    }

    fn kip_848(&self) -> bool {
        self.protocol == "consumer"
    }

    fn coordinator(&self) -> Pod {
        let role = Role::Group(GROUP.to_owned());
        await_some("a coordinator that is ready", || {
            Some(role.holder(&self.cluster)).filter(|pod| pod.ready && pod.pid.is_some())
        })
    }

    /// The next moment; each once before any comes again.
    fn next_moment(&mut self) -> Moment {
        let moment = self.moments.pop().expect("never empty");
        self.moments.insert(0, moment);
        moment
    }

    /// One member more or less, and the coordinator dies meanwhile; then all is well again.
    #[track_caller]
    fn round(&mut self) {
        let moment = self.next_moment();
        let victim = self.coordinator();
        let killer = Killer::of(victim.pid.expect("it runs"));
        let leaves = moment == Moment::Leaving || self.members.count() > MEMBERS;
        let expected = self.members.count() + 1 - 2 * usize::from(leaves);
        if moment.is_told_by_members() {
            self.arm(moment, killer);
            self.change(leaves);
            self.members
                .until(&format!("a member tells of {moment:?}"), |view| {
                    view.is_fired().then_some(())
                });
            self.members.arm(None);
        } else {
            self.change(leaves);
            self.await_shown(moment, &victim, expected);
            killer.fire();
        }
        self.kills += 1;
        let (start, before) = (Instant::now(), self.members.view().records());
        if moment == Moment::Taking {
            self.kill_successor(&victim);
        }
        let what = format!("after {} died at {moment:?}", victim.name);
        self.members.await_converged(PARTITIONS, &before, &what);
        self.longest = self.longest.max(start.elapsed());
        self.cluster.await_ready();
    }

    fn arm(&mut self, moment: Moment, killer: Killer) {
        let left = self.random.between(1, moment.most());
        let killer = Some(killer);
        self.members.arm(Some(Trigger {
            moment,
            left,
            killer,
        }));
    }

    fn change(&mut self, leaves: bool) {
        if leaves {
            self.members.leave();
        } else {
            self.members.join(&self.cluster);
        }
    }

    /// Waits until the coordinator shows the moment, or that it has passed.
    fn await_shown(&mut self, moment: Moment, victim: &Pod, expected: usize) {
        let mut raw = Raw::connect(&address(victim));
        let start = Instant::now();
        let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
        loop {
            let state = group_state(&mut raw, GROUP, self.kip_848());
            if state.as_ref().is_some_and(|state| moment.is_shown(state)) {
                return;
            }
            let passed = |state: GroupState| state.members == expected && state.name == "Stable";
            if state.is_some_and(passed) || start.elapsed() > MOMENT_PATIENCE {
                self.missed += 1;
                return;
            }
            // Paces the looks.
            let nothing = never.recv_timeout(LOOKS_APART);
            assert!(nothing.is_err(), "nothing is ever sent");
        }
    }

    /// Kills who has taken over from the victim, as soon as somebody has.
    fn kill_successor(&mut self, victim: &Pod) {
        let role = Role::Group(GROUP.to_owned());
        let successor = role.successor(&self.cluster, victim);
        Killer::of(successor.pid.expect("it runs")).fire();
        self.kills += 1;
    }

    /// One after another, the members are replaced by such of another protocol; the coordinator dies meanwhile.
    #[track_caller]
    fn replace_members(&mut self, protocol: &'static str) {
        self.members.set_protocol(protocol);
        for n in 0..MEMBERS {
            let before = self.members.view().records();
            let victim = self.coordinator();
            self.members.join(&self.cluster);
            if n > 0 {
                let moment = [Moment::Assigned, Moment::Committing][n % 2];
                let killer = Killer::of(victim.pid.expect("it runs"));
                self.arm(moment, killer);
                self.members
                    .until("a member tells of its partitions", |view| {
                        view.is_fired().then_some(())
                    });
                self.members.arm(None);
                self.kills += 1;
            }
            self.members.leave();
            let what = format!("with {} members of {protocol}", n + 1);
            self.members.await_converged(PARTITIONS, &before, &what);
            self.cluster.await_ready();
        }
    }

    /// Waits until the coordinator knows the group as one of that kind.
    #[track_caller]
    fn await_kind(&self, kip_848: bool) {
        let what = if kip_848 { "consumer" } else { "classic" };
        await_true(&format!("the group is a {what} group"), || {
            let mut raw = Raw::connect(&address(&self.coordinator()));
            let as_it_is = group_state(&mut raw, GROUP, kip_848);
            as_it_is.is_some_and(|state| state.members == MEMBERS)
        });
    }

    /// Every record is processed and committed, all leave; what is wrong with the history.
    #[track_caller]
    fn finish(&mut self, feed: Feed) -> (u64, Vec<Anomaly>) {
        let bootstrap = self.cluster.bootstrap();
        let count = feed.finish();
        let all = usize::try_from(count).expect("few");
        self.members.until("every record is processed", |view| {
            (view.processed() >= all).then_some(())
        });
        await_true("every record is committed", || {
            committed(&self.cluster, GROUP, TOPIC, PARTITIONS) == i64::try_from(count).ok()
        });
        while self.members.count() > 0 {
            self.members.leave();
        }
        self.members.await_left();
        let found = dump(&bootstrap, TOPIC).into_iter().map(|record| {
            let name = record.value.split(' ').next().unwrap_or_default();
            ((record.partition, record.offset), name.to_owned())
        });
        let topic: Topic = found.collect();
        assert_eq!(topic.len(), all, "records in the topic");
        let view = self.members.view();
        assert_eq!(view.strange, [""; 0], "not understood");
        (count, check(&view.events, &topic))
    }

    /// What was done and seen.
    fn summary(&self, count: u64) -> String {
        let view = self.members.view();
        let many =
            |kind: fn(&What) -> bool| view.events.iter().filter(|event| kind(&event.what)).count();
        format!(
            "{} kills ({} a little late), {count} records processed {} times, {} commits accepted, {} refused, {} times \
             partitions lost, longest {:.1} s until all flows again",
            self.kills,
            self.missed,
            many(|what| matches!(what, What::Record { .. })),
            many(|what| matches!(what, What::Committed(_))),
            many(|what| matches!(what, What::Refused(_))),
            many(|what| matches!(what, What::Lost(_))),
            self.longest.as_secs_f64(),
        )
    }
}

impl Drop for Scenario {
    /// Keeps the history of a run that failed, also of one that waited in vain.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let name = format!(
            "tidemark-failed-{}-{}.txt",
            std::process::id(),
            self.protocol
        );
        let path = std::env::temp_dir().join(name);
        let view = self.members.view();
        let events = view.events.iter().map(|event| format!("{event:?}\n"));
        let strange = view.strange.iter().map(|line| format!("{line}\n"));
        let text: String = events.chain(strange).collect();
        report(&match std::fs::write(&path, text) {
            Ok(()) => format!("the members' history is kept in {}", path.display()),
            Err(error) => format!("the members' history is not kept: {error}"),
        });
    }
}

#[track_caller]
fn coordinator_dies(protocol: &'static str, first: Moment) {
    if !installed() {
        return skipped("groups under kill -9", MISSING);
    }
    let seed = number("TIDEMARK_SEED", 1);
    let kills = number("TIDEMARK_KILLS", KILLS);
    let mut scenario = Scenario::start(protocol, first, seed);
    let bootstrap = scenario.cluster.bootstrap();
    let feed = Feed::start(&scenario.cluster, &bootstrap, TOPIC, "in", RATE);
    scenario
        .members
        .await_converged(PARTITIONS, &BTreeMap::new(), "at first");
    let mut next_stop = KILLS_IN_A_ROW;
    while scenario.kills < kills {
        if scenario.kills >= next_stop {
            next_stop += KILLS_IN_A_ROW;
            scenario.cluster.stop();
            scenario.cluster.start();
        }
        scenario.round();
    }
    conclude(&mut scenario, feed, seed);
}

/// Nothing is wrong with what the members did and saw.
#[track_caller]
fn conclude(scenario: &mut Scenario, feed: Feed, seed: u64) {
    let protocol = scenario.protocol;
    let (count, anomalies) = scenario.finish(feed);
    let summary = scenario.summary(count);
    report(&format!("groups: {protocol}, seed {seed}: {summary}"));
    if anomalies.is_empty() {
        return;
    }
    let shown: Vec<String> = anomalies.iter().take(10).map(ToString::to_string).collect();
    let (count, shown) = (anomalies.len(), shown.join("\n"));
    assert_eq!(count, 0, "{protocol}, seed {seed}:\n{shown}");
}

#[test]
fn a_classic_group_with_range_survives_its_coordinator() {
    coordinator_dies("range", Moment::Rebalancing);
}

#[test]
fn a_classic_group_with_roundrobin_survives_its_coordinator() {
    coordinator_dies("roundrobin", Moment::Assigning);
}

#[test]
fn a_classic_group_with_cooperative_sticky_survives_its_coordinator() {
    coordinator_dies("cooperative-sticky", Moment::Committing);
}

#[test]
fn a_consumer_group_survives_its_coordinator() {
    coordinator_dies("consumer", Moment::Assigned);
}

#[test]
fn a_group_that_changes_its_protocol_and_back_survives_its_coordinator() {
    if !installed() {
        return skipped("groups that change their protocol", MISSING);
    }
    let seed = number("TIDEMARK_SEED", 1);
    let mut scenario = Scenario::start("range", Moment::Assigned, seed);
    let bootstrap = scenario.cluster.bootstrap();
    let feed = Feed::start(&scenario.cluster, &bootstrap, TOPIC, "in", RATE);
    scenario
        .members
        .await_converged(PARTITIONS, &BTreeMap::new(), "at first");
    scenario.await_kind(false);
    scenario.protocol = "range, consumer, cooperative-sticky";
    scenario.replace_members("consumer");
    scenario.await_kind(true);
    scenario.replace_members("cooperative-sticky");
    scenario.await_kind(false);
    conclude(&mut scenario, feed, seed);
}
