//! How long does one acks=all record take when nothing else is in flight?

use std::time::Instant;

use anyhow::{Context as _, bail};
use types::builder::BatchBuilder;
use wire::messages::ProduceRequest;
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};

use super::connection::Connection;
use super::produce::{PRODUCE, await_writable, now_ms};
use super::{Figure, Target, cluster};

const WARM_UP: u32 = 300;

/// p50, p99 and p99.9 in milliseconds.
pub(crate) fn run(
    target: &Target,
    topic: &str,
    requests: u32,
    record_bytes: usize,
) -> anyhow::Result<Vec<Figure>> {
    let leaders = cluster::leaders(target, topic)?;
    let (leader, _) = leaders.first_key_value().context("no leader")?;
    await_writable(leader, topic, &[0])?;
    let mut connection = Connection::open(leader)?;
    let mut builder = BatchBuilder::new();
    builder.push(now_ms(), None, Some(&vec![b'x'; record_bytes]));
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(builder.build()?),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut millis = Vec::with_capacity(requests as usize);
    for n in 0..WARM_UP + requests {
        let start = Instant::now();
        let response = connection.call(PRODUCE, &request)?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        let code = response.responses[0].partition_responses[0].error_code;
        if code != 0 {
            bail!("produce failed with {code}");
        }
        if n >= WARM_UP {
            millis.push(elapsed);
        }
    }
    millis.sort_by(f64::total_cmp);
    let at = |share| at(&millis, share);
    Ok(vec![
        Figure::new(target, "ack latency p50, 1 in flight", "ms", at(0.5)),
        Figure::new(target, "ack latency p99, 1 in flight", "ms", at(0.99)),
        Figure::new(target, "ack latency p99.9, 1 in flight", "ms", at(0.999)),
    ])
}

/// The value below which that share of the sorted values lies; zero of none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index"
)]
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(index).copied().unwrap_or_default()
}
