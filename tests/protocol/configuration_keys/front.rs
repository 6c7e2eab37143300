//! Which effect have the keys of connections, requests and new topics, and those of ages in large units?

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tests::cluster::await_true;
use types::ErrorCode;
use wire::encode_request;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::create_topics_response::CreatableTopicResult;
use wire::messages::delete_topics_request::DeleteTopicState;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest,
};

use super::brokers::{Brokers, Settings};
use super::topics::{Topic, fetch, now_ms, records_of_half_an_hour_ago_go};
use super::{Effect, see_all};

pub(super) const SETTINGS: &Settings<'_> = &[
    ("auto.create.topics.enable", "false"),
    ("connections.max.idle.ms", "1000"),
    ("default.replication.factor", "2"),
    ("delete.topic.enable", "false"),
    ("fetch.max.bytes", "1024"),
    ("log.retention.check.interval.ms", "100"),
    ("log.retention.minutes", "10"),
    ("max.incremental.fetch.session.cache.slots", "0"),
    ("num.partitions", "3"),
    ("socket.request.max.bytes", "20000"),
];

pub(super) const EFFECTS: &[Effect] = &[
    Effect {
        keys: &["auto.create.topics.enable"],
        see: no_topic_is_made_by_asking_for_it,
    },
    Effect {
        keys: &["connections.max.idle.ms"],
        see: idle_connections_are_closed,
    },
    Effect {
        keys: &["default.replication.factor"],
        see: topics_get_two_replicas_where_there_are_so_many_brokers,
    },
    Effect {
        keys: &["delete.topic.enable"],
        see: topics_are_not_deleted,
    },
    Effect {
        keys: &["fetch.max.bytes"],
        see: fetches_end_at_a_kilobyte,
    },
    Effect {
        keys: &["log.retention.check.interval.ms", "log.retention.minutes"],
        see: records_of_half_an_hour_ago_are_soon_gone,
    },
    Effect {
        keys: &["max.incremental.fetch.session.cache.slots"],
        see: there_are_no_fetch_sessions,
    },
    Effect {
        keys: &["num.partitions"],
        see: topics_get_three_partitions,
    },
    Effect {
        keys: &["socket.request.max.bytes"],
        see: larger_requests_are_not_read,
    },
];

pub(super) const CROWDED: &Settings<'_> = &[
    ("log.retention.check.interval.ms", "100"),
    ("log.roll.hours", "1"),
    ("max.connections", "5"),
    ("max.connections.per.ip", "3"),
];

/// One after another: the first needs all connections.
pub(super) const CROWDED_EFFECTS: &[Effect] = &[
    Effect {
        keys: &["max.connections", "max.connections.per.ip"],
        see: the_fourth_connection_of_an_address_and_the_sixth_of_all_are_closed,
    },
    Effect {
        keys: &["log.roll.hours"],
        see: a_segment_of_two_hours_ago_is_rolled,
    },
];

#[test]
fn keys_of_connections_requests_and_new_topics_have_their_effect() {
    see_all(&Brokers::start(1, SETTINGS), EFFECTS);
}

#[test]
fn connections_beyond_their_bounds_are_closed_and_a_segment_of_the_last_hour_but_one_is_rolled() {
    let brokers = Brokers::start(1, CROWDED);
    for effect in CROWDED_EFFECTS {
        (effect.see)(&brokers);
    }
}

fn no_topic_is_made_by_asking_for_it(brokers: &Brokers) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("asked-for".to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let answer = brokers.raw().call(9, &request);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(answer.topics[0].error_code, unknown);
}

fn idle_connections_are_closed(brokers: &Brokers) {
    // A read gives up after half a minute, the default is ten.
    assert!(brokers.raw().is_closed());
}

/// What is answered to the creation of a topic.
fn create(brokers: &Brokers, name: &str, replication_factor: i16) -> CreatableTopicResult {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    brokers.raw().call(7, &request).topics.remove(0)
}

fn topics_get_two_replicas_where_there_are_so_many_brokers(brokers: &Brokers) {
    let refused = create(brokers, "of-two", -1);
    let code = ErrorCode::InvalidReplicationFactor.code();
    assert_eq!(refused.error_code, code, "{refused:?}");
}

fn topics_get_three_partitions(brokers: &Brokers) {
    let created = create(brokers, "of-three", 1);
    assert_eq!((created.error_code, created.num_partitions), (0, 3));
}

fn topics_are_not_deleted(brokers: &Brokers) {
    assert_eq!(create(brokers, "to-stay", 1).error_code, 0);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some("to-stay".to_owned()),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let answer = brokers.raw().call(6, &request);
    let refused = ErrorCode::TopicDeletionDisabled.code();
    assert_eq!(answer.responses[0].error_code, refused);
}

fn fetches_end_at_a_kilobyte(brokers: &Brokers) {
    let mut topic = Topic::create(brokers, "fetched", &[], "");
    for _ in 0..10 {
        topic.put("k", &"x".repeat(300));
    }
    let given = fetch(&mut brokers.raw(), "fetched", 0, 1_000_000);
    assert!((300..=1024).contains(&given.len()), "{} bytes", given.len());
}

fn records_of_half_an_hour_ago_are_soon_gone(brokers: &Brokers) {
    records_of_half_an_hour_ago_go(&mut Topic::create(brokers, "aged", &[], "retention.ms"));
}

fn there_are_no_fetch_sessions(brokers: &Brokers) {
    drop(Topic::create(brokers, "without-session", &[], ""));
    // Asks for a session.
    let request = FetchRequest {
        session_epoch: 0,
        topics: vec![FetchTopic {
            topic: "without-session".to_owned(),
            partitions: vec![FetchPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = brokers.raw().call(12, &request);
    assert_eq!((answer.error_code, answer.session_id), (0, 0));
}

fn larger_requests_are_not_read(brokers: &Brokers) {
    for (bytes, is_answered) in [(19_000, true), (20_000, false)] {
        let request = FindCoordinatorRequest {
            key: "x".repeat(bytes),
            ..Default::default()
        };
        let chunks = encode_request(1, Some("tests"), 2, &request).unwrap();
        let mut raw = brokers.raw();
        // The broker may be gone before all of it is sent.
        let sent = raw.send_bytes(&chunks.concat());
        let answered = sent.and_then(|()| raw.receive());
        assert_eq!(answered.is_ok(), is_answered, "{bytes} bytes: {answered:?}");
    }
}

/// A connection to the broker from an address of the test's own.
fn connect_from(brokers: &Brokers, from: Ipv4Addr) -> TcpStream {
    let to: SocketAddr = brokers.address(0).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let connected = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(to).await?.into_std()
    });
    let stream = connected.expect("the broker listens");
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Whether the broker serves the connection rather than closes it.
fn is_served(stream: &mut TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // ApiVersions 0 without a client id.
    let frame = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    stream.write_all(&frame).is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

fn the_fourth_connection_of_an_address_and_the_sixth_of_all_are_closed(brokers: &Brokers) {
    let (here, there) = (Ipv4Addr::new(127, 1, 1, 1), Ipv4Addr::new(127, 1, 1, 2));
    let mut open: Vec<TcpStream> = Vec::new();
    for (from, served) in [
        (here, true),
        (here, true),
        (here, true),
        (here, false),
        (there, true),
        (there, true),
        (there, false),
    ] {
        let mut stream = connect_from(brokers, from);
        assert_eq!(
            is_served(&mut stream),
            served,
            "{from}, {} are open",
            open.len()
        );
        if served {
            open.push(stream);
        }
    }
    drop(open);
    await_true("the places are free again", || {
        is_served(&mut connect_from(brokers, here))
    });
}

/// As long as a broker runs, a segment's age is that of its first append; afterwards that of its first record.
fn a_segment_of_two_hours_ago_is_rolled(brokers: &Brokers) {
    const TWO_HOURS: i64 = 2 * 3_600_000;
    let mut topic = Topic::create(brokers, "rolled", &[], "segment.ms");
    let answer = topic.send(now_ms() - TWO_HOURS, "k", None);
    assert_eq!((answer.error_code, topic.segments()), (0, 1));
    drop(topic);
    brokers.restart(0);
    let again = Topic::open(brokers, "rolled");
    await_true("the segment is rolled", || again.segments() == 2);
}
