//! ConsumerGroupDescribe (key 69): who is in a group of the consumer protocol, with which assignment (KIP-848)?

use broker_core::group::consumer::partitions::Partitions;
use broker_core::group::consumer::request::{ConsumerGroupDescription, ConsumerMemberDescription};
use broker_core::metadata::MetadataImage;
use types::ErrorCode;
use wire::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::authorized;
use super::consumer_group_heartbeat::check_enabled;
use crate::kafka::context::RequestContext;

/// Members by the protocol that they speak, as the response's type of members names them.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let image = cx.image();
    let groups = request.group_ids.into_iter().map(|group_id| {
        let found = match check_enabled(&image) {
            Ok(()) => cx.broker.groups.describe_consumer_group(&group_id),
            Err(refused) => Err(refused.error),
        };
        let mut described = match found {
            Ok(Some(group)) => describe(&image, group),
            // Without the id, which is beside it and may be as long as a text can be.
            Ok(None) => refused(
                ErrorCode::GroupIdNotFound,
                "it is not a group of the consumer protocol",
            ),
            Err(error) => DescribedGroup {
                error_code: error.code(),
                ..DescribedGroup::default()
            },
        };
        described.group_id = group_id;
        described.authorized_operations = authorized::group(request.include_authorized_operations);
        described
    });
    ConsumerGroupDescribeResponse {
        groups: groups.collect(),
        ..ConsumerGroupDescribeResponse::default()
    }
}

fn refused(error: ErrorCode, message: &str) -> DescribedGroup {
    DescribedGroup {
        error_code: error.code(),
        error_message: Some(message.to_owned()),
        ..DescribedGroup::default()
    }
}

fn describe(image: &MetadataImage, group: ConsumerGroupDescription) -> DescribedGroup {
    let members = group.members.into_iter();
    DescribedGroup {
        group_state: group.state.name().to_owned(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor.name().to_owned(),
        members: members
            .map(|member| describe_member(image, member))
            .collect(),
        ..DescribedGroup::default()
    }
}

fn describe_member(image: &MetadataImage, member: ConsumerMemberDescription) -> Member {
    let metadata = member.metadata;
    let member_type = match metadata.classic {
        Some(_) => CLASSIC_MEMBER,
        None => CONSUMER_MEMBER,
    };
    Member {
        member_id: member.member_id,
        instance_id: metadata.instance_id,
        rack_id: metadata.rack_id,
        member_epoch: member.epoch,
        client_id: metadata.client_id,
        client_host: metadata.client_host,
        subscribed_topic_names: metadata.topic_names.into_iter().collect(),
        subscribed_topic_regex: metadata.topic_regex,
        assignment: assignment(image, &member.assignment),
        target_assignment: assignment(image, &member.target),
        member_type,
        ..Member::default()
    }
}

/// Partitions with the names of their topics; those of deleted topics have none any more and are left out.
fn assignment(image: &MetadataImage, partitions: &Partitions) -> Assignment {
    let named = partitions.topics().filter_map(|(topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: image.topic(topic_id)?.name.to_string(),
            partitions: partitions.iter().copied().collect(),
            ..TopicPartitions::default()
        })
    });
    Assignment {
        topic_partitions: named.collect(),
        ..Assignment::default()
    }
}
