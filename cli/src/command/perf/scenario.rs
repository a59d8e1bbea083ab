//! `corelane perf run` and `perf scenarios`.

use std::fs;
use std::io;

use clap::Args;
use corelane_perf::{Options, Percentiles, RunOutcome, Scenario, ScenarioOutcome, output};
use serde::Serialize;

use super::load::{OutputArguments, StageArguments, TargetArguments, failure, judge, with_session};
use super::report;
use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};

#[derive(Debug, Args)]
#[command(after_help = "\
A scenario is a TOML file with a [[run]] for each load; its options are those of the command line.
`corelane perf scenarios` lists those that come with the program, and prints one with --print.

With --out, scenario.json and report.html (a page with all runs) are written, and each run's files
into a directory with the run's name.

Examples:
  corelane perf run partitions
  corelane perf run mine.toml --broker 127.0.0.1:9500 --out ./results")]
pub(super) struct Arguments {
    /// A file, or the name of a scenario that comes with the program
    #[arg(value_name = "FILE|NAME")]
    scenario: String,

    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    stages: StageArguments,

    /// Count each run for so long, whatever the scenario says
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,

    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Print this one's text, to begin one's own with
    #[arg(long, value_name = "NAME")]
    print: Option<String>,

    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
}

fn load(name: &str) -> Result<Scenario, Failure> {
    if let Some(scenario) = Scenario::named(name) {
        return Ok(scenario);
    }
    let text = fs::read_to_string(name).map_err(|error| {
        Failure::with_advice(
            format_args!("cannot read the scenario {name}: {error}"),
            "name a file, or one that `corelane perf scenarios` lists",
        )
    })?;
    Scenario::parse(name, &text).map_err(failure)
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut scenario = load(&arguments.scenario)?;
    let options = Options {
        duration: arguments.duration,
        ..arguments.stages.options()
    };
    for (name, workload) in &mut scenario.runs {
        *workload = options.apply(workload.clone());
        workload.check().map_err(failure)?;
        if let Some(directory) = &arguments.output.out {
            output::prepare(&directory.join(name)).map_err(failure)?;
        }
    }
    let stages = scenario.runs.iter().any(|(_, workload)| workload.stages);
    let target = arguments
        .target
        .target(arguments.stages.into_admin(), stages)?;
    let out = arguments.output.out.as_deref();
    let mut outcome = ScenarioOutcome::of(&scenario);
    let ended = with_session(&target, |session, control, progress| {
        for (name, workload) in &scenario.runs {
            progress.begin(name);
            let result = session.run(workload, control);
            let result = result.inspect_err(|error| outcome.ended_by = Some(error.to_string()))?;
            if let Some(directory) = out {
                output::write(&directory.join(name), &result)?;
            }
            let is_over = result.cut_short;
            outcome.runs.push(RunOutcome {
                name: name.clone(),
                result,
            });
            if is_over {
                break;
            }
        }
        Ok(())
    });
    // What was measured before something went wrong is kept and shown all the same.
    if !outcome.runs.is_empty() {
        if let Some(directory) = out {
            output::write_scenario(directory, &outcome).map_err(failure)?;
        }
        let printed = match arguments.output.format {
            Format::Json => json::print(&outcome),
            Format::Table => print(&outcome),
        };
        printed.map_err(|error| Failure::writing(&error))?;
    }
    ended?;
    outcome.runs.iter().try_for_each(|run| judge(&run.result))
}

fn print(outcome: &ScenarioOutcome) -> io::Result<()> {
    line(format_args!(
        "{}: {}",
        outcome.scenario, outcome.description
    ))?;
    if let Some(run) = outcome.runs.first() {
        report::print_manifest(&run.result.manifest)?;
    }
    line(format_args!(""))?;
    let mut table = table::table(&[
        Column::Text("RUN"),
        Column::Text("LOAD"),
        Column::Text("LOOP"),
        Column::Text("DURABILITY"),
        Column::Number("RECORDS/S"),
        Column::Number("MB/S"),
        Column::Number("P50 µs"),
        Column::Number("P99 µs"),
        Column::Number("P99.9 µs"),
        Column::Number("BROKER NS/RECORD"),
        Column::Number("CLIENT NS/RECORD"),
        Column::Number("ERRORS"),
    ]);
    for RunOutcome { name, result } in &outcome.runs {
        let latency =
            |part: fn(&Percentiles) -> u64| report::or_dash(result.latency_us.as_ref().map(part));
        let cpu = |ns: Option<f64>| report::or_dash(ns.map(|ns| ns as u64));
        table.add_row([
            name.clone(),
            result.kind.name().to_owned(),
            report::pace_word(result).to_owned(),
            result.durability.to_string(),
            units::count(result.records_per_s as u64),
            format!("{:.1}", result.throughput_mb_s),
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            latency(|latency| latency.p999),
            cpu(result.broker_cpu_ns_per_record),
            cpu(result.client_cpu_ns_per_record),
            units::count(result.errors),
        ]);
    }
    table::print(&table)?;
    for RunOutcome { name, result } in &outcome.runs {
        if result.stages.is_some() {
            line(format_args!("\n{name}:"))?;
            report::print_stages(result)?;
        }
    }
    if outcome.is_cut_short() {
        line(format_args!(
            "\nCUT SHORT in run {} of {}",
            outcome.runs.len(),
            outcome.planned.len()
        ))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Listed<'s> {
    name: &'s str,
    description: &'s str,
    runs: Vec<&'s str>,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    if let Some(name) = &arguments.print {
        let text = Scenario::text(name).ok_or_else(|| unknown(name))?;
        let printed = line(format_args!("{}", text.trim_end()));
        return printed.map_err(|error| Failure::writing(&error));
    }
    let scenarios = Scenario::standard();
    let listed = scenarios.iter().map(|scenario| Listed {
        name: &scenario.name,
        description: &scenario.description,
        runs: scenario
            .runs
            .iter()
            .map(|(name, _)| name.as_str())
            .collect(),
    });
    let printed = match arguments.format {
        Format::Json => json::print(&listed.collect::<Vec<_>>()),
        Format::Table => {
            let mut table = table::table(&[
                Column::Text("NAME"),
                Column::Number("RUNS"),
                Column::Text("WHAT IT SHOWS"),
            ]);
            for scenario in listed {
                let runs = scenario.runs.len().to_string();
                table.add_row([scenario.name, &runs, scenario.description]);
            }
            table::print(&table)
        }
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn unknown(name: &str) -> Failure {
    Failure::with_advice(
        format_args!("there is no scenario {name}"),
        "see all with `corelane perf scenarios`",
    )
}
