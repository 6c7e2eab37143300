//! What does the broker count, and how is it shown to Prometheus?
//!
//! Names and meanings are those of Kafka's own metrics as its Prometheus exporters show them. Label sets are bounded:
//! APIs by the table of handlers, partitions and groups by [`MAX_SERIES`] at each scrape, where they are read from the
//! live state, so that nothing deleted stays behind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use broker_core::cleaning::Setback;
use broker_core::group::GroupState;
use types::NodeId;
use wire::ApiKey;

use crate::broker::Broker;
use crate::kafka::dispatch::APIS;
use crate::replication::{CleanerStatus, Held, PartitionSnapshot, PeerTraffic};

/// Series of one metric with labels for partitions; more are dropped, and counted as dropped.
const MAX_SERIES: usize = 5_000;

/// Upper bounds of a request histogram's buckets, microseconds.
const BUCKETS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// Everything that is counted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    pub(crate) topics: Topics,
}

/// Requests by API.
#[derive(Debug)]
pub(crate) struct Requests {
    by_api: BTreeMap<i16, Times>,
}

/// How long requests of one API took.
#[derive(Debug, Default)]
struct Times {
    /// Until the answer was there.
    total: Histogram,
    /// Until the request first waited for something else (a follower, more records, another member).
    local: Histogram,
    /// From then on.
    remote: Histogram,
}

impl Default for Requests {
    fn default() -> Self {
        let by_api = APIS
            .iter()
            .map(|api| (api.key.as_i16(), Times::default()))
            .collect();
        Self { by_api }
    }
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Requests {
    /// A request was answered: `local` is the time until it first waited.
    pub(crate) fn observe(&self, api: ApiKey, local: Duration, total: Duration) {
        if let Some(times) = self.by_api.get(&api.as_i16()) {
            times.total.observe(total);
            times.local.observe(local);
            times.remote.observe(total.saturating_sub(local));
        }
    }

    fn render(&self, page: &mut Page) {
        type Part = fn(&Times) -> &Histogram;
        let parts: [(&str, &str, Part); 3] = [
            (
                "totaltimems",
                "Time from a request's start to its answer, ms",
                |t| &t.total,
            ),
            (
                "localtimems",
                "The part of it until the request first waited, ms",
                |t| &t.local,
            ),
            ("remotetimems", "The part of it from then on, ms", |t| {
                &t.remote
            }),
        ];
        for (name, help, part) in parts {
            let name = format!("kafka_network_requestmetrics_{name}");
            page.head(&name, "histogram", help);
            for api in APIS {
                if let Some(times) = self.by_api.get(&api.key.as_i16()) {
                    part(times).render(page, &name, api.key.name());
                }
            }
        }
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// The series of one API; none before its first request.
    fn render(&self, page: &mut Page, name: &str, request: &str) {
        let count = self.count.load(Relaxed);
        if count == 0 {
            return;
        }
        let mut below = 0;
        for (bound, bucket) in BUCKETS_US.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let ms = millis(*bound);
            page.line(format_args!(
                "{name}_bucket{{request=\"{request}\",le=\"{ms}\"}} {below}"
            ));
        }
        let sum = millis(self.sum_us.load(Relaxed));
        page.line(format_args!(
            "{name}_bucket{{request=\"{request}\",le=\"+Inf\"}} {count}"
        ));
        page.line(format_args!("{name}_sum{{request=\"{request}\"}} {sum}"));
        page.line(format_args!(
            "{name}_count{{request=\"{request}\"}} {count}"
        ));
    }
}

/// Bytes of records.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Topics {
    /// A client produced record bytes.
    pub(crate) fn produced(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// A client was given record bytes.
    pub(crate) fn fetched(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }
}

/// Microseconds as a decimal number of milliseconds.
fn millis(us: u64) -> String {
    let text = format!("{}.{:03}", us / 1000, us % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// State of the process that is not in the [`Broker`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessState {
    /// Open client connections.
    pub(crate) connections: usize,
    /// Whether this node is the active controller.
    pub(crate) is_active_controller: bool,
    /// Whether the broker may lead.
    pub(crate) unfenced: bool,
}

/// The page that Prometheus reads.
pub(crate) fn render(broker: &Broker, process: ProcessState) -> String {
    let mut page = Page::default();
    let snapshots = broker.replicas.snapshots();
    replicas(&mut page, &snapshots);
    cluster(&mut page, broker, process);
    traffic(&mut page, broker);
    replication(&mut page, broker);
    cleaner(&mut page, broker.replicas.cleaner_status());
    groups(&mut page, broker, &snapshots);
    broker.metrics.requests.render(&mut page);
    page.gauge(
        "tidemark_metrics_dropped_series",
        "Series left out of this page because there are too many",
        page.dropped,
    );
    page.text
}

fn replicas(page: &mut Page, snapshots: &[PartitionSnapshot]) {
    let count = |wanted: fn(&PartitionSnapshot) -> bool| {
        snapshots.iter().filter(|snapshot| wanted(snapshot)).count()
    };
    let manager = [
        ("partitioncount", "Replicas on this broker", snapshots.len()),
        (
            "leadercount",
            "Partitions that this broker leads",
            count(|s| s.is_leader),
        ),
        (
            "underreplicatedpartitions",
            "Led partitions with fewer replicas in sync than assigned",
            count(|s| s.under_replicated),
        ),
        (
            "underminisrpartitioncount",
            "Led partitions with fewer replicas in sync than min.insync.replicas",
            count(|s| s.under_min_isr),
        ),
        (
            "offlinereplicacount",
            "Replicas of partitions that have no leader",
            count(|s| s.leader.is_none()),
        ),
    ];
    for (name, help, value) in manager {
        page.gauge(&format!("kafka_server_replicamanager_{name}"), help, value);
    }
    type Value = fn(&PartitionSnapshot) -> String;
    let logs: [(&str, &str, Value); 4] = [
        ("logendoffset", "Offset after the last record", |s| {
            s.log_end_offset.to_string()
        }),
        ("logstartoffset", "First offset", |s| {
            s.log_start_offset.to_string()
        }),
        (
            "highwatermark",
            "Offset up to which records are committed",
            |s| s.high_watermark.to_string(),
        ),
        ("size", "Bytes", |s| s.size_bytes.to_string()),
    ];
    for (name, help, value) in logs {
        let name = format!("kafka_log_log_{name}");
        page.head(&name, "gauge", help);
        for snapshot in page.bounded(snapshots) {
            let topic = escape(&snapshot.partition.name);
            let partition = snapshot.partition.partition;
            let value = value(snapshot);
            page.line(format_args!(
                "{name}{{topic=\"{topic}\",partition=\"{partition}\"}} {value}"
            ));
        }
    }
}

fn cluster(page: &mut Page, broker: &Broker, process: ProcessState) {
    let image = broker.metadata.borrow().clone();
    let controller = "kafka_controller_kafkacontroller";
    let fenced = image.brokers().filter(|broker| broker.fenced).count();
    page.gauge(
        "kafka_controller_activecontrollercount",
        "1 on the active controller",
        u8::from(process.is_active_controller),
    );
    page.gauge(
        &format!("{controller}_fencedbrokercount"),
        "Registered brokers that are fenced",
        fenced,
    );
    page.gauge(
        &format!("{controller}_activebrokercount"),
        "Registered brokers that are not fenced",
        image.brokers().count() - fenced,
    );
    page.gauge(
        &format!("{controller}_globaltopiccount"),
        "Topics",
        image.topic_count(),
    );
    page.gauge(
        &format!("{controller}_globalpartitioncount"),
        "Partitions",
        image.partition_count(),
    );
    page.gauge(
        "kafka_server_metadata_applied_offset",
        "Offset of the metadata this broker has applied",
        image.offset(),
    );
    page.gauge(
        "tidemark_broker_unfenced",
        "1 while this broker may lead",
        u8::from(process.unfenced),
    );
    page.gauge(
        "kafka_server_socketservermetrics_connection_count",
        "Open client connections",
        process.connections,
    );
    page.gauge(
        "kafka_server_fetchsessioncache_numincrementalfetchsessions",
        "Fetch sessions",
        broker.fetch_sessions.count(),
    );
}

fn traffic(page: &mut Page, broker: &Broker) {
    let topics = &broker.metrics.topics;
    let counters = [
        (
            "bytesin",
            "Bytes of records that clients produced",
            &topics.bytes_in,
        ),
        (
            "bytesout",
            "Bytes of records that clients fetched",
            &topics.bytes_out,
        ),
    ];
    for (name, help, value) in counters {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        page.head(&name, "counter", help);
        page.line(format_args!("{name} {}", value.load(Relaxed)));
    }
}

/// What went over gRPC between this broker and each other one: as leader out, as follower in.
fn replication(page: &mut Page, broker: &Broker) {
    type Counter = fn(&PeerTraffic) -> &AtomicU64;
    let counters: [(&str, &str, Counter, Counter); 2] = [
        (
            "batch_bytes",
            "Bytes of record batches replicated over gRPC",
            |peer| &peer.batch_bytes_in,
            |peer| &peer.batch_bytes_out,
        ),
        (
            "frames",
            "Messages with batches or positions replicated over gRPC",
            |peer| &peer.frames_in,
            |peer| &peer.frames_out,
        ),
    ];
    let peers = broker.replicas.peer_traffic();
    for (name, help, incoming, outgoing) in counters {
        let name = format!("tidemark_replication_{name}_total");
        page.head(&name, "counter", help);
        for (node, peer) in &peers {
            for (direction, counter) in [("in", incoming(peer)), ("out", outgoing(peer))] {
                page.line(format_args!(
                    "{name}{{peer=\"{node}\",direction=\"{direction}\"}} {}",
                    counter.load(Relaxed)
                ));
            }
        }
    }
    let name = "tidemark_replication_throttled_bytes_total";
    page.head(
        name,
        "counter",
        "Bytes of record batches replicated under a throttle, sent as leader or received as follower",
    );
    let (leader, follower) = broker.replicas.throttled_bytes();
    for (role, bytes) in [("leader", leader), ("follower", follower)] {
        page.line(format_args!("{name}{{role=\"{role}\"}} {bytes}"));
    }
    awaited(page, &broker.replicas.awaited_replicas());
}

/// The replicas in sync that do not have everything. All is well while this is some milliseconds.
fn awaited(page: &mut Page, replicas: &BTreeMap<NodeId, Held>) {
    type Value = fn(&Held) -> i64;
    let gauges: [(&str, &str, Value); 2] = [
        (
            "awaited_ms",
            "Longest time that the high watermark of a led partition has waited for the peer, ms",
            |held| held.straggler.behind_ms,
        ),
        (
            "awaited_partitions",
            "Led partitions whose high watermark waits for the peer",
            |held| i64::try_from(held.partitions).unwrap_or(i64::MAX),
        ),
    ];
    for (name, help, value) in gauges {
        let name = format!("tidemark_replication_{name}");
        page.head(&name, "gauge", help);
        for (node, held) in replicas {
            page.line(format_args!("{name}{{peer=\"{node}\"}} {}", value(held)));
        }
    }
}

/// Log compaction.
fn cleaner(page: &mut Page, status: CleanerStatus) {
    // A thousandth of a millisecond to a millisecond is as one of a second to a second.
    let seconds = millis;
    let gauges = [
        (
            "manager_uncleanable_partitions_count",
            "Compacted logs that are not cleaned until the next start: damaged, or a cleaner panicked",
            status.uncleanable_partitions.to_string(),
        ),
        (
            "manager_uncleanable_bytes",
            "Bytes of those that were never cleaned",
            status.uncleanable_bytes.to_string(),
        ),
        (
            "manager_max_dirty_percent",
            "Share of the dirtiest log that was never cleaned",
            format!("{:.1}", status.max_dirty_percent),
        ),
        (
            "manager_time_since_last_run_ms",
            "Time since the cleaners last looked at the logs; -1 before the first time",
            status.since_last_run_ms.unwrap_or(-1).to_string(),
        ),
        (
            "_cleaner_recopy_percent",
            "How much of the logs the last cleanings kept",
            format!("{:.1}", status.recopy_percent),
        ),
        (
            "_max_clean_time_secs",
            "The longest of the last cleanings",
            seconds(status.max_clean_time_ms),
        ),
        (
            "_max_buffer_utilization_percent",
            "How full the fullest offset map of the last cleanings was",
            format!("{:.1}", status.max_buffer_utilization_percent),
        ),
        (
            "_max_compaction_delay_secs",
            "How far a record is beyond max.compaction.lag.ms",
            seconds(u64::try_from(status.max_compaction_delay_ms).unwrap_or(0)),
        ),
        (
            "_deadthreadcount",
            "Cleaner threads that ended by mistake",
            status.dead_threads.to_string(),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(&format!("kafka_log_logcleaner{name}"), help, value);
    }
    held_back(page, status);
    for (name, help, value) in [
        ("runs", "Cleanings of logs that were done", status.runs),
        (
            "bytes",
            "Bytes that were read and written to clean logs",
            status.bytes,
        ),
    ] {
        let name = format!("tidemark_log_cleaner_{name}_total");
        page.head(&name, "counter", help);
        page.line(format_args!("{name} {value}"));
    }
}

/// Logs that are not compacted, and why.
fn held_back(page: &mut Page, status: CleanerStatus) {
    const HELD_BACK: &str = "tidemark_log_cleaner_held_back_partitions";
    page.head(
        HELD_BACK,
        "gauge",
        "Compacted logs that were not cleaned when it was tried last, by reason; no_room, io_error and interrupted are tried again",
    );
    for (setback, count) in Setback::ALL.iter().zip(status.held_back_partitions) {
        let reason = setback.name();
        page.line(format_args!("{HELD_BACK}{{reason=\"{reason}\"}} {count}"));
    }
}

fn groups(page: &mut Page, broker: &Broker, snapshots: &[PartitionSnapshot]) {
    let survey = broker.groups.survey();
    const GROUPS: &str = "kafka_coordinator_group_groupmetadatamanager_numgroups";
    page.head(GROUPS, "gauge", "Groups coordinated here, by state");
    for state in GroupState::ALL {
        let count = survey.states.get(&state).copied().unwrap_or(0);
        page.line(format_args!("{GROUPS}{{state=\"{state}\"}} {count}"));
    }
    // The end is known for partitions with a replica here; the lag of others is shown by the brokers that have one.
    let ends: BTreeMap<(&str, i32), i64> = snapshots
        .iter()
        .map(|s| {
            (
                (&*s.partition.name, s.partition.partition),
                s.high_watermark.0,
            )
        })
        .collect();
    const OFFSET: &str = "kafka_consumergroup_current_offset";
    const LAG: &str = "kafka_consumergroup_lag";
    let mut lags = String::new();
    page.head(OFFSET, "gauge", "Committed offset of a group");
    for (group, partition, committed) in page.bounded(&survey.committed) {
        let labels = format!(
            "{{consumergroup=\"{}\",topic=\"{}\",partition=\"{}\"}}",
            escape(group),
            escape(&partition.topic),
            partition.partition
        );
        page.line(format_args!("{OFFSET}{labels} {committed}"));
        if let Some(end) = ends.get(&(&*partition.topic, partition.partition)) {
            let lag = (end - committed.0).max(0);
            // Writing to a string does not fail.
            let _ = writeln!(lags, "{LAG}{labels} {lag}");
        }
    }
    page.head(LAG, "gauge", "Records a group has not committed yet");
    page.text.push_str(&lags);
}

/// The text format of Prometheus, version 0.0.4.
#[derive(Debug, Default)]
struct Page {
    text: String,
    dropped: usize,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge", help);
        self.line(format_args!("{name} {value}"));
    }

    /// As many as may be shown.
    fn bounded<'a, T>(&mut self, all: &'a [T]) -> &'a [T] {
        self.dropped += all.len().saturating_sub(MAX_SERIES);
        &all[..all.len().min(MAX_SERIES)]
    }
}

/// A label value: backslash, quote and line feed are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_at_or_below_their_bound() {
        let requests = Requests::default();
        for us in [100, 101, 40_000_000] {
            let took = Duration::from_micros(us);
            requests.observe(ApiKey::Fetch, took, took);
        }
        let mut page = Page::default();
        requests.render(&mut page);
        for line in [
            "{request=\"Fetch\",le=\"0.1\"} 1",
            "{request=\"Fetch\",le=\"0.25\"} 2",
            "{request=\"Fetch\",le=\"30000\"} 2",
            "{request=\"Fetch\",le=\"+Inf\"} 3",
        ] {
            assert!(page.text.contains(line), "{line} in\n{}", page.text);
        }
        assert!(!page.text.contains("Produce"), "nothing happened there");
    }

    #[test]
    fn no_more_series_are_shown_than_the_limit_and_the_others_are_counted() {
        let mut page = Page::default();
        let many = vec![(); MAX_SERIES + 3];
        assert_eq!(page.bounded(&many).len(), MAX_SERIES);
        assert_eq!(page.bounded(&many[..7]).len(), 7);
        assert_eq!(page.dropped, 3);
    }

    #[test]
    fn label_values_cannot_break_out() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
