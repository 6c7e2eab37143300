//! Do copiers that consume, produce and commit in one transaction copy every record once while coordinators and leaders
//! die again and again?

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tests::cluster::Cluster;
use tests::coordination::{Role, committed};
use tests::counts::differences;
use tests::skipped;

use crate::load::{Feed, await_some, await_stable, dump, number, report, summary, text, topic};
use crate::programs::{MISSING, Program, installed, java, script};

const SOURCE: &str = "orders";
const PARTITIONS: i32 = 6;
/// Records a second, but no more than [`AHEAD`] before the slower copier: more than a copier copies where nobody dies, so
/// that they always have something to do, and little to catch up with at the end.
const RATE: u64 = 2_000;
const AHEAD: i64 = 2_000;
const KILLS: u64 = 4;
/// After so many kills the whole cluster stops and starts: the node agent waits ever longer, up to a minute, before it
/// starts a process again that has died often, and forgets that then.
const KILLS_IN_A_ROW: u64 = 6;
/// How often a copier may end with an error for each kill.
const RESTARTS_A_KILL: u64 = 3;

/// A copier, started again whenever it has ended: Apache Kafka's own ends when it has copied what there was at its start,
/// and both end with the errors that a producer cannot go on after, or in a call of librdkafka that does not come back.
struct Copier {
    name: &'static str,
    make: fn(&Cluster, &str) -> Command,
    program: Program,
    /// How often it ended well, and with an error.
    ended: (u64, u64),
}

/// `TransactionalMessageCopier` of Apache Kafka's system tests: aborts a third of its transactions by itself.
fn java_copier(cluster: &Cluster, target: &str) -> Command {
    let class = "org.apache.kafka.tools.TransactionalMessageCopier";
    let mut command = java(cluster, target, class).expect("asked before");
    command
        .args(["--broker-list", &cluster.bootstrap()])
        .args(["--input-topic", SOURCE, "--input-partition", "0"])
        .args(["--output-topic", target, "--consumer-group", target])
        .args(["--transactional-id", &id(target)])
        .args(["--transaction-size", "10", "--transaction-timeout", "20000"])
        .args([
            "--enable-random-aborts",
            "--group-mode",
            "--use-group-metadata",
        ]);
    command
}

/// librdkafka's, with the transactions of before KIP-890.
fn librdkafka_copier(cluster: &Cluster, target: &str) -> Command {
    let mut command = script("clients/python/transactions.py").expect("asked before");
    command
        .args(["copy", &cluster.bootstrap(), SOURCE, target, target, "0"])
        .arg(cluster.scratch().join(format!("progress-{target}")));
    command
}

/// The transactional id of a copier, as both make it.
fn id(target: &str) -> String {
    format!("copier-{target}")
}

impl Copier {
    fn start(cluster: &Cluster, name: &'static str, make: fn(&Cluster, &str) -> Command) -> Self {
        Self {
            name,
            make,
            program: Program::start(cluster, name, make(cluster, name)),
            ended: (0, 0),
        }
    }

    #[track_caller]
    fn keep_running(&mut self, cluster: &Cluster, kills: u64) {
        let Some(status) = self.program.ended() else {
            return;
        };
        if status.success() {
            self.ended.0 += 1;
        } else {
            self.ended.1 += 1;
            assert!(
                self.ended.1 <= RESTARTS_A_KILL * kills,
                "{} ended {} times with an error: {}",
                self.name,
                self.ended.1,
                self.program.output()
            );
        }
        self.program = Program::start(cluster, self.name, (self.make)(cluster, self.name));
    }

    fn copied(&self, cluster: &Cluster) -> Option<i64> {
        committed(cluster, self.name, SOURCE, PARTITIONS)
    }

    /// Every record of the source is committed once, and nothing else.
    #[track_caller]
    fn assert_exact(&self, bootstrap: &str, count: u64) {
        let mut read: BTreeMap<String, u64> = BTreeMap::new();
        for record in dump(bootstrap, self.name) {
            *read.entry(record.value).or_insert(0) += 1;
        }
        let want: BTreeMap<String, u64> = (0..count).map(|n| (text("in", n), 1)).collect();
        let wrong = differences(&want, &read);
        assert!(
            wrong.is_empty(),
            "{}: not exactly once: {wrong:?}",
            self.name
        );
    }
}

/// Both copiers, what they copy, and how often brokers are killed under them.
struct Copying {
    copiers: [Copier; 2],
    feed: Option<Feed>,
    bootstrap: String,
    kills: u64,
    /// Stops after the programs that need it.
    cluster: Cluster,
}

impl Copying {
    fn start(cluster: Cluster, targets: [&'static str; 2], kills: u64) -> Self {
        let bootstrap = cluster.bootstrap();
        let feed = Feed::start(&cluster, &bootstrap, SOURCE, "in", RATE);
        let copiers = [
            Copier::start(&cluster, targets[0], java_copier),
            Copier::start(&cluster, targets[1], librdkafka_copier),
        ];
        Self {
            copiers,
            feed: Some(feed),
            bootstrap,
            kills,
            cluster,
        }
    }

    /// Whoever can die of all that the copiers need.
    fn roles(&self) -> Vec<Role> {
        let mut roles = vec![Role::Leader(SOURCE.to_owned(), 0)];
        for copier in &self.copiers {
            roles.push(Role::Transactions(id(copier.name)));
            roles.push(Role::Leader(copier.name.to_owned(), 0));
            roles.push(Role::Group(copier.name.to_owned()));
        }
        roles
    }

    /// How many records each has committed, when both groups can say; keeps copiers and feed going.
    #[track_caller]
    fn look(&mut self) -> Option<[i64; 2]> {
        for copier in &mut self.copiers {
            copier.keep_running(&self.cluster, self.kills);
        }
        let [a, b] = self
            .copiers
            .each_ref()
            .map(|copier| copier.copied(&self.cluster));
        let copied = [a?, b?];
        if let Some(feed) = &mut self.feed {
            feed.limit(copied[0].min(copied[1]) + AHEAD);
        }
        Some(copied)
    }

    /// Each has committed more than `than`, or `all`.
    #[track_caller]
    fn await_more(&mut self, than: [i64; 2], all: i64, what: &str) -> [i64; 2] {
        let what = format!("both copy {what} ({than:?} of {all})");
        await_some(&what, || {
            let copied = self.look()?;
            let more = |at: usize| copied[at] > than[at] || copied[at] == all;
            (more(0) && more(1)).then_some(copied)
        })
    }

    /// Ends the feed, waits until both have copied all of it; how much it was.
    #[track_caller]
    fn finish(&mut self) -> u64 {
        let count = self.feed.take().expect("it is finished once").finish();
        let all = i64::try_from(count).unwrap();
        let mut copied = [0, 0];
        while copied != [all, all] {
            copied = self.await_more(copied, all, "what is left");
        }
        for copier in &self.copiers {
            await_stable(&self.bootstrap, copier.name);
        }
        for copier in &self.copiers {
            copier.assert_exact(&self.bootstrap, count);
        }
        count
    }
}

#[test]
fn copiers_of_java_and_librdkafka_are_exact_when_coordinators_and_leaders_are_killed() {
    if !installed() {
        return skipped("copiers under kill -9", MISSING);
    }
    let kills = number("TIDEMARK_KILLS", KILLS);
    let cluster = Cluster::prepare("examples/quickstart");
    let targets = ["by-java", "by-librdkafka"];
    for target in targets {
        topic(&cluster, target, PARTITIONS);
    }
    cluster.start();
    let mut copying = Copying::start(cluster, targets, kills);
    copying.await_more([0, 0], i64::MAX, "at first");
    let mut died: Vec<(String, Duration)> = Vec::new();
    let roles = copying.roles();
    for (kill, role) in (0..kills).zip(roles.iter().cycle()) {
        if kill > 0 && kill % KILLS_IN_A_ROW == 0 {
            copying.cluster.stop();
            copying.cluster.start();
        }
        died.push(role.kill(&copying.cluster));
        let before = await_some("both groups answer again", || copying.look());
        copying.await_more(before, i64::MAX, &format!("again after {role:?} died"));
    }
    let count = copying.finish();
    let [java, librdkafka] = &copying.copiers;
    report(&format!(
        "copiers: {count} records copied exactly once by both over {}; Java's ended {} times well and {} with an error, \
         librdkafka's {} with an error",
        summary(&died),
        java.ended.0,
        java.ended.1,
        librdkafka.ended.1
    ));
}
