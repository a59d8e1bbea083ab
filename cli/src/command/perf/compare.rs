//! `corelane perf compare`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use corelane_perf::{Comparison, PerfResult, compare, output};

use super::load::failure;
use super::page::read;
use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table};

#[derive(Debug, Args)]
#[command(after_help = "\
Figures of different loads or durabilities are not comparable, so such results are refused, with
what differs, unless --anyway is given. Another machine, kernel or version is named and does no
harm: often it is what is to be compared.")]
pub(super) struct Arguments {
    /// The first result: a result.json, or the directory that --out was given
    #[arg(value_name = "A")]
    first: PathBuf,

    /// The second one; ratios are of this to the first
    #[arg(value_name = "B")]
    second: PathBuf,

    /// Compare although load or durability differ
    #[arg(long)]
    anyway: bool,

    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    /// Write comparison.json and report.html, a page with both in each plot, into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (first, second) = (read(&arguments.first)?, read(&arguments.second)?);
    let comparison = compare(&first, &second);
    if !comparison.differences.is_empty() && !arguments.anyway {
        return Err(Failure::with_advice(
            format_args!(
                "the results are not of the same load: {}",
                comparison.differences.join("; ")
            ),
            "compare them all the same with --anyway",
        ));
    }
    if let Some(directory) = &arguments.out {
        write(directory, arguments, [&first, &second], &comparison)?;
    }
    let printed = match arguments.format {
        Format::Json => json::print(&comparison),
        Format::Table => print(&comparison),
    };
    printed.map_err(|error| Failure::writing(&error))
}

/// Writes the files of a comparison, but not over the report of a result.
fn write(
    directory: &Path,
    arguments: &Arguments,
    results: [&PerfResult; 2],
    comparison: &Comparison,
) -> Result<(), Failure> {
    if directory.join(output::RESULT_FILE).exists() {
        return Err(Failure::with_advice(
            format_args!(
                "{} has a result, whose report would be overwritten",
                directory.display()
            ),
            "give --out another directory",
        ));
    }
    output::prepare(directory).map_err(failure)?;
    let names = [&arguments.first, &arguments.second].map(|path| path.to_string_lossy());
    let names = names.each_ref().map(AsRef::as_ref);
    output::write_comparison(directory, names, results, comparison).map_err(failure)
}

fn print(comparison: &Comparison) -> io::Result<()> {
    for difference in &comparison.differences {
        line(format_args!("NOT THE SAME LOAD: {difference}"))?;
    }
    for circumstance in &comparison.circumstances {
        line(format_args!("differs: {circumstance}"))?;
    }
    if !comparison.differences.is_empty() || !comparison.circumstances.is_empty() {
        line(format_args!(""))?;
    }
    let mut figures = table::table(&[
        Column::Text("FIGURE"),
        Column::Number("A"),
        Column::Number("B"),
        Column::Number("B/A"),
        Column::Text(""),
    ]);
    for figure in &comparison.figures {
        let word = match figure.ratio {
            None | Some(1.0) => "",
            Some(ratio) if (ratio > 1.0) == figure.more_is_better => "better",
            Some(_) => "worse",
        };
        figures.add_row([
            figure.name.to_owned(),
            number(figure.a),
            number(figure.b),
            figure
                .ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            word.to_owned(),
        ]);
    }
    table::print(&figures)
}

/// Whole numbers as such, others with a digit.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
