//! Which consumer groups are there, who is in them, and how far behind are they?

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use client::Admin;
use client::admin::{GroupDescription, OffsetSpec};
use serde_json::json;
use types::TopicPartition;

use crate::args::{Endpoint, Output};
use crate::endpoint::connect;
use crate::status::columns;
use crate::topics::titles;

#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    /// Show this group's members, offsets and lag instead of the list
    group: Option<String>,
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) async fn run(args: GroupsArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(connect(&args.endpoint).await?);
    let text = match &args.group {
        Some(group) => one(&admin, group, args.output).await?,
        None => list(&admin, args.output).await?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn list(admin: &Admin, output: Output) -> anyhow::Result<String> {
    let groups = admin.list_groups().await?;
    Ok(match output {
        Output::Json => {
            let rows: Vec<_> = groups
                .iter()
                .map(|group| json!({"group": group.group_id, "state": group.state, "protocolType": group.protocol_type}))
                .collect();
            serde_json::to_string_pretty(&rows)? + "\n"
        }
        Output::Table => {
            let rows = groups.iter().map(|group| {
                vec![
                    group.group_id.clone(),
                    group.state.clone(),
                    group.protocol_type.clone(),
                ]
            });
            columns(std::iter::once(titles(&["GROUP", "STATE", "PROTOCOL TYPE"])).chain(rows))
        }
    })
}

/// A partition that a group has committed or owns.
struct Position {
    partition: TopicPartition,
    committed: i64,
    end: Option<i64>,
    member: Option<String>,
}

impl Position {
    fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.committed).max(0))
    }
}

async fn one(admin: &Admin, group: &str, output: Output) -> anyhow::Result<String> {
    let description = admin.describe_group(group).await?;
    let positions = positions(admin, &description).await?;
    Ok(match output {
        Output::Json => serde_json::to_string_pretty(&as_json(&description, &positions))? + "\n",
        Output::Table => as_table(&description, &positions),
    })
}

/// Every partition for which the group has committed, with how far it could be.
async fn positions(admin: &Admin, description: &GroupDescription) -> anyhow::Result<Vec<Position>> {
    let committed = admin.fetch_offsets(&description.group_id, None).await?;
    let ask: BTreeMap<TopicPartition, OffsetSpec> = committed
        .keys()
        .map(|partition| (partition.clone(), OffsetSpec::Latest))
        .collect();
    let ends = admin.list_offsets(&ask, false).await?;
    let owner = |partition: &TopicPartition| {
        let mut members = description.members.iter();
        members
            .find(|member| member.assignment.contains(partition))
            .map(|member| member.client_id.clone())
    };
    let positions = committed.into_iter().map(|(partition, offset)| Position {
        committed: offset.offset.0,
        end: ends
            .get(&partition)
            .and_then(|end| end.offset)
            .map(|end| end.0),
        member: owner(&partition),
        partition,
    });
    Ok(positions.collect())
}

fn as_json(description: &GroupDescription, positions: &[Position]) -> serde_json::Value {
    let rows: Vec<_> = positions
        .iter()
        .map(|p| {
            json!({"topic": p.partition.topic, "partition": p.partition.partition, "committed": p.committed,
                   "end": p.end, "lag": p.lag(), "member": p.member})
        })
        .collect();
    json!({"group": description.group_id, "state": description.state, "protocol": description.protocol,
           "members": description.members.len(), "offsets": rows})
}

fn as_table(description: &GroupDescription, positions: &[Position]) -> String {
    let dash =
        |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = positions.iter().map(|p| {
        vec![
            p.partition.topic.to_string(),
            p.partition.partition.to_string(),
            p.committed.to_string(),
            dash(p.end),
            dash(p.lag()),
            p.member.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let head = titles(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    format!(
        "{}: {}, {} members, assignor {}\n{}",
        description.group_id,
        description.state,
        description.members.len(),
        description.protocol,
        columns(std::iter::once(head).chain(rows))
    )
}
