//! Which topics are there, and how are their partitions?

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use client::admin::{Reassignment, Reassignments};
use client::{Admin, PartitionMetadata, TopicMetadata};
use serde_json::json;

use crate::args::{Endpoint, Output, complain};
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
    let listed: Vec<&TopicMetadata> = topics.iter().collect();
    let moves = admin
        .reassignments_of(&listed)
        .await
        .unwrap_or_else(|error| {
            complain(&format!(
                "cannot tell which partitions move, so all replicas count: {error}"
            ));
            Reassignments::default()
        });
    let text = match (args.output, &args.topic) {
        (Output::Json, _) => {
            let topics: Vec<_> = topics.iter().map(|topic| as_json(topic, &moves)).collect();
            serde_json::to_string_pretty(&topics)? + "\n"
        }
        (Output::Table, None) => columns(
            std::iter::once(titles(&[
                "TOPIC",
                "PARTITIONS",
                "REPLICATION FACTOR",
                "ISR",
            ]))
            .chain(topics.iter().map(|topic| row(topic, &moves))),
        ),
        (Output::Table, Some(_)) => columns(topics.iter().flat_map(|topic| rows(topic, &moves))),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The first row of a table.
pub(crate) fn titles(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn row(topic: &TopicMetadata, moves: &Reassignments) -> Vec<String> {
    let partitions = topic.partitions.iter();
    let copies: Vec<_> = partitions
        .map(|partition| moves.copies(&topic.name, partition))
        .collect();
    let replicas: usize = copies.iter().map(|copies| copies.wanted).sum();
    let in_sync: usize = copies.iter().map(|copies| copies.in_sync).sum();
    let factor = copies.first().map_or(0, |copies| copies.wanted);
    vec![
        topic.name.clone(),
        topic.partitions.len().to_string(),
        factor.to_string(),
        format!("{in_sync}/{replicas}"),
    ]
}

/// The partitions of one topic under their titles; those of moves only while there is one.
fn rows(topic: &TopicMetadata, moves: &Reassignments) -> Vec<Vec<String>> {
    let moving = |partition: &PartitionMetadata| moves.of(&topic.name, partition.index);
    let mut rows = vec![titles(&[
        "PARTITION",
        "LEADER",
        "LEADER EPOCH",
        "REPLICAS",
        "ISR",
    ])];
    rows.extend(topic.partitions.iter().map(partition_row));
    if topic.partitions.iter().any(|one| moving(one).is_some()) {
        let moves = topic.partitions.iter().map(|partition| {
            moving(partition).map_or_else(Default::default, |moving| {
                [ids(&moving.adding), ids(&moving.removing)]
            })
        });
        let moves = std::iter::once(["ADDING", "REMOVING"].map(str::to_owned)).chain(moves);
        for (row, of_move) in rows.iter_mut().zip(moves) {
            row.extend(of_move);
        }
    }
    rows
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

fn as_json(topic: &TopicMetadata, moves: &Reassignments) -> serde_json::Value {
    let numbers = |nodes: &[types::NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            let moving = moves.of(&topic.name, partition.index);
            let of_move = |nodes: fn(&Reassignment) -> &[types::NodeId]| {
                moving.map_or_else(Vec::new, |moving| numbers(nodes(moving)))
            };
            json!({
                "partition": partition.index,
                "leader": partition.leader.map(|leader| leader.0),
                "leaderEpoch": partition.leader_epoch.0,
                "replicas": numbers(&partition.replicas),
                "isr": numbers(&partition.isr),
                "addingReplicas": of_move(|moving| &moving.adding),
                "removingReplicas": of_move(|moving| &moving.removing),
            })
        })
        .collect();
    json!({"topic": topic.name, "topicId": topic.id.to_string(), "internal": topic.is_internal, "partitions": partitions})
}
