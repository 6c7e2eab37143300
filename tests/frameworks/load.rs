//! What flows while brokers die: how much was fed, when to kill, and which records lie where afterwards.

use std::time::{Duration, Instant};

use tests::cluster::{Cluster, await_some_within};
use tests::coordination::Role;

use crate::programs::{Program, lines, script};

/// How long the loads of one test run.
const SECONDS: u64 = 20;
/// A kill for so many seconds of load, and two at least.
const SECONDS_A_KILL: u64 = 60;

/// Longest wait for any single condition: several JVMs may start at once on two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Calls `look` until it gives a value, for [`PATIENCE`] at most.
#[track_caller]
pub(crate) fn await_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    await_some_within(PATIENCE, what, look)
}

/// Calls `look` until it is true, for [`PATIENCE`] at most.
#[track_caller]
pub(crate) fn await_true(what: &str, mut look: impl FnMut() -> bool) {
    await_some(what, || look().then_some(()));
}

/// What `flow.py` does.
const FLOW: &str = "frameworks/python/flow.py";

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// How long a load runs.
pub(crate) fn seconds() -> u64 {
    number("TIDEMARK_SECONDS", SECONDS)
}

/// How many records a second flow.
pub(crate) fn rate(default: u64) -> u64 {
    number("TIDEMARK_RATE", default)
}

/// One committed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A producer of `PREFIX-N wA vB` for N = 0, 1, ... with the key N mod 64.
#[derive(Debug)]
pub(crate) struct Feed {
    program: Program,
}

impl Feed {
    /// Starts it; it goes on at `rate` records a second until it is finished.
    pub(crate) fn start(
        cluster: &Cluster,
        bootstrap: &str,
        topic: &str,
        prefix: &str,
        rate: u64,
    ) -> Self {
        let mut command = script(FLOW).expect("asked before");
        command.args(["feed", bootstrap, topic, prefix, &rate.to_string()]);
        Self {
            program: Program::start(cluster, &format!("feed-{prefix}"), command),
        }
    }

    /// Lets it go on to the `limit`-th record only.
    pub(crate) fn limit(&mut self, limit: i64) {
        self.program.say(&limit.to_string());
    }

    /// Ends it; how many records there are.
    pub(crate) fn finish(self) -> u64 {
        let output = self.program.finish();
        let last = output.lines().last().expect("it prints the number");
        last.parse().expect("a number")
    }
}

/// The text of the N-th value, as `flow.py` makes it.
pub(crate) fn text(prefix: &str, n: u64) -> String {
    format!("{prefix}-{n} w{} v{}", n % 101, n % 7)
}

/// N of a value.
#[track_caller]
pub(crate) fn number_of(value: &str) -> u64 {
    let name = value.split(' ').next().unwrap_or_default();
    let number = name.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
    number.expect("a value that the feed made")
}

/// `flow.py WHAT BOOTSTRAP TOPIC MORE...`
pub(crate) fn flow(what: &str, bootstrap: &str, topic: &str, more: &[&str]) -> Vec<String> {
    let mut command = script(FLOW).expect("asked before");
    command.args([what, bootstrap, topic]).args(more);
    lines(command)
}

/// Every committed record of a topic, by partition and offset.
pub(crate) fn dump(bootstrap: &str, topic: &str) -> Vec<Found> {
    flow("dump", bootstrap, topic, &[])
        .iter()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, '\t').collect();
            Found {
                partition: fields[0].parse().unwrap(),
                offset: fields[1].parse().unwrap(),
                key: fields[2].to_owned(),
                value: fields[3].to_owned(),
            }
        })
        .collect()
}

/// No last stable offset stays below its high watermark, once open transactions have ended.
pub(crate) fn await_stable(bootstrap: &str, topic: &str) {
    await_true(
        &format!("no last stable offset of {topic} is stuck"),
        || {
            let mut command = script("clients/python/transactions.py").expect("asked before");
            command.args(["ends", bootstrap, topic]);
            lines(command).iter().all(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                words[1] == words[2]
            })
        },
    );
}

/// Lets a load run for its time and kills the holders of `roles` in turn, spread evenly over it. `alive` looks
/// whether everything that should run still does. Who died, and how long it took until all was well again.
pub(crate) fn run_with_kills(
    cluster: &Cluster,
    roles: &[Role],
    mut alive: impl FnMut(),
) -> Vec<(String, Duration)> {
    let start = Instant::now();
    let seconds = Duration::from_secs(seconds());
    let kills = (seconds.as_secs() / SECONDS_A_KILL).max(2);
    let mut died = Vec::new();
    for (kill, role) in (1..=kills).zip(roles.iter().cycle()) {
        let due = seconds * u32::try_from(kill).expect("few") / u32::try_from(kills + 1).unwrap();
        await_some_within(seconds + PATIENCE, "it is time to kill", || {
            alive();
            (start.elapsed() >= due).then_some(())
        });
        died.push(role.kill(cluster));
    }
    await_some_within(seconds + PATIENCE, "the load has run its time", || {
        alive();
        (start.elapsed() >= seconds).then_some(())
    });
    died
}

/// `3 kills (longest 2.1 s until all is Ready)`.
pub(crate) fn summary(died: &[(String, Duration)]) -> String {
    let longest = died.iter().map(|(_, took)| *took).max().unwrap_or_default();
    format!(
        "{} kills, longest {:.1} s until all is Ready",
        died.len(),
        longest.as_secs_f64()
    )
}

/// A topic's manifest for the quickstart's cluster.
pub(crate) fn topic(cluster: &Cluster, name: &str, partitions: i32) {
    let manifest = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {name}\nspec:\n  clusterRef:\n    \
         name: shop\n  partitions: {partitions}\n  replicationFactor: 3\n"
    );
    std::fs::write(cluster.manifests().join(format!("{name}.yaml")), manifest).expect("a file");
}

#[expect(
    clippy::print_stderr,
    reason = "measured figures belong into the test's output"
)]
pub(crate) fn report(text: &str) {
    eprintln!("REPORT {text}");
}
