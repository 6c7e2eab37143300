//! Do clients see Kafka's semantics? A broker on its own, asked in the protocol's bytes.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use types::{BatchBuilder, ErrorCode, TopicId};
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::describe_configs_request::DescribeConfigsResource;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DescribeConfigsRequest,
    FetchRequest, FetchResponse, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, MetadataResponse, ProduceRequest,
};
use wire::{Request, decode_response, encode_request};

use super::solo::{SoloBroker, start};
use crate::kafka::dispatch::APIS;

/// A client of one connection.
pub(super) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(super) async fn to(solo: &SoloBroker) -> Self {
        Self {
            stream: TcpStream::connect(solo.address).await.unwrap(),
            correlation_id: 0,
        }
    }

    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let chunks = encode_request(self.correlation_id, Some("test"), version, request).unwrap();
        self.stream.write_all(&chunks.concat()).await.unwrap();
    }

    async fn frame(&mut self) -> std::io::Result<Bytes> {
        let length = self.stream.read_u32().await?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }

    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        let frame = self.frame().await.expect("an answer");
        let (correlation_id, response) = decode_response(frame, version).unwrap();
        assert_eq!(correlation_id, self.correlation_id);
        response
    }

    pub(super) async fn metadata(
        &mut self,
        version: i16,
        topic: &str,
        create: bool,
    ) -> MetadataResponse {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.to_owned()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        self.call(version, &request).await
    }

    async fn produce(&mut self, topic: &str, acks: i16, value: &str) {
        let request = produce(topic, acks, value);
        self.send(9, &request).await;
    }
}

pub(super) fn produce(topic: &str, acks: i16, value: &str) -> ProduceRequest {
    let mut batch = BatchBuilder::new();
    batch.push(crate::clock::wall_ms(), None, Some(value.as_bytes()));
    ProduceRequest {
        acks,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch.build().unwrap()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(topic: &str, offset: i64, session: (i32, i32), max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: session.0,
        session_epoch: session.1,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn only(response: &FetchResponse) -> &wire::messages::fetch_response::PartitionData {
    &response.responses[0].partitions[0]
}

pub(super) async fn solo(config: &[(&str, &str)]) -> (tempfile::TempDir, SoloBroker) {
    let data = tempfile::tempdir().unwrap();
    let solo = start(data.path(), "127.0.0.1", 0, config).await;
    (data, solo)
}

pub(super) fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

#[tokio::test]
async fn api_versions_tells_the_handler_table_in_every_version_and_version_0_to_unknown_ones() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
        ..Default::default()
    };
    for version in 0..=4 {
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let told: Vec<(i16, i16, i16)> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let table: Vec<(i16, i16, i16)> = APIS
            .iter()
            .map(|api| (api.key.as_i16(), api.advertised_min, api.versions.1))
            .collect();
        assert_eq!(told, table, "version {version}");
    }
    // Version 99 with a body that nobody can know.
    let mut unknown = vec![0, 18, 0, 99, 0, 0, 0, 7];
    unknown.extend([0xff; 9]);
    let length = u32::try_from(unknown.len()).unwrap();
    client.stream.write_u32(length).await.unwrap();
    client.stream.write_all(&unknown).await.unwrap();
    let frame = client.frame().await.expect("the connection stays open");
    let (id, response): (i32, ApiVersionsResponse) = decode_response(frame, 0).unwrap();
    assert_eq!(id, 7);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    let told: Vec<_> = response
        .api_keys
        .iter()
        .map(|api| (api.api_key, api.max_version))
        .collect();
    assert_eq!(told, [(18, 4)]);
    assert_eq!(client.call(3, &request).await.error_code, 0);
}

#[tokio::test]
async fn a_version_that_is_not_served_ends_the_connection_as_in_kafka() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let produce_v0 = [0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    client.stream.write_all(&produce_v0).await.unwrap();
    client.frame().await.expect_err("the connection is closed");
}

#[tokio::test]
async fn a_topic_is_created_when_a_client_asks_for_it_unless_that_is_turned_off() {
    let (_data, solo_on) = solo(&[]).await;
    let mut client = Client::to(&solo_on).await;
    let created = client.metadata(12, "new", true).await;
    assert_eq!(created.topics[0].error_code, 0);
    assert_eq!(created.topics[0].partitions[0].leader_id, 1);
    assert_eq!(created.brokers[0].port, i32::from(solo_on.address.port()));
    let refused = client.metadata(12, "other", false).await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(refused.topics[0].error_code, unknown);
    let invalid = client.metadata(12, "not/a/topic", true).await;
    let invalid_name = ErrorCode::InvalidTopicException.code();
    assert_eq!(invalid.topics[0].error_code, invalid_name);

    let (_data, solo_off) = solo(&[("auto.create.topics.enable", "false")]).await;
    let mut client = Client::to(&solo_off).await;
    let refused = client.metadata(12, "new", true).await;
    assert_eq!(refused.topics[0].error_code, unknown);
}

#[tokio::test]
async fn records_come_back_and_an_empty_answer_has_zero_bytes_not_null() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    client.metadata(12, "t", true).await;
    let produced = client.call(9, &produce("t", -1, "hello")).await;
    let partition = &produced.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.base_offset), (0, 0));

    let response = client.call(12, &fetch("t", 0, (0, -1), 0)).await;
    let data = only(&response);
    assert_eq!((data.error_code, data.high_watermark), (0, 1));
    let records = data.records.clone().unwrap().into_bytes();
    assert!(records.windows(5).any(|window| window == b"hello"));

    let response = client.call(12, &fetch("t", 1, (0, -1), 0)).await;
    let empty = only(&response).records.as_ref().expect("not null");
    assert_eq!(empty.len(), 0);

    let response = client.call(12, &fetch("t", 99, (0, -1), 1_000)).await;
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(only(&response).error_code, out_of_range);
}

#[tokio::test]
async fn a_session_tells_only_news_and_wakes_when_records_come() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    client.metadata(12, "t", true).await;
    let full = client.call(12, &fetch("t", 0, (0, 0), 0)).await;
    assert!(full.session_id > 0);
    assert_eq!(full.responses.len(), 1);
    let mut again = fetch("t", 0, (full.session_id, 1), 0);
    again.topics.clear();
    let quiet = client.call(12, &again).await;
    assert_eq!(quiet.responses.len(), 0, "nothing is new");
    again.session_epoch = 2;
    again.max_wait_ms = 30_000;
    client.send(12, &again).await;
    let mut producer = Client::to(&solo).await;
    producer.call(9, &produce("t", -1, "hello")).await;
    let frame = client.frame().await.unwrap();
    let (_, woken): (i32, FetchResponse) = decode_response(frame, 12).unwrap();
    assert_eq!(only(&woken).high_watermark, 1);
    again.session_epoch = 9;
    let wrong = client.call(12, &again).await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[tokio::test]
async fn acks_0_is_not_answered_and_a_failure_closes_the_connection() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    client.metadata(12, "t", true).await;
    client.produce("t", 0, "one").await;
    let produced = client.call(9, &produce("t", 1, "two")).await;
    let base = produced.responses[0].partition_responses[0].base_offset;
    assert_eq!(base, 1, "the first produce is in front of the second");
    client.produce("no such topic", 0, "three").await;
    client.frame().await.expect_err("closed");
}

#[tokio::test]
async fn a_topic_id_that_nobody_has_is_told_for_its_partitions() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let mut request = produce("ignored", -1, "x");
    request.topic_data[0].topic_id = TopicId([9; 16]);
    let response = client.call(13, &request).await;
    let error = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ErrorCode::UnknownTopicId.code());
    let mut request = fetch("", 0, (0, -1), 10_000);
    request.topics[0].topic_id = TopicId([9; 16]);
    let response = client.call(13, &request).await;
    assert_eq!(only(&response).error_code, ErrorCode::UnknownTopicId.code());
}

#[tokio::test]
async fn creating_topics_refuses_what_is_wrong_and_only_validates_when_told() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let mut bad_config = topic("bad-config");
    bad_config.configs.push(CreatableTopicConfig {
        name: "retention.mss".to_owned(),
        value: Some("1".to_owned()),
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: vec![
            topic("good"),
            topic("bad name"),
            bad_config,
            topic("twice"),
            topic("twice"),
        ],
        timeout_ms: 5_000,
        validate_only: true,
        ..Default::default()
    };
    let want = [
        ("bad name", ErrorCode::InvalidTopicException),
        ("bad-config", ErrorCode::InvalidConfig),
        ("good", ErrorCode::None),
        ("twice", ErrorCode::InvalidRequest),
    ];
    let response = client.call(7, &request).await;
    let mut told: Vec<(&str, i16)> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.error_code))
        .collect();
    told.sort_unstable();
    assert_eq!(told, want.map(|(name, code)| (name, code.code())));
    let unknown = client.metadata(12, "good", false).await.topics[0].error_code;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code());

    let request = CreateTopicsRequest {
        validate_only: false,
        ..request
    };
    let response = client.call(7, &request).await;
    let good = response.topics.iter().find(|t| t.name == "good").unwrap();
    assert_eq!(good.error_code, 0);
    assert!(!good.topic_id.is_zero());
    let configs = good.configs.as_ref().unwrap();
    assert!(configs.iter().any(|c| c.name == "retention.ms"));
    let known = client.metadata(12, "good", false).await.topics[0].error_code;
    assert_eq!(known, 0, "the broker that said so knows it");
}

#[tokio::test]
async fn described_configs_show_defaults_synonyms_and_sources() {
    let (_data, solo) = solo(&[("log.retention.hours", "1")]).await;
    let mut client = Client::to(&solo).await;
    client.metadata(12, "t", true).await;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".to_owned(),
            configuration_keys: None,
            ..Default::default()
        }],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    let response = client.call(4, &request).await;
    let rows = &response.results[0].configs;
    let row = |name: &str| rows.iter().find(|row| row.name == name).expect(name);
    let retention = row("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("3600000"));
    assert_eq!(retention.config_source, 4, "from the broker's file");
    assert!(!retention.synonyms.is_empty());
    assert!(
        retention
            .documentation
            .as_ref()
            .is_some_and(|doc| !doc.is_empty())
    );
    assert_eq!(row("cleanup.policy").config_source, 5, "a default");
}

#[tokio::test]
async fn offsets_are_listed_at_both_ends() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    client.metadata(12, "t", true).await;
    for value in ["a", "b", "c"] {
        client.call(9, &produce("t", -1, value)).await;
    }
    for (timestamp, offset) in [(-1, 3), (-2, 0), (0, 0)] {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: "t".to_owned(),
                partitions: vec![ListOffsetsPartition {
                    timestamp,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = client.call(7, &request).await;
        let partition = &response.topics[0].partitions[0];
        let told = (partition.error_code, partition.offset);
        assert_eq!(told, (0, offset), "timestamp {timestamp}");
    }
}

#[tokio::test]
async fn every_idempotent_producer_gets_an_id_of_its_own() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let response = client.call(4, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(seen.insert(response.producer_id));
    }
}

#[tokio::test]
async fn asking_for_a_coordinator_makes_the_offsets_topic() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = FindCoordinatorRequest {
        coordinator_keys: vec!["g".to_owned(), "h".to_owned()],
        ..Default::default()
    };
    let response = client.call(4, &request).await;
    for coordinator in &response.coordinators {
        assert_eq!((coordinator.error_code, coordinator.node_id), (0, 1));
    }
    let topic = client.metadata(12, "__consumer_offsets", false).await;
    assert!(topic.topics[0].is_internal);
    assert_eq!(topic.topics[0].partitions.len(), 3);
    let refused = client.call(9, &produce("__consumer_offsets", 1, "x")).await;
    let error = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ErrorCode::InvalidTopicException.code());
}
