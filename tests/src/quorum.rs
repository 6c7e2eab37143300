//! Who votes on a cluster's metadata, as its brokers say?

use std::time::Duration;

use rpc::admin::v1::DescribeClusterRequest;
use rpc::admin::v1::admin_client::AdminClient;

use crate::cluster::{Cluster, Pod};
use crate::disk;

/// The gRPC port of every pod.
const RPC_PORT: u16 = 9090;
/// A broker that does not answer by then is asked again by the caller.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A member of the metadata quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its Kafka node id.
    pub node_id: i32,
    /// Its disk.
    pub raft_id: u64,
    /// Whether it votes, or only follows.
    pub is_voter: bool,
}

/// What one broker knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The members, in order.
    pub members: Vec<Member>,
    /// The Kafka node id of the active controller, when it is known.
    pub active_controller: Option<i32>,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated: u32,
    /// Kafka node ids of the fenced brokers.
    pub fenced: Vec<i32>,
}

/// What the broker of `pod` knows; `None` when it does not answer.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn view(cluster: &Cluster, pod: &Pod) -> Option<View> {
    let cluster_id = disk::cluster_id(&cluster.data_dir())?;
    let url = format!("http://{}:{RPC_PORT}", pod.ip);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let asked = runtime.block_on(async {
        let ask = async {
            let mut client = AdminClient::connect(url).await.ok()?;
            let request = DescribeClusterRequest {
                version: 1,
                cluster_id,
            };
            client.describe_cluster(request).await.ok()
        };
        tokio::time::timeout(TIMEOUT, ask).await.ok().flatten()
    });
    let answer = asked?.into_inner();
    let mut members: Vec<_> = answer
        .quorum
        .iter()
        .map(|member| Member {
            node_id: member.node_id,
            raft_id: member.raft_id,
            is_voter: member.voter,
        })
        .collect();
    members.sort_unstable();
    let fenced = answer.brokers.iter().filter(|broker| broker.fenced);
    Some(View {
        members,
        active_controller: Some(answer.active_controller).filter(|id| *id >= 0),
        under_replicated: answer.under_replicated_partitions,
        fenced: fenced.map(|broker| broker.node_id).collect(),
    })
}
