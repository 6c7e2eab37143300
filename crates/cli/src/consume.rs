//! How do a topic's records get to standard output?

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use client::{Consumer, ConsumerOptions, ConsumerRecord, StartAt};
use types::TopicPartition;

use crate::args::Endpoint;
use crate::endpoint::connect;

/// How long one poll waits; the loop goes on after it.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct ConsumeArgs {
    /// Topic to consume
    topic: String,
    /// Consume as a member of this group, and commit
    #[arg(long, short)]
    group: Option<String>,
    /// Begin at the oldest record; with --group, where the group has committed nothing
    #[arg(long)]
    from_beginning: bool,
    /// End after this many records
    #[arg(long, short = 'n')]
    max_messages: Option<u64>,
    /// Print `PARTITION OFFSET KEY VALUE`, separated by tabs, instead of the value
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Consumes until Ctrl-C or --max-messages.
pub(crate) async fn run(args: ConsumeArgs) -> anyhow::Result<ExitCode> {
    let mut consumer = consumer(&args).await?;
    let mut left = args.max_messages.unwrap_or(u64::MAX);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while left > 0 {
        let records = tokio::select! {
            records = consumer.poll(POLL) => records?,
            signal = &mut interrupted => {
                signal.context("failed to listen for Ctrl-C")?;
                break;
            }
        };
        let take = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(records.len());
        print(&records[..take], args.verbose)?;
        left -= take as u64;
        if args.group.is_some() && take > 0 {
            let next = records[..take].iter().map(|record| {
                (
                    TopicPartition::new(record.topic.clone(), record.partition),
                    record.offset.plus(1),
                )
            });
            consumer.commit_offsets(&next.collect()).await?;
        }
    }
    consumer.close().await?;
    Ok(ExitCode::SUCCESS)
}

async fn consumer(args: &ConsumeArgs) -> anyhow::Result<Consumer> {
    let client = connect(&args.endpoint).await?;
    let reset = if args.from_beginning {
        client::OffsetReset::Earliest
    } else {
        client::OffsetReset::Latest
    };
    if let Some(group) = &args.group {
        let options = ConsumerOptions {
            offset_reset: reset,
            auto_commit: false,
            ..ConsumerOptions::group(group)
        };
        let mut consumer = Consumer::new(client, options)?;
        consumer.subscribe([args.topic.as_str()])?;
        return Ok(consumer);
    }
    let metadata = client.topic_metadata(&args.topic).await?;
    let topic = metadata
        .topics
        .get(&args.topic)
        .with_context(|| format!("there is no topic {:?}", args.topic))?;
    let start = if args.from_beginning {
        StartAt::Earliest
    } else {
        StartAt::Latest
    };
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            (
                TopicPartition::new(args.topic.as_str(), partition.index),
                start,
            )
        })
        .collect();
    let mut consumer = Consumer::new(
        client,
        ConsumerOptions {
            offset_reset: reset,
            ..ConsumerOptions::default()
        },
    )?;
    consumer.assign(partitions).await?;
    Ok(consumer)
}

fn print(records: &[ConsumerRecord], verbose: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for record in records {
        if verbose {
            write!(out, "{}\t{}\t", record.partition, record.offset)?;
            out.write_all(record.key.as_deref().unwrap_or_default())?;
            out.write_all(b"\t")?;
        }
        out.write_all(record.value.as_deref().unwrap_or_default())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
