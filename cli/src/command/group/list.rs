//! `corelane group list`.

use std::io;

use clap::Args;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::say;
use crate::output::table::Column;
use crate::output::{json, table, units};
use crate::runtime::{block_on, connect};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Group {
    name: String,
    /// `empty`, `reconciling` or `stable`.
    state: String,
    generation: u32,
    members: u32,
    /// Partitions with a committed offset.
    offsets: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let groups = block_on(async {
        let client = connect(&arguments.broker).await?;
        client.admin().list_groups().await.map_err(Failure::new)
    })?;
    let groups: Vec<_> = groups
        .into_iter()
        .map(|group| Group {
            name: group.name,
            state: group.state.to_string(),
            generation: group.generation,
            members: group.members,
            offsets: group.offsets,
        })
        .collect();
    let printed = match arguments.broker.format {
        Format::Json => json::print(&groups),
        Format::Table if groups.is_empty() => {
            say(format_args!(
                "no groups; one appears with its first member: `corelane consume TOPIC --group NAME`"
            ));
            Ok(())
        }
        Format::Table => print_table(&groups),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn print_table(groups: &[Group]) -> io::Result<()> {
    let mut rows = table::table(&[
        Column::Text("GROUP"),
        Column::Text("STATE"),
        Column::Number("GENERATION"),
        Column::Number("MEMBERS"),
        Column::Number("OFFSETS"),
    ]);
    for group in groups {
        rows.add_row([
            group.name.clone(),
            group.state.clone(),
            group.generation.to_string(),
            units::count(u64::from(group.members)),
            units::count(u64::from(group.offsets)),
        ]);
    }
    table::print(&rows)
}
