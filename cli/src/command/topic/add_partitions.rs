//! `corelane topic add-partitions`.

use clap::Args;
use corelane_protocol::ErrorCode;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line, units};
use crate::runtime::{block_on, connect, topic_failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Partitions are only ever added. Records stay where they are; a record of one key may go to another
partition from then on. Producers use new partitions within minutes, new consumers at once.")]
pub(super) struct Arguments {
    /// The topic's name
    name: String,

    /// Number of partitions that the topic is to have in all
    #[arg(long, value_name = "TOTAL", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,

    /// Only check whether they could be added
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Extended<'a> {
    name: &'a str,
    partitions: u32,
    /// False where it was only checked.
    changed: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        name,
        partitions,
        dry_run,
        broker,
    } = arguments;
    block_on(async {
        let client = connect(broker).await?;
        let admin = client.admin();
        let extended = if *dry_run {
            admin.validate_partitions(name, *partitions).await
        } else {
            admin.add_partitions(name, *partitions).await
        };
        extended.map_err(|error| match error.code() {
            Some(ErrorCode::InvalidPartitions) => Failure::new(error),
            _ => topic_failure(name, &error),
        })
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Extended {
            name,
            partitions: *partitions,
            changed: !dry_run,
        }),
        Format::Table => {
            let total = units::count((*partitions).into());
            let verb = if *dry_run { "could have" } else { "now has" };
            line(format_args!("topic {name} {verb} {total} partitions"))
        }
    };
    printed.map_err(|error| Failure::writing(&error))
}
