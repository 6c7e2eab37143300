//! How long does nobody acknowledge anything when a partition's leader goes, when the active controller goes, when one broker after another
//! is restarted?

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use types::ErrorCode;
use types::builder::BatchBuilder;
use types::{ProducerEpoch, ProducerId};
use wire::messages::ProduceRequest;
use wire::messages::produce_request::PartitionProduceData;

use super::connection::Connection;
use super::produce::{PRODUCE, now_ms, producer_id, request};
use super::start::shell_for;
use super::{Figure, Target, cluster, latency};

/// Longest wait for one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to reach whoever leads.
const PACE: Duration = Duration::from_millis(1);
/// How long a quiet cluster is written to, before and after what happens to it.
const STEADY: Duration = Duration::from_secs(3);
/// Topics made before the active controller goes.
const TOPICS: u32 = 10;

/// A producer with one idempotent record in flight to partition 0, which asks for the leader again when it is refused.
#[derive(Debug)]
struct Writer<'a> {
    target: &'a Target,
    topic: &'a str,
    id: ProducerId,
    epoch: ProducerEpoch,
    connection: Option<Connection>,
    /// When each record was first sent, and how long its acknowledgement took.
    acknowledged: Vec<(Instant, Duration)>,
}

impl<'a> Writer<'a> {
    fn new(target: &'a Target, topic: &'a str) -> anyhow::Result<Self> {
        let id = producer_id(&mut target.any()?)?;
        Ok(Self {
            target,
            topic,
            id: ProducerId(id.producer_id),
            epoch: ProducerEpoch(id.producer_epoch),
            connection: None,
            acknowledged: Vec::new(),
        })
    }

    /// Writes one record, however often it takes.
    fn write(&mut self) -> anyhow::Result<()> {
        let sequence = i32::try_from(self.acknowledged.len())?;
        let mut builder = BatchBuilder::new().producer(self.id, self.epoch, sequence);
        builder.push(now_ms(), None, Some(&sequence.to_be_bytes()));
        let data = PartitionProduceData {
            index: 0,
            records: Some(builder.build()?),
            ..Default::default()
        };
        let request = request(self.topic, vec![data]);
        let began = Instant::now();
        while !self.attempt(&request)? {
            ensure!(
                began.elapsed() < PATIENCE,
                "record {sequence} was not acknowledged within {} s",
                PATIENCE.as_secs()
            );
            self.connection = None;
            std::thread::park_timeout(PACE);
        }
        self.acknowledged.push((began, began.elapsed()));
        Ok(())
    }

    /// Whether it was acknowledged; who cannot be reached, or does not lead, is no error.
    fn attempt(&mut self, request: &ProduceRequest) -> anyhow::Result<bool> {
        if self.connection.is_none() {
            let led = cluster::led(self.target, self.topic).unwrap_or_default();
            let leader = led.into_keys().next();
            self.connection = leader.and_then(|leader| Connection::open(&leader).ok());
        }
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        let Ok(response) = connection.call(PRODUCE, request) else {
            return Ok(false);
        };
        let answers = response.responses.first();
        let answer = answers.and_then(|topic| topic.partition_responses.first());
        let code = answer.context("an empty produce response")?.error_code;
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None | ErrorCode::DuplicateSequenceNumber) => Ok(true),
            Some(code) if code.is_retriable() => Ok(false),
            code => bail!("a record was refused: {code:?}"),
        }
    }

    /// Writes for as long as it says.
    fn write_for(&mut self, long: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < long {
            self.write()?;
        }
        Ok(())
    }

    /// Writes while something is done to the cluster, and for a while after that.
    fn write_while(
        &mut self,
        done: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let other = scope.spawn(done);
            while !other.is_finished() {
                self.write()?;
            }
            other
                .join()
                .unwrap_or_else(|_| bail!("the thread of the command panicked"))
        })?;
        self.write_for(STEADY)
    }

    /// Seconds of the longest time from one acknowledgement to the next, of those from the `from`th on.
    fn longest_gap(&self, from: usize) -> f64 {
        let at = |&(sent, took): &(Instant, Duration)| sent + took;
        let pairs = self.acknowledged.windows(2).skip(from.saturating_sub(1));
        let gaps = pairs.map(|pair| at(&pair[1]) - at(&pair[0]));
        gaps.max().unwrap_or_default().as_secs_f64()
    }

    /// What the log lacks of what was acknowledged, and what it has too much.
    fn lost_and_doubled(&self) -> anyhow::Result<[Figure; 2]> {
        let end = cluster::end_offset(self.target, self.topic)?;
        let wanted = i64::try_from(self.acknowledged.len())?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let figure = |what, count: i64| {
            let count = count.max(0) as f64;
            Figure::new(self.target, what, "records", count)
        };
        Ok([
            figure("acknowledged and not there", wanted - end),
            figure("there and too many", end - wanted),
        ])
    }
}

/// The leader of the only partition goes by `kill`, and comes back by `start`; both get its id as NODE.
pub(crate) fn leader(
    target: &Target,
    topic: &str,
    replication_factor: i16,
    kill: &str,
    start: &str,
) -> anyhow::Result<Vec<Figure>> {
    cluster::ensure_topic(target, topic, 1, replication_factor)?;
    let mut writer = Writer::new(target, topic)?;
    writer.write_for(STEADY)?;
    let node = cluster::leader_of_first(target, topic)?;
    let before = writer.acknowledged.len();
    writer.write_while(|| shell_for(kill, node))?;
    let gap = writer.longest_gap(before);
    shell_for(start, node)?;
    cluster::leaders(target, topic)?;
    let mut figures = vec![Figure::new(
        target,
        "leader gone: longest gap in acks",
        "s",
        gap,
    )];
    figures.extend(writer.lost_and_doubled()?);
    cluster::delete_topic(target, topic)?;
    Ok(figures)
}

/// The active controller goes by `kill` while topics are made, and comes back by `start`; both get its id as NODE.
pub(crate) fn controller(
    target: &Target,
    topic: &str,
    replication_factor: i16,
    kill: &str,
    start: &str,
) -> anyhow::Result<Vec<Figure>> {
    let name = |n: u32| format!("{topic}-{n}");
    let create = |n: u32| cluster::create_topic_patiently(target, &name(n), 1, replication_factor);
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    for n in 0..TOPICS {
        create(n)?;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let steady = longest;
    let node = cluster::active_controller(target)?;
    let made = std::thread::scope(|scope| -> anyhow::Result<u32> {
        let killing = scope.spawn(|| shell_for(kill, node));
        let began = Instant::now();
        let mut n = TOPICS;
        while !killing.is_finished() || began.elapsed() < STEADY {
            create(n)?;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            n += 1;
        }
        killing
            .join()
            .unwrap_or_else(|_| bail!("the thread of the command panicked"))?;
        Ok(n)
    })?;
    shell_for(start, node)?;
    for n in 0..made {
        cluster::leaders(target, &name(n))?;
        cluster::delete_topic(target, &name(n))?;
    }
    let figure = |what, gap: Duration| Figure::new(target, what, "s", gap.as_secs_f64());
    Ok(vec![
        figure("controller there: longest gap in create-topic", steady),
        figure("controller gone: longest gap in create-topic", longest),
    ])
}

/// One broker after another is restarted by `restart`, which gets its id as NODE, each when all replicas are in sync again.
pub(crate) fn roll(
    target: &Target,
    topic: &str,
    replication_factor: i16,
    restart: &str,
) -> anyhow::Result<Vec<Figure>> {
    cluster::ensure_topic(target, topic, 1, replication_factor)?;
    let mut writer = Writer::new(target, topic)?;
    writer.write_for(STEADY)?;
    let before = writer.acknowledged.len();
    let nodes = cluster::nodes(target)?;
    let began = Instant::now();
    writer.write_while(|| {
        for node in nodes {
            shell_for(restart, node)?;
            cluster::leaders(target, topic)?;
        }
        Ok(())
    })?;
    let took = began.elapsed() - STEADY;
    let millis = |which: &[(Instant, Duration)]| {
        let mut all: Vec<f64> = which
            .iter()
            .map(|(_, took)| took.as_secs_f64() * 1e3)
            .collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (steady, rolling) = writer.acknowledged.split_at(before);
    let p99 = |what, which| Figure::new(target, what, "ms", latency::at(&millis(which), 0.99));
    let mut figures = vec![
        p99("ack latency p99 before", steady),
        p99("ack latency p99 during", rolling),
        Figure::new(
            target,
            "longest gap in acks",
            "s",
            writer.longest_gap(before),
        ),
        Figure::new(
            target,
            "all restarted, all in sync",
            "s",
            took.as_secs_f64(),
        ),
    ];
    figures.extend(writer.lost_and_doubled()?);
    cluster::delete_topic(target, topic)?;
    Ok(figures)
}
