//! Is a produced batch taken or refused as Apache Kafka does it, however it is made?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use tests::apache_kafka::ApacheKafka;
use tests::cluster::{Cluster, await_true};
use tests::raw::Raw;
use tests::{root, skipped};
use types::batch::set_producer;
use types::{Compression, ErrorCode, HEADER_LEN, ProducerEpoch, ProducerId};

/// The topics that each batch is sent to, and what is set in them.
const TOPICS: &[(&str, &[(&str, &str)])] = &[
    ("plain", &[]),
    ("compacted", &[("cleanup.policy", "compact")]),
    ("stamped", &[("message.timestamp.type", "LogAppendTime")]),
    ("packed", &[("compression.type", "lz4")]),
];
const TEN_DAYS_MS: i64 = 10 * 86_400_000;
/// The attribute of a batch whose times the broker set.
const LOG_APPEND_TIME: i16 = 8;

const DOCUMENT: &str = "docs/operating/differences-from-kafka.md";
const LENGTHS: &str = "with a length below -1";
const DECOMPRESS: &str = "whose records do not decompress";
const OFFSETS: &str = "offsets inside a produced batch";
const TYPE: &str = "a producer that sets the timestamp type";
const SEVERAL: &str = "several records of a batch that are to blame";
const CODEC: &str = "a codec that does not exist";
/// Batches that are answered in another way, and the words that explain it in this document.
const EXPLAINED: &[(&str, &str)] = &[
    ("a key of length -4", LENGTHS),
    ("a key of length -4, gzip", LENGTHS),
    ("offsets 0 and 0", OFFSETS),
    ("offsets 0 and 0, gzip", OFFSETS),
    ("offsets 1 and 0", OFFSETS),
    ("noise as gzip", DECOMPRESS),
    ("noise as snappy", DECOMPRESS),
    ("noise as lz4", DECOMPRESS),
    ("noise as zstd", DECOMPRESS),
    ("half a gzip stream", DECOMPRESS),
    ("the timestamp type LogAppendTime", TYPE),
    ("codec 6", CODEC),
    ("two records without a key", SEVERAL),
];

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("below 0x80"));
}

fn bytes(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = value.map_or(-1, |value| i64::try_from(value.len()).expect("short"));
    varint(length, out);
    out.extend_from_slice(value.unwrap_or_default());
}

/// One record: what is in it, and bytes that do not belong there.
#[derive(Clone, Copy)]
struct Record<'a> {
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    headers: &'a [u8],
    after: &'a [u8],
}

const RECORD: Record<'_> = Record {
    offset: 0,
    timestamp: 0,
    key: Some(b"k"),
    headers: &[0],
    after: &[],
};

impl Record<'_> {
    fn encoded(self) -> Vec<u8> {
        let mut body = vec![0];
        varint(self.timestamp, &mut body);
        varint(self.offset, &mut body);
        bytes(self.key, &mut body);
        bytes(Some(b"v"), &mut body);
        body.extend_from_slice(self.headers);
        body.extend_from_slice(self.after);
        let mut out = Vec::new();
        varint(i64::try_from(body.len()).expect("short"), &mut out);
        out.extend_from_slice(&body);
        out
    }
}

/// `RECORD`s at these offsets.
fn at(offsets: &[i64]) -> Vec<u8> {
    let records = offsets.iter().map(|offset| Record {
        offset: *offset,
        ..RECORD
    });
    records.flat_map(Record::encoded).collect()
}

fn packed(codec: Compression, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    types::compression::compress(codec, records, &mut out).expect("memory takes it");
    out
}

/// A batch whose header says `count` records of codec and flags `attributes`, from now on.
struct Batch {
    count: i32,
    attributes: i16,
    last_offset: i32,
    newest_after: i64,
}

impl Batch {
    fn of(count: i32) -> Self {
        Self {
            count,
            attributes: 0,
            last_offset: count - 1,
            newest_after: 0,
        }
    }

    fn gzip(count: i32) -> Self {
        Self {
            attributes: Compression::Gzip as i16,
            ..Self::of(count)
        }
    }

    fn with(&self, records: &[u8]) -> Vec<u8> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970");
        let now = i64::try_from(now.as_millis()).expect("it is before the year 292 million");
        let length = i32::try_from(HEADER_LEN - 12 + records.len()).expect("short");
        let mut out = 0_i64.to_be_bytes().to_vec();
        out.extend(length.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
        out.push(2);
        out.extend(0_u32.to_be_bytes());
        out.extend(self.attributes.to_be_bytes());
        out.extend(self.last_offset.to_be_bytes());
        out.extend(now.to_be_bytes());
        out.extend((now + self.newest_after).to_be_bytes());
        out.extend([0xff; 14]);
        out.extend(self.count.to_be_bytes());
        assert_eq!(out.len(), HEADER_LEN);
        out.extend_from_slice(records);
        // Seals it: the checksum is over all of this.
        set_producer(&mut out, ProducerId(-1), ProducerEpoch(-1), -1);
        out
    }
}

type Named = (&'static str, Vec<u8>);

/// All batches, by what is special about them.
fn batches() -> Vec<Named> {
    let mut all = malformed();
    all.extend(miscounted());
    all.extend(undecodable());
    all.extend(unwanted());
    all
}

/// Records that are no records, and batches that are right.
fn malformed() -> Vec<Named> {
    let two = at(&[0, 1]);
    let one = |record: Record<'_>| Batch::of(1).with(&record.encoded());
    let negative = [RECORD.encoded(), b"\x0e\0\0\x02\x03\x02v\0".to_vec()].concat();
    let negative_packed = Batch::gzip(2).with(&packed(Compression::Gzip, &negative));
    let headers = |headers| one(Record { headers, ..RECORD });
    let longer = one(Record {
        after: b"zz",
        ..RECORD
    });
    vec![
        ("nothing", Batch::of(2).with(&two)),
        (
            "nothing, gzip",
            Batch::gzip(2).with(&packed(Compression::Gzip, &two)),
        ),
        (
            "a value cut short",
            Batch::of(2).with(&two[..two.len() - 2]),
        ),
        ("a key of length -4", Batch::of(2).with(&negative)),
        ("a key of length -4, gzip", negative_packed),
        ("a header without a key", headers(&[2, 1, 1])),
        ("more headers than there are", headers(&[6])),
        ("a record longer than its fields", longer),
    ]
}

/// Too few or too many records, and offsets that are not 0, 1, 2, ...
fn miscounted() -> Vec<Named> {
    let two = at(&[0, 1]);
    let more = [at(&[0]), vec![1, 2, 3]].concat();
    let gzip = |count, offsets| Batch::gzip(count).with(&packed(Compression::Gzip, offsets));
    let gap = Batch {
        last_offset: 5,
        ..Batch::of(2)
    };
    vec![
        ("fewer records than it says", Batch::of(2).with(&at(&[0]))),
        ("bytes after its records", Batch::of(1).with(&more)),
        ("a record after its records", Batch::of(1).with(&two)),
        ("a record after its records, gzip", gzip(1, &two)),
        ("offsets 0 and 0", Batch::of(2).with(&at(&[0, 0]))),
        ("offsets 0 and 0, gzip", gzip(2, &at(&[0, 0]))),
        ("offsets 1 and 0", Batch::of(2).with(&at(&[1, 0]))),
        ("offsets 0 and 5", gap.with(&at(&[0, 5]))),
    ]
}

fn attributes(attributes: i16) -> Batch {
    Batch {
        attributes,
        ..Batch::of(1)
    }
}

/// What no codec makes records of.
fn undecodable() -> Vec<Named> {
    let noise = [0xa5; 40];
    let half = packed(Compression::Gzip, &at(&[0, 1]));
    vec![
        ("noise as gzip", attributes(1).with(&noise)),
        ("noise as snappy", attributes(2).with(&noise)),
        ("noise as lz4", attributes(3).with(&noise)),
        ("noise as zstd", attributes(4).with(&noise)),
        ("codec 6", attributes(6).with(&at(&[0]))),
        (
            "half a gzip stream",
            Batch::gzip(2).with(&half[..half.len() - 9]),
        ),
    ]
}

/// Times and keys that a topic may not take.
fn unwanted() -> Vec<Named> {
    let late = Record {
        offset: 1,
        timestamp: TEN_DAYS_MS,
        ..RECORD
    };
    let far = [RECORD.encoded(), late.encoded()].concat();
    let far_packed = Batch::gzip(2).with(&packed(Compression::Gzip, &far));
    let keyless = |offset| {
        let record = Record {
            offset,
            key: None,
            ..RECORD
        };
        record.encoded()
    };
    let one_keyless = [RECORD.encoded(), keyless(1)].concat();
    let two_keyless = [RECORD.encoded(), keyless(1), keyless(2)].concat();
    let lying = Batch {
        newest_after: 12_345,
        ..Batch::of(1)
    };
    vec![
        ("a record of the far future", Batch::of(2).with(&far)),
        ("a record of the far future, gzip", far_packed),
        ("a newest time that no record has", lying.with(&at(&[0]))),
        (
            "the timestamp type LogAppendTime",
            attributes(LOG_APPEND_TIME).with(&at(&[0])),
        ),
        ("a record without a key", Batch::of(2).with(&one_keyless)),
        ("two records without a key", Batch::of(3).with(&two_keyless)),
    ]
}

const NONE: &str = "None";

/// The error, and which records are to blame.
type Answer = (String, Vec<i32>);

fn produce(raw: &mut Raw, topic: &str, batch: &[u8]) -> Answer {
    let partition = raw.produce((topic, 0), -1, batch.to_vec().into());
    let blamed = partition.record_errors.iter();
    let code = ErrorCode::from_code(partition.error_code);
    let code = code.map_or_else(
        || partition.error_code.to_string(),
        |code| format!("{code:?}"),
    );
    (code, blamed.map(|record| record.batch_index).collect())
}

/// What one broker answers to each batch in each topic.
fn answers(address: &str) -> BTreeMap<(&'static str, &'static str), Answer> {
    let mut raw = Raw::connect(address);
    for (topic, configs) in TOPICS {
        raw.create_topic(topic, configs);
    }
    let good = Batch::of(1).with(&at(&[0]));
    for (topic, _) in TOPICS {
        await_true(&format!("{address} leads {topic}"), || {
            produce(&mut raw, topic, &good).0 == NONE
        });
    }
    let mut found = BTreeMap::new();
    for (what, batch) in batches() {
        for (topic, _) in TOPICS {
            found.insert((what, *topic), produce(&mut raw, topic, &batch));
        }
    }
    found
}

#[test]
fn a_batch_is_taken_or_refused_as_apache_kafka_does_but_for_what_is_explained() {
    let Some(kafka) = ApacheKafka::start() else {
        return skipped(
            "malformed batches beside Apache Kafka",
            "java, or Apache Kafka's jars: run tests/platform/setup",
        );
    };
    let cluster = Cluster::up("examples/single-node");
    let (theirs, own) = (answers(&kafka.bootstrap()), answers(&cluster.bootstrap()));
    let none = (NONE.to_owned(), Vec::new());
    assert_eq!(own[&("nothing", "plain")], none);
    assert_eq!(own[&("nothing, gzip", "packed")], none);
    // Who is to blame may be told where Kafka tells of nobody.
    let differs = |place: &(&str, &str)| {
        let ((code, blamed), (own_code, own_blamed)) = (&theirs[place], &own[place]);
        code != own_code || (!blamed.is_empty() && blamed != own_blamed)
    };
    let found: BTreeMap<_, _> = theirs
        .keys()
        .filter(|place| differs(place))
        .map(|place| (*place, (&theirs[place], &own[place])))
        .collect();
    let explained: BTreeSet<&str> = EXPLAINED.iter().map(|(what, _)| *what).collect();
    let unexplained: Vec<_> = found
        .iter()
        .filter(|((what, _), _)| !explained.contains(what))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let document = std::fs::read_to_string(root().join(DOCUMENT)).expect("the document");
    for (what, words) in EXPLAINED {
        assert!(
            found.keys().any(|(batch, _)| batch == what),
            "{what} does not differ any more: strike it from the list"
        );
        assert!(document.contains(words), "{DOCUMENT} does not say: {words}");
    }
}
