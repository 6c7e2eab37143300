//! Which loads are run, against which clusters, in which order?
//!
//! Every load goes to every target before its next repeat (A/B/A/B), so that a noisy machine disturbs all alike;
//! medians are printed as a table and everything as JSON. The client is this program for every target: blocking
//! sockets, prebuilt batches, several requests in flight per broker.

mod cluster;
mod connection;
mod consume;
mod end_to_end;
mod failover;
mod latency;
mod partitions;
mod process;
mod produce;
mod report;
mod start;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use types::Compression;

pub(crate) use cluster::Target;
pub(crate) use report::Figure;

/// Measures Kafka-compatible clusters with one client, alternating between them.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// NAME=HOST:PORT[,HOST:PORT][@PID[,PID...]]: a cluster, and its broker processes for CPU and memory
    #[arg(long = "target", required = true)]
    targets: Vec<String>,
    /// NAME=KEY=VALUE: configuration of the topics that are made on that target
    #[arg(long = "topic-config")]
    topic_configs: Vec<String>,
    /// NAME=COMMAND: starts what is stopped of that target (for --load start, partitions, leader and controller)
    #[arg(long = "start")]
    starts: Vec<String>,
    /// NAME=COMMAND: stops it again
    #[arg(long = "stop")]
    stops: Vec<String>,
    /// NAME=COMMAND: kills one broker of that target (for --load partitions), or broker $NODE (leader, controller)
    #[arg(long = "kill")]
    kills: Vec<String>,
    /// NAME=COMMAND: restarts broker $NODE of that target (for --load roll)
    #[arg(long = "restart")]
    restarts: Vec<String>,
    /// Loads to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Load::Latency, Load::Produce, Load::Consume])]
    load: Vec<Load>,
    /// How often each load runs against each target
    #[arg(long, default_value_t = 3)]
    repeats: u32,
    /// Replication factor of the topics
    #[arg(long, default_value_t = 1)]
    replication_factor: i16,
    /// Partitions of the throughput topic
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Records in a batch
    #[arg(long, default_value_t = 128)]
    batch_records: usize,
    /// Compression of the batches
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Megabytes (10^6) of values that one throughput run produces
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
    /// Requests of one latency run
    #[arg(long, default_value_t = 3_000)]
    requests: u32,
    /// Leave the throughput topics for later runs of consume alone
    #[arg(long)]
    keep: bool,
    /// Where to write all figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Load {
    /// One request of one record in flight, acks=all
    Latency,
    /// Idempotent acks=all batches to all partitions
    Produce,
    /// Everything that the last produce run left, from the start
    Consume,
    /// From starting the stopped brokers to the first acknowledged record of a new topic
    Start,
    /// From when a record is due, one a millisecond, to when a waiting consumer has it
    EndToEnd,
    /// The longest time without an acknowledgement when the leader of one partition goes by --kill
    Leader,
    /// The longest time without a new topic when the active controller goes by --kill
    Controller,
    /// Latency and gaps of acknowledgements while one broker after another is restarted
    Roll,
    /// Until every partition of a topic acknowledges a record: a new one, after --stop (a kill of all) and --start, after --kill
    Partitions,
}

impl Load {
    const fn stops_brokers(self) -> bool {
        matches!(
            self,
            Self::Start | Self::Partitions | Self::Leader | Self::Controller | Self::Roll
        )
    }
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Parses the command line, runs everything, prints the table.
pub(crate) fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let starting = args.load.iter().any(|load| load.stops_brokers());
    anyhow::ensure!(
        !starting || args.load.len() == 1,
        "--load start, partitions, leader, controller and roll run alone: they stop brokers"
    );
    let targets = args
        .targets
        .iter()
        .map(|text| Target::parse(text)?.with_topic_configs(&args.topic_configs))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    for target in targets.iter().filter(|_| !starting) {
        figures.extend(process::memory(target, "idle"));
    }
    for repeat in 0..args.repeats {
        for load in &args.load {
            for target in &targets {
                let found = one(&args, *load, target, repeat).with_context(|| {
                    format!("{load:?} against {}, repeat {repeat}", target.name)
                })?;
                figures.extend(found);
            }
        }
        if args.load.contains(&Load::Produce) && !args.keep {
            for target in &targets {
                cluster::delete_topic(target, &topic(&args, Load::Produce, repeat))?;
            }
        }
    }
    for target in targets.iter().filter(|_| !starting) {
        figures.extend(process::memory(target, "loaded"));
        for load in [Load::Latency, Load::EndToEnd] {
            if args.load.contains(&load) {
                cluster::delete_topic(target, &topic(&args, load, 0))?;
            }
        }
    }
    report::print(&figures)?;
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Topics carry the replication factor, so that runs with another one do not meet; each throughput run has a topic
/// of its own, since a client may meet what is left of a topic deleted a moment ago under the same name.
fn topic(args: &Args, load: Load, repeat: u32) -> String {
    let factor = args.replication_factor;
    match load {
        Load::Latency => format!("bench-latency-rf{factor}"),
        Load::EndToEnd => format!("bench-end-to-end-rf{factor}"),
        Load::Leader => format!("bench-leader-rf{factor}-{repeat}"),
        Load::Controller => format!("bench-controller-rf{factor}-{repeat}"),
        Load::Roll => format!("bench-roll-rf{factor}-{repeat}"),
        Load::Start => format!("bench-start-rf{factor}-{repeat}"),
        Load::Partitions => format!("bench-partitions-rf{factor}-{repeat}"),
        Load::Produce | Load::Consume => format!("bench-throughput-rf{factor}-{repeat}"),
    }
}

fn one(args: &Args, load: Load, target: &Target, repeat: u32) -> anyhow::Result<Vec<Figure>> {
    let topic = topic(args, load, repeat);
    let shape = produce::Shape {
        record_bytes: args.record_bytes,
        batch_records: args.batch_records,
        megabytes: args.megabytes,
        codec: args.compression.into(),
    };
    match load {
        Load::Latency => {
            cluster::ensure_topic(target, &topic, 1, args.replication_factor)?;
            latency::run(target, &topic, args.requests, args.record_bytes)
        }
        Load::Produce => {
            cluster::ensure_topic(target, &topic, args.partitions, args.replication_factor)?;
            produce::run(target, &topic, &shape)
        }
        Load::Consume => consume::run(target, &topic),
        Load::EndToEnd => {
            cluster::ensure_topic(target, &topic, 1, args.replication_factor)?;
            end_to_end::run(target, &topic, args.requests, args.record_bytes)
        }
        Load::Start | Load::Partitions | Load::Leader | Load::Controller | Load::Roll => {
            outage(args, load, target, &topic)
        }
    }
}

/// The loads that stop brokers.
fn outage(args: &Args, load: Load, target: &Target, topic: &str) -> anyhow::Result<Vec<Figure>> {
    let start = || start::command(&args.starts, target, "--start");
    let stop = || start::command(&args.stops, target, "--stop");
    let kill = || start::command(&args.kills, target, "--kill");
    let factor = args.replication_factor;
    match load {
        Load::Leader => failover::leader(target, topic, factor, kill()?, start()?),
        Load::Controller => failover::controller(target, topic, factor, kill()?, start()?),
        Load::Roll => {
            let restart = start::command(&args.restarts, target, "--restart")?;
            failover::roll(target, topic, factor, restart)
        }
        Load::Partitions => {
            let commands = partitions::Commands {
                start: start()?,
                stop: stop()?,
                kill: kill()?,
            };
            partitions::run(target, topic, args.partitions, factor, commands)
        }
        _ => start::run(target, topic, factor, start()?, stop()?),
    }
}
