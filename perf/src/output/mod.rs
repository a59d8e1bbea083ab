//! The forms of a result for other programs: the line of `kafka-producer-perf-test`, JSON, an interval log of
//! HdrHistogram, a time series; and the page for people.

mod hlog;
mod line;
mod series;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use line::line;
use serde::Serialize;

use crate::compare::Comparison;
use crate::error::PerfError;
use crate::html;
use crate::result::PerfResult;
use crate::rounds::Rounds;
use crate::scenario::ScenarioOutcome;
use crate::sweep::Sweep;

/// The names of the files in the directory.
pub const RESULT_FILE: &str = "result.json";
/// The interval log of HdrHistogram.
pub const HLOG_FILE: &str = "latency.hlog";
/// The time series.
pub const SERIES_FILE: &str = "series.csv";
/// The page.
pub const REPORT_FILE: &str = "report.html";
/// What a sweep gives.
pub const SWEEP_FILE: &str = "sweep.json";
/// What the runs of a scenario give.
pub const SCENARIO_FILE: &str = "scenario.json";
/// What a comparison gives.
pub const COMPARISON_FILE: &str = "comparison.json";

/// Makes the directory, so that a run is not made for nothing.
///
/// # Errors
/// `Output` if it cannot be made or written to.
pub fn prepare(directory: &Path) -> Result<(), PerfError> {
    let made = fs::create_dir_all(directory);
    made.map_err(|error| failed(directory, error))?;
    let probe = tempfile::tempfile_in(directory);
    probe.map(drop).map_err(|error| failed(directory, error))
}

/// Writes result.json, latency.hlog, series.csv and report.html.
///
/// # Errors
/// `Output` with the file that cannot be written.
pub fn write(directory: &Path, result: &PerfResult) -> Result<(), PerfError> {
    json(directory, RESULT_FILE, result)?;
    file(directory, HLOG_FILE, |file| hlog::write(file, result))?;
    file(directory, SERIES_FILE, |file| series::write(file, result))?;
    write_report(directory, &html::of_result(result))
}

/// Writes sweep.json and report.html.
///
/// # Errors
/// As [`write()`].
pub fn write_sweep(directory: &Path, sweep: &Sweep) -> Result<(), PerfError> {
    json(directory, SWEEP_FILE, sweep)?;
    write_report(directory, &html::of_sweep(sweep))
}

/// Writes scenario.json and report.html, which leads to the pages of the runs in directories of their names.
///
/// # Errors
/// As [`write()`].
pub fn write_scenario(directory: &Path, outcome: &ScenarioOutcome) -> Result<(), PerfError> {
    json(directory, SCENARIO_FILE, outcome)?;
    write_report(directory, &html::of_scenario(outcome, true))
}

/// Writes comparison.json and report.html, which calls the results by these names.
///
/// # Errors
/// As [`write()`].
pub fn write_comparison(
    directory: &Path,
    names: [&str; 2],
    results: [&PerfResult; 2],
    comparison: &Comparison,
) -> Result<(), PerfError> {
    json(directory, COMPARISON_FILE, comparison)?;
    let report = html::of_comparison(names, results, comparison);
    write_report(directory, &report)
}

/// Writes comparison.json and report.html of several rounds, which calls the series by these names.
///
/// # Errors
/// As [`write()`].
pub fn write_rounds(directory: &Path, names: [&str; 2], rounds: &Rounds) -> Result<(), PerfError> {
    json(directory, COMPARISON_FILE, rounds)?;
    write_report(directory, &html::of_rounds(names, rounds))
}

/// Writes a report of [`html`] as report.html.
///
/// # Errors
/// As [`write()`].
pub fn write_report(directory: &Path, report: &str) -> Result<(), PerfError> {
    file(directory, REPORT_FILE, |file| {
        file.write_all(report.as_bytes())
    })
}

fn json(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), PerfError> {
    file(directory, name, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

fn file(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<fs::File>) -> io::Result<()>,
) -> Result<(), PerfError> {
    let path = directory.join(name);
    let written = fs::File::create(&path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    });
    written.map_err(|error| failed(&path, error))
}

fn failed(path: &Path, error: io::Error) -> PerfError {
    let path = path.display().to_string();
    PerfError::Output { path, error }
}
