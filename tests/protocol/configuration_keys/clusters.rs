//! Which effect have the keys that need several brokers: replicas, leaders, sessions?

use std::time::{Duration, Instant};

use tests::cluster::{await_some, await_some_within, await_true};
use types::{BatchBuilder, ErrorCode};
use wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::metadata_response::MetadataResponsePartition;
use wire::messages::{AlterPartitionReassignmentsRequest, CreateTopicsRequest, MetadataRequest};

use super::brokers::{ALL_BROKERS, BROKER, Brokers, Settings, TOPIC, holds_for};
use super::coordinators::{commit, commit_once, coordinator};
use super::topics::now_ms;

/// Keys of topics whose effect is seen here.
pub(super) const TOPIC_KEYS: &[&str] = &[
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    MIN_ISR,
    UNCLEAN,
];
/// Keys of brokers whose effect is seen here when they change at run time.
pub(super) const DYNAMIC_KEYS: &[&str] = &[FOLLOWER_RATE, LEADER_RATE, MIN_ISR, UNCLEAN];

const MIN_ISR: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";
const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// Replication of topics, and how long a broker or a replica may be silent.
const PATIENT: &Settings<'_> = &[
    ("broker.session.timeout.ms", "60000"),
    ("default.replication.factor", "3"),
    ("leader.imbalance.check.interval.seconds", "1"),
    (MIN_ISR, "2"),
    ("offsets.commit.timeout.ms", "1000"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "2"),
    ("replica.lag.time.max.ms", "4000"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "2"),
];

/// Keys of [`PATIENT`] whose effect [`replicas_and_sessions_are_as_the_keys_say`] sees.
const OF_PATIENT: &[&str] = &[
    "broker.session.timeout.ms",
    "default.replication.factor",
    "leader.imbalance.check.interval.seconds",
    MIN_ISR,
    "offsets.commit.timeout.ms",
    "offsets.topic.replication.factor",
    "replica.lag.time.max.ms",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
];

/// What is left to itself, and how fast copies are made.
const BOLD: &Settings<'_> = &[
    ("auto.leader.rebalance.enable", "false"),
    (FOLLOWER_RATE, "500000"),
    ("leader.imbalance.check.interval.seconds", "1"),
    (LEADER_RATE, "500000"),
    ("replica.lag.time.max.ms", "2000"),
    (UNCLEAN, "true"),
];

/// Keys of [`BOLD`] whose effect [`leaders_and_copies_are_as_the_keys_say`] sees.
const OF_BOLD: &[&str] = &[
    "auto.leader.rebalance.enable",
    FOLLOWER_RATE,
    LEADER_RATE,
    UNCLEAN,
];

/// A broker that is silent for longer than it is trusted.
const SILENT: &Settings<'_> = &[
    ("broker.heartbeat.interval.ms", "20000"),
    ("broker.session.timeout.ms", "1500"),
];

const OF_SILENT: &[&str] = &["broker.heartbeat.interval.ms"];

const CLUSTERS: &[(&Settings<'_>, &[&str])] =
    &[(PATIENT, OF_PATIENT), (BOLD, OF_BOLD), (SILENT, OF_SILENT)];

/// The keys of brokers whose effect is seen here.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    CLUSTERS.iter().flat_map(|(_, keys)| keys.iter().copied())
}

/// The same, each with the file that sets it.
pub(super) fn settings() -> impl Iterator<Item = (&'static Settings<'static>, &'static str)> {
    let of = |(settings, keys): &(&'static Settings<'static>, &'static [&'static str])| {
        let settings = *settings;
        keys.iter().map(move |key| (settings, *key))
    };
    CLUSTERS.iter().flat_map(of)
}

const BROKERS: usize = 3;

fn id(broker: usize) -> i32 {
    i32::try_from(broker).expect("a few")
}

/// The partition of a topic of one, as a broker that runs knows it.
fn partition(brokers: &Brokers, asked: usize, topic: &str) -> Option<MetadataResponsePartition> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let mut topic = brokers.raw_to(asked).call(9, &request).topics.remove(0);
    (!topic.partitions.is_empty()).then(|| topic.partitions.remove(0))
}

/// Whether the partition has this leader, and as many replicas in sync.
fn is_led(brokers: &Brokers, asked: usize, topic: &str, leader: usize, in_sync: usize) -> bool {
    partition(brokers, asked, topic).is_some_and(|partition| {
        partition.leader_id == id(leader) && partition.isr_nodes.len() == in_sync
    })
}

/// A topic of one partition on these brokers.
fn create(brokers: &Brokers, name: &str, replicas: &[usize], configs: &Settings<'_>) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                broker_ids: replicas.iter().map(|broker| id(*broker)).collect(),
                ..Default::default()
            }],
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let answer = brokers.raw_to(replicas[0]).call(7, &request);
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    await_true(&format!("{name} is in sync"), || {
        is_led(brokers, replicas[0], name, replicas[0], replicas.len())
    });
}

fn reassign(brokers: &Brokers, topic: &str, replicas: &[usize]) {
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: 30_000,
        topics: vec![ReassignableTopic {
            name: topic.to_owned(),
            partitions: vec![ReassignablePartition {
                replicas: Some(replicas.iter().map(|broker| id(*broker)).collect()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = brokers.raw().call(0, &request);
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!((answer.error_code, code), (0, 0), "{answer:?}");
}

/// Produces a record of `bytes` to a broker, which waits for the replicas in sync; the code of the answer.
fn send(brokers: &Brokers, leader: usize, topic: &str, bytes: usize) -> i16 {
    send_with(brokers, leader, topic, (bytes, -1))
}

fn send_with(brokers: &Brokers, leader: usize, topic: &str, (bytes, acks): (usize, i16)) -> i16 {
    let mut batch = BatchBuilder::new();
    batch.push(now_ms(), None, Some(&vec![b'x'; bytes]));
    let batch = batch.build().expect("one record");
    brokers
        .raw_to(leader)
        .produce((topic, 0), acks, batch)
        .error_code
}

/// Sets a key, or takes it back, as this broker is asked to.
fn alter_at(brokers: &Brokers, asked: usize, resource: (i8, &str), change: (&str, Option<&str>)) {
    let altered = brokers.alter_at(asked, resource, &[change]);
    assert_eq!(altered, Ok(()), "{change:?}");
}

#[test]
fn replicas_and_sessions_are_as_the_keys_say() {
    let brokers = Brokers::start(BROKERS, PATIENT);
    topics_have_so_many_replicas(&brokers);
    let offsets = partition(&brokers, 0, "__consumer_offsets").expect("it was made");
    let broker = |id: i32| usize::try_from(id).expect("an id");
    let leader = broker(offsets.leader_id);
    let others = offsets.replica_nodes.iter().map(|id| broker(*id));
    let follower = others
        .into_iter()
        .find(|id| *id != leader)
        .expect("a follower");
    the_preferred_leader_is_soon_elected(&brokers);
    a_frozen_follower_is_waited_for_and_given_up(&brokers, leader, follower);
    elections_are_unclean_where_they_may_be(&brokers, leader, follower);
}

fn topics_have_so_many_replicas(brokers: &Brokers) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "of-three".to_owned(),
            num_partitions: 1,
            replication_factor: -1,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let created = brokers.raw().call(7, &request).topics.remove(0);
    assert_eq!((created.error_code, created.replication_factor), (0, 3));
    for (key_type, topic) in [(0, "__consumer_offsets"), (1, "__transaction_state")] {
        drop(coordinator(brokers, key_type, "any"));
        let replicas = await_some(topic, || partition(brokers, 0, topic)).replica_nodes;
        assert_eq!(replicas.len(), 2, "{topic}");
    }
    brokers.await_value((TOPIC, "__transaction_state"), MIN_ISR, "1");
}

/// By default it is looked for every five minutes.
fn the_preferred_leader_is_soon_elected(brokers: &Brokers) {
    create(brokers, "turned", &[0, 1], &[]);
    reassign(brokers, "turned", &[1, 0]);
    await_true("the leader is the preferred one", || {
        is_led(brokers, 0, "turned", 1, 2)
    });
}

fn a_frozen_follower_is_waited_for_and_given_up(brokers: &Brokers, leader: usize, follower: usize) {
    let replicas = [leader, follower];
    // So that offsets can be committed without the follower.
    alter_at(
        brokers,
        0,
        (TOPIC, "__consumer_offsets"),
        (MIN_ISR, Some("1")),
    );
    create(brokers, "of-two", &replicas, &[]);
    create(brokers, "of-one", &replicas, &[(MIN_ISR, "1")]);
    create(brokers, "led-by-it", &[follower, leader], &[]);
    for (topic, unclean) in [("clean", "false"), ("unclean", "true")] {
        create(
            brokers,
            topic,
            &replicas,
            &[(MIN_ISR, "1"), (UNCLEAN, unclean)],
        );
    }
    create(brokers, "as-brokers-say", &replicas, &[(MIN_ISR, "1")]);
    assert_eq!(commit(&mut brokers.raw_to(leader), "of-three", ""), 0);

    brokers.freeze(follower);
    let frozen = Instant::now();
    // It leaves the ISR before the default has passed: the commit would be taken then.
    let late = commit_once(&mut brokers.raw_to(leader), "of-three");
    assert_eq!(late, ErrorCode::CoordinatorNotAvailable.code());
    let alone = ["of-two", "of-one", "clean", "unclean", "as-brokers-say"];
    for topic in alone {
        // What it lacks puts it behind.
        assert_eq!(send_with(brokers, leader, topic, (1, 1)), 0, "{topic}");
    }
    // The default is 30 s.
    let lag = Duration::from_secs(25);
    await_some_within(lag, "the follower is out of sync", || {
        let mut topics = alone.iter();
        let alone = topics.all(|topic| is_led(brokers, leader, topic, leader, 1));
        alone.then_some(())
    });
    // The default is 3 s.
    let session = Duration::from_secs(8).saturating_sub(frozen.elapsed());
    let leads = || {
        let partition = partition(brokers, leader, "led-by-it");
        partition.is_some_and(|partition| partition.leader_id == id(follower))
    };
    assert!(holds_for(session, leads), "it is not fenced yet");
    too_few_are_in_sync(brokers, leader);
}

/// The file wants two in sync, and there is one.
fn too_few_are_in_sync(brokers: &Brokers, leader: usize) {
    let too_few = ErrorCode::NotEnoughReplicas.code();
    let asked = |topic: &str, expected: i16| {
        await_true(&format!("{topic}: {expected}"), || {
            send(brokers, leader, topic, 1) == expected
        });
    };
    asked("of-two", too_few);
    asked("of-one", 0);
    alter_at(brokers, leader, (BROKER, ALL_BROKERS), (MIN_ISR, Some("1")));
    asked("of-two", 0);
    let its = leader.to_string();
    alter_at(brokers, leader, (BROKER, &its), (MIN_ISR, Some("2")));
    asked("of-two", too_few);
    alter_at(brokers, leader, (TOPIC, "of-two"), (MIN_ISR, Some("1")));
    asked("of-two", 0);
}

/// The leader dies, and the follower, which is not in sync, comes back.
fn elections_are_unclean_where_they_may_be(brokers: &Brokers, leader: usize, follower: usize) {
    for topic in ["clean", "unclean", "as-brokers-say"] {
        assert_eq!(send(brokers, leader, topic, 1), 0, "{topic}");
    }
    brokers.kill(leader);
    brokers.thaw(follower);
    let asked = (0..BROKERS).find(|one| ![leader, follower].contains(one));
    let asked = asked.expect("a third one");
    let led_by = |topic: &str| partition(brokers, asked, topic).map(|one| one.leader_id);
    await_true("the unclean topic is led", || {
        led_by("unclean") == Some(id(follower))
    });
    assert_eq!(
        led_by("as-brokers-say"),
        Some(-1),
        "by default nobody leads"
    );

    // What one broker says goes before what is said for all.
    let ids: Vec<String> = (0..BROKERS).map(|one| one.to_string()).collect();
    let living = ids.iter().filter(|one| **one != leader.to_string());
    let each = |value| {
        for one in living.clone() {
            alter_at(brokers, asked, (BROKER, one), (UNCLEAN, value));
        }
    };
    each(Some("false"));
    alter_at(
        brokers,
        asked,
        (BROKER, ALL_BROKERS),
        (UNCLEAN, Some("true")),
    );
    let nobody = || led_by("as-brokers-say") == Some(-1);
    assert!(holds_for(Duration::from_secs(1), nobody));
    each(None);
    await_true("the topic is led", || {
        led_by("as-brokers-say") == Some(id(follower))
    });
    assert_eq!(led_by("clean"), Some(-1), "its own value goes before both");
}

#[test]
fn leaders_and_copies_are_as_the_keys_say() {
    let brokers = Brokers::start(BROKERS, BOLD);
    copies_keep_to_the_rate(&brokers);
    the_leader_stays_when_it_is_not_the_preferred_one(&brokers);
    the_file_allows_unclean_elections(&brokers);
}

/// Bytes of a record, and how many of them a copy has.
const RECORD: usize = 250_000;
const RECORDS: usize = 4;

/// Two topics of a megabyte get a second replica: the leader of one, the follower of the other is throttled. How long
/// each of them takes.
fn copy_two(brokers: &Brokers, round: &str) -> [Duration; 2] {
    let [by_leader, by_follower] = ["leader", "follower"].map(|side| {
        let topic = format!("{side}-{round}");
        let list = format!("{side}.replication.throttled.replicas");
        create(brokers, &topic, &[0], &[(&list, "*")]);
        for _ in 0..RECORDS {
            assert_eq!(send(brokers, 0, &topic, RECORD), 0);
        }
        topic
    });
    let began = Instant::now();
    reassign(brokers, &by_leader, &[0, 1]);
    reassign(brokers, &by_follower, &[0, 2]);
    let mut took = [None, None];
    await_true("both are copied", || {
        for (topic, took) in [&by_leader, &by_follower].into_iter().zip(&mut took) {
            if took.is_none() && is_led(brokers, 0, topic, 0, 2) {
                *took = Some(began.elapsed());
            }
        }
        took.iter().all(Option::is_some)
    });
    took.map(|took| took.expect("both were copied"))
}

fn copies_keep_to_the_rate(brokers: &Brokers) {
    // A megabyte at 500 kB/s; what may be sent at once is a second's worth.
    for took in copy_two(brokers, "by-the-file") {
        assert!(took > Duration::from_secs(1), "{took:?}");
    }
    // At 150 kB/s it takes more than three times as long.
    let slow = Duration::from_secs(5);
    let slower = Some("150000");
    for (round, leader, follower) in [("first", "0", ALL_BROKERS), ("second", ALL_BROKERS, "2")] {
        alter_at(brokers, 0, (BROKER, leader), (LEADER_RATE, slower));
        alter_at(brokers, 0, (BROKER, follower), (FOLLOWER_RATE, slower));
        for took in copy_two(brokers, round) {
            assert!(took > slow, "{round}: {took:?}");
        }
        alter_at(brokers, 0, (BROKER, leader), (LEADER_RATE, None));
        alter_at(brokers, 0, (BROKER, follower), (FOLLOWER_RATE, None));
    }
}

fn the_leader_stays_when_it_is_not_the_preferred_one(brokers: &Brokers) {
    create(brokers, "turned", &[0, 1], &[]);
    reassign(brokers, "turned", &[1, 0]);
    await_true("the order is the new one", || {
        partition(brokers, 0, "turned").is_some_and(|one| one.replica_nodes == [1, 0])
    });
    // It is looked for every second.
    let stays = || is_led(brokers, 0, "turned", 0, 2);
    assert!(holds_for(Duration::from_secs(4), stays));
}

fn the_file_allows_unclean_elections(brokers: &Brokers) {
    create(brokers, "unclean", &[0, 1], &[]);
    brokers.freeze(1);
    assert_eq!(send_with(brokers, 0, "unclean", (1, 1)), 0);
    await_true("the follower is out of sync", || {
        is_led(brokers, 0, "unclean", 0, 1)
    });
    assert_eq!(send(brokers, 0, "unclean", 1), 0);
    brokers.kill(0);
    brokers.thaw(1);
    await_true("the follower leads", || is_led(brokers, 2, "unclean", 1, 1));
}

#[test]
fn a_broker_whose_heartbeats_are_rarer_than_its_session_is_long_is_fenced() {
    let brokers = Brokers::start(1, SILENT);
    brokers.raw().create_topic("orphaned", &[]);
    await_true("the topic has no leader", || {
        partition(&brokers, 0, "orphaned").is_some_and(|one| one.leader_id == -1)
    });
}
