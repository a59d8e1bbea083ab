//! `corelane topic delete`.

use clap::Args;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line};
use crate::runtime::{block_on, connect, topic_failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topic's name
    name: String,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Deleted<'a> {
    name: &'a str,
    id: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { name, broker } = arguments;
    let id = block_on(async {
        let client = connect(broker).await?;
        let deleted = client.admin().delete_topic(name).await;
        deleted.map_err(|error| topic_failure(name, &error))
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Deleted {
            name,
            id: id.to_string(),
        }),
        Format::Table => line(format_args!("deleted topic {name} ({id})")),
    };
    printed.map_err(|error| Failure::writing(&error))
}
