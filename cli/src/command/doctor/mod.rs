//! `corelane doctor`: looks at this machine and says what a broker needs that is not there.
//!
//! `facts` asks the machine, `judge` decides; here is what is asked for and how it is shown.

mod directory;
mod facts;
mod judge;

use std::io;

use clap::Args;
use comfy_table::ContentArrangement;
use serde::Serialize;

use super::Format;
use super::configuration::ConfigurationArguments;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table};
use judge::{Check, State};

#[derive(Debug, Args)]
#[command(after_help = "\
Looks at this machine with the settings that `corelane serve` would take: the same configuration
file, environment and flags. The only thing it writes is one small file in the data directory (if
that does not exist yet, in the directory above), which it removes at once.

`problem` keeps a broker from starting or from keeping its promise; `warning` costs speed or room.
Exits 0 if a broker can serve here, and 1 if not.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,

    /// What is printed: a list for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
}

/// Columns of the terminal that are used.
const WIDTH: u16 = 100;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    can_serve: bool,
    checks: Vec<Check>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.configuration.load()?;
    let checks = judge::judge(&facts::gather(&config), &config);
    let report = Report {
        can_serve: checks.iter().all(|check| check.state != State::Problem),
        checks,
    };
    match arguments.format {
        Format::Json => json::print(&report),
        Format::Table => print(&report),
    }
    .map_err(|error| Failure::writing(&error))?;
    if report.can_serve {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn print(report: &Report) -> io::Result<()> {
    let mut checks = table::table(&[
        Column::Text("STATE"),
        Column::Text("CHECK"),
        Column::Text("FOUND"),
    ]);
    checks
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    for check in &report.checks {
        let found = match &check.advice {
            Some(advice) => format!("{}\n→ {advice}", check.found),
            None => check.found.clone(),
        };
        checks.add_row([check.state.word(), check.name, &found]);
    }
    table::print(&checks)?;
    line(format_args!(""))?;
    let count = |state: State| {
        let checks = report.checks.iter();
        match checks.filter(|check| check.state == state).count() {
            1 => format!("1 {}", state.word()),
            count => format!("{count} {}s", state.word()),
        }
    };
    line(format_args!(
        "a broker {} here: {}, {}",
        if report.can_serve {
            "can serve"
        } else {
            "cannot serve"
        },
        count(State::Problem),
        count(State::Warning)
    ))
}
