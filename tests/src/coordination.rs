//! Who leads a partition or coordinates a group or a transactional id, what has a group committed, and how does that
//! broker die?

use std::time::Duration;

use wire::messages::metadata_request::MetadataRequestTopic;
use wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use wire::messages::{FindCoordinatorRequest, MetadataRequest, OffsetFetchRequest};

use crate::cluster::{Cluster, Pod, await_some};
use crate::raw::Raw;

/// A role of a broker that moves to another one when it dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Leads a partition of a topic.
    Leader(String, i32),
    /// Coordinates a group.
    Group(String),
    /// Coordinates a transactional id.
    Transactions(String),
}

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The address of a pod's (only) client listener.
#[must_use]
pub fn address(pod: &Pod) -> String {
    format!("{}:{}", pod.ip, 9092 + pod.port_offset)
}

/// The answer of a broker that is ready, and not the one that was just killed.
fn ask<T>(
    cluster: &Cluster,
    killed: Option<&Pod>,
    question: impl FnOnce(&mut Raw) -> T,
) -> Option<T> {
    let dead = |pod: &Pod| killed.is_some_and(|killed| killed.name == pod.name);
    let mut pods = cluster.pods().into_iter();
    let pod = pods.find(|pod| pod.ready && !dead(pod))?;
    Some(question(&mut Raw::connect(&address(&pod))))
}

fn leader_host(raw: &mut Raw, topic: &str, partition: i32) -> Option<String> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer = raw.call(9, &request);
    let partitions = &answer.topics.first()?.partitions;
    let leader = partitions
        .iter()
        .find(|p| p.partition_index == partition)?
        .leader_id;
    let broker = answer.brokers.iter().find(|b| b.node_id == leader)?;
    Some(broker.host.clone())
}

fn coordinator_host(raw: &mut Raw, key: &str, key_type: i8) -> Option<String> {
    let request = FindCoordinatorRequest {
        key: key.to_owned(),
        key_type,
        ..Default::default()
    };
    let answer = raw.call(3, &request);
    (answer.error_code == 0).then_some(answer.host)
}

impl Role {
    fn host(&self, raw: &mut Raw) -> Option<String> {
        match self {
            Self::Leader(topic, partition) => leader_host(raw, topic, *partition),
            Self::Group(group) => coordinator_host(raw, group, GROUP),
            Self::Transactions(id) => coordinator_host(raw, id, TRANSACTION),
        }
    }

    /// The pod that has the role now.
    #[must_use]
    pub fn holder(&self, cluster: &Cluster) -> Pod {
        await_some(&format!("somebody is {self:?}"), || {
            let host = ask(cluster, None, |raw| self.host(raw))??;
            cluster.pods().into_iter().find(|pod| pod.ip == host)
        })
    }

    /// The pod that has taken the role over from one that was just killed, as soon as another broker says so.
    #[must_use]
    pub fn successor(&self, cluster: &Cluster, killed: &Pod) -> Pod {
        await_some(&format!("another one is {self:?}"), || {
            let host = ask(cluster, Some(killed), |raw| self.host(raw))??;
            let mut pods = cluster.pods().into_iter();
            pods.find(|pod| pod.ip == host && pod.name != killed.name)
        })
    }

    /// Kills the broker that has the role with -9 and waits until it is back and everything is Ready; who it was, and
    /// how long that took.
    #[must_use]
    pub fn kill(&self, cluster: &Cluster) -> (String, Duration) {
        let victim = self.holder(cluster);
        let start = std::time::Instant::now();
        cluster.kill(&victim);
        (victim.name, start.elapsed())
    }
}

/// The sum of a group's committed offsets in the first `partitions` partitions of a topic (0 where there is none);
/// `None` while its coordinator cannot say, or an open transaction may still change them.
#[must_use]
pub fn committed(cluster: &Cluster, group: &str, topic: &str, partitions: i32) -> Option<i64> {
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: topic.to_owned(),
            partition_indexes: (0..partitions).collect(),
            ..Default::default()
        }]),
        require_stable: true,
        ..Default::default()
    };
    let coordinator = Role::Group(group.to_owned()).holder(cluster);
    if !coordinator.ready {
        return None;
    }
    let answer = Raw::connect(&address(&coordinator)).call(7, &request);
    if answer.error_code != 0 {
        return None;
    }
    let partitions = &answer.topics.first()?.partitions;
    partitions
        .iter()
        .map(|p| (p.error_code == 0).then_some(p.committed_offset.max(0)))
        .sum()
}
