//! Do tools of administrators get what Kafka would tell them? A broker on its own, asked in the protocol's bytes.

use types::ErrorCode;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use wire::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ListConfigResourcesRequest, describe_quorum_request,
};

use super::semantics::{Client, produce, solo};
use super::solo::SoloBroker;

/// A client, with these topics of so many partitions.
async fn client(solo: &SoloBroker, topics: &[(&str, i32)]) -> Client {
    let mut client = Client::to(solo).await;
    let request = CreateTopicsRequest {
        topics: topics
            .iter()
            .map(|(name, num_partitions)| CreatableTopic {
                name: (*name).to_owned(),
                num_partitions: *num_partitions,
                replication_factor: 1,
                ..Default::default()
            })
            .collect(),
        timeout_ms: 5_000,
        ..Default::default()
    };
    let created = client.call(7, &request).await;
    assert!(created.topics.iter().all(|topic| topic.error_code == 0));
    client
}

#[tokio::test]
async fn records_are_deleted_and_every_refusal_names_its_reason() {
    let (_data, solo) = solo(&[]).await;
    let mut client = client(&solo, &[("t", 1), ("__consumer_offsets", 1)]).await;
    for value in ["a", "b", "c"] {
        client.call(9, &produce("t", -1, value)).await;
    }
    let cases = [
        ("t", 0, 2, (2, ErrorCode::None)),
        ("t", 0, -1, (3, ErrorCode::None)),
        ("t", 0, 4, (-1, ErrorCode::OffsetOutOfRange)),
        ("t", 0, -7, (-1, ErrorCode::OffsetOutOfRange)),
        ("t", 1, 0, (-1, ErrorCode::UnknownTopicOrPartition)),
        ("nobody", 0, 0, (-1, ErrorCode::UnknownTopicOrPartition)),
        (
            "__consumer_offsets",
            0,
            -1,
            (-1, ErrorCode::InvalidTopicException),
        ),
    ];
    for version in 0..=2 {
        for (name, partition_index, offset, want) in cases {
            if version > 0 && offset == 2 {
                continue;
            }
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: name.to_owned(),
                    partitions: vec![DeleteRecordsPartition {
                        partition_index,
                        offset,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                timeout_ms: 5_000,
                ..Default::default()
            };
            let answer = client.call(version, &request).await;
            let one = &answer.topics[0].partitions[0];
            let told = (one.low_watermark, one.error_code);
            assert_eq!(told, (want.0, want.1.code()), "{name} {offset}");
        }
    }
}

#[tokio::test]
async fn log_directories_tell_the_sizes_of_what_was_asked_for() {
    let (data, solo) = solo(&[]).await;
    let mut client = client(&solo, &[("t", 2), ("u", 1)]).await;
    client.call(9, &produce("t", -1, "value")).await;
    let mut request = DescribeLogDirsRequest {
        topics: None,
        ..Default::default()
    };
    for version in 1..=4 {
        let answer = client.call(version, &request).await;
        let [dir] = answer.results.as_slice() else {
            panic!("one directory: {answer:?}");
        };
        assert_eq!(dir.error_code, 0);
        assert_eq!(dir.log_dir, data.path().join("logs").display().to_string());
        let partitions: Vec<(&str, usize)> = (dir.topics.iter())
            .map(|topic| (topic.name.as_str(), topic.partitions.len()))
            .collect();
        assert_eq!(partitions, [("t", 2), ("u", 1)]);
        let sizes: Vec<bool> = (dir.topics[0].partitions.iter())
            .map(|partition| partition.partition_size > 0)
            .collect();
        assert_eq!(sizes, [true, false], "only partition 0 has a record");
        let told = dir.total_bytes > 0 && dir.usable_bytes > 0;
        assert_eq!(told, version >= 4, "{dir:?}");
    }
    request.topics = Some(vec![DescribableLogDirTopic {
        topic: "t".to_owned(),
        partitions: vec![1, 9],
        ..Default::default()
    }]);
    let answer = client.call(4, &request).await;
    let topics = &answer.results[0].topics;
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions.len(), 1);
    assert_eq!(topics[0].partitions[0].partition_index, 1);
}

#[tokio::test]
async fn resources_with_configurations_are_listed_by_type() {
    let (_data, solo) = solo(&[]).await;
    let mut client = client(&solo, &[("t", 1)]).await;
    let mut listed = async |version, resource_types: &[i8]| {
        let request = ListConfigResourcesRequest {
            resource_types: resource_types.to_vec(),
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        let all: Vec<(i8, String)> = (answer.config_resources.into_iter())
            .map(|one| (one.resource_type, one.resource_name))
            .collect();
        (answer.error_code, all)
    };
    let (topic, broker) = ((2, "t".to_owned()), (4, "1".to_owned()));
    assert_eq!(listed(0, &[]).await, (0, vec![]));
    let both = vec![topic.clone(), broker.clone()];
    assert_eq!(listed(1, &[]).await, (0, both));
    assert_eq!(listed(1, &[2]).await, (0, vec![topic]));
    assert_eq!(listed(1, &[16, 4]).await, (0, vec![broker]));
    let unsupported = ErrorCode::UnsupportedVersion.code();
    assert_eq!(listed(1, &[3]).await, (unsupported, vec![]));
}

/// The pages that a client gets who takes `limit` partitions at a time: what is on each.
async fn pages(client: &mut Client, names: &[&str], limit: i32) -> Vec<Vec<(String, Vec<i32>)>> {
    let mut request = DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| TopicRequest {
                name: (*name).to_owned(),
                ..Default::default()
            })
            .collect(),
        response_partition_limit: limit,
        cursor: None,
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let answer = client.call(0, &request).await;
        pages.push(
            answer
                .topics
                .into_iter()
                .map(|topic| {
                    assert_eq!(topic.error_code, 0, "{topic:?}");
                    let partitions = topic.partitions.iter();
                    let indexes = partitions.map(|one| {
                        assert_eq!((one.leader_id, one.error_code), (1, 0));
                        one.partition_index
                    });
                    (topic.name.unwrap_or_default(), indexes.collect())
                })
                .collect(),
        );
        let Some(next) = answer.next_cursor else {
            return pages;
        };
        assert!(pages.len() < 20, "it comes to an end");
        request.cursor = Some(Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        });
    }
}

#[tokio::test]
async fn topics_are_described_a_page_at_a_time_and_each_partition_once() {
    let (_data, solo) = solo(&[]).await;
    let mut client = client(&solo, &[("b", 3), ("a", 2), ("c", 1)]).await;
    let on = |name: &str, partitions: &[i32]| (name.to_owned(), partitions.to_vec());
    let all = pages(&mut client, &[], 2000).await;
    let everything = vec![on("a", &[0, 1]), on("b", &[0, 1, 2]), on("c", &[0])];
    assert_eq!(all, [everything]);
    let by_two = pages(&mut client, &["c", "b", "a"], 2).await;
    let want = [
        vec![on("a", &[0, 1])],
        vec![on("b", &[0, 1])],
        vec![on("b", &[2]), on("c", &[0])],
    ];
    assert_eq!(by_two, want);
    let by_four = pages(&mut client, &[], 4).await;
    let want = [
        vec![on("a", &[0, 1]), on("b", &[0, 1])],
        vec![on("b", &[2]), on("c", &[0])],
    ];
    assert_eq!(by_four, want);
}

#[tokio::test]
async fn topics_that_cannot_be_described_have_an_error_each() {
    let (_data, solo) = solo(&[]).await;
    let mut client = client(&solo, &[("t", 1)]).await;
    let named = |names: &[&str], cursor| DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| TopicRequest {
                name: (*name).to_owned(),
                ..Default::default()
            })
            .collect(),
        response_partition_limit: 10,
        cursor,
        ..Default::default()
    };
    let request = named(&["t", "unknown", "bad name"], None);
    let answer = client.call(0, &request).await;
    let told: Vec<(Option<&str>, i16)> = (answer.topics.iter())
        .map(|topic| (topic.name.as_deref(), topic.error_code))
        .collect();
    let want = [
        (Some("bad name"), ErrorCode::InvalidTopicException.code()),
        (Some("t"), 0),
        (Some("unknown"), ErrorCode::UnknownTopicOrPartition.code()),
    ];
    assert_eq!(told, want);
    let cursor = Cursor {
        topic_name: "t".to_owned(),
        partition_index: -1,
        ..Default::default()
    };
    let answer = client.call(0, &named(&["t"], Some(cursor))).await;
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(answer.topics[0].error_code, invalid);
}

#[tokio::test]
async fn the_quorum_is_described_as_the_partition_of_the_metadata_topic() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = |topic_name: &str| DescribeQuorumRequest {
        topics: vec![describe_quorum_request::TopicData {
            topic_name: topic_name.to_owned(),
            partitions: vec![describe_quorum_request::PartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in 0..=2 {
        let answer = client.call(version, &request("__cluster_metadata")).await;
        assert_eq!(answer.error_code, 0);
        let partition = &answer.topics[0].partitions[0];
        let led = (partition.leader_id, partition.leader_epoch);
        assert_eq!((partition.error_code, led), (0, (1, 7)));
        assert_eq!(partition.high_watermark, 4);
        assert!(partition.observers.is_empty());
        let voter = &partition.current_voters[0];
        assert_eq!((voter.replica_id, voter.log_end_offset), (1, 5));
        assert_eq!(voter.replica_directory_id.is_zero(), version < 2);
        assert_eq!(answer.nodes.len(), usize::from(version >= 2));
    }
    let other = client.call(2, &request("t")).await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(other.topics[0].partitions[0].error_code, unknown);
}
