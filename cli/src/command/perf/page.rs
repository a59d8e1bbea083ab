//! `corelane perf report`: the page of a result that was kept.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use corelane_perf::{PerfResult, RESULT_VERSION, ScenarioOutcome, Sweep, html, output};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::load::failure;
use crate::failure::Failure;
use crate::output::line;

#[derive(Debug, Args)]
#[command(after_help = "\
The page is the one that --out of a load, a sweep or a scenario writes: one file, with plots, that
loads nothing from elsewhere. It is written beside the result unless --out is given.")]
pub(super) struct Arguments {
    /// A result.json, sweep.json or scenario.json, or the directory that --out was given
    #[arg(value_name = "RESULT")]
    result: PathBuf,

    /// Write report.html into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = file_of(&arguments.result);
    let json: Value = parse(&file)?;
    let beside = file.parent().unwrap_or(Path::new("."));
    let beside = if beside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        beside
    };
    let directory = arguments.out.as_deref().unwrap_or(beside);
    let report = if json.get("steps").is_some() {
        html::of_sweep(&understand::<Sweep>(&file, json)?)
    } else if json.get("runs").is_some() {
        // The pages of the runs are beside the scenario, and nowhere else.
        html::of_scenario(
            &understand::<ScenarioOutcome>(&file, json)?,
            directory == beside,
        )
    } else {
        html::of_result(&understand::<PerfResult>(&file, json)?)
    };
    output::prepare(directory).map_err(failure)?;
    output::write_report(directory, &report).map_err(failure)?;
    let written = directory.join(output::REPORT_FILE);
    line(format_args!("{}", written.display())).map_err(|error| Failure::writing(&error))
}

/// Reads the result of a run, from its file or the directory of it.
pub(super) fn read(path: &Path) -> Result<PerfResult, Failure> {
    let file = file_of(path);
    let json = parse(&file)?;
    understand(&file, json)
}

/// The file itself, or the one in the directory.
fn file_of(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let files = [
        output::RESULT_FILE,
        output::SWEEP_FILE,
        output::SCENARIO_FILE,
    ];
    let files = files.map(|name| path.join(name));
    let found = files.iter().find(|file| file.exists());
    found.unwrap_or(&files[0]).clone()
}

fn parse(file: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    serde_json::from_str(&text).map_err(|error| unreadable(file, &error))
}

fn understand<T: DeserializeOwned>(file: &Path, json: Value) -> Result<T, Failure> {
    let version = json.get("version").and_then(Value::as_u64);
    if let Some(version) = version
        && version != u64::from(RESULT_VERSION)
    {
        let error =
            format_args!("it has version {version}, and this program reads {RESULT_VERSION}");
        return Err(unreadable(file, &error));
    }
    serde_json::from_value(json).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!(
        "cannot read a result from {}: {error}",
        file.display()
    ))
}
