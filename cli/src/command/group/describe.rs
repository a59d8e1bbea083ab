//! `corelane group describe`.

use std::io;

use clap::Args;
use corelane_client::{GroupDescription, GroupMemberDescription, GroupPartitionDescription};
use serde::Serialize;

use super::group_failure;
use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};
use crate::runtime::{block_on, connect};

#[derive(Debug, Args)]
#[command(after_help = "\
LAG is how many records of a partition the group has yet to read behind what it has committed.
TARGET is what a member is to hold once it, or others, have let go of partitions; it is shown where
it differs from what the member holds.")]
pub(super) struct Arguments {
    /// The group's name
    group: String,

    #[command(flatten)]
    broker: BrokerArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { group, broker } = arguments;
    let described = block_on(async {
        let client = connect(broker).await?;
        let described = client.admin().describe_group(group).await;
        described.map_err(|error| group_failure(group, &error))
    })?;
    let group = Group::from(described);
    let printed = match broker.format {
        Format::Json => json::print(&group),
        Format::Table => print_tables(&group),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn print_tables(group: &Group) -> io::Result<()> {
    line(format_args!("group       {}", group.name))?;
    line(format_args!("state       {}", group.state))?;
    line(format_args!("generation  {}", group.generation))?;
    line(format_args!("assignor    {}", group.assignor))?;
    line(format_args!(
        "members     {}",
        units::count(group.members.len() as u64)
    ))?;
    line(format_args!("lag         {}", units::count(group.lag)))?;
    if !group.members.is_empty() {
        line(format_args!(""))?;
        print_members(&group.members)?;
    }
    if !group.partitions.is_empty() {
        line(format_args!(""))?;
        print_partitions(&group.partitions)?;
    }
    Ok(())
}

fn print_members(members: &[Member]) -> io::Result<()> {
    let mut columns = vec![
        Column::Text("MEMBER"),
        Column::Text("INSTANCE"),
        Column::Text("CLIENT"),
        Column::Text("HOST"),
        Column::Text("PARTITIONS"),
    ];
    let is_moving = members
        .iter()
        .any(|member| member.assigned != member.target);
    if is_moving {
        columns.push(Column::Text("TARGET"));
    }
    let mut rows = table::table(&columns);
    for member in members {
        let mut row = vec![
            member.id.clone(),
            member.instance.clone().unwrap_or_else(|| "-".to_owned()),
            member.client.clone(),
            member.host.clone(),
            in_short(&member.assigned),
        ];
        if is_moving {
            row.push(if member.assigned == member.target {
                String::new()
            } else {
                in_short(&member.target)
            });
        }
        rows.add_row(row);
    }
    table::print(&rows)
}

/// Partitions in few characters.
fn in_short(topics: &[Held]) -> String {
    let partitions = topics.iter().flat_map(|held| {
        let indexes = held.partitions.iter();
        indexes.map(|partition| (&*held.topic, *partition))
    });
    let short = units::partitions(partitions);
    if short.is_empty() {
        "-".to_owned()
    } else {
        short
    }
}

fn print_partitions(partitions: &[Partition]) -> io::Result<()> {
    let mut rows = table::table(&[
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Text("MEMBER"),
        Column::Number("COMMITTED"),
        Column::Number("HIGH WATERMARK"),
        Column::Number("LAG"),
    ]);
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    for partition in partitions {
        rows.add_row([
            match &partition.topic {
                Some(name) => name.clone(),
                None => format!("(deleted) {}", partition.topic_id),
            },
            partition.partition.to_string(),
            or_dash(partition.member.clone()),
            or_dash(partition.committed.map(|offset| offset.to_string())),
            or_dash(partition.high_watermark.map(|offset| offset.to_string())),
            or_dash(partition.lag.map(units::count)),
        ]);
    }
    table::print(&rows)
}

/// The stable form.
#[derive(Serialize)]
struct Group {
    name: String,
    /// `empty`, `reconciling` or `stable`.
    state: String,
    generation: u32,
    assignor: String,
    /// Records that are yet to be read, of all partitions of which that is known.
    lag: u64,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Member {
    id: String,
    instance: Option<String>,
    client: String,
    host: String,
    generation: u32,
    /// What it subscribes to.
    topics: Vec<String>,
    pattern: Option<String>,
    /// What it may hold now.
    assigned: Vec<Held>,
    /// What it is to hold in the end.
    target: Vec<Held>,
}

#[derive(PartialEq, Eq, Serialize)]
struct Held {
    topic: String,
    partitions: Vec<u32>,
}

#[derive(Serialize)]
struct Partition {
    /// Null where the topic is gone.
    topic: Option<String>,
    topic_id: String,
    partition: u32,
    /// The member that holds it.
    member: Option<String>,
    committed: Option<u64>,
    /// When that was, in ms since the Unix epoch.
    committed_at: Option<i64>,
    /// What the client keeps beside it.
    metadata: Option<String>,
    high_watermark: Option<u64>,
    lag: Option<u64>,
}

impl From<GroupDescription> for Group {
    fn from(group: GroupDescription) -> Self {
        Self {
            name: group.name,
            state: group.state.to_string(),
            generation: group.generation,
            assignor: group.assignor,
            lag: group.partitions.iter().filter_map(|one| one.lag).sum(),
            members: group.members.into_iter().map(Member::from).collect(),
            partitions: group.partitions.into_iter().map(Partition::from).collect(),
        }
    }
}

impl From<GroupMemberDescription> for Member {
    fn from(member: GroupMemberDescription) -> Self {
        Self {
            id: member.id.to_string(),
            instance: member.instance,
            client: member.client,
            host: member.host,
            generation: member.generation,
            topics: member.topics,
            pattern: member.pattern,
            assigned: by_topic(member.assigned),
            target: by_topic(member.target),
        }
    }
}

/// Puts the partitions of each topic together.
fn by_topic(partitions: Vec<(String, u32)>) -> Vec<Held> {
    let mut topics: Vec<Held> = Vec::new();
    for (topic, partition) in partitions {
        match topics.last_mut().filter(|held| held.topic == topic) {
            Some(held) => held.partitions.push(partition),
            None => topics.push(Held {
                topic,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

impl From<GroupPartitionDescription> for Partition {
    fn from(partition: GroupPartitionDescription) -> Self {
        let committed = partition.committed;
        Self {
            topic: Some(partition.topic).filter(|name| !name.is_empty()),
            topic_id: partition.topic_id.to_string(),
            partition: partition.partition,
            member: partition.owner.map(|owner| owner.to_string()),
            committed: committed.as_ref().map(|committed| committed.offset),
            committed_at: committed.as_ref().map(|committed| committed.timestamp_ms),
            metadata: committed.map(|committed| committed.metadata),
            high_watermark: partition.high_watermark,
            lag: partition.lag,
        }
    }
}
