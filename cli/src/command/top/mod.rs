//! `corelane top`: what a broker does, live: its cores as lanes, its topics and their rates.

mod app;
mod live;
mod once;
mod rates;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;

use super::Format;
use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Keys: q quit · ↑ ↓ select a topic · Enter its partitions · Esc back · s order of the topics · p pause.

Without a terminal, with --once, or with --format json it prints one interval's rates and ends.")]
pub(crate) struct Arguments {
    /// Address of the broker's admin endpoint (admin.listen)
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CORELANE_ADMIN",
        default_value = "127.0.0.1:9600"
    )]
    admin: String,

    /// Seconds over which rates are computed, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,

    /// Print one interval's rates and end
    #[arg(long)]
    once: bool,

    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        admin,
        interval,
        once,
        format,
    } = arguments;
    if once || format.is_some() || !io::stdout().is_terminal() {
        return once::run(&admin, interval, format.unwrap_or(Format::Table));
    }
    live::run(&admin, interval)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("between 0.1 and 3600 seconds".to_owned())
    }
}
