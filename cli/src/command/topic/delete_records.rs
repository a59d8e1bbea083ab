//! `corelane topic delete-records`.

use std::str::FromStr;

use clap::Args;
use corelane_client::{DeleteUpTo, OffsetSpec};
use corelane_protocol::ErrorCode;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line, units};
use crate::runtime::{block_on, check_partition, connect, topic_failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Deletes the oldest records of a partition for good. Consumers that are before the new start are told
so. Disk space is given back by whole segments.

Examples:
  corelane topic delete-records orders --partition 0 --before 1000 --dry-run
  corelane topic delete-records orders --partition 0 --before end")]
pub(super) struct Arguments {
    /// The topic's name
    name: String,

    /// The partition
    #[arg(long, value_name = "N")]
    partition: u32,

    /// The first offset that is kept; end deletes everything that can be read now
    #[arg(long, value_name = "OFFSET|end")]
    before: Before,

    /// Only say how many records would be deleted
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before(DeleteUpTo);

impl FromStr for Before {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "end" {
            return Ok(Self(DeleteUpTo::End));
        }
        let offset = text
            .parse()
            .map_err(|_| "give an offset such as 1000, or end")?;
        Ok(Self(DeleteUpTo::Offset(offset)))
    }
}

#[derive(Serialize)]
struct Deleted<'a> {
    name: &'a str,
    partition: u32,
    /// The first offset that is kept.
    log_start_offset: u64,
    /// How many records went, or would go.
    records: u64,
    /// False where it was only looked at.
    changed: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        name,
        partition,
        before,
        dry_run,
        broker,
    } = arguments;
    let (first, kept) = block_on(async {
        let client = connect(broker).await?;
        check_partition(&client, name, Some(*partition)).await?;
        let admin = client.admin();
        let asked =
            [OffsetSpec::Earliest, OffsetSpec::Latest].map(|spec| (&**name, *partition, spec));
        let listed = admin.list_offsets(asked).await;
        let listed = listed.map_err(|error| topic_failure(name, &error))?;
        let (first, end) = (listed[0].offset, listed[1].offset);
        let wanted = match before.0 {
            DeleteUpTo::End => end,
            DeleteUpTo::Offset(offset) => offset,
        };
        let beyond = || {
            Failure::with_advice(
                format_args!("partition {partition} of topic '{name}' has no offset {wanted}"),
                format_args!("its first offset is {first}, and its next record will have {end}"),
            )
        };
        if wanted > end {
            return Err(beyond());
        }
        if *dry_run {
            return Ok((first, wanted.max(first)));
        }
        let deleted = admin.delete_records(name, *partition, before.0).await;
        let kept = deleted.map_err(|error| match error.code() {
            Some(ErrorCode::OffsetOutOfRange) => beyond(),
            _ => topic_failure(name, &error),
        })?;
        Ok((first, kept))
    })?;
    let records = kept.saturating_sub(first);
    let printed = match broker.format {
        Format::Json => json::print(&Deleted {
            name,
            partition: *partition,
            log_start_offset: kept,
            records,
            changed: !dry_run,
        }),
        Format::Table => {
            let verb = if *dry_run { "would delete" } else { "deleted" };
            let records = units::count(records);
            line(format_args!(
                "{verb} {records} records of {name}-{partition}; it begins at offset {kept}"
            ))
        }
    };
    printed.map_err(|error| Failure::writing(&error))
}
