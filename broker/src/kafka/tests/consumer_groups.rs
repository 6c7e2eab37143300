//! Do clients of the consumer protocol (KIP-848) get in, get partitions, and commit in their epoch?

use types::{ErrorCode, TopicId};
use wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, CreateTopicsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use super::semantics::{Client, solo};
use crate::patience::until;

const GROUP: &str = "orders";

fn join(member_id: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        member_epoch: 0,
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["t".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

async fn create_topic(client: &mut Client, partitions: i32) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "t".to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
    // Makes the topic of the offsets.
    let find = FindCoordinatorRequest {
        key: GROUP.to_owned(),
        ..Default::default()
    };
    let found = async { while client.call(2, &find).await.error_code != 0 {} };
    until("the group's coordinator is found", found).await;
}

/// The answer once the coordinator has loaded.
async fn heartbeat(
    client: &mut Client,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let loading = [
        ErrorCode::CoordinatorNotAvailable.code(),
        ErrorCode::CoordinatorLoadInProgress.code(),
        ErrorCode::NotCoordinator.code(),
    ];
    let answered = async {
        loop {
            let answer = client.call(1, request).await;
            if !loading.contains(&answer.error_code) {
                return answer;
            }
        }
    };
    until("the group's coordinator has loaded", answered).await
}

fn assigned(answer: &ConsumerGroupHeartbeatResponse) -> Vec<(TopicId, Vec<i32>)> {
    let assignment = answer.assignment.as_ref().expect("an assignment");
    let topics = assignment.topic_partitions.iter();
    topics
        .map(|topic| (topic.topic_id, topic.partitions.clone()))
        .collect()
}

#[tokio::test]
async fn two_members_share_a_topic_and_are_described() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    create_topic(&mut client, 4).await;
    let first = heartbeat(&mut client, &join("a")).await;
    assert_eq!((first.error_code, first.member_epoch), (0, 1), "{first:?}");
    assert_eq!(first.heartbeat_interval_ms, 5_000);
    let all = assigned(&first);
    assert_eq!(all[0].1, [0, 1, 2, 3]);
    let topic_id = all[0].0;
    let second = heartbeat(&mut client, &join("b")).await;
    assert_eq!((second.member_epoch, assigned(&second).len()), (2, 0));
    let owns = |id: &str, epoch, partitions: &[i32]| ConsumerGroupHeartbeatRequest {
        member_epoch: epoch,
        topic_partitions: Some(vec![TopicPartitions {
            topic_id,
            partitions: partitions.to_vec(),
            ..Default::default()
        }]),
        ..join(id)
    };
    let revoke = heartbeat(&mut client, &owns("a", 1, &[0, 1, 2, 3])).await;
    let kept = assigned(&revoke)[0].1.clone();
    assert_eq!((revoke.member_epoch, kept.len()), (1, 2));
    let confirmed = heartbeat(&mut client, &owns("a", 1, &kept)).await;
    assert_eq!(confirmed.member_epoch, 2);
    let rest = ConsumerGroupHeartbeatRequest {
        member_epoch: 2,
        ..join("b")
    };
    let rest = assigned(&heartbeat(&mut client, &rest).await)[0].1.clone();
    let mut together = [kept, rest].concat();
    together.sort_unstable();
    assert_eq!(together, [0, 1, 2, 3]);

    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![GROUP.to_owned(), "unknown".to_owned()],
        ..Default::default()
    };
    let described = client.call(1, &describe).await.groups;
    assert_eq!(described[0].group_state, "Stable");
    assert_eq!(
        (described[0].group_epoch, described[0].assignment_epoch),
        (2, 2)
    );
    assert_eq!(described[0].assignor_name, "uniform");
    let names: Vec<&str> = (described[0].members.iter())
        .map(|member| member.assignment.topic_partitions[0].topic_name.as_str())
        .collect();
    assert_eq!(names, ["t", "t"]);
    assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound.code());
    // The older question is answered as for an unknown group.
    let classic = DescribeGroupsRequest {
        groups: vec![GROUP.to_owned()],
        ..Default::default()
    };
    let classic = &client.call(6, &classic).await.groups[0];
    assert_eq!(classic.error_code, ErrorCode::GroupIdNotFound.code());
}

#[tokio::test]
async fn groups_are_listed_by_their_type() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    create_topic(&mut client, 1).await;
    heartbeat(&mut client, &join("a")).await;
    for (kind, listed) in [("consumer", 1), ("classic", 0)] {
        let request = ListGroupsRequest {
            types_filter: vec![kind.to_owned()],
            ..Default::default()
        };
        let groups = client.call(5, &request).await.groups;
        assert_eq!(groups.len(), listed, "{kind}");
        assert!(groups.iter().all(|group| group.group_type == kind));
        assert!(groups.iter().all(|group| group.protocol_type == "consumer"));
    }
}

fn commit(member_id: &str, epoch: i32) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        generation_id_or_member_epoch: epoch,
        member_id: member_id.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 7,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(member_id: Option<&str>, member_epoch: i32) -> OffsetFetchRequest {
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.to_owned(),
            member_id: member_id.map(str::to_owned),
            member_epoch,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".to_owned(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn offsets_are_committed_and_read_in_the_members_epoch() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    create_topic(&mut client, 1).await;
    heartbeat(&mut client, &join("a")).await;
    let stale = ErrorCode::StaleMemberEpoch.code();
    let unknown = ErrorCode::UnknownMemberId.code();
    for (member, epoch, want) in [("a", 2, stale), ("x", 1, unknown), ("a", 1, 0)] {
        let committed = client.call(9, &commit(member, epoch)).await;
        assert_eq!(
            committed.topics[0].partitions[0].error_code, want,
            "{member} {epoch}"
        );
        let fetched = client.call(9, &fetch(Some(member), epoch)).await;
        assert_eq!(fetched.groups[0].error_code, want, "{member} {epoch}");
    }
    let old = client.call(8, &commit("a", 1)).await;
    let unsupported = ErrorCode::UnsupportedVersion.code();
    assert_eq!(old.topics[0].partitions[0].error_code, unsupported);
    let fetched = client.call(9, &fetch(None, -1)).await;
    let topics = &fetched.groups[0].topics;
    assert_eq!(topics[0].partitions[0].committed_offset, 7);
}

#[tokio::test]
async fn a_heartbeat_that_is_refused_says_why() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    create_topic(&mut client, 1).await;
    let regex = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("(".to_owned()),
        ..join("a")
    };
    let answer = heartbeat(&mut client, &regex).await;
    assert_eq!(
        answer.error_code,
        ErrorCode::InvalidRegularExpression.code()
    );
    assert!(answer.error_message.is_some_and(|text| text.contains('(')));
    let mut without_id = join("");
    assert_eq!(
        heartbeat(&mut client, &without_id).await.error_code,
        ErrorCode::InvalidRequest.code()
    );
    without_id.group_id = "other".to_owned();
    let given = client.call(0, &without_id).await;
    assert_ne!(
        given.error_code,
        ErrorCode::InvalidRequest.code(),
        "version 0 gives one"
    );
}

#[tokio::test]
async fn the_feature_of_consumer_groups_is_finalized() {
    let (_data, solo) = solo(&[]).await;
    let mut client = Client::to(&solo).await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let answer = client.call(4, &request).await;
    let supported = answer.supported_features.iter();
    let levels: Vec<_> = supported
        .filter(|feature| feature.name == "group.version")
        .collect();
    assert_eq!((levels[0].min_version, levels[0].max_version), (0, 1));
}
