//! DescribeLogDirs (key 35): how large are the logs of this broker, and how much room is left (KIP-113, KIP-827)?

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use types::ErrorCode;
use wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::kafka::context::RequestContext;
use crate::replication::PartitionSnapshot;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let replicas = &cx.broker.replicas;
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let wanted = request.topics.as_deref().map(by_name);
    for snapshot in replicas.snapshots() {
        let name = &snapshot.partition.name;
        let is_wanted = wanted.as_ref().is_none_or(|wanted| {
            let partitions = wanted.get(name.as_ref());
            partitions.is_some_and(|all| all.contains(&snapshot.partition.partition))
        });
        if is_wanted {
            topics
                .entry(Arc::clone(name))
                .or_default()
                .push(partition(&snapshot));
        }
    }
    let (error, total_bytes, usable_bytes) = match replicas.volume().await {
        Ok(volume) => (ErrorCode::None, clamp(volume.total), clamp(volume.free)),
        Err(error) => {
            tracing::warn!(%error, "failed to ask for the size of the log directory's volume");
            (ErrorCode::KafkaStorageError, -1, -1)
        }
    };
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: error.code(),
            log_dir: replicas.log_root().display().to_string(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic {
                    name: name.to_string(),
                    partitions,
                    ..DescribeLogDirsTopic::default()
                })
                .collect(),
            total_bytes,
            usable_bytes,
            ..DescribeLogDirsResult::default()
        }],
        ..DescribeLogDirsResponse::default()
    }
}

fn by_name(topics: &[DescribableLogDirTopic]) -> HashMap<&str, HashSet<i32>> {
    let mut wanted: HashMap<&str, HashSet<i32>> = HashMap::new();
    for topic in topics {
        let partitions = wanted.entry(&topic.topic).or_default();
        partitions.extend(topic.partitions.iter().copied());
    }
    wanted
}

fn partition(snapshot: &PartitionSnapshot) -> DescribeLogDirsPartition {
    let behind = snapshot.high_watermark.0 - snapshot.log_end_offset.0;
    DescribeLogDirsPartition {
        partition_index: snapshot.partition.partition,
        partition_size: clamp(snapshot.size_bytes),
        // By how much the log's end lies behind the HW that it knows.
        offset_lag: behind.max(0),
        // There is one directory: no log is on its way to another.
        is_future_key: false,
        ..DescribeLogDirsPartition::default()
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
