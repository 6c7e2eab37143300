//! What the fake cluster answers to readers: fetches, offsets, and a group of one member.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::DuplexStream;
use types::ErrorCode;
use wire::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use wire::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use wire::messages::{
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use wire::{ApiKey, Records, RequestFrame};

use crate::fake_broker::{FakeCluster, State, TOPIC, TOPIC_ID, answer};

/// A group with at most one member.
#[derive(Debug, Default)]
pub(crate) struct FakeGroup {
    pub(crate) member: Option<String>,
    pub(crate) generation: i32,
    members_made: u32,
    /// What the next heartbeat answers, once.
    pub(crate) next_heartbeat: Option<ErrorCode>,
    pub(crate) committed: BTreeMap<i32, i64>,
    pub(crate) joins: u32,
}

impl FakeCluster {
    /// Answers one request; `false` ends the connection instead.
    pub(crate) async fn serve_read(
        &self,
        broker: i32,
        stream: &mut DuplexStream,
        frame: &RequestFrame,
    ) -> bool {
        match frame.api_key {
            ApiKey::Fetch => {
                let request = frame.decode::<FetchRequest>().unwrap();
                let (response, is_lost) = self.state.lock().fetch(broker, &request);
                let is_empty = |p: &PartitionData| {
                    p.error_code == 0 && p.records.as_ref().is_none_or(Records::is_empty)
                };
                if response
                    .responses
                    .iter()
                    .flat_map(|t| &t.partitions)
                    .all(is_empty)
                {
                    // a broker with nothing to say waits; less is enough here
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                if is_lost {
                    return false;
                }
                answer(stream, frame, &response).await;
            }
            ApiKey::ListOffsets => {
                let response = self
                    .state
                    .lock()
                    .list_offsets(broker, &frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            ApiKey::FindCoordinator => {
                let request = frame.decode::<FindCoordinatorRequest>().unwrap();
                let coordinator = Coordinator {
                    key: request.coordinator_keys[0].clone(),
                    host: "fake".to_owned(),
                    ..Coordinator::default()
                };
                let response = FindCoordinatorResponse {
                    coordinators: vec![coordinator],
                    ..Default::default()
                };
                answer(stream, frame, &response).await;
            }
            _ => self.serve_group(stream, frame).await,
        }
        true
    }

    async fn serve_group(&self, stream: &mut DuplexStream, frame: &RequestFrame) {
        match frame.api_key {
            ApiKey::JoinGroup => {
                let response = self.state.lock().group.join(&frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            ApiKey::SyncGroup => {
                let response = self.state.lock().group.sync(frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            ApiKey::Heartbeat => {
                let response = self.state.lock().group.heartbeat(&frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            ApiKey::LeaveGroup => {
                frame.decode::<LeaveGroupRequest>().unwrap();
                self.state.lock().group.member = None;
                answer(stream, frame, &LeaveGroupResponse::default()).await;
            }
            ApiKey::OffsetCommit => {
                let response = self.state.lock().group.commit(&frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            ApiKey::OffsetFetch => {
                let response = self.state.lock().group.offsets(&frame.decode().unwrap());
                answer(stream, frame, &response).await;
            }
            other => panic!("the fake broker does not serve {other}"),
        }
    }
}

impl State {
    /// The response, and whether it is lost.
    fn fetch(&mut self, broker: i32, request: &FetchRequest) -> (FetchResponse, bool) {
        let fault = self.fault();
        let mut partitions = Vec::new();
        for wanted in request.topics.iter().flat_map(|t| &t.partitions) {
            let brokers = self.partitions.len();
            let partition = &mut self.partitions[usize::try_from(wanted.partition).unwrap()];
            if fault == Some("leader moves") {
                partition.leader = (partition.leader + 1) % i32::try_from(brokers.min(2)).unwrap();
                partition.epoch += 1;
            }
            let end = i64::try_from(partition.log.len()).unwrap();
            let mut data = PartitionData {
                partition_index: wanted.partition,
                high_watermark: end,
                ..Default::default()
            };
            let code = if partition.leader != broker {
                data.current_leader = LeaderIdAndEpoch {
                    leader_id: partition.leader,
                    leader_epoch: partition.epoch,
                    ..Default::default()
                };
                ErrorCode::NotLeaderOrFollower
            } else if wanted.current_leader_epoch < partition.epoch {
                ErrorCode::FencedLeaderEpoch
            } else if !(partition.log_start_offset..=end).contains(&wanted.fetch_offset) {
                ErrorCode::OffsetOutOfRange
            } else {
                // from the batch that holds the offset on, three at most, the last one cut
                let first = partition
                    .batches
                    .partition_point(|(base, _)| *base <= wanted.fetch_offset);
                let batches = partition
                    .batches
                    .iter()
                    .skip(first.saturating_sub(1))
                    .map(|(_, bytes)| bytes.clone());
                let is_new = wanted.fetch_offset < end;
                let mut batches: Vec<_> = batches.take(if is_new { 3 } else { 0 }).collect();
                if batches.len() == 3 {
                    batches[2].truncate(40);
                }
                data.records = Some(Records::from(batches));
                ErrorCode::None
            };
            data.error_code = code.code();
            partitions.push(data);
        }
        let endpoint = |id| NodeEndpoint {
            node_id: id,
            host: "fake".to_owned(),
            port: id,
            ..Default::default()
        };
        let response = FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic_id: TOPIC_ID,
                partitions,
                ..Default::default()
            }],
            node_endpoints: vec![endpoint(0), endpoint(1)],
            ..FetchResponse::default()
        };
        (
            response,
            matches!(fault, Some("lost request" | "lost answer")),
        )
    }

    fn list_offsets(&self, broker: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let answer = |wanted: &wire::messages::list_offsets_request::ListOffsetsPartition| {
            let partition = &self.partitions[usize::try_from(wanted.partition_index).unwrap()];
            let is_leader = partition.leader == broker;
            let code = if is_leader {
                ErrorCode::None
            } else {
                ErrorCode::NotLeaderOrFollower
            };
            ListOffsetsPartitionResponse {
                partition_index: wanted.partition_index,
                error_code: code.code(),
                offset: match wanted.timestamp {
                    -2 => partition.log_start_offset,
                    _ => i64::try_from(partition.log.len()).unwrap(),
                },
                ..Default::default()
            }
        };
        let topic = ListOffsetsTopicResponse {
            name: TOPIC.to_owned(),
            partitions: request.topics[0].partitions.iter().map(answer).collect(),
            ..Default::default()
        };
        ListOffsetsResponse {
            topics: vec![topic],
            ..Default::default()
        }
    }
}

impl FakeGroup {
    fn check(&self, member_id: &str, generation: i32) -> ErrorCode {
        if self.member.as_deref() != Some(member_id) {
            ErrorCode::UnknownMemberId
        } else if self.generation != generation {
            ErrorCode::IllegalGeneration
        } else {
            ErrorCode::None
        }
    }

    fn join(&mut self, request: &JoinGroupRequest) -> JoinGroupResponse {
        self.joins += 1;
        let mut response = JoinGroupResponse {
            protocol_name: Some("range".to_owned()),
            ..Default::default()
        };
        if request.member_id.is_empty() {
            self.members_made += 1;
            response.member_id = format!("member-{}", self.members_made);
            response.error_code = ErrorCode::MemberIdRequired.code();
            return response;
        }
        self.generation += 1;
        self.member = Some(request.member_id.clone());
        response.generation_id = self.generation;
        response.leader.clone_from(&request.member_id);
        response.member_id.clone_from(&request.member_id);
        response.members = vec![JoinGroupResponseMember {
            member_id: request.member_id.clone(),
            metadata: request.protocols[0].metadata.clone(),
            ..Default::default()
        }];
        response
    }

    fn sync(&mut self, request: SyncGroupRequest) -> SyncGroupResponse {
        let code = self.check(&request.member_id, request.generation_id);
        let assignment = request.assignments.into_iter().next().unwrap().assignment;
        SyncGroupResponse {
            error_code: code.code(),
            assignment,
            ..Default::default()
        }
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let code = self.check(&request.member_id, request.generation_id);
        let code = self.next_heartbeat.take().unwrap_or(code);
        if code == ErrorCode::UnknownMemberId {
            self.member = None;
        }
        HeartbeatResponse {
            error_code: code.code(),
            ..Default::default()
        }
    }

    fn commit(&mut self, request: &OffsetCommitRequest) -> OffsetCommitResponse {
        let code = self.check(&request.member_id, request.generation_id_or_member_epoch);
        let mut answers = Vec::new();
        for partition in request.topics.iter().flat_map(|t| &t.partitions) {
            if code == ErrorCode::None {
                self.committed
                    .insert(partition.partition_index, partition.committed_offset);
            }
            answers.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..Default::default()
            });
        }
        let topic = OffsetCommitResponseTopic {
            name: TOPIC.to_owned(),
            partitions: answers,
            ..Default::default()
        };
        OffsetCommitResponse {
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn offsets(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let wanted = request.groups[0].topics.as_ref().unwrap();
        let partition = |index: &i32| OffsetFetchResponsePartitions {
            partition_index: *index,
            committed_offset: self.committed.get(index).copied().unwrap_or(-1),
            ..Default::default()
        };
        let topic = OffsetFetchResponseTopics {
            name: TOPIC.to_owned(),
            partitions: wanted[0].partition_indexes.iter().map(partition).collect(),
            ..Default::default()
        };
        let group = OffsetFetchResponseGroup {
            group_id: request.groups[0].group_id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        OffsetFetchResponse {
            groups: vec![group],
            ..Default::default()
        }
    }
}
