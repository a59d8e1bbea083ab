//! The commands, one file each. Owns the command line's form.

mod completions;
mod configuration;
mod consume;
mod data_dir;
mod doctor;
mod dump;
mod group;
mod names;
mod perf;
mod produce;
mod serve;
mod top;
mod topic;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;

/// A durable, partitioned log broker: each CPU core is a lane of its own.
#[derive(Debug, Parser)]
#[command(
    name = "corelane",
    version,
    styles = STYLES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = FIRST_STEPS
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const FIRST_STEPS: &str = "\
First steps:
  corelane serve --data-dir ./data       (in a terminal of its own; it says `ready`)
  corelane topic create orders --partitions 4
  echo 'hello' | corelane produce orders
  corelane consume orders --until-end

Exit codes: 0 done, 1 failed, 2 used wrongly.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker on this machine's cores
    Serve(serve::Arguments),
    /// Create, list, describe and delete topics
    Topic(topic::Arguments),
    /// Send a record per line of standard input or of a file
    Produce(produce::Arguments),
    /// Print the records of a topic
    Consume(consume::Arguments),
    /// List, describe and delete consumer groups, and set where they go on
    Group(group::Arguments),
    /// Print a file of a data directory in words
    Dump(dump::Arguments),
    /// Measure: a short durable load on an embedded broker, or any load on any broker
    Perf(perf::Arguments),
    /// Watch a broker: its cores as lanes, its topics and their rates, live
    Top(top::Arguments),
    /// Look whether a broker can serve on this machine, and say what to change
    Doctor(doctor::Arguments),
    /// Print the script that makes a shell complete this command line
    Completions(completions::Arguments),
}

/// What every command takes that talks to a broker.
#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// Address of any broker port
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CORELANE_BROKER",
        default_value = "127.0.0.1:9500",
        help_heading = "Connection and output"
    )]
    pub(crate) broker: String,

    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Table,
        help_heading = "Connection and output"
    )]
    pub(crate) format: Format,
}

/// Form of what is printed. (Its variants have no comments of their own, since clap would print each
/// on lines of its own and stretch every help page.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

pub(crate) fn run(command_line: CommandLine) -> Result<(), Failure> {
    match command_line.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Topic(arguments) => topic::run(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Group(arguments) => group::run(arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Perf(arguments) => perf::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
