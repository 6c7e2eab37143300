//! Which brokers does the cluster have?

use types::NodeId;
use wire::messages::describe_quorum_request::{PartitionData, TopicData};
use wire::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, DescribeQuorumResponse,
};

use super::Admin;
use crate::error::ClientError;

/// By this name the quorum is asked for, as if its log was a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterBroker {
    /// Its node id.
    pub id: NodeId,
    /// Host for clients.
    pub host: String,
    /// Port for clients.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it is registered but not in service; always false from brokers before version 2 of the API.
    pub is_fenced: bool,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// The node that takes controller requests, if known.
    pub controller: Option<NodeId>,
    /// Its brokers, fenced ones included, by id.
    pub brokers: Vec<ClusterBroker>,
}

impl Admin {
    /// The node of the active controller, which may have no broker; `None` while there is none.
    ///
    /// # Errors
    /// Nobody answers, or not in time, or the brokers are too old for the question.
    pub async fn active_controller(&self) -> Result<Option<NodeId>, ClientError> {
        let what = || "describe the quorum of the metadata".to_owned();
        let request = DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name: METADATA_TOPIC.to_owned(),
                partitions: vec![PartitionData::default()],
                ..TopicData::default()
            }],
            ..DescribeQuorumRequest::default()
        };
        let check = |answer: DescribeQuorumResponse| {
            ClientError::check(answer.error_code, answer.error_message, what)?;
            let mut topics = answer.topics.into_iter();
            let Some(partition) = topics.find_map(|topic| topic.partitions.into_iter().next())
            else {
                return Ok(None);
            };
            ClientError::check(partition.error_code, partition.error_message, what)?;
            Ok(Some(NodeId(partition.leader_id)).filter(|id| id.0 >= 0))
        };
        self.client.ask_any(what, &request, i16::MAX, check).await
    }

    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let what = || "describe the cluster".to_owned();
        let check = |answer: DescribeClusterResponse| {
            ClientError::check(answer.error_code, answer.error_message, what)?;
            let mut brokers: Vec<ClusterBroker> = answer
                .brokers
                .into_iter()
                .map(|b| ClusterBroker {
                    id: NodeId(b.broker_id),
                    host: b.host,
                    port: b.port,
                    rack: b.rack,
                    is_fenced: b.is_fenced,
                })
                .collect();
            brokers.sort_by_key(|b| b.id);
            Ok(ClusterDescription {
                cluster_id: answer.cluster_id,
                controller: Some(NodeId(answer.controller_id)).filter(|id| id.0 >= 0),
                brokers,
            })
        };
        let with_fenced = DescribeClusterRequest {
            include_fenced_brokers: true,
            ..DescribeClusterRequest::default()
        };
        match self
            .client
            .ask_any(what, &with_fenced, i16::MAX, check)
            .await
        {
            // an older broker cannot be asked for fenced brokers
            Err(ClientError::Encode(_)) => {
                self.client
                    .ask_any(what, &DescribeClusterRequest::default(), i16::MAX, check)
                    .await
            }
            result => result,
        }
    }
}
