//! Which topics are there, and how are their partitions?

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use client::{Admin, PartitionMetadata, TopicMetadata};
use serde_json::json;

use crate::args::{Endpoint, Output};
use crate::endpoint::connect;
use crate::status::columns;

#[derive(Debug, clap::Args)]
pub(crate) struct TopicsArgs {
    /// Show this topic's partitions instead of the list
    topic: Option<String>,
    /// Also list the cluster's own topics
    #[arg(long)]
    internal: bool,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) async fn run(args: TopicsArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(connect(&args.endpoint).await?);
    let mut topics = admin.list_topics().await?;
    match &args.topic {
        Some(name) if !topics.contains_key(name) => {
            let known: Vec<&str> = topics.keys().map(String::as_str).collect();
            let hint = config::key::nearest(name, known)
                .map(|near| format!(": did you mean {near}?"))
                .unwrap_or_default();
            bail!("there is no topic {name:?}{hint}");
        }
        Some(name) => topics.retain(|topic, _| topic == name),
        None => topics.retain(|_, topic| args.internal || !topic.is_internal),
    }
    let topics: Vec<TopicMetadata> = topics.into_values().collect();
    let text = match (args.output, &args.topic) {
        (Output::Json, _) => {
            serde_json::to_string_pretty(&topics.iter().map(as_json).collect::<Vec<_>>())? + "\n"
        }
        (Output::Table, None) => columns(
            std::iter::once(titles(&[
                "TOPIC",
                "PARTITIONS",
                "REPLICATION FACTOR",
                "ISR",
            ]))
            .chain(topics.iter().map(row)),
        ),
        (Output::Table, Some(_)) => {
            let rows = topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(partition_row);
            columns(
                std::iter::once(titles(&[
                    "PARTITION",
                    "LEADER",
                    "LEADER EPOCH",
                    "REPLICAS",
                    "ISR",
                ]))
                .chain(rows),
            )
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The first row of a table.
pub(crate) fn titles(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn row(topic: &TopicMetadata) -> Vec<String> {
    let replicas: usize = topic
        .partitions
        .iter()
        .map(|partition| partition.replicas.len())
        .sum();
    let in_sync: usize = topic
        .partitions
        .iter()
        .map(|partition| partition.isr.len())
        .sum();
    let factor = topic
        .partitions
        .first()
        .map_or(0, |partition| partition.replicas.len());
    vec![
        topic.name.clone(),
        topic.partitions.len().to_string(),
        factor.to_string(),
        format!("{in_sync}/{replicas}"),
    ]
}

fn partition_row(partition: &PartitionMetadata) -> Vec<String> {
    let leader = partition
        .leader
        .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    vec![
        partition.index.to_string(),
        leader,
        partition.leader_epoch.to_string(),
        ids(&partition.replicas),
        ids(&partition.isr),
    ]
}

fn ids(nodes: &[types::NodeId]) -> String {
    nodes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn as_json(topic: &TopicMetadata) -> serde_json::Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.index,
                "leader": partition.leader.map(|leader| leader.0),
                "leaderEpoch": partition.leader_epoch.0,
                "replicas": partition.replicas.iter().map(|node| node.0).collect::<Vec<_>>(),
                "isr": partition.isr.iter().map(|node| node.0).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"topic": topic.name, "topicId": topic.id.to_string(), "internal": topic.is_internal, "partitions": partitions})
}
