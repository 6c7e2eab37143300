//! Which effect has each key that a topic has of its own, or from its brokers?

use tests::cluster::{await_some_within, await_true};
use tests::raw::Raw;
use types::{BatchBuilder, BatchHeader, BatchIter, Compression, ErrorCode, Record, RecordIter};
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::produce_response::PartitionProduceResponse;
use wire::messages::{FetchRequest, ListOffsetsRequest};

use std::time::Duration;

use super::brokers::{ALL_BROKERS, BROKER, Brokers, FIRST, Settings, TOPIC};
use super::in_parallel;

/// A key of topics, and the broker key that gives its default.
pub(super) struct TopicKey {
    pub(super) name: &'static str,
    pub(super) of_brokers: &'static str,
    /// A value whose effect is not the default's.
    value: &'static str,
    /// What else a topic has of its own where that effect is seen.
    beside: &'static Settings<'static>,
    /// Waits for the effect on a topic.
    see: fn(&mut Topic<'_>),
}

/// Rolls segments soon, and compacts what is rolled.
const COMPACTED: &Settings<'_> = &[
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.0001"),
    ("segment.ms", "100"),
];
const ROLLED: &Settings<'_> = &[("segment.ms", "100")];

/// What is seen on one broker; the others need several.
pub(super) const TOPIC_KEYS: &[TopicKey] = &[
    TopicKey {
        name: "cleanup.policy",
        of_brokers: "log.cleanup.policy",
        value: "compact",
        beside: COMPACTED,
        see: older_values_go,
    },
    TopicKey {
        name: "compression.type",
        of_brokers: "compression.type",
        value: "gzip",
        beside: &[],
        see: batches_become_gzip,
    },
    TopicKey {
        name: "delete.retention.ms",
        of_brokers: "log.cleaner.delete.retention.ms",
        value: "0",
        beside: COMPACTED,
        see: tombstones_go,
    },
    TopicKey {
        name: "file.delete.delay.ms",
        of_brokers: "log.segment.delete.delay.ms",
        value: "50",
        beside: &[("retention.bytes", "1"), ("segment.ms", "100")],
        see: files_go_with_their_segment,
    },
    TopicKey {
        name: "index.interval.bytes",
        of_brokers: "log.index.interval.bytes",
        value: "0",
        beside: &[],
        see: every_batch_is_indexed,
    },
    TopicKey {
        name: "max.compaction.lag.ms",
        of_brokers: "log.cleaner.max.compaction.lag.ms",
        value: "500",
        beside: &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "1"),
        ],
        see: older_values_go,
    },
    TopicKey {
        name: "max.message.bytes",
        of_brokers: "message.max.bytes",
        value: "300",
        beside: &[],
        see: batches_of_more_than_300_bytes_are_refused,
    },
    TopicKey {
        name: "message.timestamp.after.max.ms",
        of_brokers: "log.message.timestamp.after.max.ms",
        value: "60000",
        beside: &[],
        see: records_of_in_half_an_hour_are_refused,
    },
    TopicKey {
        name: "message.timestamp.before.max.ms",
        of_brokers: "log.message.timestamp.before.max.ms",
        value: "60000",
        beside: &[],
        see: records_of_half_an_hour_ago_are_refused,
    },
    TopicKey {
        name: "message.timestamp.type",
        of_brokers: "log.message.timestamp.type",
        value: "LogAppendTime",
        beside: &[],
        see: the_broker_dates_records,
    },
    TopicKey {
        name: "min.cleanable.dirty.ratio",
        of_brokers: "log.cleaner.min.cleanable.ratio",
        value: "0.0001",
        beside: COMPACTED,
        see: a_log_that_is_hardly_dirty_is_cleaned,
    },
    TopicKey {
        name: "min.compaction.lag.ms",
        of_brokers: "log.cleaner.min.compaction.lag.ms",
        value: "3600000",
        beside: COMPACTED,
        see: older_values_stay_while_another_log_is_cleaned,
    },
    TopicKey {
        name: "retention.bytes",
        of_brokers: "log.retention.bytes",
        value: "1",
        beside: ROLLED,
        see: old_segments_go,
    },
    TopicKey {
        name: "retention.ms",
        of_brokers: "log.retention.ms",
        value: "60000",
        beside: &[],
        see: records_of_half_an_hour_ago_go,
    },
    TopicKey {
        name: "segment.bytes",
        of_brokers: "log.segment.bytes",
        value: "1048576",
        beside: &[],
        see: a_megabyte_more_begins_a_segment,
    },
    TopicKey {
        name: "segment.ms",
        of_brokers: "log.roll.ms",
        value: "100",
        beside: &[],
        see: segments_begin_by_themselves,
    },
];

/// What makes these effects visible soon.
const QUICK: &Settings<'_> = &[
    ("log.cleaner.backoff.ms", "100"),
    ("log.retention.check.interval.ms", "100"),
];

/// A minute and its multiples, in ms.
pub(super) const HALF_AN_HOUR: i64 = 30 * 60_000;

/// A topic of one partition, and a connection to its broker.
pub(super) struct Topic<'b> {
    pub(super) brokers: &'b Brokers,
    pub(super) name: String,
    raw: Raw,
}

pub(super) fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

/// Every key of topics with the value that it has when nobody sets it, so that nothing else than the key in question
/// makes a difference; but nothing is deleted by its age.
fn defaults() -> Vec<(&'static str, &'static str)> {
    let keys = config::topic_keys::EFFECTIVE.iter();
    let set = keys.filter_map(|key| Some((key.name, key.default.filter(|text| !text.is_empty())?)));
    let ageless = |(name, value)| (name, if name == "retention.ms" { "-1" } else { value });
    set.map(ageless).collect()
}

impl<'b> Topic<'b> {
    /// A topic that sets every key itself, with the values of `beside` where there are some, but not the key `without`.
    pub(super) fn create(
        brokers: &'b Brokers,
        name: &str,
        beside: &Settings<'_>,
        without: &str,
    ) -> Self {
        let own = |key: &str| beside.iter().find(|(name, _)| *name == key);
        let keys = defaults().into_iter();
        let keys = keys.map(|(key, value)| (key, own(key).map_or(value, |(_, own)| own)));
        let keys: Vec<_> = keys.filter(|(key, _)| *key != without).collect();
        let mut raw = brokers.raw();
        raw.create_topic(name, &keys);
        Self {
            brokers,
            name: name.to_owned(),
            raw,
        }
    }

    /// A topic that is there.
    pub(super) fn open(brokers: &'b Brokers, name: &str) -> Self {
        Self {
            brokers,
            name: name.to_owned(),
            raw: brokers.raw(),
        }
    }

    /// Produces one record.
    pub(super) fn send(
        &mut self,
        timestamp: i64,
        key: &str,
        value: Option<&[u8]>,
    ) -> PartitionProduceResponse {
        let mut batch = BatchBuilder::new();
        batch.push(timestamp, Some(key.as_bytes()), value);
        self.send_batch(batch)
    }

    pub(super) fn send_batch(&mut self, batch: BatchBuilder) -> PartitionProduceResponse {
        let batch = batch.build().expect("a batch");
        self.raw.produce((&self.name, 0), -1, batch)
    }

    /// Produces one record of now, which is taken.
    pub(super) fn put(&mut self, key: &str, value: &str) {
        let answer = self.send(now_ms(), key, Some(value.as_bytes()));
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }

    /// The first offset that is there.
    pub(super) fn start(&mut self) -> i64 {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: self.name.clone(),
                partitions: vec![ListOffsetsPartition {
                    timestamp: -2,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.raw.call(5, &request);
        answer.topics[0].partitions[0].offset
    }

    /// All batches, by as many fetches as it takes.
    pub(super) fn batches(&mut self) -> Vec<(BatchHeader, Vec<Record>)> {
        let mut found = Vec::new();
        let mut offset = self.start();
        loop {
            let bytes = fetch(&mut self.raw, &self.name, offset, 10_000_000);
            let before = found.len();
            for (header, batch) in BatchIter::new(&bytes).map_while(Result::ok) {
                let records = RecordIter::new(&bytes.slice_ref(batch), 1 << 24).expect("records");
                offset = header.next_offset().0;
                found.push((header, records.map(|one| one.expect("a record")).collect()));
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// The keys and values that are there.
    pub(super) fn pairs(&mut self) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = self.batches().into_iter().flat_map(|(_, records)| records);
        let pair = |one: Record| {
            let key = text(&one.key.expect("all have one"));
            (key, one.value.map(|value| text(&value)))
        };
        records.map(pair).collect()
    }

    pub(super) fn has(&mut self, key: &str, value: Option<&str>) -> bool {
        let mut pairs = self.pairs().into_iter();
        pairs.any(|(its, held)| its == key && held.as_deref() == value)
    }

    pub(super) fn await_gone(&mut self, key: &str, value: &str) {
        let what = format!("{key}={value} is gone from {}", self.name);
        await_true(&what, || !self.has(key, Some(value)));
    }

    /// Names and sizes of the log's files.
    fn files(&self) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(self.brokers.log_folder(0, &self.name)).unwrap();
        let entry = |entry: std::fs::DirEntry| {
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().to_string_lossy().into_owned(), size))
        };
        entries.filter_map(|one| entry(one.ok()?)).collect()
    }

    pub(super) fn segments(&self) -> usize {
        let files = self.files();
        files
            .iter()
            .filter(|(name, _)| name.ends_with(".log"))
            .count()
    }
}

/// What a fetch from `offset` on gives, without waiting.
pub(super) fn fetch(raw: &mut Raw, topic: &str, offset: i64, bytes: i32) -> bytes::Bytes {
    let request = FetchRequest {
        max_wait_ms: 0,
        max_bytes: bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut answer = raw.call(12, &request);
    let mut topic = answer.responses.remove(0);
    let partition = topic.partitions.remove(0);
    assert_eq!(partition.error_code, 0, "{topic:?}");
    partition
        .records
        .map(wire::Records::into_bytes)
        .unwrap_or_default()
}

fn older_values_go(topic: &mut Topic<'_>) {
    topic.put("k", "old");
    topic.put("k", "new");
    topic.await_gone("k", "old");
    assert!(topic.has("k", Some("new")), "{:?}", topic.pairs());
}

fn batches_become_gzip(topic: &mut Topic<'_>) {
    topic.put("k", "as it is");
    let (header, _) = topic.batches().remove(0);
    assert_eq!(header.compression(), Some(Compression::Gzip));
}

fn tombstones_go(topic: &mut Topic<'_>) {
    topic.put("gone", "old");
    topic.send(now_ms(), "gone", None);
    let mut count = 0;
    await_true("the tombstone is gone", || {
        // Only a log in which something is new is cleaned again.
        count += 1;
        topic.put(&format!("other {count}"), "");
        !topic.pairs().iter().any(|(key, _)| key == "gone")
    });
}

fn files_go_with_their_segment(topic: &mut Topic<'_>) {
    // Kafka's default is 60 s.
    let soon = Duration::from_secs(30);
    await_some_within(soon, "the files of the first segment are gone", || {
        topic.put("k", "v");
        let files = topic.files();
        let first = format!("{:020}.", 0);
        (!files.iter().any(|(name, _)| name.starts_with(&first))).then_some(())
    });
}

fn every_batch_is_indexed(topic: &mut Topic<'_>) {
    const BATCHES: u64 = 20;
    const ENTRY: u64 = 8;
    for _ in 0..BATCHES {
        topic.put("k", "v");
    }
    let files = topic.files();
    let (_, log) = files
        .iter()
        .find(|(name, _)| name.ends_with(".log"))
        .unwrap();
    assert!(*log < 4096, "no entry is due by default: {files:?}");
    // Entries are written when their segment ends.
    let rolled = topic
        .brokers
        .alter((TOPIC, &topic.name), &[("segment.ms", Some("100"))]);
    assert_eq!(rolled, Ok(()));
    await_true("nearly each batch has an entry", || {
        let files = topic.files();
        let mut index = files.iter().filter(|(name, _)| name.ends_with(".index"));
        index
            .next()
            .is_some_and(|(_, bytes)| *bytes >= (BATCHES - 1) * ENTRY)
    });
}

fn batches_of_more_than_300_bytes_are_refused(topic: &mut Topic<'_>) {
    topic.put("k", "short");
    let answer = topic.send(now_ms(), "k", Some(&[b'x'; 300]));
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code());
}

fn records_of_in_half_an_hour_are_refused(topic: &mut Topic<'_>) {
    topic.put("k", "now");
    let answer = topic.send(now_ms() + HALF_AN_HOUR, "k", None);
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
}

fn records_of_half_an_hour_ago_are_refused(topic: &mut Topic<'_>) {
    topic.put("k", "now");
    let answer = topic.send(now_ms() - HALF_AN_HOUR, "k", None);
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
}

fn the_broker_dates_records(topic: &mut Topic<'_>) {
    let answer = topic.send(now_ms() - HALF_AN_HOUR, "k", None);
    assert!(answer.log_append_time_ms > now_ms() - HALF_AN_HOUR);
    let (header, records) = topic.batches().remove(0);
    assert!(header.is_log_append_time());
    assert_eq!(records[0].timestamp, answer.log_append_time_ms);
}

fn a_log_that_is_hardly_dirty_is_cleaned(topic: &mut Topic<'_>) {
    // First all of it is dirty.
    topic.put("large", &"x".repeat(100_000));
    topic.put("k", "1");
    topic.put("k", "2");
    topic.await_gone("k", "1");
    // Then a thousandth of it or so.
    topic.put("k", "3");
    topic.await_gone("k", "2");
}

fn older_values_stay_while_another_log_is_cleaned(topic: &mut Topic<'_>) {
    topic.put("k", "old");
    topic.put("k", "new");
    let name = format!("{}-beside", topic.name);
    let mut other = Topic::create(topic.brokers, &name, COMPACTED, "");
    other.put("k", "1");
    other.put("k", "2");
    other.await_gone("k", "1");
    // The dirtiest log goes first: that would have been this one.
    other.put("k", "3");
    other.await_gone("k", "2");
    assert!(topic.has("k", Some("old")));
}

fn old_segments_go(topic: &mut Topic<'_>) {
    await_true("the log begins later", || {
        topic.put("k", "v");
        topic.start() > 0
    });
}

pub(super) fn records_of_half_an_hour_ago_go(topic: &mut Topic<'_>) {
    let answer = topic.send(now_ms() - HALF_AN_HOUR, "k", None);
    assert_eq!(answer.error_code, 0);
    await_true("the log begins later", || topic.start() > 0);
}

fn a_megabyte_more_begins_a_segment(topic: &mut Topic<'_>) {
    let half = "x".repeat(600_000);
    topic.put("k", &half);
    topic.put("k", &half);
    assert_eq!(topic.segments(), 2, "{:?}", topic.files());
}

fn segments_begin_by_themselves(topic: &mut Topic<'_>) {
    await_true("there is a second segment", || {
        topic.put("k", "v");
        topic.segments() > 1
    });
}

/// Sets a key on a topic, then for all brokers, then for one: each has its effect, also on a topic that is there.
fn see_at_each_place(brokers: &Brokers, key: &TopicKey) {
    let own = key.beside.iter().filter(|(name, _)| *name != key.name);
    let own: Vec<_> = own.copied().chain([(key.name, key.value)]).collect();
    let mut topic = Topic::create(brokers, &format!("{}-topic", key.name), &own, "");
    (key.see)(&mut topic);
    for (layer, place) in [(ALL_BROKERS, "all"), (FIRST, "one")] {
        let name = format!("{}-{place}", key.name);
        let mut topic = Topic::create(brokers, &name, key.beside, key.name);
        let set = brokers.alter((BROKER, layer), &[(key.of_brokers, Some(key.value))]);
        assert_eq!(set, Ok(()), "{}", key.of_brokers);
        brokers.await_value((TOPIC, &name), key.name, key.value);
        (key.see)(&mut topic);
        let back = brokers.alter((BROKER, layer), &[(key.of_brokers, None)]);
        assert_eq!(back, Ok(()), "{}", key.of_brokers);
    }
}

#[test]
fn each_key_of_a_topic_has_its_effect_set_on_the_topic_for_all_brokers_and_for_one() {
    let brokers = Brokers::start(1, QUICK);
    let keys = TOPIC_KEYS.iter();
    in_parallel(keys.map(|key| (key.name, || see_at_each_place(&brokers, key))));
}

#[test]
fn each_default_of_a_topic_key_has_its_effect_set_in_the_brokers_file() {
    let keys = TOPIC_KEYS.iter().map(|key| (key.of_brokers, key.value));
    let file: Vec<_> = keys.chain(QUICK.iter().copied()).collect();
    let brokers = Brokers::start(1, &file);
    let see = |key: &TopicKey| {
        let mut topic = Topic::create(&brokers, key.name, key.beside, key.name);
        (key.see)(&mut topic);
    };
    let keys = TOPIC_KEYS.iter();
    in_parallel(keys.map(|key| (key.of_brokers, move || see(key))));
}
