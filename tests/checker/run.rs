//! The run: load, faults one after another, everything healed, the history checked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::client_programs::python;
use tests::cluster::{PATIENCE, await_true};
use tests::skipped;

use crate::brokers::Brokers;
use crate::check::{Anomaly, check};
use crate::history;
use crate::nemesis::{Nemesis, Plan};
use crate::workload::Workload;

/// Enough for most kinds of faults once.
const SECONDS: u64 = 25;
/// Anomalies of a kind that are printed; all of them are in the report that is kept.
const SHOWN: usize = 3;

fn setting(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What was done and seen.
#[derive(Debug, Default)]
struct Report {
    faults: BTreeMap<Nemesis, usize>,
    /// What happened when, for people.
    log: String,
    /// What is wrong apart from the history: no recovery, a broker that ended by itself.
    troubles: Vec<String>,
}

/// Looks until it is true; not for longer than any condition may take.
fn comes_true(mut look: impl FnMut() -> bool) -> bool {
    let (start, mut is_true) = (Instant::now(), false);
    await_true("it is true, or it has taken too long", || {
        is_true = look();
        is_true || start.elapsed() + Duration::from_secs(5) > PATIENCE
    });
    is_true
}

impl Report {
    /// Waits until all brokers are ready and records are acknowledged again.
    fn await_healed(&mut self, brokers: &mut Brokers, workload: &mut Workload, after: &str) {
        let ready = comes_true(|| {
            brokers.watch();
            brokers.are_ready()
        });
        let acked = workload.acked();
        if !ready {
            self.troubles
                .push(format!("after {after}: not all brokers became ready"));
        } else if !comes_true(|| workload.acked() > acked) {
            self.troubles
                .push(format!("after {after}: nothing was acknowledged again"));
        }
    }

    /// One fault after another until the load ends.
    fn disturb(
        &mut self,
        brokers: &mut Brokers,
        workload: &mut Workload,
        (seconds, seed): (u64, u64),
    ) {
        let start = Instant::now();
        let longest = Duration::from_secs((seconds / 12).clamp(2, 10));
        let only = std::env::var("TIDEMARK_FAULTS").unwrap_or_default();
        let mut plan = Plan::new(seed, &only);
        // The last fault is healed before the load ends.
        let end = Duration::from_secs(seconds).saturating_sub(longest * 2);
        while start.elapsed() < end && self.troubles.is_empty() {
            let began = start.elapsed().as_secs_f64();
            let (nemesis, how) = plan.next(brokers, longest);
            let injected = start.elapsed().as_secs_f64();
            self.await_healed(brokers, workload, &format!("{nemesis:?}: {how}"));
            *self.faults.entry(nemesis).or_insert(0) += 1;
            let healed = start.elapsed().as_secs_f64();
            writeln!(
                self.log,
                "{began:8.1} {injected:8.1} {healed:8.1} {nemesis:?}: {how}"
            )
            .expect("text can be written");
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a run's report belongs into the test's output"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

fn summary(report: &Report, history: &[history::Event], anomalies: &[Anomaly]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for anomaly in anomalies {
        *kinds.entry(format!("{:?}", anomaly.kind)).or_insert(0) += 1;
    }
    format!(
        "operations {:?}, faults {:?} (all {}), longest time without an acknowledgement {:.1} s, anomalies {kinds:?}",
        history::counts(history),
        report.faults,
        report.faults.values().sum::<usize>(),
        history::longest_gap(history),
    )
}

/// What is printed of all that is wrong; a kind is what stands before the colon.
fn some_of_each_kind(wrong: &[String]) -> Vec<&str> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let shown = wrong.iter().filter(|text| {
        let kind = text.split(':').next().unwrap_or_default();
        let seen = seen.entry(kind).or_insert(0);
        *seen += 1;
        *seen <= SHOWN
    });
    shown.map(String::as_str).collect()
}

/// A run with its files in `folder`; the summary, and everything that is wrong.
fn run(python: &Path, folder: &Path, times: (u64, u64)) -> (String, Vec<String>) {
    let (mut brokers, missing) = Brokers::start(folder);
    for what in missing {
        skipped("faults of the checker", &what);
    }
    let mut report = Report::default();
    assert!(
        comes_true(|| brokers.are_ready()),
        "the brokers did not become ready"
    );
    let mut workload = Workload::start(python, &brokers, folder, times);
    assert!(
        comes_true(|| workload.acked() > 100),
        "nothing is acknowledged: {:?}",
        workload.finish()
    );
    report.disturb(&mut brokers, &mut workload, times);
    let ended = workload.finish();
    brokers.watch();
    let history = history::read(workload.history());
    let anomalies = check(&history);
    let summary = summary(&report, &history, &anomalies);
    let mut wrong = std::mem::take(&mut report.troubles);
    wrong.extend(ended);
    wrong.append(&mut brokers.died);
    if report.faults.is_empty() {
        wrong.push("no fault was injected".to_owned());
    }
    wrong.extend(anomalies.iter().map(ToString::to_string));
    let text = format!(
        "{summary}\n\n   began injected   healed\n{}\n{}\n",
        report.log,
        wrong.join("\n")
    );
    std::fs::write(folder.join("report.txt"), text).expect("a file");
    (summary, wrong)
}

#[test]
fn a_cluster_under_faults_shows_its_clients_no_anomaly() {
    let Some(python) = python() else {
        return skipped(
            "the checker",
            "the Python clients: run tests/platform/setup",
        );
    };
    let by_time = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 1_000_000;
    let (seconds, seed) = (
        setting("TIDEMARK_SECONDS", SECONDS),
        setting("TIDEMARK_SEED", by_time),
    );
    let mut folder = tempfile::Builder::new()
        .prefix("tidemark-checker-")
        .tempdir()
        .unwrap();
    // Kept unless all is well, whatever ends this test.
    folder.disable_cleanup(true);
    let again = format!("TIDEMARK_SEED={seed} TIDEMARK_SECONDS={seconds}");
    say(&format!(
        "checker: {again}, files in {}",
        folder.path().display()
    ));
    let (summary, wrong) = run(&python, folder.path(), (seconds, seed));
    say(&format!(
        "REPORT checker: seed {seed}, {seconds} s: {summary}"
    ));
    if wrong.is_empty() {
        folder.disable_cleanup(false);
        return;
    }
    let shown = some_of_each_kind(&wrong).join("\n  ");
    panic!(
        "{again}: {} things are wrong:\n  {shown}\n\
         the history, the brokers' logs and the report are kept in {}",
        wrong.len(),
        folder.path().display()
    );
}
