//! `corelane group delete`.

use clap::Args;
use serde::Serialize;

use super::group_failure;
use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line};
use crate::runtime::{block_on, connect};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The group's name
    group: String,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Deleted<'a> {
    name: &'a str,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { group, broker } = arguments;
    block_on(async {
        let client = connect(broker).await?;
        let deleted = client.admin().delete_group(group).await;
        deleted.map_err(|error| group_failure(group, &error))
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Deleted { name: group }),
        Format::Table => line(format_args!("deleted group {group}")),
    };
    printed.map_err(|error| Failure::writing(&error))
}
