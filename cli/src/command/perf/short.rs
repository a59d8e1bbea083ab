//! `corelane perf` by itself: the short load, and its report.

use std::io::{self, IsTerminal};

use corelane_perf::{Load, Report, ShortPhase, Throughput};
use indicatif::ProgressBar;

use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};

pub(super) fn run(format: Format) -> Result<(), Failure> {
    let load = Load::default();
    let progress = ProgressBar::new_spinner();
    if io::stderr().is_terminal() {
        progress.enable_steady_tick(std::time::Duration::from_millis(100));
    }
    let report = corelane_perf::run_short(&load, |phase| {
        progress.set_message(match phase {
            ShortPhase::Start => "starting a broker".to_owned(),
            ShortPhase::Produce => format!("producing for {} s", load.produce_seconds),
            ShortPhase::Consume => "consuming it all again".to_owned(),
            ShortPhase::Latency => format!(
                "measuring latency at {} records/s for {} s",
                units::count(load.latency_rate.into()),
                load.latency_seconds
            ),
        });
    })
    .map_err(Failure::new)?;
    progress.finish_and_clear();

    let printed = match format {
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
        manifest.cpu,
        manifest.cores,
        manifest.kernel,
        manifest.filesystem.as_deref().unwrap_or("unknown")
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

    line(format_args!(
        "latency of a produce, from its intended time, at {} records/s (µs)",
        units::count(load.latency_rate.into())
    ))?;
    let mut percentiles = super::report::percentiles_table();
    percentiles.add_row(super::report::percentiles_row(&report.latency_us));
    table::print(&percentiles)?;
    line(format_args!(""))?;
    line(format_args!("errors: {}", units::count(report.errors)))
}
