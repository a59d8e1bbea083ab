//! `corelane topic list`.

use std::io;

use clap::Args;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::say;
use crate::output::table::Column;
use crate::output::{json, table};
use crate::runtime::{block_on, connect};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    id: String,
    partitions: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let topics = block_on(async {
        let client = connect(&arguments.broker).await?;
        client.admin().list_topics().await.map_err(Failure::new)
    })?;
    let topics: Vec<_> = topics
        .into_iter()
        .map(|topic| Topic {
            name: topic.name,
            id: topic.id.to_string(),
            partitions: topic.partitions,
        })
        .collect();
    let printed = match arguments.broker.format {
        Format::Json => json::print(&topics),
        Format::Table if topics.is_empty() => {
            say(format_args!(
                "no topics; make one with `corelane topic create NAME --partitions N`"
            ));
            Ok(())
        }
        Format::Table => print_table(&topics),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn print_table(topics: &[Topic]) -> io::Result<()> {
    let columns = [
        Column::Text("TOPIC"),
        Column::Number("PARTITIONS"),
        Column::Text("ID"),
    ];
    let mut rows = table::table(&columns);
    for topic in topics {
        rows.add_row([&topic.name, &topic.partitions.to_string(), &topic.id]);
    }
    table::print(&rows)
}
