//! Do transactions work as clients of either version speak them? A broker on its own, asked in the protocol's bytes.

use types::{BatchBuilder, ErrorCode, ProducerEpoch, ProducerId};
use wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::describe_producers_request::TopicRequest;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::fetch_response::PartitionData;
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, CreateTopicsRequest,
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, ListTransactionsRequest,
    OffsetFetchRequest, ProduceRequest, TxnOffsetCommitRequest,
};

use super::semantics::{Client, solo};
use super::solo::SoloBroker;
use crate::patience::until;

/// A transactional producer, as its client sees it.
struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
    sequence: i32,
}

const T: &str = "t";

impl Producer {
    /// The next instance of the transactional id `x`.
    async fn new(solo: &SoloBroker) -> Self {
        let mut client = Client::to(solo).await;
        let create = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: T.to_owned(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 5_000,
            ..Default::default()
        };
        client.call(7, &create).await;
        for (key_type, key) in [(1, "x"), (0, "g")] {
            let find = FindCoordinatorRequest {
                key_type,
                coordinator_keys: vec![key.to_owned()],
                ..Default::default()
            };
            let found = client.call(4, &find).await;
            assert_eq!(found.coordinators[0].error_code, 0, "{key}");
        }
        let init = InitProducerIdRequest {
            transactional_id: Some("x".to_owned()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let retry = [
            ErrorCode::CoordinatorLoadInProgress.code(),
            ErrorCode::NotCoordinator.code(),
            ErrorCode::ConcurrentTransactions.code(),
        ];
        let initialised = async {
            loop {
                let answer = client.call(4, &init).await;
                if !retry.contains(&answer.error_code) {
                    return answer;
                }
            }
        };
        let answer = until("the coordinator hands out a producer id", initialised).await;
        assert_eq!(answer.error_code, 0);
        Self {
            client,
            id: answer.producer_id,
            epoch: answer.producer_epoch,
            sequence: 0,
        }
    }

    async fn add(&mut self) -> i16 {
        let add = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "x".to_owned(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: T.to_owned(),
                partitions: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        };
        // A client waits until the last transaction is complete.
        let added = async {
            loop {
                let answer = self.client.call(3, &add).await;
                let topic = &answer.results_by_topic_v3_and_below[0];
                let code = topic.results_by_partition[0].partition_error_code;
                if code != ErrorCode::ConcurrentTransactions.code() {
                    return code;
                }
            }
        };
        until("the last transaction is complete", added).await
    }

    async fn produce(&mut self, version: i16, value: &str) -> (i16, i64) {
        let mut batch = BatchBuilder::new()
            .producer(
                ProducerId(self.id),
                ProducerEpoch(self.epoch),
                self.sequence,
            )
            .transactional();
        batch.push(crate::clock::wall_ms(), None, Some(value.as_bytes()));
        let request = ProduceRequest {
            transactional_id: Some("x".to_owned()),
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![TopicProduceData {
                name: T.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch.build().unwrap()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.client.call(version, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        if partition.error_code == 0 {
            self.sequence += 1;
        }
        (partition.error_code, partition.base_offset)
    }

    async fn end(&mut self, version: i16, committed: bool) -> i16 {
        let request = EndTxnRequest {
            transactional_id: "x".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
            ..Default::default()
        };
        let answer = self.client.call(version, &request).await;
        if answer.error_code == 0 && version >= 5 {
            self.id = answer.producer_id;
            self.epoch = answer.producer_epoch;
            self.sequence = 0;
        }
        answer.error_code
    }

    async fn commit_offset(&mut self, version: i16, offset: i64) -> i16 {
        let request = TxnOffsetCommitRequest {
            transactional_id: "x".to_owned(),
            group_id: "g".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: T.to_owned(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: offset,
                    committed_metadata: Some(String::new()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        // A client waits until the coordinators are ready.
        let answered = async {
            loop {
                let answer = self.client.call(version, &request).await;
                let code = answer.topics[0].partitions[0].error_code;
                if code != ErrorCode::CoordinatorLoadInProgress.code() {
                    return code;
                }
            }
        };
        until("the group's coordinator has loaded", answered).await
    }
}

/// What a reader gets, from offset 0 on.
async fn read(solo: &SoloBroker, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        min_bytes: 0,
        max_bytes: 1 << 20,
        isolation_level,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: T.to_owned(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut response = Client::to(solo).await.call(11, &request).await;
    response.responses.remove(0).partitions.remove(0)
}

/// Waits until the last stable offset is `want`: markers are written after the client was answered.
async fn await_stable(solo: &SoloBroker, want: i64) -> PartitionData {
    let reached = async {
        loop {
            let data = read(solo, 1).await;
            if data.last_stable_offset == want {
                return data;
            }
        }
    };
    until(&format!("the last stable offset is {want}"), reached).await
}

async fn committed(solo: &SoloBroker) -> (i16, i64) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: T.to_owned(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    };
    let answer = Client::to(solo).await.call(8, &request).await;
    let partition = &answer.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

/// The same once the transaction that it is part of has ended.
async fn await_committed(solo: &SoloBroker) -> (i16, i64) {
    let stable = async {
        loop {
            let found = committed(solo).await;
            if found.0 != ErrorCode::UnstableOffsetCommit.code() {
                return found;
            }
        }
    };
    until("the committed offset is stable", stable).await
}

#[tokio::test]
async fn a_version_1_client_adds_partitions_before_it_produces() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(&solo).await;
    let refused = producer.produce(9, "early").await.0;
    assert_eq!(
        refused,
        ErrorCode::InvalidTxnState.code(),
        "it was not added"
    );
    for (n, committed) in [(0, true), (1, false)] {
        assert_eq!(producer.add().await, 0);
        assert_eq!(producer.produce(9, "a").await, (0, 2 * n));
        let open = read(&solo, 1).await;
        assert_eq!(open.last_stable_offset, 2 * n, "open");
        assert_eq!(producer.end(1, committed).await, 0);
        let data = await_stable(&solo, 2 * n + 2).await;
        let aborted = data.aborted_transactions.unwrap();
        let firsts: Vec<i64> = aborted.iter().map(|one| one.first_offset).collect();
        assert_eq!(firsts, if committed { vec![] } else { vec![2] });
    }
    assert_eq!(producer.epoch, 0);
}

#[tokio::test]
async fn a_version_2_client_adds_partitions_by_producing_and_gets_a_new_epoch_for_each_transaction()
{
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(&solo).await;
    for n in 0..3 {
        assert_eq!(producer.epoch, i16::try_from(n).unwrap());
        assert_eq!(producer.produce(12, "a").await.0, 0);
        assert_eq!(producer.produce(12, "b").await.0, 0);
        assert_eq!(producer.end(5, true).await, 0);
        await_stable(&solo, 3 * (n + 1)).await;
    }
    let uncommitted = read(&solo, 0).await;
    assert_eq!(uncommitted.high_watermark, 9);
}

#[tokio::test]
async fn an_older_instance_is_fenced_and_its_transaction_aborted() {
    let (_data, solo) = solo(&[]).await;
    let mut old = Producer::new(&solo).await;
    assert_eq!(old.produce(12, "a").await.0, 0);
    let mut new = Producer::new(&solo).await;
    await_stable(&solo, 2).await;
    let late = old.produce(12, "b").await.0;
    assert_eq!(late, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(old.end(5, true).await, ErrorCode::ProducerFenced.code());
    assert_eq!(new.produce(12, "c").await, (0, 2));
    assert_eq!(new.end(5, true).await, 0);
    let data = await_stable(&solo, 4).await;
    assert_eq!(data.aborted_transactions.unwrap().len(), 1);
}

#[tokio::test]
async fn an_offset_in_a_transaction_is_unstable_until_it_is_committed() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(&solo).await;
    assert_eq!(producer.commit_offset(5, 7).await, 0);
    let unstable = ErrorCode::UnstableOffsetCommit.code();
    assert_eq!(committed(&solo).await, (unstable, -1));
    assert_eq!(producer.end(5, true).await, 0);
    assert_eq!(await_committed(&solo).await, (0, 7));

    // Version 1 has to say so first.
    let refused = producer.commit_offset(3, 8).await;
    assert_eq!(refused, ErrorCode::InvalidTxnState.code());
    let add = AddOffsetsToTxnRequest {
        transactional_id: "x".to_owned(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id: "g".to_owned(),
        ..Default::default()
    };
    assert_eq!(producer.client.call(3, &add).await.error_code, 0);
    assert_eq!(producer.commit_offset(3, 8).await, 0);
    assert_eq!(producer.end(1, false).await, 0);
    assert_eq!(await_committed(&solo).await, (0, 7));
}

#[tokio::test]
async fn a_transaction_that_nobody_ends_is_aborted_after_its_timeout() {
    let interval = "transaction.abort.timed.out.transaction.cleanup.interval.ms";
    let (_data, solo) = solo(&[(interval, "5")]).await;
    let mut producer = Producer::new(&solo).await;
    let again = InitProducerIdRequest {
        transactional_id: Some("x".to_owned()),
        transaction_timeout_ms: 50,
        ..Default::default()
    };
    producer.epoch = producer.client.call(4, &again).await.producer_epoch;
    assert_eq!(producer.produce(12, "a").await.0, 0);
    let data = await_stable(&solo, 2).await;
    assert_eq!(data.aborted_transactions.unwrap().len(), 1);
    assert_eq!(
        producer.end(5, true).await,
        ErrorCode::ProducerFenced.code()
    );
}

#[tokio::test]
async fn administrators_see_open_transactions() {
    let (_data, solo) = solo(&[]).await;
    let mut producer = Producer::new(&solo).await;
    assert_eq!(producer.produce(12, "a").await.0, 0);
    let mut client = Client::to(&solo).await;
    let listed = client.call(1, &ListTransactionsRequest::default()).await;
    assert_eq!(listed.transaction_states[0].transaction_state, "Ongoing");
    for (pattern, error, count) in [
        ("x|y", ErrorCode::None, 1),
        ("y", ErrorCode::None, 0),
        ("x(", ErrorCode::InvalidRegularExpression, 0),
    ] {
        let by_pattern = ListTransactionsRequest {
            transactional_id_pattern: Some(pattern.to_owned()),
            ..Default::default()
        };
        let listed = client.call(2, &by_pattern).await;
        let answer = (listed.error_code, listed.transaction_states.len());
        assert_eq!(answer, (error.code(), count), "{pattern}");
    }
    let describe = DescribeTransactionsRequest {
        transactional_ids: vec!["x".to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let described = client.call(0, &describe).await.transaction_states;
    assert_eq!(described[0].topics[0].topic, T);
    assert_eq!(described[0].producer_id, producer.id);
    assert_eq!(
        described[1].error_code,
        ErrorCode::TransactionalIdNotFound.code()
    );
    let producers = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: T.to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.call(0, &producers).await;
    let active = &answer.topics[0].partitions[0].active_producers[0];
    assert_eq!(
        (active.producer_id, active.current_txn_start_offset),
        (producer.id, 0)
    );
    // A reader of committed records has nothing to read yet, also by ListOffsets.
    let latest = ListOffsetsRequest {
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: T.to_owned(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.call(7, &latest).await;
    assert_eq!(answer.topics[0].partitions[0].offset, 0);
}

#[tokio::test]
async fn the_protocol_of_transactions_is_shown_to_clients_that_bear_it() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    for version in [3, 4] {
        let answer = client.call(version, &request).await;
        let shown = answer.supported_features.iter();
        let shown: Vec<&str> = shown.map(|feature| feature.name.as_str()).collect();
        // KAFKA-17011: clients of version 3 take a feature that starts at 0 for an error.
        assert_eq!(shown.contains(&"transaction.version"), version >= 4);
    }
}
