//! Does an `up` that was killed at any instant leave something that the next one makes right?
//!
//! Rounds of two kinds take turns: the folder changes while nothing runs and `up` is killed while it starts, or the folder
//! changes while `up` runs and it is killed while it applies that. Then `up` runs again and must bring everything to what
//! the files say. `TIDEMARK_ROUNDS` asks for more rounds, `TIDEMARK_SEED` for other ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::client_programs::Client;
use tests::cluster::{Cluster, Foreground, await_some, await_true};

const ROUNDS: u64 = 5;
/// Instants are spread over this long after the beginning, half of them over its first tenth.
const SPREAD: u64 = 1_500;
/// Partitions grow to this at most: three brokers on a small machine.
const PARTITIONS: u64 = 9;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A topic's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    partitions: u64,
    /// `deletionPolicy: Delete`: the topic goes with its file.
    fleeting: bool,
}

/// Marsaglia's xorshift64: small, seeded, good enough to spread instants.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What the folder holds beside the quickstart.
#[derive(Default)]
struct Folder {
    topics: BTreeMap<&'static str, Topic>,
    /// Topics whose file went although their records stay; the same name later adopts them.
    kept: BTreeMap<&'static str, u64>,
}

impl Folder {
    /// One to four files change, each once: a new one, more partitions, or a removal.
    fn change(&mut self, cluster: &Cluster, dice: &mut Dice) {
        let first = dice.roll(NAMES.len() as u64);
        for step in 0..=dice.roll(4) {
            let at = (first + step) % NAMES.len() as u64;
            let name = NAMES[usize::try_from(at).expect("small")];
            let file = cluster.manifests().join(format!("{name}.yaml"));
            match self.topics.get_mut(name) {
                Some(_) if dice.roll(3) == 0 => {
                    let topic = self.topics.remove(name).expect("seen above");
                    if !topic.fleeting {
                        self.kept.insert(name, topic.partitions);
                    }
                    std::fs::remove_file(&file).expect("the file was written");
                    continue;
                }
                Some(topic) => topic.partitions = (topic.partitions + 1).min(PARTITIONS),
                None => {
                    // Fewer than what is there would be refused, rightly.
                    let least = self.kept.remove(name).unwrap_or(1);
                    let topic = Topic {
                        partitions: least,
                        fleeting: dice.roll(2) == 0,
                    };
                    self.topics.insert(name, topic);
                }
            }
            std::fs::write(&file, manifest(name, &self.topics[name])).expect("a file");
        }
    }

    /// Everything is Ready, the objects are those of the files, and the topics are as the files say.
    fn is_true(&self, cluster: &Cluster, up: &Foreground) -> Option<()> {
        let status = cluster.status()?;
        let names: Vec<&str> = status["objects"]
            .as_array()?
            .iter()
            .filter(|object| object["kind"] == "KafkaTopic")
            .filter_map(|object| object["name"].as_str())
            .collect();
        let mut wanted: Vec<&str> = self.topics.keys().copied().chain(["orders"]).collect();
        wanted.sort_unstable();
        (status["pid"] == up.pid() && status["ready"] == true && names == wanted).then_some(())?;
        let listed = cluster.command(&["topics", "-o", "json"]).stdout;
        let listed: Value = serde_json::from_slice(&listed).ok()?;
        let partitions: BTreeMap<String, u64> = listed
            .as_array()?
            .iter()
            .filter_map(|topic| {
                let count = topic["partitions"].as_array()?.len() as u64;
                Some((topic["topic"].as_str()?.to_owned(), count))
            })
            .collect();
        let mut expected: BTreeMap<String, u64> = self
            .topics
            .iter()
            .map(|(name, topic)| ((*name).to_owned(), topic.partitions))
            .collect();
        expected.extend(self.kept.iter().map(|(name, n)| ((*name).to_owned(), *n)));
        expected.insert("orders".to_owned(), 6);
        (partitions == expected).then_some(())
    }
}

fn manifest(name: &str, topic: &Topic) -> String {
    let policy = if topic.fleeting { "Delete" } else { "Retain" };
    format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {name}\nspec:\n  clusterRef:\n    name: shop\n  \
         partitions: {}\n  replicationFactor: 3\n  deletionPolicy: {policy}\n",
        topic.partitions
    )
}

/// Waits for an instant, not for a condition: the instant is what the test is about.
fn at(instant: Instant) {
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    let left = instant.saturating_duration_since(Instant::now());
    assert!(never.recv_timeout(left).is_err(), "nothing is ever sent");
}

fn instant(dice: &mut Dice) -> Duration {
    let spread = if dice.roll(2) == 0 {
        SPREAD / 10
    } else {
        SPREAD
    };
    Duration::from_micros(dice.roll(spread * 1_000))
}

#[test]
fn an_up_killed_at_any_instant_of_an_apply_leaves_nothing_torn() {
    let seed = number("TIDEMARK_SEED", 7);
    let rounds = number("TIDEMARK_ROUNDS", ROUNDS);
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let cluster = Cluster::prepare("examples/quickstart");
    let mut folder = Folder::default();
    let mut up = cluster.foreground(&[]);
    await_some("the first start", || folder.is_true(&cluster, &up));
    let produced = Client::Kcat
        .produce(&cluster.bootstrap(), "orders", "kept", 0, 100)
        .expect("kcat runs");
    assert!(produced.status.success());
    for round in 0..rounds {
        let starting = round % 2 == 0;
        if starting {
            up.signal("KILL");
            up.wait();
            folder.change(&cluster, &mut dice);
            up = cluster.foreground(&[]);
        } else {
            folder.change(&cluster, &mut dice);
        }
        let after = instant(&mut dice);
        at(Instant::now() + after);
        up.signal("KILL");
        up.wait();
        let again = Instant::now();
        up = cluster.foreground(&[]);
        let what = format!(
            "round {round} of seed {seed} converges: killed {after:?} after {}; want {:?}\n{}",
            if starting { "a start" } else { "an edit" },
            folder.topics,
            up.output()
        );
        await_some(&what, || folder.is_true(&cluster, &up));
        crate::faults::report(&format!(
            "round {round}: killed {:.3} s after {}, right again after {:.1} s",
            after.as_secs_f64(),
            if starting { "a start" } else { "an edit" },
            again.elapsed().as_secs_f64()
        ));
    }
    let consumed = Client::Kcat
        .consume(&cluster.bootstrap(), "orders", "after", 100)
        .expect("kcat runs");
    let lines = String::from_utf8_lossy(&consumed.stdout).lines().count();
    assert_eq!(lines, 100);
    up.signal("TERM");
    assert!(up.wait().success(), "{}", up.output());
    await_true("the lock is free", || cluster.status().is_none());
}
