//! Do copiers that consume, produce and commit in one transaction copy every record once while coordinators and leaders
//! die again and again?

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tests::cluster::{Cluster, PATIENCE, await_some_within};
use tests::coordination::{Role, committed};
use tests::skipped;

use crate::load::{Feed, await_stable, dump, number, report, summary, text, topic};
use crate::programs::{MISSING, Program, installed, java, script};

const SOURCE: &str = "orders";
const PARTITIONS: i32 = 6;
/// Records a second: less than each copier copies where nobody dies.
const RATE: u64 = 400;
const KILLS: u64 = 4;
/// How often a copier may end with an error for each kill.
const RESTARTS_A_KILL: u64 = 3;

/// A copier, started again whenever it has ended: Apache Kafka's own ends when it has copied what there was at its start,
/// and both end with the errors that a producer cannot go on after.
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
        .args(["--transaction-size", "50", "--transaction-timeout", "20000"])
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
        let wrong: Vec<_> = want
            .keys()
            .chain(read.keys())
            .filter(|value| want.get(*value) != read.get(*value))
            .take(5)
            .map(|value| (value, read.get(value)))
            .collect();
        assert!(
            wrong.is_empty(),
            "{}: not exactly once: {wrong:?}",
            self.name
        );
    }
}

/// Whoever can die of all that a copier needs.
fn roles(copiers: &[Copier]) -> Vec<Role> {
    let mut roles = vec![Role::Leader(SOURCE.to_owned(), 0)];
    for copier in copiers {
        roles.push(Role::Transactions(id(copier.name)));
        roles.push(Role::Leader(copier.name.to_owned(), 0));
        roles.push(Role::Group(copier.name.to_owned()));
    }
    roles
}

/// Both have committed more than `than` of them.
fn await_more(cluster: &Cluster, copiers: &mut [Copier], kills: u64, than: &[i64], what: &str) {
    for (at, than) in than.iter().enumerate() {
        await_some_within(PATIENCE, &format!("{} {what}", copiers[at].name), || {
            for copier in copiers.iter_mut() {
                copier.keep_running(cluster, kills);
            }
            copiers[at].copied(cluster).filter(|copied| copied > than)
        });
    }
}

#[test]
fn copiers_of_java_and_librdkafka_are_exact_when_coordinators_and_leaders_are_killed() {
    if !installed() {
        return skipped("copiers under kill -9", MISSING);
    }
    let kills = number("TIDEMARK_KILLS", KILLS);
    let cluster = Cluster::prepare("examples/quickstart");
    let (java, librdkafka) = ("by-java", "by-librdkafka");
    topic(&cluster, java, PARTITIONS);
    topic(&cluster, librdkafka, PARTITIONS);
    cluster.start();
    let bootstrap = cluster.bootstrap();
    let feed = Feed::start(&cluster, &bootstrap, SOURCE, "in", RATE);
    await_some_within(PATIENCE, "records flow", || {
        (feed.acked() > 0).then_some(())
    });
    let mut copiers = [
        Copier::start(&cluster, java, java_copier),
        Copier::start(&cluster, librdkafka, librdkafka_copier),
    ];
    await_more(&cluster, &mut copiers, kills, &[0, 0], "copies");
    let mut died: Vec<(String, Duration)> = Vec::new();
    let roles = roles(&copiers);
    for (_, role) in (0..kills).zip(roles.iter().cycle()) {
        died.push(role.kill(&cluster));
        let before: Vec<i64> = copiers
            .iter()
            .map(|copier| copier.copied(&cluster).unwrap_or(0))
            .collect();
        let what = format!("copies again after {role:?} was killed");
        await_more(&cluster, &mut copiers, kills, &before, &what);
    }
    let count = feed.finish();
    let all = i64::try_from(count).unwrap() - 1;
    await_more(&cluster, &mut copiers, kills, &[all, all], "has copied all");
    let [java, librdkafka] = &mut copiers;
    let (ended, died_of) = (java.ended, librdkafka.ended);
    for copier in [&java, &librdkafka] {
        await_stable(&bootstrap, copier.name);
    }
    for copier in [java, librdkafka] {
        copier.assert_exact(&bootstrap, count);
    }
    report(&format!(
        "copiers: {count} records copied exactly once by both over {}; Java's ended {} times well and {} with an error, \
         librdkafka's {} with an error",
        summary(&died),
        ended.0,
        ended.1,
        died_of.1
    ));
}
