//! How does the quorum stand, in the eyes of the active controller?

use rpc::admin::v1 as wire;
use rpc::admin::v1::admin_client::AdminClient;
use tonic::Status;
use types::NodeId;

use crate::broker::{QuorumMember, QuorumView};
use crate::quorum::{Directory, Member, PROTOCOL_VERSION};

/// Asks `target`; `None` if it is not the active controller.
pub(super) async fn ask(
    directory: &Directory,
    cluster_id: &str,
    target: &Member,
) -> Result<Option<QuorumView>, Box<Status>> {
    let request = wire::DescribeClusterRequest {
        version: PROTOCOL_VERSION,
        cluster_id: cluster_id.to_owned(),
    };
    let mut client = AdminClient::new(directory.channel(target));
    let answer = client.describe_cluster(request).await.map_err(Box::new)?;
    let answer = answer.into_inner();
    if !answer.active {
        return Ok(None);
    }
    view(answer).map(Some).map_err(Box::new)
}

fn view(answer: wire::DescribeClusterResponse) -> Result<QuorumView, Status> {
    let leader = NodeId(answer.active_controller);
    let (last_log_index, committed_index) = (answer.last_log_index, answer.applied_index);
    let member = |member: wire::QuorumMember| {
        let disk = <[u8; 16]>::try_from(member.disk.as_ref());
        let rpc_port = u16::try_from(member.rpc_port);
        let (Ok(disk), Ok(rpc_port)) = (disk, rpc_port) else {
            let node = member.node_id;
            return Err(Status::internal(format!(
                "the member on node {node} makes no sense"
            )));
        };
        let is_leader = member.voter && member.node_id == leader.0;
        Ok(QuorumMember {
            node_id: NodeId(member.node_id),
            disk,
            is_voter: member.voter,
            host: member.host,
            rpc_port,
            last_log_index: if is_leader {
                Some(last_log_index)
            } else {
                member.matched_offset
            },
        })
    };
    Ok(QuorumView {
        leader,
        term: answer.term,
        last_log_index,
        committed_index,
        members: answer
            .quorum
            .into_iter()
            .map(member)
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node_id: i32, matched_offset: Option<u64>) -> wire::QuorumMember {
        wire::QuorumMember {
            node_id,
            voter: true,
            matched_offset,
            disk: vec![7; 16].into(),
            host: format!("host-{node_id}"),
            rpc_port: 9093,
            ..wire::QuorumMember::default()
        }
    }

    #[test]
    fn the_leader_is_where_its_own_log_ends_and_others_where_they_were_heard() {
        let answer = wire::DescribeClusterResponse {
            active_controller: 1,
            quorum: vec![member(1, None), member(2, Some(7)), member(3, None)],
            last_log_index: 9,
            applied_index: 8,
            ..wire::DescribeClusterResponse::default()
        };
        let view = view(answer).unwrap();
        let ends: Vec<_> = view.members.iter().map(|one| one.last_log_index).collect();
        assert_eq!(ends, [Some(9), Some(7), None]);
        assert_eq!((view.leader, view.committed_index), (NodeId(1), 8));
    }

    #[test]
    fn a_member_without_a_disk_is_refused() {
        let mut one = member(1, None);
        one.disk = bytes::Bytes::new();
        let answer = wire::DescribeClusterResponse {
            quorum: vec![one],
            ..wire::DescribeClusterResponse::default()
        };
        assert!(view(answer).is_err());
    }
}
