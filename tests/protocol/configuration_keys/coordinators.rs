//! Which effect have the keys of groups, of their offsets, and of transactions?

use std::time::{Duration, Instant};

use bytes::Bytes;
use tests::cluster::{await_some, await_some_within, await_true};
use tests::raw::Raw;
use types::{BatchBuilder, ErrorCode, ProducerEpoch, ProducerId};
use wire::Request;
use wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use wire::messages::describe_producers_request::TopicRequest;
use wire::messages::join_group_request::JoinGroupRequestProtocol;
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use wire::messages::{
    AddPartitionsToTxnRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribeProducersRequest, DescribeTransactionsRequest,
    FindCoordinatorRequest, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
    JoinGroupResponse, MetadataRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest,
};

use super::brokers::{Brokers, Settings, TOPIC};
use super::topics::{HALF_AN_HOUR, Topic, now_ms};
use super::{Effect, see_all};

pub(super) const SETTINGS: &Settings<'_> = &[
    ("group.consumer.assignors", "range"),
    ("group.consumer.heartbeat.interval.ms", "700"),
    ("group.consumer.max.size", "2"),
    ("group.consumer.migration.policy", "disabled"),
    ("group.consumer.session.timeout.ms", "2000"),
    ("group.initial.rebalance.delay.ms", "1000"),
    ("group.max.session.timeout.ms", "20000"),
    ("group.max.size", "1"),
    ("group.min.session.timeout.ms", "10000"),
    ("log.retention.check.interval.ms", "100"),
    ("log.retention.hours", "2"),
    ("offset.metadata.max.bytes", "8"),
    ("offsets.retention.check.interval.ms", "500"),
    ("offsets.retention.minutes", "1"),
    ("offsets.topic.num.partitions", "3"),
    ("offsets.topic.segment.bytes", "2097152"),
    ("producer.id.expiration.ms", "1000"),
    (ABORT_INTERVAL, "250"),
    ("transaction.max.timeout.ms", "5000"),
    (
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "250",
    ),
    ("transaction.state.log.num.partitions", "2"),
    ("transaction.state.log.segment.bytes", "3145728"),
    ("transactional.id.expiration.ms", "1500"),
];

const ABORT_INTERVAL: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms";

pub(super) const EFFECTS: &[Effect] = &[
    Effect {
        keys: &["group.consumer.assignors"],
        see: another_assignor_than_range_is_refused,
    },
    Effect {
        keys: &["group.consumer.heartbeat.interval.ms"],
        see: members_are_told_the_interval,
    },
    Effect {
        keys: &["group.consumer.max.size"],
        see: the_third_member_of_a_consumer_group_is_refused,
    },
    Effect {
        keys: &["group.consumer.migration.policy"],
        see: classic_members_do_not_get_into_a_consumer_group,
    },
    Effect {
        keys: &["group.consumer.session.timeout.ms"],
        see: a_silent_member_is_removed,
    },
    Effect {
        keys: &["group.initial.rebalance.delay.ms"],
        see: a_group_begins_after_a_second,
    },
    Effect {
        keys: &[
            "group.max.session.timeout.ms",
            "group.min.session.timeout.ms",
        ],
        see: session_timeouts_outside_the_bounds_are_refused,
    },
    Effect {
        keys: &["group.max.size"],
        see: the_second_member_of_a_classic_group_is_refused,
    },
    Effect {
        keys: &["log.retention.hours"],
        see: records_of_three_hours_ago_go_and_those_of_half_an_hour_stay,
    },
    Effect {
        keys: &["offset.metadata.max.bytes"],
        see: more_than_eight_bytes_of_metadata_are_refused,
    },
    Effect {
        keys: &[
            "offsets.retention.check.interval.ms",
            "offsets.retention.minutes",
        ],
        see: offsets_are_gone_after_a_minute,
    },
    Effect {
        keys: &[
            "offsets.topic.num.partitions",
            "offsets.topic.segment.bytes",
        ],
        see: the_offsets_topic_is_made_so,
    },
    Effect {
        keys: &["producer.id.expiration.ms"],
        see: an_idle_producer_is_forgotten,
    },
    Effect {
        keys: &[ABORT_INTERVAL],
        see: transactions_are_aborted_soon_after_their_timeout,
    },
    Effect {
        keys: &["transaction.max.timeout.ms"],
        see: longer_timeouts_are_refused,
    },
    Effect {
        keys: &[
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "transactional.id.expiration.ms",
        ],
        see: an_unused_transactional_id_is_forgotten,
    },
    Effect {
        keys: &[
            "transaction.state.log.num.partitions",
            "transaction.state.log.segment.bytes",
        ],
        see: the_transactions_topic_is_made_so,
    },
];

#[test]
fn keys_of_groups_offsets_and_transactions_have_their_effect() {
    see_all(&Brokers::start(1, SETTINGS), EFFECTS);
}

/// Kafka's numbers of what is coordinated.
const GROUP: i8 = 0;
const TRANSACTIONAL_ID: i8 = 1;

/// A connection to the coordinator, whose topic there is.
pub(super) fn coordinator(brokers: &Brokers, key_type: i8, key: &str) -> Raw {
    let mut raw = brokers.raw();
    let request = FindCoordinatorRequest {
        key: key.to_owned(),
        key_type,
        ..Default::default()
    };
    await_true("there is a coordinator", || {
        raw.call(2, &request).error_code == 0
    });
    raw
}

/// The answer once the coordinator has loaded; `code` is that of an answer.
pub(super) fn ask<R: Request>(
    raw: &mut Raw,
    version: i16,
    request: &R,
    code: impl Fn(&R::Response) -> i16,
) -> R::Response {
    let later = [
        ErrorCode::CoordinatorNotAvailable.code(),
        ErrorCode::CoordinatorLoadInProgress.code(),
        ErrorCode::NotCoordinator.code(),
        ErrorCode::ConcurrentTransactions.code(),
    ];
    await_some("the coordinator has loaded", || {
        let answer = raw.call(version, request);
        (!later.contains(&code(&answer))).then_some(answer)
    })
}

/// A heartbeat by which a member joins a group of KIP-848.
fn join(brokers: &Brokers, group: &str, member: &str) -> ConsumerGroupHeartbeatResponse {
    join_with(brokers, group, member, None)
}

fn join_with(
    brokers: &Brokers,
    group: &str,
    member: &str,
    assignor: Option<&str>,
) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        member_epoch: 0,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["nothing".to_owned()]),
        subscribed_topic_regex: None,
        server_assignor: assignor.map(str::to_owned),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let mut raw = coordinator(brokers, GROUP, group);
    ask(&mut raw, 1, &request, |answer| answer.error_code)
}

fn another_assignor_than_range_is_refused(brokers: &Brokers) {
    let ranged = join_with(brokers, "ranged", "a", Some("range"));
    assert_eq!(ranged.error_code, 0, "{ranged:?}");
    let refused = join_with(brokers, "uniform", "a", Some("uniform"));
    assert_eq!(refused.error_code, ErrorCode::UnsupportedAssignor.code());
}

fn members_are_told_the_interval(brokers: &Brokers) {
    assert_eq!(join(brokers, "told", "a").heartbeat_interval_ms, 700);
}

fn the_third_member_of_a_consumer_group_is_refused(brokers: &Brokers) {
    assert_eq!(join(brokers, "small", "a").error_code, 0);
    assert_eq!(join(brokers, "small", "b").error_code, 0);
    let refused = join(brokers, "small", "c");
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
}

fn classic_members_do_not_get_into_a_consumer_group(brokers: &Brokers) {
    assert_eq!(join(brokers, "of-one-protocol", "a").error_code, 0);
    let refused = classic(brokers, "of-one-protocol", 15_000);
    let code = ErrorCode::InconsistentGroupProtocol.code();
    assert_eq!(refused.error_code, code, "{refused:?}");
}

fn a_silent_member_is_removed(brokers: &Brokers) {
    assert_eq!(join(brokers, "silent", "a").error_code, 0);
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["silent".to_owned()],
        ..Default::default()
    };
    let mut raw = brokers.raw();
    // The default is 45 s.
    let mut members = || {
        let group = raw.call(0, &request).groups.remove(0);
        // A group whose last member is gone is not there any more.
        let gone = group.error_code == ErrorCode::GroupIdNotFound.code();
        (group.error_code == 0 || gone).then_some(group.members.len())
    };
    assert_eq!(members(), Some(1));
    let patience = Duration::from_secs(30);
    await_some_within(patience, "the group has no member", || {
        members().filter(|count| *count == 0)
    });
}

/// What a classic member wants: in version 0 one topic of this name, and no bytes of its own.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x07nothing\xff\xff\xff\xff";

/// What is answered to somebody new who joins a classic group, with the member id that it is given.
fn classic(brokers: &Brokers, group: &str, session_timeout_ms: i32) -> JoinGroupResponse {
    let mut request = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms,
        rebalance_timeout_ms: 10_000,
        group_instance_id: None,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(SUBSCRIPTION),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut raw = coordinator(brokers, GROUP, group);
    let first = ask(&mut raw, 5, &request, |answer| answer.error_code);
    if first.error_code != ErrorCode::MemberIdRequired.code() {
        return first;
    }
    request.member_id = first.member_id;
    raw.call(5, &request)
}

fn a_group_begins_after_a_second(brokers: &Brokers) {
    drop(coordinator(brokers, GROUP, "delayed"));
    let began = Instant::now();
    let joined = classic(brokers, "delayed", 15_000);
    let took = began.elapsed();
    assert_eq!(joined.error_code, 0, "{joined:?}");
    // The default is 3 s.
    let expected = Duration::from_secs(1)..Duration::from_secs(3);
    assert!(expected.contains(&took), "{took:?}");
}

fn session_timeouts_outside_the_bounds_are_refused(brokers: &Brokers) {
    let refused = ErrorCode::InvalidSessionTimeout.code();
    for (timeout, code) in [(9_999, refused), (10_000, 0), (20_001, refused)] {
        let group = format!("with-{timeout}");
        let joined = classic(brokers, &group, timeout);
        assert_eq!(joined.error_code, code, "{timeout}: {joined:?}");
    }
}

fn the_second_member_of_a_classic_group_is_refused(brokers: &Brokers) {
    assert_eq!(classic(brokers, "full", 15_000).error_code, 0);
    let refused = classic(brokers, "full", 15_000);
    let code = ErrorCode::GroupMaxSizeReached.code();
    assert_eq!(refused.error_code, code, "{refused:?}");
}

fn records_of_three_hours_ago_go_and_those_of_half_an_hour_stay(brokers: &Brokers) {
    let mut young = Topic::create(brokers, "young", &[], "retention.ms");
    young.send(now_ms() - HALF_AN_HOUR, "k", None);
    let mut old = Topic::create(brokers, "old", &[], "retention.ms");
    old.send(now_ms() - 6 * HALF_AN_HOUR, "k", None);
    await_true("the old record is gone", || old.start() > 0);
    assert_eq!(young.start(), 0);
}

/// Commits an offset of a topic, for a group of its name without members; the code of the answer.
pub(super) fn commit(raw: &mut Raw, topic: &str, metadata: &str) -> i16 {
    let answer = ask(raw, 8, &commit_of(topic, metadata), commit_code);
    commit_code(&answer)
}

/// The same, without another try.
pub(super) fn commit_once(raw: &mut Raw, topic: &str) -> i16 {
    commit_code(&raw.call(8, &commit_of(topic, "")))
}

fn commit_code(answer: &OffsetCommitResponse) -> i16 {
    answer.topics[0].partitions[0].error_code
}

fn commit_of(topic: &str, metadata: &str) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: topic.to_owned(),
        generation_id_or_member_epoch: -1,
        group_instance_id: None,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 7,
                committed_metadata: Some(metadata.to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn more_than_eight_bytes_of_metadata_are_refused(brokers: &Brokers) {
    drop(Topic::create(brokers, "with-metadata", &[], ""));
    let mut raw = coordinator(brokers, GROUP, "with-metadata");
    assert_eq!(commit(&mut raw, "with-metadata", "12345678"), 0);
    let refused = ErrorCode::OffsetMetadataTooLarge.code();
    assert_eq!(commit(&mut raw, "with-metadata", "123456789"), refused);
}

fn offsets_are_gone_after_a_minute(brokers: &Brokers) {
    drop(Topic::create(brokers, "expiring", &[], ""));
    let mut raw = coordinator(brokers, GROUP, "expiring");
    assert_eq!(commit(&mut raw, "expiring", ""), 0);
    let committed = Instant::now();
    let request = OffsetFetchRequest {
        group_id: "expiring".to_owned(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: "expiring".to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let mut offset = || {
        let answer = raw.call(5, &request);
        answer.topics[0].partitions[0].committed_offset
    };
    assert_eq!(offset(), 7);
    let patience = Duration::from_secs(80);
    await_some_within(patience, "the offset is gone", || {
        (offset() == -1).then_some(())
    });
    assert!(committed.elapsed() > Duration::from_secs(59));
}

/// How many partitions a topic has, once it is there.
fn partitions(brokers: &Brokers, topic: &str) -> usize {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let mut raw = brokers.raw();
    await_some(&format!("there is {topic}"), || {
        let count = raw.call(9, &request).topics.remove(0).partitions.len();
        (count > 0).then_some(count)
    })
}

fn the_offsets_topic_is_made_so(brokers: &Brokers) {
    drop(coordinator(brokers, GROUP, "any"));
    assert_eq!(partitions(brokers, "__consumer_offsets"), 3);
    brokers.await_value((TOPIC, "__consumer_offsets"), "segment.bytes", "2097152");
}

fn the_transactions_topic_is_made_so(brokers: &Brokers) {
    drop(coordinator(brokers, TRANSACTIONAL_ID, "any"));
    assert_eq!(partitions(brokers, "__transaction_state"), 2);
    brokers.await_value((TOPIC, "__transaction_state"), "segment.bytes", "3145728");
}

/// What a producer is told that begins to use a transactional id, or none.
pub(super) fn producer(
    brokers: &Brokers,
    id: Option<&str>,
    timeout_ms: i32,
) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: id.map(str::to_owned),
        transaction_timeout_ms: timeout_ms,
        ..Default::default()
    };
    let mut raw = match id {
        Some(id) => coordinator(brokers, TRANSACTIONAL_ID, id),
        None => brokers.raw(),
    };
    ask(&mut raw, 4, &request, |answer| answer.error_code)
}

fn an_idle_producer_is_forgotten(brokers: &Brokers) {
    let mut topic = Topic::create(brokers, "produced-to", &[], "");
    let given = producer(brokers, None, 1_000);
    let id = (
        ProducerId(given.producer_id),
        ProducerEpoch(given.producer_epoch),
    );
    let mut batch = BatchBuilder::new().producer(id.0, id.1, 0);
    batch.push(now_ms(), Some(b"k"), None);
    assert_eq!(topic.send_batch(batch).error_code, 0);
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: topic.name.clone(),
            partition_indexes: vec![0],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut raw = brokers.raw();
    await_true("the producer is forgotten", || {
        let answer = raw.call(0, &request);
        let partition = &answer.topics[0].partitions[0];
        partition.error_code == 0 && partition.active_producers.is_empty()
    });
}

fn longer_timeouts_are_refused(brokers: &Brokers) {
    assert_eq!(producer(brokers, Some("patient"), 5_000).error_code, 0);
    let refused = producer(brokers, Some("too patient"), 5_001).error_code;
    assert_eq!(refused, ErrorCode::InvalidTransactionTimeout.code());
}

/// A transactional id's state, or nothing if it is not known.
fn state(brokers: &Brokers, id: &str) -> Option<String> {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![id.to_owned()],
        ..Default::default()
    };
    let mut raw = coordinator(brokers, TRANSACTIONAL_ID, id);
    let code = |answer: &wire::messages::DescribeTransactionsResponse| {
        answer.transaction_states[0].error_code
    };
    let mut answer = ask(&mut raw, 0, &request, code);
    let found = answer.transaction_states.remove(0);
    let unknown = ErrorCode::TransactionalIdNotFound.code();
    (found.error_code != unknown).then_some(found.transaction_state)
}

fn an_unused_transactional_id_is_forgotten(brokers: &Brokers) {
    assert_eq!(producer(brokers, Some("unused"), 1_000).error_code, 0);
    await_true("the id is forgotten", || state(brokers, "unused").is_none());
}

/// The default looks every 10 s: the third abort would be seen after 20 s at the earliest.
fn transactions_are_aborted_soon_after_their_timeout(brokers: &Brokers) {
    let topic = Topic::create(brokers, "in-transactions", &[], "");
    let began = Instant::now();
    for number in 0..3 {
        let id = format!("aborted-{number}");
        let given = producer(brokers, Some(&id), 300);
        assert_eq!(given.error_code, 0, "{given:?}");
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.clone(),
            v3_and_below_producer_id: given.producer_id,
            v3_and_below_producer_epoch: given.producer_epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: topic.name.clone(),
                partitions: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        };
        let added = coordinator(brokers, TRANSACTIONAL_ID, &id).call(3, &request);
        let code = &added.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(code.partition_error_code, 0, "{added:?}");
        await_true(&format!("{id} is aborted"), || {
            // Soon after it is aborted the id expires, too.
            state(brokers, &id).is_none_or(|state| state == "CompleteAbort")
        });
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}
