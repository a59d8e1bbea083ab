//! `corelane perf`: runs the short load of the load generator and shows its report.

use std::io::{self, IsTerminal};

use clap::Args;
use corelane_perf::{Load, Phase, Report, Throughput};
use indicatif::ProgressBar;

use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing else needs to run: the broker is started on this machine's cores with a temporary data
directory (in TMPDIR, or /var/tmp) and stopped afterwards. Broker and clients share the cores.

Produced records count when they are acknowledged as durable. Latency counts from the moment at
which a record was due to be sent, at a steady rate, so that a stall is not hidden.")]
pub(crate) struct Arguments {
    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let load = Load::default();
    let progress = ProgressBar::new_spinner();
    if io::stderr().is_terminal() {
        progress.enable_steady_tick(std::time::Duration::from_millis(100));
    }
    let report = corelane_perf::run(&load, |phase| {
        progress.set_message(match phase {
            Phase::Start => "starting a broker".to_owned(),
            Phase::Produce => format!("producing for {} s", load.produce_seconds),
            Phase::Consume => "consuming it all again".to_owned(),
            Phase::Latency => format!(
                "measuring latency at {} records/s for {} s",
                units::count(load.latency_rate.into()),
                load.latency_seconds
            ),
        });
    })
    .map_err(Failure::new)?;
    progress.finish_and_clear();

    let printed = match arguments.format {
        Format::Json => json::print(&report),
        Format::Table => print_report(&report),
    };
    printed.map_err(|error| Failure::writing(&error))?;
    if report.errors > 0 {
        return Err(Failure::new(format_args!(
            "{} records were refused, not answered, or not read back",
            units::count(report.errors)
        )));
    }
    Ok(())
}

fn print_report(report: &Report) -> io::Result<()> {
    let (load, manifest) = (&report.load, &report.manifest);
    line(format_args!(
        "{} records of {} B, {} partitions, batches of {}",
        report.durability,
        load.value_bytes,
        load.partitions,
        units::bytes(load.batch_bytes as u64)
    ))?;
    line(format_args!(
        "{}, {} cores shared by broker and clients, kernel {}, {}",
        manifest.cpu, manifest.cores, manifest.kernel, manifest.filesystem
    ))?;
    if !manifest.optimised {
        line(format_args!(
            "THIS IS A DEBUG BUILD: its figures say nothing; use --release"
        ))?;
    }
    line(format_args!(""))?;

    let mut phases = table::table(&[
        Column::Text("PHASE"),
        Column::Number("RECORDS"),
        Column::Number("SECONDS"),
        Column::Number("RECORDS/S"),
        Column::Number("MB/S"),
    ]);
    let mut add = |name: &str, throughput: &Throughput| {
        phases.add_row([
            name.to_owned(),
            units::count(throughput.records),
            format!("{:.2}", throughput.seconds),
            units::count(throughput.records_s as u64),
            format!("{:.1}", throughput.mb_s),
        ]);
    };
    add("produce", &report.produce);
    add("consume", &report.consume);
    table::print(&phases)?;
    line(format_args!(
        "(consume reads everything again, also what was produced before the counting began)"
    ))?;
    line(format_args!(""))?;

    let latency = &report.latency_us;
    line(format_args!(
        "latency of a produce, from its intended time, at {} records/s (µs)",
        units::count(load.latency_rate.into())
    ))?;
    let mut percentiles = table::table(&[
        Column::Number("P50"),
        Column::Number("P90"),
        Column::Number("P99"),
        Column::Number("P99.9"),
        Column::Number("P99.99"),
        Column::Number("MAX"),
        Column::Number("RECORDS"),
    ]);
    let figures = [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.p9999,
        latency.max,
    ];
    percentiles.add_row(figures.into_iter().chain([latency.count]).map(units::count));
    table::print(&percentiles)?;
    line(format_args!(""))?;
    line(format_args!("errors: {}", units::count(report.errors)))
}
