//! `corelane perf compare`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use corelane_perf::{Comparison, PerfResult, RESULT_VERSION, compare, output};

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
    let printed = match arguments.format {
        Format::Json => json::print(&comparison),
        Format::Table => print(&comparison),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn read(path: &Path) -> Result<PerfResult, Failure> {
    let file = if path.is_dir() {
        path.join(output::RESULT_FILE)
    } else {
        path.to_owned()
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format_args!(
            "cannot read a result from {}: {error}",
            file.display()
        ))
    };
    let text = fs::read_to_string(&file).map_err(|error| failed(&error))?;
    let result: PerfResult = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    if result.version != RESULT_VERSION {
        return Err(failed(&format_args!(
            "it has version {}, and this program reads {RESULT_VERSION}",
            result.version
        )));
    }
    Ok(result)
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
