//! How long does a cluster of many partitions need until each of them acknowledges a record: a new topic, after all brokers were killed, after
//! one was?

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use types::ErrorCode;
use types::builder::BatchBuilder;
use wire::messages::ProduceRequest;
use wire::messages::produce_request::PartitionProduceData;

use super::connection::Connection;
use super::produce::{PRODUCE, now_ms, request};
use super::start::shell;
use super::{Figure, Target, cluster};

/// Longest wait for all partitions.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at a cluster that has partitions left which take nothing.
const PACE: Duration = Duration::from_millis(5);
/// Partitions in one request.
const CHUNK: usize = 500;

/// What is done to the cluster; `kill` leaves some broker running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commands<'a> {
    pub(crate) start: &'a str,
    pub(crate) stop: &'a str,
    pub(crate) kill: &'a str,
}

/// Makes the topic, kills all brokers and starts them, kills some of them and starts those.
pub(crate) fn run(
    target: &Target,
    topic: &str,
    partitions: i32,
    replication_factor: i16,
    commands: Commands<'_>,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut note = |what: &str, began: Instant| {
        figures.push(Figure::new(
            target,
            what,
            "s",
            began.elapsed().as_secs_f64(),
        ));
    };
    let began = Instant::now();
    cluster::create_topic(target, topic, partitions, replication_factor)?;
    note("create-topic answered", began);
    write_to_each(target, topic, partitions)?;
    note("create-topic until each partition acknowledged", began);
    shell(commands.stop)?;
    let began = Instant::now();
    shell(commands.start)?;
    write_to_each(target, topic, partitions)?;
    note(
        "start after all were killed until each partition acknowledged",
        began,
    );
    cluster::leaders(target, topic)?;
    let began = Instant::now();
    shell(commands.kill)?;
    write_to_each(target, topic, partitions)?;
    note(
        "kill of one broker until each partition acknowledged",
        began,
    );
    shell(commands.start)?;
    cluster::leaders(target, topic)?;
    cluster::delete_topic(target, topic)?;
    Ok(figures)
}

/// Produces one record to each partition, to whoever leads it, until each has acknowledged one.
fn write_to_each(target: &Target, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut left: BTreeSet<i32> = (0..partitions).collect();
    while !left.is_empty() {
        if Instant::now() > deadline {
            let patience = PATIENCE.as_secs();
            bail!(
                "{} partitions acknowledged nothing in {patience} s",
                left.len()
            );
        }
        // Whoever does not answer is asked again with the rest.
        for (leader, led) in cluster::led(target, topic).unwrap_or_default() {
            let wanted: Vec<i32> = led.into_iter().filter(|one| left.contains(one)).collect();
            for acknowledged in write(&leader, topic, &wanted).unwrap_or_default() {
                left.remove(&acknowledged);
            }
        }
        if !left.is_empty() {
            std::thread::park_timeout(PACE);
        }
    }
    Ok(())
}

/// One record to each of the partitions; those that acknowledged theirs.
fn write(leader: &str, topic: &str, partitions: &[i32]) -> anyhow::Result<Vec<i32>> {
    let mut connection = Connection::open(leader)?;
    let mut acknowledged = Vec::new();
    for chunk in partitions.chunks(CHUNK) {
        let data = chunk.iter().map(|partition| {
            let mut builder = BatchBuilder::new();
            builder.push(now_ms(), None, Some(b"one"));
            Ok(PartitionProduceData {
                index: *partition,
                records: Some(builder.build()?),
                ..Default::default()
            })
        });
        let request: ProduceRequest = request(topic, data.collect::<anyhow::Result<_>>()?);
        let response = connection.call(PRODUCE, &request)?;
        let answers = response.responses.into_iter().next();
        let answers = answers.context("an empty produce response")?;
        let taken = answers.partition_responses.iter();
        let taken = taken.filter(|one| one.error_code == ErrorCode::None.code());
        acknowledged.extend(taken.map(|one| one.index));
    }
    Ok(acknowledged)
}
