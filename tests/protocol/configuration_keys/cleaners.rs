//! Which effect have the keys of the threads that compact logs?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::cluster::{await_some, await_true};
use types::BatchBuilder;

use super::Effect;
use super::brokers::{Brokers, Settings, TOPIC, holds_for};
use super::topics::{Topic, now_ms};

const THREADS: usize = 3;
/// A buffer to read and one to write for each thread.
const BUFFER: u64 = 4_096;
/// Bytes that are read and written in a second.
const RATE: f64 = 400_000.0;

pub(super) const SETTINGS: &Settings<'_> = &[
    ("log.cleaner.backoff.ms", "100"),
    // A megabyte for each thread, which is 43,690 entries...
    ("log.cleaner.dedupe.buffer.size", "3145728"),
    // ... of which 2,184 are used.
    ("log.cleaner.io.buffer.load.factor", "0.05"),
    ("log.cleaner.io.buffer.size", "24576"),
    ("log.cleaner.io.max.bytes.per.second", "400000"),
    ("log.cleaner.threads", "3"),
    ("log.retention.check.interval.ms", "100"),
];

/// One after another: they look at the same threads.
pub(super) const EFFECTS: &[Effect] = &[
    Effect {
        keys: &["log.cleaner.threads"],
        see: there_are_three_threads,
    },
    Effect {
        keys: &["log.cleaner.backoff.ms"],
        see: logs_are_looked_at_again_soon,
    },
    Effect {
        keys: &[
            "log.cleaner.dedupe.buffer.size",
            "log.cleaner.io.buffer.load.factor",
            "log.cleaner.io.buffer.size",
            "log.cleaner.io.max.bytes.per.second",
        ],
        see: a_log_of_many_keys_is_cleaned_in_steps_through_small_buffers_at_the_rate,
    },
];

#[test]
fn keys_of_the_cleaners_have_their_effect() {
    let brokers = Brokers::start(1, SETTINGS);
    for effect in EFFECTS {
        (effect.see)(&brokers);
    }
}

/// The folders of the broker's threads that compact.
fn threads(brokers: &Brokers) -> Vec<PathBuf> {
    let all = std::fs::read_dir(format!("/proc/{}/task", brokers.pid(0))).unwrap();
    let folders = all.filter_map(|one| one.ok().map(|one| one.path()));
    let cleans = |folder: &PathBuf| {
        let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        name.starts_with("log-cleaner")
    };
    folders.filter(cleans).collect()
}

fn there_are_three_threads(brokers: &Brokers) {
    assert_eq!(threads(brokers).len(), THREADS);
}

const COMPACTED: &Settings<'_> = &[
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.001"),
];

/// By default they look every 15 s, all at about the same time.
fn logs_are_looked_at_again_soon(brokers: &Brokers) {
    let since = || brokers.metric("kafka_log_logcleanermanager_time_since_last_run_ms");
    await_true("they have looked", || since() >= 0.0);
    assert!(holds_for(Duration::from_secs(6), || since() < 3_000.0));
}

/// How often the cleaners read, and how many bytes.
fn reads(brokers: &Brokers) -> [u64; 2] {
    let counter = |text: &str, name: &str| -> u64 {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        value.expect(name).trim().parse().expect("a number")
    };
    let io = threads(brokers).into_iter().map(|thread| {
        let text = std::fs::read_to_string(thread.join("io")).expect("the broker is ours");
        ["syscr:", "rchar:"].map(|name| counter(&text, name))
    });
    io.fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]])
}

fn a_log_of_many_keys_is_cleaned_in_steps_through_small_buffers_at_the_rate(brokers: &Brokers) {
    const KEYS: usize = 10_000;
    const BATCH: usize = 50;
    let mut topic = Topic::create(brokers, "large", COMPACTED, "");
    for first in (0..KEYS).step_by(BATCH) {
        let mut batch = BatchBuilder::new();
        for key in first..first + BATCH {
            let key = format!("key {key}");
            batch.push(now_ms(), Some(key.as_bytes()), Some(&[b'x'; 20]));
        }
        assert_eq!(topic.send_batch(batch).error_code, 0);
    }
    topic.put("last", "old");
    topic.put("last", "new");
    let count = |what: &str| brokers.metric(&format!("tidemark_log_cleaner_{what}_total"));
    let (runs, reads_before) = (count("runs"), reads(brokers));
    let before = count("bytes");
    // All of it is in one segment, which may be cleaned from now on.
    let rolled = brokers.alter((TOPIC, "large"), &[("segment.ms", Some("100"))]);
    assert_eq!(rolled, Ok(()));
    let begun = await_some("it is being cleaned", || {
        let bytes = count("bytes");
        (bytes > before).then(|| (bytes, Instant::now()))
    });
    await_true("the end of the log is clean", || {
        !topic.has("last", Some("old"))
    });
    let (bytes, seconds) = (count("bytes") - begun.0, begun.1.elapsed().as_secs_f64());
    let runs = count("runs") - runs;
    let [calls, read] = [0, 1].map(|at| reads(brokers)[at] - reads_before[at]);
    assert!(runs >= 4.0, "10,000 keys, 2,184 at once: {runs} runs");
    assert!(
        bytes / seconds < 1.1 * RATE && bytes > 2.0 * RATE,
        "{bytes} bytes in {seconds} s"
    );
    assert!(
        read > 1_000_000 && read / calls <= BUFFER,
        "{read} bytes in {calls} reads"
    );
}
