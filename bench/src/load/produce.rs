//! How many megabytes a second of idempotent acks=all batches does a cluster take?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use types::batch::set_producer;
use types::builder::BatchBuilder;
use types::{Compression, ErrorCode, ProducerEpoch, ProducerId};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest};

use super::connection::Connection;
use super::{Figure, Target, cluster, process};

/// The version that librdkafka 2.x uses at most minus what a topic id would need.
pub(crate) const PRODUCE: i16 = 9;
const INIT_PRODUCER_ID: i16 = 3;
/// As many as an idempotent producer may have (`max.in.flight.requests.per.connection`).
const IN_FLIGHT: usize = 5;

/// How much is produced, in which pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) record_bytes: usize,
    pub(crate) batch_records: usize,
    pub(crate) megabytes: u64,
    pub(crate) codec: Compression,
}

/// Runs one thread a broker; each request holds one batch for every partition that the broker leads.
pub(crate) fn run(target: &Target, topic: &str, shape: &Shape) -> anyhow::Result<Vec<Figure>> {
    let leaders = cluster::leaders(target, topic)?;
    let partitions: usize = leaders.values().map(Vec::len).sum();
    let batch_bytes = (shape.record_bytes * shape.batch_records) as u64;
    let rounds = (shape.megabytes * 1_000_000 / batch_bytes / partitions as u64).max(1);
    for (leader, mine) in &leaders {
        await_writable(leader, topic, mine)?;
    }
    let cpu = process::cpu_seconds(target);
    let start = Instant::now();
    let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = leaders
            .iter()
            .map(|(leader, mine)| {
                scope.spawn(move || one_leader(leader, topic, mine, shape, rounds))
            })
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
    results.into_iter().collect::<anyhow::Result<()>>()?;
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let megabytes = (rounds * partitions as u64 * batch_bytes) as f64 / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let records = megabytes * 1e6 / shape.record_bytes as f64;
    let mut figures = vec![
        Figure::new(target, "produce", "MB/s", megabytes / seconds),
        Figure::new(target, "produced records", "1/s", records / seconds),
    ];
    if !target.pids.is_empty() {
        let used = process::cpu_seconds(target) - cpu;
        figures.push(Figure::new(
            target,
            "broker CPU per produced GB",
            "CPU-s/GB",
            used / (megabytes / 1e3),
        ));
    }
    Ok(figures)
}

/// Produces one record to each partition of a new topic: a broker may know that it leads (and say so in its metadata)
/// a moment before it takes batches, which Apache Kafka then refuses with NOT_LEADER_OR_FOLLOWER.
pub(crate) fn await_writable(leader: &str, topic: &str, partitions: &[i32]) -> anyhow::Result<()> {
    let mut connection = Connection::open(leader)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    for partition in partitions {
        let mut builder = BatchBuilder::new();
        builder.push(now_ms(), None, Some(b"first"));
        let data = PartitionProduceData {
            index: *partition,
            records: Some(builder.build()?),
            ..Default::default()
        };
        let request = request(topic, vec![data]);
        loop {
            let response = connection.call(PRODUCE, &request)?;
            let code = response.responses[0].partition_responses[0].error_code;
            match ErrorCode::from_code(code) {
                Some(ErrorCode::None) => break,
                Some(code) if code.is_retriable() && Instant::now() < deadline => {}
                code => bail!("partition {partition} refused its first record: {code:?}"),
            }
        }
    }
    Ok(())
}

/// Records of 1970 would be deleted by retention in the middle of a run.
#[expect(
    clippy::cast_possible_truncation,
    reason = "milliseconds since 1970 fit 63 bits"
)]
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

pub(crate) fn request(topic: &str, partition_data: Vec<PartitionProduceData>) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn one_leader(
    leader: &str,
    topic: &str,
    partitions: &[i32],
    shape: &Shape,
    rounds: u64,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(leader)?;
    let id = producer_id(&mut connection)?;
    let mut sequence: BTreeMap<i32, i32> =
        partitions.iter().map(|partition| (*partition, 0)).collect();
    let mut in_flight = 0;
    // What is compressed is packed once: it is the broker that is measured.
    let packed = match shape.codec {
        Compression::None => None,
        _ => Some(batch(shape, id.producer_id, id.producer_epoch, 0)?),
    };
    for _ in 0..rounds {
        let mut data = Vec::with_capacity(partitions.len());
        for (partition, next) in &mut sequence {
            let records = match &packed {
                Some(packed) => numbered(packed, id.producer_id, id.producer_epoch, *next),
                None => batch(shape, id.producer_id, id.producer_epoch, *next)?,
            };
            *next = next.wrapping_add(i32::try_from(shape.batch_records)?) & i32::MAX;
            data.push(PartitionProduceData {
                index: *partition,
                records: Some(records),
                ..Default::default()
            });
        }
        connection.send(PRODUCE, &request(topic, data))?;
        in_flight += 1;
        if in_flight == IN_FLIGHT {
            acknowledged(&mut connection)?;
            in_flight -= 1;
        }
    }
    for _ in 0..in_flight {
        acknowledged(&mut connection)?;
    }
    Ok(())
}

/// Apache Kafka answers 14, 15 and 16 for a moment after its start: all retriable.
pub(crate) fn producer_id(connection: &mut Connection) -> anyhow::Result<InitProducerIdResponse> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let id = connection.call(INIT_PRODUCER_ID, &request)?;
        match ErrorCode::from_code(id.error_code) {
            Some(ErrorCode::None) => return Ok(id),
            Some(code) if code.is_retriable() && Instant::now() < deadline => {}
            code => bail!("InitProducerId failed: {code:?}"),
        }
    }
}

fn acknowledged(connection: &mut Connection) -> anyhow::Result<()> {
    let response = connection.receive::<ProduceRequest>(PRODUCE)?;
    for partition in &response
        .responses
        .first()
        .context("an empty produce response")?
        .partition_responses
    {
        if partition.error_code != 0 {
            bail!(
                "partition {} refused a batch with {}",
                partition.index,
                partition.error_code
            );
        }
    }
    Ok(())
}

/// A batch of records with equal values, or, to be compressed, with text of a few hundred words.
fn batch(shape: &Shape, producer_id: i64, epoch: i16, sequence: i32) -> anyhow::Result<Bytes> {
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(producer_id), ProducerEpoch(epoch), sequence)
        .compression(shape.codec);
    let equal = vec![b'v'; shape.record_bytes];
    let mut words = Words(1);
    for _ in 0..shape.batch_records {
        let value = match shape.codec {
            Compression::None => &equal,
            _ => &words.text(shape.record_bytes),
        };
        builder.push(now_ms(), None, Some(value));
    }
    Ok(builder.build()?)
}

/// The batch with another first sequence number.
fn numbered(batch: &Bytes, producer_id: i64, epoch: i16, sequence: i32) -> Bytes {
    let mut copy = batch.to_vec();
    let (id, epoch) = (ProducerId(producer_id), ProducerEpoch(epoch));
    set_producer(&mut copy, id, epoch, sequence);
    copy.into()
}

/// Text that compresses about as logs do: numbers and words chosen by a small generator.
struct Words(u64);

impl Words {
    fn text(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes + 16);
        while text.len() < bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = match self.0 % 4 {
                0 => format!("{} ", self.0 >> 40),
                _ => format!("word-{} ", (self.0 >> 8) % 300),
            };
            text.extend_from_slice(word.as_bytes());
        }
        text.truncate(bytes);
        text
    }
}
