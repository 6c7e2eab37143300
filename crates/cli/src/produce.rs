//! How do lines of standard input become records?

use std::process::ExitCode;

use anyhow::bail;
use client::{Delivery, Producer, ProducerOptions, ProducerRecord};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::args::{Endpoint, complain};
use crate::endpoint::connect;

/// Records whose acknowledgement is not yet looked at; the producer's own buffer is bounded in bytes.
const UNSEEN_ACKS: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct ProduceArgs {
    /// Topic to produce to
    topic: String,
    /// Text between key and value of a line; without it, a line is a value
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
    /// Partition; without it, by the key's hash as Java's producer does
    #[arg(long, short)]
    partition: Option<i32>,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// One line one record, acks=all, idempotent; says how many were acknowledged.
pub(crate) async fn run(args: ProduceArgs) -> anyhow::Result<ExitCode> {
    let producer = Producer::new(connect(&args.endpoint).await?, ProducerOptions::default())?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut unseen: Vec<Delivery> = Vec::new();
    let mut acknowledged = 0_u64;
    while let Some(line) = lines.next_line().await? {
        unseen.push(producer.send(record(&args, line)?).await?);
        if unseen.len() == UNSEEN_ACKS {
            acknowledged += settle(&mut unseen).await?;
        }
    }
    acknowledged += settle(&mut unseen).await?;
    producer.close().await;
    complain(&format!("{acknowledged} records acknowledged"));
    Ok(ExitCode::SUCCESS)
}

fn record(args: &ProduceArgs, line: String) -> anyhow::Result<ProducerRecord> {
    let record = match &args.key_separator {
        None => ProducerRecord::new(args.topic.as_str(), line),
        Some(separator) => {
            let Some((key, value)) = line.split_once(separator.as_str()) else {
                bail!("the line {line:?} has no {separator:?} between key and value");
            };
            ProducerRecord::new(args.topic.as_str(), value.to_owned()).key(key.to_owned())
        }
    };
    Ok(match args.partition {
        Some(partition) => record.partition(partition),
        None => record,
    })
}

async fn settle(unseen: &mut Vec<Delivery>) -> anyhow::Result<u64> {
    let mut count = 0;
    for delivery in unseen.drain(..) {
        delivery.wait().await?;
        count += 1;
    }
    Ok(count)
}
