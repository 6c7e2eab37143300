//! How long does a record take from the producer to a consumer that waits for it?

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use types::BatchIter;
use types::builder::BatchBuilder;
use wire::messages::fetch_request::{FetchPartition, FetchTopic};
use wire::messages::produce_request::PartitionProduceData;
use wire::messages::{FetchRequest, ProduceRequest};

use super::connection::Connection;
use super::consume::FETCH;
use super::produce::{PRODUCE, await_writable, now_ms, request};
use super::{Figure, Target, cluster, latency};

/// One record a millisecond.
const PERIOD: Duration = Duration::from_millis(1);
const WARM_UP: usize = 500;
/// Produce requests in flight at most; a producer that has to wait is late, and the lateness counts.
const IN_FLIGHT: usize = 5;

/// p50, p99 and p99.9 in milliseconds, from the instant when a record was due to the one when its fetch was answered.
pub(crate) fn run(
    target: &Target,
    topic: &str,
    records: u32,
    record_bytes: usize,
) -> anyhow::Result<Vec<Figure>> {
    let leaders = cluster::leaders(target, topic)?;
    let (leader, _) = leaders.first_key_value().context("no leader")?;
    await_writable(leader, topic, &[0])?;
    let first = cluster::end_offset(target, topic)?;
    let count = WARM_UP + records as usize;
    let (due, when_due) = mpsc::sync_channel(count);
    let received = std::thread::scope(|scope| -> anyhow::Result<Vec<Instant>> {
        let producer = scope.spawn(move || produce(leader, topic, record_bytes, count, &due));
        let received = consume(leader, topic, first, count);
        producer
            .join()
            .unwrap_or_else(|_| bail!("the producer's thread panicked"))?;
        received
    })?;
    let due: Vec<Instant> = when_due.try_iter().collect();
    ensure!(due.len() == received.len(), "a record is missing");
    let pairs = due.iter().zip(&received).skip(WARM_UP);
    let mut millis: Vec<f64> = pairs
        .map(|(due, received)| (*received - *due).as_secs_f64() * 1e3)
        .collect();
    millis.sort_by(f64::total_cmp);
    let figure = |name: &str, share| {
        let name = format!("end-to-end latency {name}, 1,000 a second");
        Figure::new(target, &name, "ms", latency::at(&millis, share))
    };
    Ok(vec![
        figure("p50", 0.5),
        figure("p99", 0.99),
        figure("p99.9", 0.999),
    ])
}

/// A record when it is due, none waits for another to fill its batch.
fn produce(
    leader: &str,
    topic: &str,
    record_bytes: usize,
    count: usize,
    due: &mpsc::SyncSender<Instant>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(leader)?;
    let value = vec![b'x'; record_bytes];
    let mut in_flight = 0;
    let mut at = Instant::now() + PERIOD;
    for _ in 0..count {
        while let Some(early) = at.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(early);
        }
        due.send(at).context("nobody takes the instants")?;
        let mut builder = BatchBuilder::new();
        builder.push(now_ms(), None, Some(&value));
        let data = PartitionProduceData {
            index: 0,
            records: Some(builder.build()?),
            ..Default::default()
        };
        connection.send(PRODUCE, &request(topic, vec![data]))?;
        in_flight += 1;
        if in_flight == IN_FLIGHT {
            taken(&mut connection)?;
            in_flight -= 1;
        }
        at += PERIOD;
    }
    for _ in 0..in_flight {
        taken(&mut connection)?;
    }
    Ok(())
}

fn taken(connection: &mut Connection) -> anyhow::Result<()> {
    let response = connection.receive::<ProduceRequest>(PRODUCE)?;
    let answers = response.responses.first();
    let answer = answers.and_then(|topic| topic.partition_responses.first());
    let code = answer.context("an empty produce response")?.error_code;
    ensure!(code == 0, "a record was refused with {code}");
    Ok(())
}

/// When each record from `first` on was there.
fn consume(leader: &str, topic: &str, first: i64, count: usize) -> anyhow::Result<Vec<Instant>> {
    let mut connection = Connection::open(leader)?;
    let mut received = Vec::with_capacity(count);
    let mut next = first;
    while received.len() < count {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1024 * 1024,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: vec![FetchPartition {
                    partition: 0,
                    current_leader_epoch: -1,
                    fetch_offset: next,
                    partition_max_bytes: 1024 * 1024,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = connection.call(FETCH, &request)?;
        let now = Instant::now();
        let answers = response.responses.first();
        let answer = answers.and_then(|topic| topic.partitions.first());
        let answer = answer.context("an empty fetch response")?;
        ensure!(
            answer.error_code == 0,
            "a fetch was refused with {}",
            answer.error_code
        );
        for chunk in answer.records.iter().flat_map(|records| records.chunks()) {
            for (header, _) in BatchIter::new(chunk).map_while(Result::ok) {
                next = header.next_offset().0;
            }
        }
        let there = usize::try_from(next - first)?;
        received.resize(there.min(count), now);
    }
    Ok(received)
}
