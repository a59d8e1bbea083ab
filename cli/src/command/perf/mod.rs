//! `corelane perf`: the load generator. Owns the form of its command line; the loads are the library's.

mod compare;
mod load;
mod page;
mod progress;
mod report;
mod scenario;
mod short;
mod sweep;

use clap::{Args, Subcommand};
use corelane_perf::Kind;

use crate::command::Format;
use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without a command it runs a short durable load on a broker of its own, for a first look: nothing
else needs to run. Produced records count when they are acknowledged as durable. Latency counts
from the moment at which a record was due to be sent, at a steady rate, so that a stall is not
hidden.

Examples:
  corelane perf
  corelane perf produce --record-size 100 --duration 30
  corelane perf latency --broker 127.0.0.1:9500 --rate 20000 --format json --out ./results"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Produce: as fast as acknowledgements allow (closed loop), or at a rate (open loop)
    Produce(load::Arguments),
    /// Read a topic from its start, again and again until the time is over
    Consume(load::Arguments),
    /// Latency of a produce at a steady rate (open loop)
    Latency(load::Arguments),
    /// Latency from a producer to a consumer at a steady rate (open loop)
    #[command(name = "end-to-end")]
    EndToEnd(load::Arguments),
    /// Run the loads of a scenario, one after the other
    Run(scenario::Arguments),
    /// List the scenarios that come with the program
    Scenarios(scenario::ListArguments),
    /// Find the highest rate whose p99 stays under a bound
    Sweep(sweep::Arguments),
    /// Show two results side by side, with ratios
    Compare(compare::Arguments),
    /// Write the page of a result that was kept
    Report(page::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        None => short::run(arguments.format),
        Some(Command::Produce(load)) => load::run(Kind::Produce, load),
        Some(Command::Consume(load)) => load::run(Kind::Consume, load),
        Some(Command::Latency(load)) => load::run(Kind::Latency, load),
        Some(Command::EndToEnd(load)) => load::run(Kind::EndToEnd, load),
        Some(Command::Run(arguments)) => scenario::run(arguments),
        Some(Command::Scenarios(arguments)) => scenario::list(&arguments),
        Some(Command::Sweep(arguments)) => sweep::run(arguments),
        Some(Command::Compare(arguments)) => compare::run(&arguments),
        Some(Command::Report(arguments)) => page::run(&arguments),
    }
}
