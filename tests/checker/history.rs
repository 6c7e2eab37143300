//! What did the clients do, and what were they told?
//!
//! The workload writes one JSON object a line, in the order in which its threads learnt of things. A value is
//! `INSTANCE-NUMBER`: a producer's instance numbers what it sends; a producer that had to be made anew is another instance.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Where a record lies.
pub(crate) type Place = (i32, i64);

/// How a transaction ended, as its producer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// No answer that says which.
    Unknown,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Send {
        value: String,
        partition: i32,
        txn: Option<String>,
    },
    /// Acknowledged; the offset is missing when the broker knew it to be there without saying where.
    Ack {
        value: String,
        partition: i32,
        offset: Option<i64>,
        seconds: f64,
    },
    /// Not acknowledged; `definite` when it certainly is not in the log.
    Fail {
        value: String,
        definite: bool,
    },
    End {
        txn: String,
        outcome: Outcome,
    },
    /// From here on a consumer reads from other positions: an assignment, a rebalance, a seek. Positions that are known.
    Session {
        consumer: String,
        positions: BTreeMap<i32, i64>,
    },
    Poll {
        consumer: String,
        records: Vec<(i32, i64, String)>,
    },
    /// A group's offsets were committed, at this time.
    Commit {
        offsets: BTreeMap<i32, i64>,
        seconds: f64,
    },
    /// A group's committed offsets, asked for at this time.
    Committed {
        offsets: BTreeMap<i32, i64>,
        seconds: f64,
    },
    /// Last stable offset and high watermark of each partition when all was healed and no producer ran.
    Ends {
        ends: BTreeMap<i32, (i64, i64)>,
    },
    /// How far a consumer came in the end. Those of one group share the partitions.
    Reached {
        group: String,
        positions: BTreeMap<i32, i64>,
    },
}

/// The reader that reads everything at the end.
pub(crate) const FINAL: &str = "final";

fn by_partition<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<BTreeMap<i32, T>> {
    let pairs = value.as_object()?.iter();
    pairs
        .map(|(partition, value)| Some((partition.parse().ok()?, read(value)?)))
        .collect()
}

fn partition(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

fn record(value: &Value) -> Option<(i32, i64, String)> {
    let text = value[2].as_str()?.to_owned();
    Some((partition(&value[0])?, value[1].as_i64()?, text))
}

/// One line of a history.
pub(crate) fn parse(line: &str) -> Option<Event> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    let seconds = || line["t"].as_f64();
    let offsets = |key: &str| by_partition(&line[key], Value::as_i64);
    Some(match line["type"].as_str()? {
        "send" => Event::Send {
            value: text("value")?,
            partition: partition(&line["partition"])?,
            txn: text("txn"),
        },
        "ack" => Event::Ack {
            value: text("value")?,
            partition: partition(&line["partition"])?,
            offset: line["offset"].as_i64().filter(|offset| *offset >= 0),
            seconds: seconds()?,
        },
        "fail" => Event::Fail {
            value: text("value")?,
            definite: line["definite"].as_bool()?,
        },
        "end" => Event::End {
            txn: text("txn")?,
            outcome: match line["outcome"].as_str()? {
                "committed" => Outcome::Committed,
                "aborted" => Outcome::Aborted,
                _ => Outcome::Unknown,
            },
        },
        "session" => Event::Session {
            consumer: text("consumer")?,
            positions: offsets("positions")?,
        },
        "poll" => Event::Poll {
            consumer: text("consumer")?,
            records: line["records"]
                .as_array()?
                .iter()
                .map(record)
                .collect::<Option<_>>()?,
        },
        "commit" => Event::Commit {
            offsets: offsets("offsets")?,
            seconds: seconds()?,
        },
        "committed" => Event::Committed {
            offsets: offsets("offsets")?,
            seconds: seconds()?,
        },
        "ends" => Event::Ends {
            ends: by_partition(&line["ends"], |pair| {
                Some((pair[0].as_i64()?, pair[1].as_i64()?))
            })?,
        },
        "reached" => Event::Reached {
            group: text("group")?,
            positions: offsets("positions")?,
        },
        _ => return None,
    })
}

/// What the workload says to people.
const NOTE: &str = "{\"type\":\"note\"";

/// The history in a file.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| !line.starts_with(NOTE))
        .map(|line| parse(line).unwrap_or_else(|| panic!("no event of a history: {line}")))
        .collect()
}

/// Operations by kind.
pub(crate) fn counts(history: &[Event]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for event in history {
        let (kind, by) = match event {
            Event::Send { .. } => ("sent", 1),
            Event::Ack { .. } => ("acked", 1),
            Event::Fail { .. } => ("not acked", 1),
            Event::End { outcome, .. } => match outcome {
                Outcome::Committed => ("transactions committed", 1),
                Outcome::Aborted => ("transactions aborted", 1),
                Outcome::Unknown => ("transactions unknown", 1),
            },
            Event::Session { .. } => ("sessions", 1),
            Event::Poll { records, .. } => ("polled", records.len()),
            Event::Commit { .. } => ("commits", 1),
            Event::Committed { .. } => ("commits looked up", 1),
            Event::Ends { .. } | Event::Reached { .. } => continue,
        };
        *counts.entry(kind).or_insert(0) += by;
    }
    counts
}

/// The longest time between two acknowledgements, in seconds.
pub(crate) fn longest_gap(history: &[Event]) -> f64 {
    let mut times: Vec<f64> = history
        .iter()
        .filter_map(|event| match event {
            Event::Ack { seconds, .. } => Some(*seconds),
            _ => None,
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.fold(0.0, f64::max)
}
