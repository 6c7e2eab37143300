//! Does the metadata quorum go on when its active controller dies, and never listen to a wiped disk?

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::client_programs::python;
use tests::cluster::{Cluster, Pod, await_some, await_true};
use tests::quorum::{Member, View, view};
use tests::{disk, root, skipped};

use crate::faults::{assert_exactly_once_in_order, everything, report, steady};

/// How often the active controller is killed; `TIDEMARK_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("TIDEMARK_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4)
}

/// A client that creates topics, each until it is there.
struct Creator {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Creator {
    /// `None` when there is no Python client.
    fn start(cluster: &Cluster) -> Option<Self> {
        Some(Self::with(&python()?, cluster))
    }

    fn with(python: &Path, cluster: &Cluster) -> Self {
        let mut child = Command::new(python)
            .arg(root().join("tests/clients/python/confluent_client.py"))
            .args(["create_on_line", &cluster.bootstrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let ask = child.stdin.take().expect("piped");
        let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(answers.next().expect("a line").expect("text"), "ready");
        Self {
            child,
            ask,
            answers,
        }
    }

    /// The seconds that it took.
    fn create(&mut self, topic: &str) -> f64 {
        writeln!(self.ask, "{topic}").expect("the client listens");
        let answer = self.answers.next().expect("a line").expect("text");
        answer.parse().expect("seconds")
    }

    fn finish(mut self) {
        drop(self.ask);
        assert!(self.child.wait().expect("it ends").success());
    }
}

fn await_another_process(cluster: &Cluster, before: &Pod) {
    await_some("the killed pod runs again", || {
        let now = cluster.pod(&before.name);
        (now.ready && now.pid.is_some() && now.pid != before.pid).then_some(())
    });
    cluster.await_ready();
}

/// A pod that is killed again and again is restarted later and later, as a kubelet does; a new cluster starts anew.
const ROUNDS_OF_A_CLUSTER: usize = 5;

/// How long create-topic took after each kill, in seconds; `None` when there is no Python client.
fn kill_active_controllers(times: usize) -> Option<Vec<f64>> {
    let cluster = Cluster::up("examples/quickstart");
    let mut creator = Creator::start(&cluster)?;
    let mut taken = Vec::new();
    for round in 0..times {
        let controller = await_some("one broker is the active controller", || {
            cluster.active_controller()
        });
        cluster.signal(&controller.name, "KILL");
        taken.push(creator.create(&format!("after-kill-{round}")));
        await_another_process(&cluster, &controller);
    }
    creator.finish();
    Some(taken)
}

#[test]
fn topics_are_created_again_after_killing_the_active_controller() {
    const LIMIT: f64 = 2.0;
    let mut taken = Vec::new();
    while taken.len() < rounds() {
        let more = (rounds() - taken.len()).min(ROUNDS_OF_A_CLUSTER);
        let Some(seconds) = kill_active_controllers(more) else {
            return skipped(
                "kill -9 of the active controller",
                "the Python clients: run tests/platform/setup",
            );
        };
        taken.extend(seconds);
    }
    taken.sort_by(f64::total_cmp);
    report(&format!(
        "kill -9 of the active controller, {} rounds: create-topic after {taken:.3?} s",
        taken.len()
    ));
    assert!(
        taken.last().is_some_and(|worst| *worst < LIMIT),
        "create-topic took {taken:?} s"
    );
}

/// What a broker that answers knows, once `reached` is true of it.
fn await_view(cluster: &Cluster, what: &str, reached: impl Fn(&View) -> bool) -> View {
    await_some(what, || {
        let mut views = cluster
            .pods()
            .into_iter()
            .filter_map(|pod| view(cluster, &pod));
        views.find(&reached)
    })
}

fn voters(view: &View) -> Vec<Member> {
    let members = view.members.iter().copied();
    members.filter(|member| member.is_voter).collect()
}

/// The data directory of a pod's broker.
fn data_dir(cluster: &Cluster, pod: &Pod) -> PathBuf {
    let mut dirs = disk::data_dirs(&cluster.data_dir()).into_iter();
    let is_its = |dir: &PathBuf| dir.to_string_lossy().contains(&pod.name);
    dirs.find(is_its).expect("the pod has a data directory")
}

/// Empties the disk of a running broker and kills it. It is frozen meanwhile, so that it cannot write into what is
/// left, nor its successor come too early.
fn wipe(cluster: &Cluster, pod: &Pod) {
    let dir = data_dir(cluster, pod);
    cluster.signal(&pod.name, "STOP");
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    cluster.signal(&pod.name, "KILL");
}

/// Node ids are those of the quorum, pods have names: by the gRPC address they are the same.
fn controller_first(cluster: &Cluster) -> Vec<Pod> {
    let active = await_some("one broker is the active controller", || {
        cluster.active_controller()
    });
    let mut pods = cluster.pods();
    pods.sort_by_key(|pod| pod.name != active.name);
    pods
}

/// Wipes the disk of a voter and waits until a new one votes in its place; the Raft id of the old one.
fn wipe_one(cluster: &Cluster, pod: &Pod, create: &mut impl FnMut(String)) -> Vec<u64> {
    let uuid = || {
        let file = data_dir(cluster, pod).join("metadata/node.uuid");
        std::fs::read_to_string(file).unwrap()
    };
    let before = await_view(cluster, "every partition has all its replicas", |view| {
        voters(view).len() == 3 && view.under_replicated == 0 && view.fenced.is_empty()
    });
    let old_uuid = uuid();
    wipe(cluster, pod);
    create(format!("while-{}-is-away", pod.name));
    await_another_process(cluster, pod);
    let after = await_view(
        cluster,
        "the new disk has a vote and the old one none",
        |view| {
            let now = voters(view);
            let gone = voters(&before).into_iter().filter(|old| !now.contains(old));
            now.len() == 3 && view.members.len() == 3 && gone.count() == 1
        },
    );
    assert_ne!(uuid(), old_uuid);
    voters(&before)
        .into_iter()
        .filter(|old| !voters(&after).contains(old))
        .map(|member| member.raft_id)
        .collect()
}

#[test]
fn wiped_voters_come_back_as_others_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::up("examples/quickstart");
    let Some(mut creator) = Creator::start(&cluster) else {
        return skipped(
            "a wiped voter's disk",
            "the Python clients: run tests/platform/setup",
        );
    };
    let load = steady(&cluster, 500, 10).expect("it was there before");
    let mut created = vec!["orders".to_owned()];
    let mut create = |name: String| {
        creator.create(&name);
        created.push(name);
    };
    create("before".to_owned());
    let first = await_view(&cluster, "there are three voters", |view| {
        voters(view).len() == 3
    });
    let mut wiped_ids = Vec::new();
    // One after the other, until no disk is left of those that the cluster began with.
    for pod in controller_first(&cluster) {
        let gone = wipe_one(&cluster, &pod, &mut create);
        wiped_ids.extend(gone);
        let taken_in = logged(&cluster, "taking a new disk into the quorum");
        let has_vote = logged(&cluster, "the new disk has a vote");
        assert!(
            taken_in >= wiped_ids.len() && has_vote >= wiped_ids.len(),
            "a learner first: {taken_in}, then a voter: {has_vote}"
        );
    }
    let last = await_view(&cluster, "every partition has all its replicas", |view| {
        view.under_replicated == 0 && view.fenced.is_empty() && voters(view).len() == 3
    });
    let first: Vec<u64> = voters(&first).iter().map(|member| member.raft_id).collect();
    wiped_ids.sort_unstable();
    let mut expected = first.clone();
    expected.sort_unstable();
    assert_eq!(wiped_ids, expected, "each voter was wiped once");
    assert!(
        last.members
            .iter()
            .all(|member| !first.contains(&member.raft_id)),
        "a wiped disk is still a member: {last:?}"
    );
    // The new votes count: with one of them away there is a majority, without the old ones.
    let away = controller_first(&cluster).remove(0);
    cluster.signal(&away.name, "KILL");
    create("by-new-voters".to_owned());
    await_another_process(&cluster, &away);
    creator.finish();
    let known = topics(&cluster);
    let lost: Vec<_> = created
        .iter()
        .filter(|name| !known.contains_key(*name))
        .collect();
    assert!(lost.is_empty(), "acknowledged topics are lost: {lost:?}");
    let (acked, _) = load.finish();
    assert_exactly_once_in_order(&acked, &everything(&cluster));
    report(&format!(
        "every voter's disk wiped once: {} topics and {} records acknowledged, none lost",
        created.len(),
        acked.len()
    ));
}

/// In how many lines of the brokers' logs `text` is.
fn logged(cluster: &Cluster, text: &str) -> usize {
    let logs = cluster.data_dir().join("logs");
    let files = std::fs::read_dir(logs).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default())
        .map(|log| log.lines().filter(|line| line.contains(text)).count())
        .sum()
}

/// The topics as the brokers describe them, by name.
fn topics(cluster: &Cluster) -> std::collections::BTreeMap<String, Value> {
    let output = cluster.command(&["topics", "-o", "json"]);
    let topics: Value = serde_json::from_slice(&output.stdout).expect("topics as JSON");
    let topics = topics.as_array().expect("a list").iter();
    topics
        .map(|topic| {
            let name = topic["topic"].as_str().expect("a name").to_owned();
            (name, topic.clone())
        })
        .collect()
}

#[test]
fn a_broker_that_is_frozen_for_a_second_is_fenced_by_nobody() {
    const FROZEN: Duration = Duration::from_secs(1);
    let cluster = Cluster::up("examples/quickstart");
    for pod in controller_first(&cluster) {
        let before = topics(&cluster);
        cluster.signal(&pod.name, "STOP");
        let frozen = Instant::now();
        let mut thawed = false;
        let (mut fenced, mut answers) = (Vec::new(), 0);
        // What the others think meanwhile, and for a session's time afterwards.
        await_true("the broker is back for a while", || {
            if frozen.elapsed() >= FROZEN && !thawed {
                cluster.signal(&pod.name, "CONT");
                thawed = true;
            }
            let others = cluster
                .pods()
                .into_iter()
                .filter(|other| other.name != pod.name);
            for view in others.filter_map(|other| view(&cluster, &other)) {
                answers += 1;
                fenced.extend(view.fenced);
            }
            frozen.elapsed() >= FROZEN + Duration::from_secs(4)
        });
        assert!(answers > 0, "nobody was asked about {}", pod.name);
        assert!(
            fenced.is_empty(),
            "{} was frozen: {fenced:?} fenced",
            pod.name
        );
        assert_eq!(topics(&cluster), before, "{} was frozen", pod.name);
        cluster.await_ready();
    }
}
