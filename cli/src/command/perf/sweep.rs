//! `corelane perf sweep`.

use std::io;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use corelane_perf::{Bound, Kind, Percentiles, Step, Sweep, Workload, output, sweep};

use super::load::{OptionArguments, OutputArguments, TargetArguments, failure, with_session};
use super::report;
use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};

#[derive(Debug, Args)]
#[command(after_help = "\
Rates are doubled, from --rate on (1000 if none is given), until one does not hold: its p99 from
intended send times is over the bound, records fail, or fewer than 98 % of the records come to
their end in time. Then rates between the two are tried.

Each step is a run of --duration with a topic of its own (unless --topic is given). With --out,
sweep.json and report.html (a page with the curve) are written.

Example:
  corelane perf sweep --p99 10 --duration 5 --record-size 100")]
pub(super) struct Arguments {
    /// The bound of the p99 of the latency, from intended send times
    #[arg(long, value_name = "MS")]
    p99: f64,

    /// The load
    #[arg(long, value_enum, value_name = "LOAD", default_value_t = KindName::Latency)]
    load: KindName,

    /// How near the highest rate that held has to be to one that did not; 0.05 is 5 %
    #[arg(long, value_name = "RATIO", default_value_t = 0.05)]
    precision: f64,

    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    options: OptionArguments,

    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    Latency,
    EndToEnd,
}

/// The first rate that is tried, unless one is given.
const FIRST_RATE: u64 = 1_000;
const US_PER_MS: f64 = 1e3;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = arguments.options.options();
    let bound = Bound {
        // What is no number of microseconds becomes 0, which is refused.
        p99_us: (arguments.p99 * US_PER_MS) as u64,
        first_rate: options.rate.unwrap_or(FIRST_RATE),
        precision: arguments.precision,
    };
    let kind = match arguments.load {
        KindName::Latency => Kind::Latency,
        KindName::EndToEnd => Kind::EndToEnd,
    };
    options.check(kind).map_err(failure)?;
    let workload = options.apply(Workload::new(kind));
    bound.check().map_err(failure)?;
    workload.check().map_err(failure)?;
    let out = &arguments.output.out;
    if let Some(directory) = out {
        output::prepare(directory).map_err(failure)?;
    }
    let is_table = arguments.output.format == Format::Table;
    let mut steps = is_table.then(steps_table);
    let target = arguments.target.target(None, false)?;
    let swept = with_session(&target, |session, control, progress| {
        sweep(session, &workload, bound, control, |step| {
            progress.note(&step_line(step));
        })
    })?;
    if let Some(directory) = out {
        output::write_sweep(directory, &swept).map_err(failure)?;
    }
    let printed = match &mut steps {
        None => json::print(&swept),
        Some(steps) => print(&swept, steps),
    };
    printed.map_err(|error| Failure::writing(&error))?;
    if let Some(reason) = &swept.ended_by {
        return Err(Failure::new(format_args!(
            "the sweep ended before its time: {reason}"
        )));
    }
    if swept.highest_rate.is_none() {
        return Err(Failure::new(format_args!(
            "no rate had a p99 of at most {} ms; the lowest that was tried is {} records/s",
            bound.p99_us as f64 / US_PER_MS,
            units::count(swept.steps.iter().map(|step| step.rate).min().unwrap_or(0))
        )));
    }
    Ok(())
}

/// A step, as soon as it is known.
fn step_line(step: &Step) -> String {
    let p99 = step.latency_us.map_or_else(
        || "no latency".to_owned(),
        |latency| format!("p99 {:.2} ms", latency.p99 as f64 / US_PER_MS),
    );
    let verdict = step.failed_by.as_deref().unwrap_or("held");
    format!("{} records/s: {p99}, {verdict}", units::count(step.rate))
}

fn steps_table() -> Table {
    table::table(&[
        Column::Number("RATE"),
        Column::Number("RECORDS/S"),
        Column::Number("MB/S"),
        Column::Number("P50 µs"),
        Column::Number("P99 µs"),
        Column::Number("P99.9 µs"),
        Column::Number("MAX µs"),
        Column::Number("ERRORS"),
        Column::Text("DURABILITY"),
        Column::Text("HELD"),
    ])
}

fn print(swept: &Sweep, steps: &mut Table) -> io::Result<()> {
    let manifest = &swept.manifest;
    line(format_args!(
        "sweep of {}, open loop, records of {} B, {} partitions, {} connections",
        manifest.workload.kind.name(),
        manifest.workload.record_size,
        units::count(manifest.topic.partitions.into()),
        manifest.workload.connections
    ))?;
    report::print_manifest(manifest)?;
    line(format_args!(""))?;
    for step in &swept.steps {
        let latency =
            |part: fn(&Percentiles) -> u64| report::or_dash(step.latency_us.as_ref().map(part));
        steps.add_row([
            units::count(step.rate),
            units::count(step.records_per_s as u64),
            format!("{:.1}", step.throughput_mb_s),
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            latency(|latency| latency.p999),
            latency(|latency| latency.max),
            units::count(step.errors),
            step.durability.clone(),
            step.failed_by.clone().unwrap_or_else(|| "yes".to_owned()),
        ]);
    }
    table::print(steps)?;
    let bound_ms = swept.bound.p99_us as f64 / US_PER_MS;
    if let Some(rate) = swept.highest_rate {
        let cut_short = if swept.cut_short || swept.ended_by.is_some() {
            " (cut short: more may hold)"
        } else {
            ""
        };
        line(format_args!(
            "\nhighest rate with a p99 of at most {bound_ms} ms: {} records/s{cut_short}",
            units::count(rate)
        ))?;
    }
    Ok(())
}
