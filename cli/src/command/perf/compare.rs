//! `corelane perf compare`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use corelane_perf::{Comparison, PerfResult, Rounds, compare, compare_rounds, output};

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
harm: often it is what is to be compared.

A and B may also be directories with several results, in directories of the same names: rounds that
were made in turns. Then the medians are shown, and the median, the least and the greatest of the
ratios within the rounds.")]
pub(super) struct Arguments {
    /// The first result: a result.json, the directory that --out was given, or a directory of such directories
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
    let rounds = [&arguments.first, &arguments.second].map(|path| round_names(path));
    match rounds {
        [Some(first), Some(second)] => run_rounds(arguments, &first, &second),
        [None, None] => run_one(arguments),
        _ => Err(Failure::new(format_args!(
            "{} and {} are a single result and a directory of several",
            arguments.first.display(),
            arguments.second.display()
        ))),
    }
}

fn run_one(arguments: &Arguments) -> Result<(), Failure> {
    let (first, second) = (read(&arguments.first)?, read(&arguments.second)?);
    let comparison = compare(&first, &second);
    refuse_unlike(arguments, &comparison.differences)?;
    if let Some(directory) = &arguments.out {
        write(directory, arguments, [&first, &second], &comparison)?;
    }
    let printed = match arguments.format {
        Format::Json => json::print(&comparison),
        Format::Table => print(&comparison),
    };
    printed.map_err(|error| Failure::writing(&error))
}

/// Results of different loads are not compared, unless that is wanted.
fn refuse_unlike(arguments: &Arguments, differences: &[String]) -> Result<(), Failure> {
    if differences.is_empty() || arguments.anyway {
        return Ok(());
    }
    Err(Failure::with_advice(
        format_args!(
            "the results are not of the same load: {}",
            differences.join("; ")
        ),
        "compare them all the same with --anyway",
    ))
}

/// The names of the results in a directory that has no result of its own. `None`: it is one result, or none.
fn round_names(path: &Path) -> Option<BTreeSet<OsString>> {
    if path.join(output::RESULT_FILE).exists() {
        return None;
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    let rounds = entries.filter(|entry| entry.path().join(output::RESULT_FILE).exists());
    let names: BTreeSet<_> = rounds.map(|entry| entry.file_name()).collect();
    (!names.is_empty()).then_some(names)
}

fn run_rounds(
    arguments: &Arguments,
    first: &BTreeSet<OsString>,
    second: &BTreeSet<OsString>,
) -> Result<(), Failure> {
    if let Some(name) = first.symmetric_difference(second).next() {
        return Err(Failure::new(format_args!(
            "only one of {} and {} has a result called {}",
            arguments.first.display(),
            arguments.second.display(),
            name.display()
        )));
    }
    let rounds = first.iter().map(|name| {
        let results = [&arguments.first, &arguments.second].map(|path| read(&path.join(name)));
        let [a, b] = results;
        Ok((a?, b?))
    });
    let rounds = compare_rounds(&rounds.collect::<Result<Vec<_>, Failure>>()?);
    refuse_unlike(arguments, &rounds.differences)?;
    if let Some(directory) = &arguments.out {
        keep_result(directory)?;
        output::prepare(directory).map_err(failure)?;
        let names = [&arguments.first, &arguments.second].map(|path| path.to_string_lossy());
        let names = names.each_ref().map(AsRef::as_ref);
        output::write_rounds(directory, names, &rounds).map_err(failure)?;
    }
    let printed = match arguments.format {
        Format::Json => json::print(&rounds),
        Format::Table => print_rounds(&rounds),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn print_rounds(rounds: &Rounds) -> io::Result<()> {
    print_conditions(&rounds.differences, &rounds.circumstances)?;
    line(format_args!(
        "{} rounds, load average at most {:.1} at the start of a run (the runs' own included)\n",
        rounds.rounds, rounds.load_average_max
    ))?;
    let mut figures = table::table(&[
        Column::Text("FIGURE, MEDIANS"),
        Column::Number("A"),
        Column::Number("B"),
        Column::Number("B/A"),
        Column::Number("LEAST"),
        Column::Number("MOST"),
        Column::Text("IN EVERY ROUND"),
    ]);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"));
    for figure in &rounds.figures {
        figures.add_row([
            figure.name.to_owned(),
            number(figure.a),
            number(figure.b),
            ratio(figure.ratio),
            ratio(figure.ratio_min),
            ratio(figure.ratio_max),
            figure.verdict().to_owned(),
        ]);
    }
    table::print(&figures)
}

/// Refuses to write over the report of a result.
fn keep_result(directory: &Path) -> Result<(), Failure> {
    if directory.join(output::RESULT_FILE).exists() {
        return Err(Failure::with_advice(
            format_args!(
                "{} has a result, whose report would be overwritten",
                directory.display()
            ),
            "give --out another directory",
        ));
    }
    Ok(())
}

/// Writes the files of a comparison, but not over the report of a result.
fn write(
    directory: &Path,
    arguments: &Arguments,
    results: [&PerfResult; 2],
    comparison: &Comparison,
) -> Result<(), Failure> {
    keep_result(directory)?;
    output::prepare(directory).map_err(failure)?;
    let names = [&arguments.first, &arguments.second].map(|path| path.to_string_lossy());
    let names = names.each_ref().map(AsRef::as_ref);
    output::write_comparison(directory, names, results, comparison).map_err(failure)
}

/// In what results differ beside their figures.
fn print_conditions(differences: &[String], circumstances: &[String]) -> io::Result<()> {
    for difference in differences {
        line(format_args!("NOT THE SAME LOAD: {difference}"))?;
    }
    for circumstance in circumstances {
        line(format_args!("differs: {circumstance}"))?;
    }
    if !differences.is_empty() || !circumstances.is_empty() {
        line(format_args!(""))?;
    }
    Ok(())
}

fn print(comparison: &Comparison) -> io::Result<()> {
    print_conditions(&comparison.differences, &comparison.circumstances)?;
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
