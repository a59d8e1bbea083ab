//! `corelane topic alter`.

use clap::Args;
use corelane_client::TopicAlteration;
use serde::Serialize;

use super::create::parse_setting;
use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line};
use crate::runtime::{block_on, connect, topic_failure};

#[derive(Debug, Args)]
#[command(after_help = "\
The change applies at once, to all of it or to nothing if any of it is impossible. See
`corelane topic create --help` for the settings, and `corelane topic describe` for their values.

Examples:
  corelane topic alter orders --config segment.bytes=256MiB
  corelane topic alter orders --config flush.ms=100 --unset max.message.bytes")]
pub(super) struct Arguments {
    /// The topic's name
    name: String,

    /// A setting that gets a value of the topic's own; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting, required_unless_present = "unset")]
    configs: Vec<(String, String)>,

    /// A setting that follows the broker's configuration again; may be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,

    /// Only check whether it could be changed
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Altered<'a> {
    name: &'a str,
    /// False where it was only checked.
    changed: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        name,
        configs,
        unset,
        dry_run,
        broker,
    } = arguments;
    let change = TopicAlteration::new(&name);
    let change = configs
        .into_iter()
        .fold(change, |change, (key, value)| change.set(key, value));
    let change = unset.into_iter().fold(change, TopicAlteration::unset);
    block_on(async {
        let client = connect(&broker).await?;
        let admin = client.admin();
        let altered = if dry_run {
            admin.validate_alteration(change).await
        } else {
            admin.alter_topic(change).await
        };
        altered.map_err(|error| topic_failure(&name, &error))
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Altered {
            name: &name,
            changed: !dry_run,
        }),
        Format::Table if dry_run => line(format_args!("topic {name} could be changed like this")),
        Format::Table => line(format_args!("changed the settings of topic {name}")),
    };
    printed.map_err(|error| Failure::writing(&error))
}
