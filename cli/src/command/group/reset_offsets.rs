//! `corelane group reset-offsets`.

use std::io;

use clap::{ArgGroup, Args};
use corelane_client::{Admin, OffsetSpec, OffsetToCommit};
use corelane_protocol::ErrorCode;
use serde::Serialize;

use super::plan::{Clamped, Known, Step, Target, step};
use super::{group_failure, has_members};
use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::input::start::parse_time;
use crate::output::table::Column;
use crate::output::{json, line, table};
use crate::runtime::{block_on, check_partition, connect, topic_failure};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
#[command(override_usage = "\
corelane group reset-offsets <GROUP> --topic <TOPIC>
           <--to-earliest|--to-latest|--to-offset N|--to-time TIME|--shift-by N> [OPTIONS]")]
#[command(after_help = "\
The group must have no members: stop them first. An offset outside of a partition's log becomes
its nearest end, which is said. A group that does not exist comes into being.

Examples:
  corelane group reset-offsets billing --topic orders --to-earliest --dry-run
  corelane group reset-offsets billing --topic orders --to-time 2026-01-31T08:00:00Z
  corelane group reset-offsets billing --topic orders --partition 0 --partition 3 --shift-by -100")]
pub(super) struct Arguments {
    /// The group's name
    group: String,

    /// The topic
    #[arg(long, value_name = "TOPIC")]
    topic: String,

    /// To the first record that is kept
    #[arg(long, group = "target")]
    to_earliest: bool,

    /// Behind the last record
    #[arg(long, group = "target")]
    to_latest: bool,

    /// To this offset
    #[arg(long, value_name = "OFFSET", group = "target")]
    to_offset: Option<u64>,

    /// To the first record at or after a time: 2026-01-31T08:00:00Z, or ms since 1970
    #[arg(long, value_name = "TIME", value_parser = time, group = "target")]
    to_time: Option<i64>,

    /// So many records on from what is committed, or back with -N
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        group = "target"
    )]
    shift_by: Option<i64>,

    /// This partition only; may be given several times
    #[arg(long, value_name = "N")]
    partition: Vec<u32>,

    /// Only show what would be set
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    broker: BrokerArguments,
}

/// A time, with or without the `@` that `consume --from` wants.
fn time(text: &str) -> Result<i64, String> {
    parse_time(text.strip_prefix('@').unwrap_or(text))
}

impl Arguments {
    fn target(&self) -> Target {
        if self.to_earliest {
            return Target::Earliest;
        }
        if self.to_latest {
            return Target::Latest;
        }
        let offset = self.to_offset.map(Target::Offset);
        let time = self.to_time.map(Target::Time);
        let shift = self.shift_by.map(Target::Shift);
        offset
            .or(time)
            .or(shift)
            .expect("the command line has one of them")
    }
}

#[derive(Serialize)]
struct Reset<'a> {
    group: &'a str,
    topic: &'a str,
    /// False where it was only looked at.
    changed: bool,
    partitions: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    partition: u32,
    before: Option<u64>,
    /// Null where there is nothing to count from: it stays as it is.
    after: Option<u64>,
    /// `start` or `end` of the log, where the offset meant lies outside of it.
    clamped: Option<&'static str>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        group,
        topic,
        dry_run,
        broker,
        ..
    } = arguments;
    let steps = block_on(async {
        let client = connect(broker).await?;
        let count =
            check_partition(&client, topic, arguments.partition.iter().max().copied()).await?;
        let mut partitions = arguments.partition.clone();
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            partitions = (0..count).collect();
        }
        let admin = client.admin();
        check_members(&admin, group).await?;
        let known = look(&admin, arguments, &partitions).await?;
        let target = arguments.target();
        let steps: Vec<_> = known.into_iter().map(|known| step(target, known)).collect();
        if steps.iter().all(|step| step.after.is_none()) {
            return Err(Failure::with_advice(
                format_args!(
                    "group '{group}' has committed nothing there that --shift-by could count from"
                ),
                "give --to-earliest, --to-latest, --to-offset or --to-time",
            ));
        }
        if !dry_run {
            commit(&admin, arguments, &steps).await?;
        }
        Ok(steps)
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Reset {
            group,
            topic,
            changed: !dry_run,
            partitions: steps.iter().map(Row::from).collect(),
        }),
        Format::Table => print_table(arguments, &steps),
    };
    printed.map_err(|error| Failure::writing(&error))
}

/// Refuses early, before anything is asked that takes time, a group that has members. One that does
/// not exist comes into being.
async fn check_members(admin: &Admin, group: &str) -> Result<(), Failure> {
    match admin.describe_group(group).await {
        Ok(described) if described.members.is_empty() => Ok(()),
        Ok(_) => Err(has_members(group)),
        Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => Ok(()),
        Err(error) => Err(group_failure(group, &error)),
    }
}

/// What there is to know of the partitions.
async fn look(
    admin: &Admin,
    arguments: &Arguments,
    partitions: &[u32],
) -> Result<Vec<Known>, Failure> {
    let (group, topic) = (&*arguments.group, &*arguments.topic);
    let ask = async |spec| {
        let asked = partitions.iter().map(|partition| (topic, *partition, spec));
        let listed = admin.list_offsets(asked).await;
        listed.map_err(|error| topic_failure(topic, &error))
    };
    let earliest = ask(OffsetSpec::Earliest).await?;
    let latest = ask(OffsetSpec::Latest).await?;
    let at_time = match arguments.to_time {
        Some(time) => Some(ask(OffsetSpec::Timestamp(time)).await?),
        None => None,
    };
    let committed = match admin.group_offsets(group).await {
        Ok(committed) => committed,
        Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => Vec::new(),
        Err(error) => return Err(group_failure(group, &error)),
    };
    let committed = |partition: u32| {
        let mut committed = committed.iter();
        let found = committed.find(|one| one.topic == topic && one.partition == partition);
        found.map(|found| found.offset)
    };
    let known = partitions.iter().enumerate().map(|(at, partition)| Known {
        partition: *partition,
        earliest: earliest[at].offset,
        latest: latest[at].offset,
        at_time: at_time.as_ref().unwrap_or(&latest)[at].offset,
        committed: committed(*partition),
    });
    Ok(known.collect())
}

async fn commit(admin: &Admin, arguments: &Arguments, steps: &[Step]) -> Result<(), Failure> {
    let topic = &*arguments.topic;
    let moved = steps
        .iter()
        .filter_map(|step| Some(OffsetToCommit::new(topic, step.partition, step.after?)));
    let committed = admin.commit_group_offsets(&arguments.group, moved).await;
    committed.map_err(|error| group_failure(&arguments.group, &error))
}

fn print_table(arguments: &Arguments, steps: &[Step]) -> io::Result<()> {
    let mut rows = table::table(&[
        Column::Number("PARTITION"),
        Column::Number("BEFORE"),
        Column::Number("AFTER"),
        Column::Text("REMARK"),
    ]);
    let or_dash = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), |at| at.to_string());
    for step in steps {
        let remark = match (step.after, step.clamped) {
            (None, _) => "left as it is: nothing is committed to count from",
            (_, Some(Clamped::Start)) => "the log begins here",
            (_, Some(Clamped::End)) => "the log ends here",
            _ => "",
        };
        rows.add_row([
            step.partition.to_string(),
            or_dash(step.before),
            or_dash(step.after.or(step.before)),
            remark.to_owned(),
        ]);
    }
    table::print(&rows)?;
    let Arguments {
        group,
        topic,
        dry_run,
        ..
    } = arguments;
    let moved = steps.iter().filter(|step| step.after.is_some()).count();
    let partitions = if moved == 1 {
        "partition"
    } else {
        "partitions"
    };
    if *dry_run {
        line(format_args!(
            "dry run: would set {moved} {partitions} of {topic} for group {group}; nothing was changed"
        ))
    } else {
        line(format_args!(
            "set {moved} {partitions} of {topic} for group {group}"
        ))
    }
}

impl From<&Step> for Row {
    fn from(step: &Step) -> Self {
        Self {
            partition: step.partition,
            before: step.before,
            after: step.after,
            clamped: step.clamped.map(Clamped::as_str),
        }
    }
}
