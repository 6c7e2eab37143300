//! How many megabytes a second does a cluster hand to a consumer that reads everything from the start?

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, bail};
use types::BatchIter;
use wire::messages::FetchRequest;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};

use super::connection::Connection;
use super::{Figure, Target, cluster, process};

pub(crate) const FETCH: i16 = 11;
const MAX_BYTES: i32 = 50 * 1024 * 1024;
const PARTITION_MAX_BYTES: i32 = 1024 * 1024;

/// Runs one thread a broker, each fetching what that broker leads up to its high watermarks.
pub(crate) fn run(target: &Target, topic: &str) -> anyhow::Result<Vec<Figure>> {
    let leaders = cluster::leaders(target, topic)?;
    let cpu = process::cpu_seconds(target);
    let start = Instant::now();
    let results: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = leaders
            .iter()
            .map(|(leader, mine)| scope.spawn(move || one_leader(leader, topic, mine)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a load thread panicked")))
            })
            .collect()
    });
    let bytes: u64 = results
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .sum();
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let megabytes = bytes as f64 / 1e6;
    let mut figures = vec![Figure::new(target, "consume", "MB/s", megabytes / seconds)];
    if !target.pids.is_empty() {
        let used = process::cpu_seconds(target) - cpu;
        figures.push(Figure::new(
            target,
            "broker CPU per consumed GB",
            "CPU-s/GB",
            used / (megabytes / 1e3),
        ));
    }
    Ok(figures)
}

fn one_leader(leader: &str, topic: &str, partitions: &[i32]) -> anyhow::Result<u64> {
    let mut connection = Connection::open(leader)?;
    let mut next: BTreeMap<i32, i64> = partitions.iter().map(|partition| (*partition, 0)).collect();
    let mut bytes = 0;
    while !next.is_empty() {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: next
                    .iter()
                    .map(|(partition, offset)| FetchPartition {
                        partition: *partition,
                        current_leader_epoch: -1,
                        fetch_offset: *offset,
                        partition_max_bytes: PARTITION_MAX_BYTES,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = connection.call(FETCH, &request)?;
        for partition in response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            if partition.error_code != 0 {
                bail!(
                    "partition {} refused a fetch with {}",
                    partition.partition_index,
                    partition.error_code
                );
            }
            let offset = next
                .get_mut(&partition.partition_index)
                .context("a partition that was not asked for")?;
            for chunk in partition
                .records
                .iter()
                .flat_map(|records| records.chunks())
            {
                bytes += chunk.len() as u64;
                advance(offset, chunk);
            }
            if *offset >= partition.high_watermark {
                next.remove(&partition.partition_index);
            }
        }
    }
    Ok(bytes)
}

/// Past the last whole batch; a partial one at the end is fetched again.
fn advance(offset: &mut i64, chunk: &[u8]) {
    for (header, _) in BatchIter::new(chunk).map_while(Result::ok) {
        *offset = header.next_offset().0;
    }
}
